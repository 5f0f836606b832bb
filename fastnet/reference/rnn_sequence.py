"""Recurrent layers over whole packed sequences, in one direction or both, in array code: the specification.

Step t has ``batch_sizes[t]`` rows, which follow those of step t - 1: ``total`` in all. Row r of a step belongs to
sequence r of the batch, and batch sizes never grow. Direction 0 walks from the first step to the last, direction 1
back, each sequence from its own end. Gates are in PyTorch's order. Computed in float32 (float64 for float64); states
and what is returned are rounded once a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from fastnet._device import namespace
from fastnet.errors import InputError, KindError
from fastnet.kernels._arrays import check_array
from fastnet.reference.rnn import accumulator, sigmoid

# ---- checks of arguments, which the kernels share ------------------------------------------------------------------


def check_batch_sizes(name: str, batch_sizes: Any, batch: int) -> int:
    """The number of rows in all; TypeError or ValueError unless batch_sizes are those of ``batch`` packed sequences."""
    if not isinstance(batch_sizes, (list, tuple)):
        raise KindError(f"{name}: batch_sizes is a {type(batch_sizes).__name__}, expected a list of integers")
    for n in batch_sizes:
        if type(n) is not int:
            raise KindError(f"{name}: batch_sizes holds a {type(n).__name__}, expected integers")
    if not batch_sizes:
        raise InputError(f"{name}: batch_sizes is empty, expected a number for each step")
    if batch_sizes[0] != batch:
        raise InputError(f"{name}: batch_sizes begins with {batch_sizes[0]}, expected {batch}, the sequences of h0")
    if batch_sizes[-1] < min(batch, 1) or any(b > a for a, b in pairwise(batch_sizes)):
        raise InputError(f"{name}: batch_sizes must be positive and never grow, got {list(batch_sizes)[:20]}")
    return sum(batch_sizes)


def check_states(name: str, argument: str, states: Any) -> tuple[int, int, int]:
    """(directions, batch, hidden) of an array of states."""
    check_array(name, argument, states, ndim=3)
    if states.shape[0] not in (1, 2):
        raise InputError(f"{name}: {argument} has {states.shape[0]} directions, expected 1 or 2")
    return tuple(states.shape)


def check_like(name: str, argument: str, x: Any, shape: tuple[int, ...], like: Any, wide: bool = False) -> None:
    """x has this shape, like's dtype or, if wide, that of its sums."""
    dtype = accumulator(like) if wide else like.dtype
    check_array(name, argument, x, dtypes=(dtype.name,), ndim=len(shape), like=like)
    if tuple(x.shape) != shape:
        raise InputError(f"{name}: {argument} has shape {tuple(x.shape)}, expected {shape}")


def check_list(
    name: str, argument: str, arrays: Any, count: int, shape: tuple[int, ...], like: Any, **how: Any
) -> None:
    """One such array for each direction."""
    if not isinstance(arrays, (list, tuple)):
        raise KindError(f"{name}: {argument} is a {type(arrays).__name__}, expected a list of an array a direction")
    if len(arrays) != count:
        raise InputError(f"{name}: {argument} has {len(arrays)} arrays, expected {count}, one a direction")
    for i, x in enumerate(arrays):
        check_like(name, f"{argument}[{i}]", x, shape, like, **how)


def _check_forward(name: str, gates: int, x: Any, h0: Any, weight: Any, bias: Any, batch_sizes: Any) -> None:
    directions, batch, hidden = check_states(name, "h0", h0)
    total = check_batch_sizes(name, batch_sizes, batch)
    check_list(name, "x", x, directions, (total, gates * hidden), h0)
    check_list(name, "weight", weight, directions, (gates * hidden, hidden), h0)
    if bias is not None:
        check_list(name, "bias", bias, directions, (gates * hidden,), h0)


def _check_backward(
    name: str, gates: int, of_out: Any, of_h_last: Any, weight: Any, batch_sizes: Any
) -> tuple[int, int, int, int]:
    """(directions, batch, hidden, total)."""
    directions, batch, hidden = check_states(name, "of_h_last", of_h_last)
    total = check_batch_sizes(name, batch_sizes, batch)
    check_like(name, "of_out", of_out, (total, directions * hidden), of_h_last)
    check_list(name, "weight", weight, directions, (gates * hidden, hidden), of_h_last)
    return directions, batch, hidden, total


def check_activation(name: str, activation: Any) -> None:
    if activation not in ("tanh", "relu"):
        raise InputError(f"{name}: activation is {activation!r}, expected tanh or relu")


def check_rnn(x: Any, h0: Any, weight: Any, bias: Any, batch_sizes: Any, activation: Any) -> None:
    _check_forward("rnn", 1, x, h0, weight, bias, batch_sizes)
    check_activation("rnn", activation)


def check_rnn_backward(of_out: Any, of_h_last: Any, out: Any, weight: Any, batch_sizes: Any, activation: Any) -> None:
    name = "rnn_backward"
    directions, _, hidden, total = _check_backward(name, 1, of_out, of_h_last, weight, batch_sizes)
    check_like(name, "out", out, (total, directions * hidden), of_h_last)
    check_activation(name, activation)


def check_lstm(x: Any, h0: Any, c0: Any, weight: Any, bias: Any, batch_sizes: Any) -> None:
    _check_forward("lstm", 4, x, h0, weight, bias, batch_sizes)
    check_like("lstm", "c0", c0, tuple(h0.shape), h0, wide=True)


def check_lstm_backward(
    of_out: Any, of_h_last: Any, of_c_last: Any, gates: Any, cells: Any, c0: Any, weight: Any, batch_sizes: Any
) -> None:
    name = "lstm_backward"
    directions, batch, hidden, total = _check_backward(name, 4, of_out, of_h_last, weight, batch_sizes)
    for argument, x in (("of_c_last", of_c_last), ("c0", c0)):
        check_like(name, argument, x, (directions, batch, hidden), of_h_last, wide=True)
    check_list(name, "gates", gates, directions, (total, 4 * hidden), of_h_last)
    check_list(name, "cells", cells, directions, (total, hidden), of_h_last, wide=True)


def check_gru(x: Any, h0: Any, weight: Any, bias: Any, batch_sizes: Any) -> None:
    _check_forward("gru", 3, x, h0, weight, bias, batch_sizes)


def check_gru_backward(
    of_out: Any, of_h_last: Any, saved: Any, out: Any, h0: Any, weight: Any, batch_sizes: Any
) -> None:
    name = "gru_backward"
    directions, batch, hidden, total = _check_backward(name, 3, of_out, of_h_last, weight, batch_sizes)
    check_list(name, "saved", saved, directions, (total, 4 * hidden), of_h_last)
    check_like(name, "out", out, (total, directions * hidden), of_h_last)
    check_like(name, "h0", h0, (directions, batch, hidden), of_h_last)


# ---- walks ---------------------------------------------------------------------------------------------------------


def walk(batch_sizes: Sequence[int], direction: int) -> list[tuple[int, slice]]:
    """Number of rows and rows of each step, in the order in which a direction takes them."""
    starts = [0, *accumulate(batch_sizes)]
    steps = [(b - a, slice(a, b)) for a, b in pairwise(starts)]
    return steps[::-1] if direction else steps


def before_each_step(out: Any, h0: Any, batch_sizes: Sequence[int], direction: int) -> Any:
    """The states (total, hidden) that each step of a direction began from: ``out`` is its part of the layer's result,
    ``h0`` (batch, hidden)."""
    before = namespace(out).empty(out.shape, out.dtype)
    batch = batch_sizes[0]
    if batch_sizes[-1] == batch:  # a shift by one step
        first = slice(-batch, None) if direction else slice(0, batch)
        before[first] = h0
        if direction:
            before[:-batch] = out[batch:]
        else:
            before[batch:] = out[:-batch]
        return before
    starts = np.array([0, *accumulate(batch_sizes)])
    row = np.arange(starts[-1])
    step = np.repeat(np.arange(len(batch_sizes)), batch_sizes)
    place = row - starts[step]  # in its step
    other = step + 1 if direction else step - 1
    sizes = np.array([*batch_sizes, 0])  # and of the step -1, too
    there = place < sizes[other]
    index = namespace(out).asarray(np.where(there, starts[other] + place, 0))
    before[...] = out[index]
    first = np.flatnonzero(~there)
    before[namespace(out).asarray(first)] = h0[namespace(out).asarray(place[first])]
    return before


# ---- the definitions -----------------------------------------------------------------------------------------------


def _columns(x: Any, direction: int, hidden: int) -> Any:
    """A direction's part of (total, directions * hidden)."""
    return x[:, direction * hidden : (direction + 1) * hidden]


def _given(x: Any, bias: Any, direction: int, out: Any) -> Any:
    """out = the products with the input and the bias of those with the state."""
    return namespace(x[direction]).add(x[direction], 0 if bias is None else bias[direction].astype(out.dtype), out=out)


def rnn(
    x: Any, h0: Any, weight: Any, bias: Any, batch_sizes: Any, activation: str = "tanh", *, config: Any = None
) -> tuple[Any, Any]:
    """``h[t] = activation(x[t] + W h[t-1] + b)``; arguments and results as ``fastnet.kernels.rnn``."""
    check_rnn(x, h0, weight, bias, batch_sizes, activation)
    xp, acc = namespace(h0), accumulator(h0)
    directions, _, hidden = h0.shape
    total = sum(batch_sizes)
    out, h_last = xp.empty((total, directions * hidden), h0.dtype), h0.copy()
    with np.errstate(all="ignore"):
        for d in range(directions):
            w = xp.ascontiguousarray(weight[d].astype(acc, copy=False).T)  # half again as fast, step by step
            sums, products = _given(x, bias, d, xp.empty((total, hidden), acc)), xp.empty(h0.shape[1:], acc)
            h, mine = h_last[d].astype(acc), _columns(out, d, hidden)
            for n, rows in walk(batch_sizes, d):
                state = sums[rows]
                state += xp.matmul(h[:n], w, out=products[:n])
                if activation == "tanh":
                    xp.tanh(state, out=state)
                else:
                    xp.maximum(state, 0, out=state)
                mine[rows] = state
                h[:n] = state if acc == h0.dtype else mine[rows]
            h_last[d] = h
    return out, h_last


def rnn_backward(
    of_out: Any,
    of_h_last: Any,
    out: Any,
    weight: Any,
    batch_sizes: Any,
    activation: str = "tanh",
    *,
    config: Any = None,
) -> tuple[list[Any], Any]:
    """Gradients of ``rnn``'s x and h0; as ``fastnet.kernels.rnn_backward``."""
    check_rnn_backward(of_out, of_h_last, out, weight, batch_sizes, activation)
    xp, acc = namespace(of_out), accumulator(of_out)
    directions, _, hidden = of_h_last.shape
    of_x, of_h0 = [], xp.empty(of_h_last.shape, of_h_last.dtype)
    with np.errstate(all="ignore"):
        for d in range(directions):
            w = weight[d].astype(acc, copy=False)
            h = _columns(out, d, hidden).astype(acc)
            slope = xp.square(h, out=h) if activation == "tanh" else (h > 0).astype(acc)
            if activation == "tanh":
                xp.subtract(1, slope, out=slope)
            of_x.append(xp.empty((len(out), hidden), out.dtype))
            of_h, mine = of_h_last[d].astype(acc), _columns(of_out, d, hidden)
            for n, rows in reversed(walk(batch_sizes, d)):
                gates = slope[rows]
                state = of_h[:n]
                state += mine[rows]
                gates *= state
                of_x[d][rows] = gates
                xp.matmul(_rounded(gates, of_x[d], rows), w, out=state)
            of_h0[d] = of_h
    return of_x, of_h0


def _rounded(values: Any, stored: Any, rows: slice) -> Any:
    """What was stored of values, as numbers of the sums' type: the same for float32 and float64."""
    return values if values.dtype == stored.dtype else stored[rows].astype(values.dtype)


def lstm(
    x: Any, h0: Any, c0: Any, weight: Any, bias: Any, batch_sizes: Any, *, config: Any = None
) -> tuple[Any, Any, Any, list[Any], list[Any]]:
    """``lstm_cell`` step by step; arguments and results as ``fastnet.kernels.lstm``."""
    check_lstm(x, h0, c0, weight, bias, batch_sizes)
    xp, acc = namespace(h0), accumulator(h0)
    directions, _, hidden = h0.shape
    total = sum(batch_sizes)
    out, h_last, c_last = xp.empty((total, directions * hidden), h0.dtype), h0.copy(), c0.copy()
    all_gates, all_cells = [], []
    with np.errstate(all="ignore"):
        for d in range(directions):
            w = xp.ascontiguousarray(weight[d].astype(acc, copy=False).T)  # half again as fast, step by step
            gates = _given(x, bias, d, xp.empty((total, 4 * hidden), acc))
            cells, products = xp.empty((total, hidden), acc), xp.empty((h0.shape[1], 4 * hidden), acc)
            h, c, mine = h_last[d].astype(acc), c_last[d], _columns(out, d, hidden)
            for n, rows in walk(batch_sizes, d):
                now, state, cell = gates[rows], h[:n], cells[rows]
                now += xp.matmul(state, w, out=products[:n])
                sigmoid(now[:, : 2 * hidden], out=now[:, : 2 * hidden])
                xp.tanh(now[:, 2 * hidden : 3 * hidden], out=now[:, 2 * hidden : 3 * hidden])
                sigmoid(now[:, 3 * hidden :], out=now[:, 3 * hidden :])
                i, f, g, o = (now[:, k * hidden : (k + 1) * hidden] for k in range(4))
                xp.multiply(f, c[:n], out=cell)
                cell += xp.multiply(i, g, out=state)
                c[:n] = cell
                xp.tanh(cell, out=state)
                state *= o
                mine[rows] = state
                if acc != h0.dtype:
                    state[...] = mine[rows]
            h_last[d] = h
            all_gates.append(gates.astype(h0.dtype, copy=False))
            all_cells.append(cells)
    return out, h_last, c_last, all_gates, all_cells


def lstm_backward(
    of_out: Any,
    of_h_last: Any,
    of_c_last: Any,
    gates: Any,
    cells: Any,
    c0: Any,
    weight: Any,
    batch_sizes: Any,
    *,
    config: Any = None,
) -> tuple[list[Any], Any, Any]:
    """Gradients of ``lstm``'s x, h0 and c0; as ``fastnet.kernels.lstm_backward``."""
    check_lstm_backward(of_out, of_h_last, of_c_last, gates, cells, c0, weight, batch_sizes)
    xp, acc = namespace(of_out), accumulator(of_out)
    directions, _, hidden = of_h_last.shape
    of_x, of_h0, of_c0 = [], xp.empty(of_h_last.shape, of_h_last.dtype), of_c_last.copy()
    with np.errstate(all="ignore"):
        for d in range(directions):
            w = weight[d].astype(acc, copy=False)
            of_h, of_c, mine = of_h_last[d].astype(acc), of_c0[d], _columns(of_out, d, hidden)
            c = c0[d]
            of_gates = xp.empty(gates[d].shape, acc)
            steps = walk(batch_sizes, d)
            for k in range(len(steps) - 1, -1, -1):
                n, rows = steps[k]
                activated = gates[d][rows].astype(acc, copy=False)
                i, f, g, o = (activated[:, j * hidden : (j + 1) * hidden] for j in range(4))
                of_now = of_gates[rows]
                of_i, of_f, of_g, of_o = (of_now[:, j * hidden : (j + 1) * hidden] for j in range(4))
                state, cell = of_h[:n], of_c[:n]
                state += mine[rows]
                squashed = xp.tanh(cells[d][rows])
                # of_o = of_h tanh(c) o (1 - o);  of_c += of_h o (1 - tanh(c)^2)
                xp.multiply(state, o, out=of_g)
                xp.multiply(of_g, squashed, out=of_i)
                xp.multiply(of_i, o, out=of_o)
                xp.subtract(of_i, of_o, out=of_o)
                of_i *= squashed
                of_g -= of_i
                cell += of_g
                # of_i = of_c g i (1 - i);  of_g = of_c i (1 - g^2);  of_f = of_c c_before f (1 - f)
                xp.multiply(cell, i, out=of_g)
                xp.multiply(of_g, g, out=of_i)
                xp.multiply(of_i, g, out=squashed)
                of_g -= squashed
                xp.multiply(of_i, i, out=squashed)
                of_i -= squashed
                cell *= f
                before, there = _before(cells[d], c, steps, k)
                xp.multiply(cell[:there], before, out=of_f[:there])
                if there < n:
                    xp.multiply(cell[there:], c[there:n], out=of_f[there:])
                xp.multiply(of_f, f, out=squashed)
                of_f -= squashed
                xp.matmul(of_now if acc == of_out.dtype else of_now.astype(of_out.dtype).astype(acc), w, out=state)
            of_h0[d] = of_h
            of_x.append(of_gates.astype(of_out.dtype, copy=False))
    return of_x, of_h0, of_c0


def _before(values: Any, first: Any, steps: list[tuple[int, slice]], k: int) -> tuple[Any, int]:
    """The rows of the step before the k-th that go on in it, and how many: the other rows come from ``first``."""
    if k == 0:
        return first[:0], 0
    n = min(steps[k][0], steps[k - 1][0])
    return values[steps[k - 1][1]][:n], n


def gru(x: Any, h0: Any, weight: Any, bias: Any, batch_sizes: Any, *, config: Any = None) -> tuple[Any, Any, list[Any]]:
    """``gru_cell`` step by step; arguments and results as ``fastnet.kernels.gru``."""
    check_gru(x, h0, weight, bias, batch_sizes)
    xp, acc = namespace(h0), accumulator(h0)
    directions, batch, hidden = h0.shape
    total = sum(batch_sizes)
    out, h_last = xp.empty((total, directions * hidden), h0.dtype), h0.copy()
    saved = []
    with np.errstate(all="ignore"):
        for d in range(directions):
            w = xp.ascontiguousarray(weight[d].astype(acc, copy=False).T)  # half again as fast, step by step
            b = None if bias is None else bias[d].astype(acc, copy=False)
            kept, products = xp.empty((total, 4 * hidden), acc), xp.empty((batch, 3 * hidden), acc)
            kept[:, : 3 * hidden] = x[d]
            if b is not None:
                kept[:, : 2 * hidden] += b[: 2 * hidden]
            h, mine = h_last[d].astype(acc), _columns(out, d, hidden)
            for n, rows in walk(batch_sizes, d):
                now, state = kept[rows], h[:n]
                product = xp.matmul(state, w, out=products[:n])
                gates, fresh, of_state = now[:, : 2 * hidden], now[:, 2 * hidden : 3 * hidden], now[:, 3 * hidden :]
                gates += product[:, : 2 * hidden]
                sigmoid(gates, out=gates)
                if b is None:
                    of_state[...] = product[:, 2 * hidden :]
                else:
                    xp.add(product[:, 2 * hidden :], b[2 * hidden :], out=of_state)
                fresh += gates[:, :hidden] * of_state
                xp.tanh(fresh, out=fresh)
                # (1 - z) n + z h = n + z (h - n)
                state -= fresh
                state *= gates[:, hidden:]
                state += fresh
                mine[rows] = state
                if acc != h0.dtype:
                    state[...] = mine[rows]
            h_last[d] = h
            saved.append(kept.astype(h0.dtype, copy=False))
    return out, h_last, saved


def gru_backward(
    of_out: Any, of_h_last: Any, saved: Any, out: Any, h0: Any, weight: Any, batch_sizes: Any, *, config: Any = None
) -> tuple[list[Any], list[Any], Any]:
    """Gradients of ``gru``'s x, of the products with the state, and of h0; as
    ``fastnet.kernels.gru_backward``."""
    check_gru_backward(of_out, of_h_last, saved, out, h0, weight, batch_sizes)
    xp, acc = namespace(of_out), accumulator(of_out)
    directions, _, hidden = of_h_last.shape
    of_x, of_products, of_h0 = [], [], xp.empty(of_h_last.shape, of_h_last.dtype)
    with np.errstate(all="ignore"):
        for d in range(directions):
            w = weight[d].astype(acc, copy=False)
            of_h, mine = of_h_last[d].astype(acc), _columns(of_out, d, hidden)
            states = _columns(out, d, hidden)
            of_inputs, of_states = (xp.empty((len(out), 3 * hidden), of_out.dtype) for _ in range(2))
            steps = walk(batch_sizes, d)
            for k in range(len(steps) - 1, -1, -1):
                n, rows = steps[k]
                kept = saved[d][rows].astype(acc, copy=False)
                r, z, fresh, of_state = (kept[:, j * hidden : (j + 1) * hidden] for j in range(4))
                state = of_h[:n]
                state += mine[rows]
                known, there = _before(states, h0[d], steps, k)
                before = xp.concatenate([known, h0[d][there:n]]).astype(acc, copy=False)
                gates = xp.empty((n, 3 * hidden), acc)
                passed = state * z
                of_fresh = state - passed
                of_fresh *= 1 - fresh * fresh
                before -= fresh
                xp.multiply(passed, before, out=gates[:, hidden : 2 * hidden])
                gates[:, hidden : 2 * hidden] *= 1 - z
                gates[:, 2 * hidden :] = of_fresh
                of_fresh *= r
                xp.multiply(of_fresh, of_state, out=gates[:, :hidden])
                gates[:, :hidden] *= 1 - r
                of_inputs[rows] = gates
                gates[:, 2 * hidden :] = of_fresh
                of_states[rows] = gates
                xp.matmul(_rounded(gates, of_states, rows), w, out=state)
                state += passed
            of_h0[d] = of_h
            of_x.append(of_inputs)
            of_products.append(of_states)
    return of_x, of_products, of_h0
