"""Recurrent layers over whole packed sequences, one direction or both in one launch, by handwritten kernels.

Step t has ``batch_sizes[t]`` rows, which follow those of step t - 1: ``total`` in all. Row r of a step belongs to
sequence r of the batch, and batch sizes never grow. Direction 0 walks from the first step to the last, direction 1
back, each sequence from its own end. Gates are in PyTorch's order.
"""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import numpy as np

from fastnet._device import namespace
from fastnet.errors import InputError, KindError
from fastnet.kernels._arrays import addressable, empty, stream_of
from fastnet.kernels._runtime import extension_for, record
from fastnet.reference.rnn import accumulator
from fastnet.reference.rnn_sequence import (
    check_gru,
    check_gru_backward,
    check_lstm,
    check_lstm_backward,
    check_rnn,
    check_rnn_backward,
)

GROUP_WORDS = 32  # kSequenceCounters


def _contiguous(x: Any) -> Any:
    x = addressable(x)
    return x if x.flags.c_contiguous else x.copy()


def _all_contiguous(arrays: Any) -> list[Any]:
    return [] if arrays is None else [_contiguous(x) for x in arrays]


def _starts(batch_sizes: list[int], like: Any) -> Any:
    """Where each step's rows start, beside like; None where all steps have as many."""
    if batch_sizes[-1] == batch_sizes[0]:
        return None
    return namespace(like).asarray(np.array([0, *accumulate(batch_sizes)], np.int64))


def _config(name: str, cell: str, backward: bool, states: Any, config: Any) -> Any:
    ext = extension_for(states)
    directions, batch, hidden = states.shape
    problem = (cell, backward, states.dtype.itemsize, batch, hidden, directions)
    if config is None:
        return ext.rnn_sequence_config(*problem)
    if not isinstance(config, ext.RnnSequenceConfig):
        raise KindError(f"{name}: config is a {type(config).__name__}, expected an RnnSequenceConfig of {ext.__name__}")
    why = ext.rnn_sequence_refusal(*problem, config) if states.size else ""
    if why:
        raise InputError(f"{name}: config cannot serve the problem: {why}")
    return config


def _counters(states: Any, config: Any) -> Any:
    """Zeros by which the blocks of each group count who has arrived."""
    counters = empty(states, (states.shape[0] * config.row_groups, GROUP_WORDS), np.uint32)
    counters.fill(0)
    return counters


def _forward(
    cell: str, x: Any, h0: Any, c0: Any, weight: Any, bias: Any, batch_sizes: Any, config: Any
) -> tuple[Any, Any, Any, list[Any], list[Any]]:
    """out, h_last, c_last, saved, cells."""
    name = "rnn" if cell in ("tanh", "relu") else cell
    config = _config(name, cell, False, h0, config)
    directions, _, hidden = h0.shape
    total = sum(batch_sizes)
    out, h_last = empty(h0, (total, directions * hidden)), empty(h0, h0.shape)
    c_last = None if c0 is None else empty(c0, c0.shape)
    saved = [empty(h0, (total, 4 * hidden)) for _ in range(directions)] if cell in ("lstm", "gru") else []
    cells = [] if c0 is None else [empty(c0, (total, hidden)) for _ in range(directions)]
    if h0.size:
        record(name, h0, *x, *weight, config=config)
        extension_for(h0).rnn_sequence(
            cell,
            out,
            h_last,
            c_last,
            saved,
            cells,
            _all_contiguous(x),
            _contiguous(h0),
            None if c0 is None else _contiguous(c0),
            _all_contiguous(weight),
            _all_contiguous(bias),
            _starts(batch_sizes, h0),
            len(batch_sizes),
            _counters(h0, config),
            config,
            stream_of(h0),
        )
    return out, h_last, c_last, saved, cells


def _backward(
    cell: str,
    of_out: Any,
    of_h_last: Any,
    weight: Any,
    batch_sizes: Any,
    config: Any,
    *,
    of_c_last: Any = None,
    out: Any = None,
    saved: Any = None,
    cells: Any = None,
    h0: Any = None,
    c0: Any = None,
) -> tuple[list[Any], list[Any], Any, Any]:
    """of_x, of_products, of_h0, of_c0."""
    name = f"{'rnn' if cell in ('tanh', 'relu') else cell}_backward"
    config = _config(name, cell, True, of_h_last, config)
    directions, _, hidden = of_h_last.shape
    gates = {"lstm": 4, "gru": 3}.get(cell, 1)
    shape = (sum(batch_sizes), gates * hidden)
    of_x = [empty(of_h_last, shape) for _ in range(directions)]
    of_products = [empty(of_h_last, shape) for _ in range(directions)] if cell == "gru" else []
    of_h0 = empty(of_h_last, of_h_last.shape)
    carry = empty(of_h_last, of_h_last.shape, accumulator(of_h_last)) if gates > 1 else None
    if of_h_last.size:
        record(name, of_out, *weight, config=config)
        extension_for(of_out).rnn_sequence_backward(
            cell,
            of_x,
            of_products,
            of_h0,
            carry,
            _contiguous(of_out),
            _contiguous(of_h_last),
            None if of_c_last is None else _contiguous(of_c_last),
            None if out is None else _contiguous(out),
            _all_contiguous(saved),
            _all_contiguous(cells),
            None if h0 is None else _contiguous(h0),
            None if c0 is None else _contiguous(c0),
            _all_contiguous(weight),
            _starts(batch_sizes, of_out),
            len(batch_sizes),
            _counters(of_h_last, config),
            config,
            stream_of(of_out),
        )
    return of_x, of_products, of_h0, carry


def rnn(
    x: Any, h0: Any, weight: Any, bias: Any, batch_sizes: Any, activation: str = "tanh", *, config: Any = None
) -> tuple[Any, Any]:
    """``h[t] = activation(x[t] + W h[t-1] + b)`` (Elman 1990), each direction along the whole sequence.

    Args:
        x: a list of (total, hidden) arrays, one a direction: products of the input, their bias included. float32,
            float64, float16 or bfloat16.
        h0: (directions, batch, hidden), the states before the first step.
        weight: a list of (hidden, hidden), one a direction.
        bias: a list of (hidden,), or None.
        batch_sizes: a list of integers, the rows of each step.
        activation: ``"tanh"`` or ``"relu"``.
        config: an ``RnnSequenceConfig`` to use in place of the one chosen for the problem.

    Returns:
        The states of all steps (total, directions * hidden), and those after each sequence's last step, as h0.

    Raises:
        TypeError, ValueError: arguments that do not fit, or a config that cannot serve them.

    >>> import numpy as np
    >>> from fastnet import kernels
    >>> x, one = np.ones((3, 1), np.float32), np.ones((1, 1), np.float32)
    >>> with kernels.use("emulated"):
    ...     kernels.rnn([x], one[None], [one], None, [1, 1, 1], "relu")[0].tolist()
    [[2.0], [3.0], [4.0]]
    """
    check_rnn(x, h0, weight, bias, batch_sizes, activation)
    return _forward(activation, x, h0, None, weight, bias, batch_sizes, config)[:2]


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
    """Gradients of ``rnn``'s x (of the products with the state, too) and h0.

    Args:
        of_out: gradient of the states (total, directions * hidden).
        of_h_last: of the last states (directions, batch, hidden).
        out: as ``rnn`` returned it.
        weight, batch_sizes, activation: as it was given.
        config: as in ``rnn``.

    Raises:
        TypeError, ValueError: arguments that do not fit, or a config that cannot serve them.
    """
    check_rnn_backward(of_out, of_h_last, out, weight, batch_sizes, activation)
    of_x, _, of_h0, _ = _backward(activation, of_out, of_h_last, weight, batch_sizes, config, out=out)
    return of_x, of_h0


def lstm(
    x: Any, h0: Any, c0: Any, weight: Any, bias: Any, batch_sizes: Any, *, config: Any = None
) -> tuple[Any, Any, Any, list[Any], list[Any]]:
    """``lstm_cell`` of ``x[t] + W h[t-1] + b``, each direction along the whole sequence; sums are not rounded before.

    Args:
        x: a list of (total, 4 * hidden), as in ``rnn``.
        h0: (directions, batch, hidden), the states before the first step.
        c0: the same of cell states, of the dtype of sums: float64 for float64 and else float32.
        weight: a list of (4 * hidden, hidden), one a direction.
        bias: a list of (4 * hidden,), or None.
        batch_sizes, config: as in ``rnn``.

    Returns:
        The states of all steps (total, directions * hidden); those after each sequence's last step, as h0; the cell
        states after it, as c0; for the gradient, a list of the gates after their activations (total, 4 * hidden) and
        one of all cell states (total, hidden), of c0's dtype.

    Raises:
        TypeError, ValueError: arguments that do not fit, or a config that cannot serve them.
    """
    check_lstm(x, h0, c0, weight, bias, batch_sizes)
    return _forward("lstm", x, h0, c0, weight, bias, batch_sizes, config)


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
    """Gradients of ``lstm``'s x (of the products with the state, too), h0 and c0.

    Args:
        of_out: gradient of the states (total, directions * hidden).
        of_h_last, of_c_last: of the last states; of_c_last is of c0's dtype.
        gates, cells: as ``lstm`` returned them.
        c0, weight, batch_sizes: as it was given.
        config: as in ``rnn``.

    Raises:
        TypeError, ValueError: arguments that do not fit, or a config that cannot serve them.
    """
    check_lstm_backward(of_out, of_h_last, of_c_last, gates, cells, c0, weight, batch_sizes)
    more = {"of_c_last": of_c_last, "saved": gates, "cells": cells, "c0": c0}
    of_x, _, of_h0, of_c0 = _backward("lstm", of_out, of_h_last, weight, batch_sizes, config, **more)
    return of_x, of_h0, of_c0


def gru(x: Any, h0: Any, weight: Any, bias: Any, batch_sizes: Any, *, config: Any = None) -> tuple[Any, Any, list[Any]]:
    """``gru_cell`` of ``x[t]`` and ``W h[t-1] + b``, each direction along the whole sequence; sums are not rounded in
    between.

    Args:
        x: a list of (total, 3 * hidden), as in ``rnn``.
        h0: (directions, batch, hidden), the states before the first step.
        weight: a list of (3 * hidden, hidden), one a direction.
        bias: a list of (3 * hidden,), or None.
        batch_sizes, config: as in ``rnn``.

    Returns:
        The states of all steps (total, directions * hidden); those after each sequence's last step, as h0; for the
        gradient, a list of (total, 4 * hidden): r, z, n and the new gate's product with the state.

    Raises:
        TypeError, ValueError: arguments that do not fit, or a config that cannot serve them.
    """
    check_gru(x, h0, weight, bias, batch_sizes)
    out, h_last, _, saved, _ = _forward("gru", x, h0, None, weight, bias, batch_sizes, config)
    return out, h_last, saved


def gru_backward(
    of_out: Any, of_h_last: Any, saved: Any, out: Any, h0: Any, weight: Any, batch_sizes: Any, *, config: Any = None
) -> tuple[list[Any], list[Any], Any]:
    """Gradients of ``gru``'s x, of the products with the state (their bias included), and of h0.

    Args:
        of_out: gradient of the states (total, directions * hidden).
        of_h_last: of the last states (directions, batch, hidden).
        saved, out: as ``gru`` returned them.
        h0, weight, batch_sizes: as it was given.
        config: as in ``rnn``.

    Raises:
        TypeError, ValueError: arguments that do not fit, or a config that cannot serve them.
    """
    check_gru_backward(of_out, of_h_last, saved, out, h0, weight, batch_sizes)
    of_x, of_products, of_h0, _ = _backward(
        "gru", of_out, of_h_last, weight, batch_sizes, config, saved=saved, out=out, h0=h0
    )
    return of_x, of_products, of_h0
