"""One time step of LSTM and GRU after the products, and the gradients of one step, in array code: the specification.

Gates are in PyTorch's order (LSTM: input, forget, cell, output; GRU: reset, update, new), side by side in (batch,
gates * hidden). Computed in float32 (float64 for float64) and rounded once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnet._device import namespace
from fastnet.errors import InputError
from fastnet.kernels._arrays import check_array


def accumulator(x: Any) -> Any:
    """The dtype of sums, and of LSTM's cell states."""
    return np.dtype(np.float64 if x.dtype == np.float64 else np.float32)


# ---- checks of arguments, which the kernels share ------------------------------------------------------------------


def check_step(name: str, first: str, like: Any, others: dict[str, tuple[Any, int, bool]], gates: int = 1) -> None:
    """``like``, named ``first``, is (batch, gates * hidden); each of ``others`` (array, its gates, whether it is of the
    dtype of sums) fits it."""
    check_array(name, first, like, ndim=2)
    batch, width = like.shape
    if width % gates:
        raise InputError(f"{name}: {first} has {width} columns, expected a multiple of {gates}, its gates")
    hidden = width // gates
    for argument, (x, count, wide) in others.items():
        check_array(name, argument, x, dtypes=(accumulator(like).name if wide else like.dtype.name,), ndim=2, like=like)
        if x.shape != (batch, count * hidden):
            raise InputError(f"{name}: {argument} has shape {tuple(x.shape)}, expected {(batch, count * hidden)}")


def check_lstm_cell(gates: Any, c: Any) -> None:
    check_step("lstm_cell", "gates", gates, {"c": (c, 1, True)}, gates=4)


def check_lstm_cell_backward(of_h: Any, of_c: Any, activated: Any, c: Any, c_before: Any) -> None:
    states = {"of_c": (of_c, 1, True), "c": (c, 1, True), "c_before": (c_before, 1, True)}
    check_step("lstm_cell_backward", "of_h", of_h, {"activated": (activated, 4, False), **states})


def check_gru_cell(gates_x: Any, gates_h: Any, h: Any) -> None:
    check_step("gru_cell", "gates_x", gates_x, {"gates_h": (gates_h, 3, False), "h": (h, 1, False)}, gates=3)


def check_gru_cell_backward(of_h: Any, saved: Any, h: Any) -> None:
    check_step("gru_cell_backward", "of_h", of_h, {"saved": (saved, 4, False), "h": (h, 1, False)})


def check_rnn_cell_backward(of_h: Any, h: Any, activation: str) -> None:
    check_step("rnn_cell_backward", "of_h", of_h, {"h": (h, 1, False)})
    if activation not in ("tanh", "relu"):
        raise InputError(f"rnn_cell_backward: activation is {activation!r}, expected tanh or relu")


# ---- the definitions -----------------------------------------------------------------------------------------------


def sigmoid(x: Any, out: Any = None) -> Any:
    """1 / (1 + exp(-x)), right to its last places also where it is small; exp overflows to the right result."""
    xp = namespace(x)
    y = xp.multiply(x, x.dtype.type(-1), out=out)  # NumPy 2.4's negative shifts rows in place, 16 bytes apart
    xp.exp(y, out=y)
    y += x.dtype.type(1)
    return xp.reciprocal(y, out=y)


def lstm_cell(gates: Any, c: Any, *, config: Any = None) -> tuple[Any, Any, Any]:
    """``c' = f c + i g``, ``h' = o tanh(c')``; arguments and results as ``fastnet.kernels.lstm_cell``."""
    check_lstm_cell(gates, c)
    xp, acc = namespace(gates), accumulator(gates)
    hidden = c.shape[1]
    with np.errstate(all="ignore"):
        wide = gates.astype(acc, copy=False)
        activated = xp.empty(gates.shape, acc)
        activated[:, : 2 * hidden] = sigmoid(wide[:, : 2 * hidden])
        xp.tanh(wide[:, 2 * hidden : 3 * hidden], out=activated[:, 2 * hidden : 3 * hidden])
        activated[:, 3 * hidden :] = sigmoid(wide[:, 3 * hidden :])
        i, f, g, o = (activated[:, n * hidden : (n + 1) * hidden] for n in range(4))
        after = f * c
        after += i * g
        h = xp.tanh(after)
        h *= o
    return h.astype(gates.dtype, copy=False), after, activated.astype(gates.dtype, copy=False)


def lstm_cell_backward(
    of_h: Any, of_c: Any, activated: Any, c: Any, c_before: Any, *, config: Any = None
) -> tuple[Any, Any]:
    """Gradients of ``lstm_cell``'s gates and c; arguments and results as ``fastnet.kernels.lstm_cell_backward``."""
    check_lstm_cell_backward(of_h, of_c, activated, c, c_before)
    xp, acc = namespace(of_h), accumulator(of_h)
    hidden = c.shape[1]
    with np.errstate(all="ignore"):
        wide = activated.astype(acc, copy=False)
        i, f, g, o = (wide[:, n * hidden : (n + 1) * hidden] for n in range(4))
        of_h = of_h.astype(acc, copy=False)
        squashed = xp.tanh(c)
        total = of_c + of_h * o * (1 - squashed * squashed)
        of_gates = xp.empty(activated.shape, acc)
        of_gates[:, :hidden] = total * g * i * (1 - i)
        of_gates[:, hidden : 2 * hidden] = total * c_before * f * (1 - f)
        of_gates[:, 2 * hidden : 3 * hidden] = total * i * (1 - g * g)
        of_gates[:, 3 * hidden :] = of_h * squashed * o * (1 - o)
        return of_gates.astype(activated.dtype, copy=False), total * f


def gru_cell(gates_x: Any, gates_h: Any, h: Any, *, config: Any = None) -> tuple[Any, Any]:
    """``r, z = sigmoid(x + h)``, ``n = tanh(x + r h)``, ``h' = (1 - z) n + z h``; as ``fastnet.kernels.gru_cell``."""
    check_gru_cell(gates_x, gates_h, h)
    xp, acc = namespace(h), accumulator(h)
    hidden = h.shape[1]
    with np.errstate(all="ignore"):
        x, s = gates_x.astype(acc, copy=False), gates_h.astype(acc, copy=False)
        saved = xp.empty((h.shape[0], 4 * hidden), acc)
        saved[:, : 2 * hidden] = sigmoid(x[:, : 2 * hidden] + s[:, : 2 * hidden])
        r, z = saved[:, :hidden], saved[:, hidden : 2 * hidden]
        n = xp.tanh(x[:, 2 * hidden :] + r * s[:, 2 * hidden :], out=saved[:, 2 * hidden : 3 * hidden])
        saved[:, 3 * hidden :] = s[:, 2 * hidden :]
        after = (1 - z) * n + z * h.astype(acc, copy=False)
    return after.astype(h.dtype, copy=False), saved.astype(h.dtype, copy=False)


def gru_cell_backward(of_h: Any, saved: Any, h: Any, *, config: Any = None) -> tuple[Any, Any, Any]:
    """Gradients of ``gru_cell``'s gates_x, gates_h and h (past the gates); as ``fastnet.kernels.gru_cell_backward``."""
    check_gru_cell_backward(of_h, saved, h)
    xp, acc = namespace(h), accumulator(h)
    hidden = h.shape[1]
    with np.errstate(all="ignore"):
        g = of_h.astype(acc, copy=False)
        wide = saved.astype(acc, copy=False)
        r, z, n, of_state = (wide[:, i * hidden : (i + 1) * hidden] for i in range(4))
        of_x = xp.empty((h.shape[0], 3 * hidden), acc)
        fresh = g * (1 - z) * (1 - n * n)
        of_x[:, :hidden] = fresh * of_state * r * (1 - r)
        of_x[:, hidden : 2 * hidden] = g * (h.astype(acc, copy=False) - n) * z * (1 - z)
        of_x[:, 2 * hidden :] = fresh
        of_s = of_x.copy()
        of_s[:, 2 * hidden :] *= r
        return tuple(y.astype(h.dtype, copy=False) for y in (of_x, of_s, g * z))


def rnn_cell_backward(of_h: Any, h: Any, activation: str = "tanh", *, config: Any = None) -> Any:
    """``of_h (1 - h^2)`` for tanh, ``of_h`` where h > 0 for relu."""
    check_rnn_cell_backward(of_h, h, activation)
    acc = accumulator(h)
    with np.errstate(all="ignore"):
        g, value = of_h.astype(acc, copy=False), h.astype(acc, copy=False)
        out = g * (1 - value * value) if activation == "tanh" else namespace(h).where(value > 0, g, acc.type(0))
        return out.astype(h.dtype, copy=False)
