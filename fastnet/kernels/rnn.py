"""One time step of LSTM and GRU after the products, and the gradients of one step, by handwritten kernels."""

from __future__ import annotations

from typing import Any

from fastnet.errors import KindError
from fastnet.kernels._arrays import addressable, empty, stream_of
from fastnet.kernels._runtime import extension_for, record
from fastnet.reference.rnn import (
    check_gru_cell,
    check_gru_cell_backward,
    check_lstm_cell,
    check_lstm_cell_backward,
    check_rnn_cell_backward,
)


def _contiguous(x: Any) -> Any:
    x = addressable(x)
    return x if x.flags.c_contiguous else x.copy()


def _launch(name: str, state: Any, outputs: list[Any], inputs: list[Any], config: Any, *options: Any) -> None:
    """Call the extension's function of this name for a state (batch, hidden)."""
    ext = extension_for(state)
    if config is not None and not isinstance(config, ext.RnnConfig):
        raise KindError(f"{name}: config is a {type(config).__name__}, expected an RnnConfig of {ext.__name__}")
    if not state.size:
        return
    config = config or ext.rnn_config(*state.shape)
    record(name, *inputs, config=config)
    getattr(ext, name)(*outputs, *(_contiguous(x) for x in inputs), *options, config, stream_of(state))


def lstm_cell(gates: Any, c: Any, *, config: Any = None) -> tuple[Any, Any, Any]:
    """``i, f, o = sigmoid, g = tanh`` of their gates; ``c' = f c + i g``, ``h' = o tanh(c')`` (Hochreiter and
    Schmidhuber 1997; Gers et al. 2000).

    Args:
        gates: (batch, 4 * hidden) float32, float64, float16 or bfloat16: input, forget, cell and output gate before
            their activations, biases included.
        c: (batch, hidden), the cell state, of the dtype of sums: float64 for float64 and else float32.
        config: an ``RnnConfig`` to use in place of the one chosen for the problem.

    Returns:
        h' (batch, hidden) of gates' dtype; c' of c's; the gates after their activations, for the gradient.

    Raises:
        TypeError, ValueError: arguments that do not fit.

    >>> import numpy as np
    >>> from fastnet import kernels
    >>> with kernels.use("emulated"):
    ...     kernels.lstm_cell(np.zeros((1, 4), np.float32), np.ones((1, 1), np.float32))[1]
    array([[0.5]], dtype=float32)
    """
    check_lstm_cell(gates, c)
    h, after, activated = empty(gates, c.shape), empty(c, c.shape), empty(gates, gates.shape)
    _launch("lstm_cell", h, [h, after, activated], [gates, c], config)
    return h, after, activated


def lstm_cell_backward(
    of_h: Any, of_c: Any, activated: Any, c: Any, c_before: Any, *, config: Any = None
) -> tuple[Any, Any]:
    """Gradients of ``lstm_cell``'s gates and cell state.

    Args:
        of_h: gradient of h' (batch, hidden); its dtype.
        of_c: gradient of c' but for what reaches it through h', of c's dtype.
        activated, c: as ``lstm_cell`` returned them.
        c_before: the cell state it was given.
        config: as in ``lstm_cell``.

    Returns:
        Gradients of gates (batch, 4 * hidden) and of c_before.

    Raises:
        TypeError, ValueError: arguments that do not fit.
    """
    check_lstm_cell_backward(of_h, of_c, activated, c, c_before)
    of_gates, of_before = empty(activated, activated.shape), empty(c, c.shape)
    _launch("lstm_cell_backward", of_h, [of_gates, of_before], [of_h, of_c, activated, c, c_before], config)
    return of_gates, of_before


def gru_cell(gates_x: Any, gates_h: Any, h: Any, *, config: Any = None) -> tuple[Any, Any]:
    """``r, z = sigmoid(x + s)``, ``n = tanh(x + r s)`` of their gates; ``h' = (1 - z) n + z h`` (Cho et al. 2014, with
    the reset gate after the product).

    Args:
        gates_x: (batch, 3 * hidden) float32, float64, float16 or bfloat16: x, the reset, update and new gate's products
            with the input, biases included.
        gates_h: the same with the state: s.
        h: (batch, hidden), the state.
        config: an ``RnnConfig`` to use in place of the one chosen for the problem.

    Returns:
        h' (batch, hidden); (batch, 4 * hidden) for the gradient: r, z, n and the new gate's s.

    Raises:
        TypeError, ValueError: arguments that do not fit.
    """
    check_gru_cell(gates_x, gates_h, h)
    after, saved = empty(h, h.shape), empty(h, (h.shape[0], 4 * h.shape[1]))
    _launch("gru_cell", h, [after, saved], [gates_x, gates_h, h], config)
    return after, saved


def gru_cell_backward(of_h: Any, saved: Any, h: Any, *, config: Any = None) -> tuple[Any, Any, Any]:
    """Gradients of ``gru_cell``'s gates_x and gates_h, and of h past the gates: ``of_h z``.

    Args:
        of_h: gradient of h' (batch, hidden).
        saved: as ``gru_cell`` returned it.
        h: the state it was given.
        config: as in ``gru_cell``.

    Raises:
        TypeError, ValueError: arguments that do not fit.
    """
    check_gru_cell_backward(of_h, saved, h)
    shape = (h.shape[0], 3 * h.shape[1])
    of_x, of_s, of_before = empty(h, shape), empty(h, shape), empty(h, h.shape)
    _launch("gru_cell_backward", h, [of_x, of_s, of_before], [of_h, saved, h], config)
    return of_x, of_s, of_before


def rnn_cell_backward(of_h: Any, h: Any, activation: str = "tanh", *, config: Any = None) -> Any:
    """Gradient of the argument of a plain step's activation from its result h (batch, hidden): ``of_h (1 - h^2)`` for
    ``"tanh"``, of_h where h > 0 and else 0 for ``"relu"``. The step itself is one ``matmul``.

    Raises:
        TypeError, ValueError: arguments that do not fit.
    """
    check_rnn_cell_backward(of_h, h, activation)
    of_gates = empty(h, h.shape)
    _launch("rnn_cell_backward", h, [of_gates], [of_h, h], config, activation == "relu")
    return of_gates
