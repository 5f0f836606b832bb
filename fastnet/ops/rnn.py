"""Recurrent layers and cells as differentiable operations.

A sequence is packed, as ``nn.utils.rnn.PackedSequence``: the rows of time step t, ``batch_sizes[t]`` of them, follow
those of step t - 1, and batch sizes never grow; a padded batch of equal lengths is a special case. The products with
the input are one matrix product for all steps; the rest of a layer, in one direction or both, is one kernel, and the
gradients of its weights one more product. Projected states take a product and a kernel in each step.

What is kept for backward, beside inputs and outputs of the operation, in bytes for each row and direction (s: size of
the dtype, 4 of float32; cell states are float32 for 16-bit dtypes):

======  ==================  =============================================================
layer   bytes               what
======  ==================  =============================================================
RNN     0                   the states are the layer's result
LSTM    4 H s + H max(s, 4)  gates after their activations, cell states
GRU     4 H s               gates after their activations, the new gate's product with h
======  ==================  =============================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastnet._device import namespace
from fastnet.autograd import ArrayFunction
from fastnet.kernels._runtime import implementation
from fastnet.reference.rnn import accumulator
from fastnet.reference.rnn_sequence import before_each_step, walk


class _State:
    """A state of every sequence of the batch, of which a step sees the first few rows."""

    def __init__(self, first: Any):
        self.value = first

    def rows(self, n: int) -> Any:
        return self.value if n == self.value.shape[0] else self.value[:n]

    def set(self, n: int, value: Any) -> None:
        if n == self.value.shape[0]:
            self.value = value
        else:
            self.value = self.value.copy()  # what was given, or saved, stays as it is
            self.value[:n] = value


def _parameters(run: Any, of_gates: Any, before: Any, bias: bool) -> tuple[Any, Any]:
    """Gradients of a recurrent weight and its bias from those of all gates: one product."""
    result = run.matmul(of_gates.T, before, row_sums=bias)
    return result if bias else (result, None)


def _directions(parameters: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any] | None]:
    """Lists of x, weight and bias by direction from (x, weight, bias) of one direction after the other."""
    biases = list(parameters[2::3])
    return list(parameters[::3]), list(parameters[1::3]), None if biases[0] is None else biases


def _gradients(ctx: Any, run: Any, of_x: list[Any], of_products: list[Any], out: Any, h0: Any) -> list[Any]:
    """Gradients of (x, weight, bias) of one direction after the other."""
    hidden = h0.shape[2]
    result: list[Any] = []
    for d, (x, products) in enumerate(zip(of_x, of_products, strict=True)):
        before = before_each_step(out[:, d * hidden : (d + 1) * hidden], h0[d], ctx.batch_sizes, d)
        result += [x, *_parameters(run, products, before, ctx.bias)]
    return result


class RnnSequence(ArrayFunction):
    """h[t] = activation(x[t] + W h[t - 1] + b) along a packed sequence, in one direction or both.

    parameters: x (total, H), the products with the input, W (H, H) and b (H,) or None, of each direction.
    """

    @staticmethod
    def forward(ctx: Any, h0: Any, batch_sizes: list[int], activation: str, *parameters: Any) -> Any:
        x, weight, bias = _directions(parameters)
        out, h_last = implementation(h0).rnn_sequence(x, h0, weight, bias, batch_sizes, activation)
        ctx.save(out, h0, *weight)
        ctx.batch_sizes, ctx.activation, ctx.bias = batch_sizes, activation, bias is not None
        return out, h_last

    @staticmethod
    def backward(ctx: Any, grad: Any, grad_last: Any) -> Any:
        out, h0, *weight = ctx.saved
        run = implementation(grad)
        of_x, of_h0 = run.rnn_sequence_backward(grad, grad_last, out, weight, ctx.batch_sizes, ctx.activation)
        return of_h0, None, None, *_gradients(ctx, run, of_x, of_x, out, h0)


class LstmSequence(ArrayFunction):
    """LSTM along a packed sequence, in one direction or both; parameters as ``RnnSequence``'s, with 4 H gates."""

    @staticmethod
    def forward(ctx: Any, h0: Any, c0: Any, batch_sizes: list[int], *parameters: Any) -> Any:
        x, weight, bias = _directions(parameters)
        wide = c0.astype(accumulator(c0), copy=False)
        out, h_last, c_last, gates, cells = implementation(h0).lstm_sequence(x, h0, wide, weight, bias, batch_sizes)
        ctx.save(out, h0, wide, gates, cells, weight)
        ctx.batch_sizes, ctx.bias = batch_sizes, bias is not None
        return out, h_last, c_last.astype(h0.dtype, copy=False)

    @staticmethod
    def backward(ctx: Any, grad: Any, grad_h: Any, grad_c: Any) -> Any:
        out, h0, c0, gates, cells, weight = ctx.saved
        run, wide = implementation(grad), grad_c.astype(c0.dtype, copy=False)
        of_x, of_h0, of_c0 = run.lstm_sequence_backward(grad, grad_h, wide, gates, cells, c0, weight, ctx.batch_sizes)
        return of_h0, of_c0.astype(grad.dtype, copy=False), None, *_gradients(ctx, run, of_x, of_x, out, h0)


class GruSequence(ArrayFunction):
    """GRU along a packed sequence, in one direction or both; parameters as ``RnnSequence``'s, with 3 H gates."""

    @staticmethod
    def forward(ctx: Any, h0: Any, batch_sizes: list[int], *parameters: Any) -> Any:
        x, weight, bias = _directions(parameters)
        out, h_last, saved = implementation(h0).gru_sequence(x, h0, weight, bias, batch_sizes)
        ctx.save(out, h0, saved, weight)
        ctx.batch_sizes, ctx.bias = batch_sizes, bias is not None
        return out, h_last

    @staticmethod
    def backward(ctx: Any, grad: Any, grad_last: Any) -> Any:
        out, h0, saved, weight = ctx.saved
        run = implementation(grad)
        of_x, of_products, of_h0 = run.gru_sequence_backward(grad, grad_last, saved, out, h0, weight, ctx.batch_sizes)
        return of_h0, None, *_gradients(ctx, run, of_x, of_products, out, h0)


class ProjectedLstmSequence(ArrayFunction):
    """LSTM whose state is projected, along a packed sequence in one direction, step by step; x: (total, 4 H), products
    with the input, biases included; ``projection`` (R, H).

    Kept for backward: activated gates (total, 4 H), cell states before and after each step (total, H), the states
    before the projection (total, H), those before each step (total, R).
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Any,
        h0: Any,
        c0: Any,
        weight: Any,
        bias: Any,
        projection: Any,
        batch_sizes: Sequence[int],
        reverse: bool,
    ) -> Any:
        xp, run, steps = namespace(x), implementation(x), walk(batch_sizes, int(reverse))
        acc = accumulator(x)
        h_state, c_state = _State(h0), _State(c0.astype(acc))
        hidden, width, total = c0.shape[1], h0.shape[1], sum(batch_sizes)
        out, before = xp.empty((total, width), x.dtype), xp.empty((total, width), x.dtype)
        gates = xp.empty((total, 4 * hidden), x.dtype)
        cells = xp.empty((total, hidden), acc)
        cells_before = xp.empty_like(cells)
        whole = xp.empty((total, hidden), x.dtype)
        for n, rows in steps:
            h, c = h_state.rows(n), c_state.rows(n)
            before[rows], cells_before[rows] = h, c
            products = run.matmul(h, weight.T, bias=bias, residual=x[rows])
            h, c, activated = run.lstm_cell(products, c)
            gates[rows], cells[rows], whole[rows] = activated, c, h
            h = run.matmul(h, projection.T)
            out[rows] = h
            h_state.set(n, h)
            c_state.set(n, c)
        ctx.save(gates, cells, cells_before, before, weight, projection, whole)
        ctx.steps, ctx.bias = steps, bias is not None
        return out, h_state.value, c_state.value.astype(x.dtype, copy=False)

    @staticmethod
    def backward(ctx: Any, grad: Any, grad_h: Any, grad_c: Any) -> Any:
        gates, cells, cells_before, before, weight, projection, whole = ctx.saved
        xp, run = namespace(grad), implementation(grad)
        h_state, c_state = _State(grad_h), _State(grad_c.astype(cells.dtype))
        of_x, of_out = xp.empty_like(gates), xp.empty_like(grad)
        for n, rows in reversed(ctx.steps):
            of_h = grad[rows] + h_state.rows(n)
            of_out[rows] = of_h
            of_h = run.matmul(of_h, projection)
            of_gates, of_c = run.lstm_cell_backward(of_h, c_state.rows(n), gates[rows], cells[rows], cells_before[rows])
            of_x[rows] = of_gates
            h_state.set(n, run.matmul(of_gates, weight))
            c_state.set(n, of_c)
        return (
            of_x,
            h_state.value,
            c_state.value.astype(grad.dtype, copy=False),
            *_parameters(run, of_x, before, ctx.bias),
            run.matmul(of_out.T, whole),
            None,
            None,
        )


class LstmCell(ArrayFunction):
    """One step: gates (B, 4 H) before their activations and the cell state to h and c."""

    @staticmethod
    def forward(ctx: Any, gates: Any, c: Any) -> Any:
        wide = c.astype(accumulator(gates), copy=False)
        h, after, activated = implementation(gates).lstm_cell(gates, wide)
        ctx.save(activated, after, wide)
        return h, after.astype(c.dtype, copy=False)

    @staticmethod
    def backward(ctx: Any, grad_h: Any, grad_c: Any) -> Any:
        activated, after, before = ctx.saved
        of_gates, of_c = implementation(grad_h).lstm_cell_backward(
            grad_h, grad_c.astype(after.dtype, copy=False), activated, after, before
        )
        return of_gates, of_c.astype(grad_c.dtype, copy=False)


class GruCell(ArrayFunction):
    """One step: products of input and state (B, 3 H), and the state, to the next state."""

    @staticmethod
    def forward(ctx: Any, gates_x: Any, gates_h: Any, h: Any) -> Any:
        after, saved = implementation(h).gru_cell(gates_x, gates_h, h)
        ctx.save(saved, h)
        return after

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        saved, h = ctx.saved
        return implementation(grad).gru_cell_backward(grad, saved, h)
