"""Recurrent layers' sequences and cells as differentiable operations.

A sequence is packed, as ``nn.utils.rnn.PackedSequence``: the rows of time step t, ``batch_sizes[t]`` of them, follow
those of step t - 1, and batch sizes never grow; a padded batch of equal lengths is a special case. The products with
the input are one matrix product for all steps; what is left of a step is a product with the state and one kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from fastnet._device import namespace
from fastnet.autograd import ArrayFunction
from fastnet.kernels._runtime import implementation
from fastnet.reference.rnn import accumulator


class _Steps:
    """The time steps of a packed sequence in the order in which a direction takes them."""

    def __init__(self, batch_sizes: Sequence[int], reverse: bool):
        starts = [0]
        for n in batch_sizes:
            starts.append(starts[-1] + n)
        self.rows = [slice(a, b) for a, b in pairwise(starts)]
        self.sizes = list(batch_sizes)
        if reverse:
            self.rows.reverse()
            self.sizes.reverse()
        self.total = starts[-1]

    def __iter__(self) -> Any:
        return zip(self.rows, self.sizes, strict=True)

    def backward(self) -> Any:
        return zip(reversed(self.rows), reversed(self.sizes), strict=True)


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


class RnnSequence(ArrayFunction):
    """h[t] = activation(x[t] + W h[t - 1] + b) along a packed sequence; x: (total, H), products with the input.

    Saved for backward: the states (total, H) and those before each step.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Any,
        h0: Any,
        weight: Any,
        bias: Any,
        batch_sizes: Sequence[int],
        reverse: bool,
        activation: str,
    ) -> Any:
        run, steps, state = implementation(x), _Steps(batch_sizes, reverse), _State(h0)
        out = namespace(x).empty((steps.total, h0.shape[1]), x.dtype)
        before = namespace(x).empty_like(out)
        for rows, n in steps:
            h = state.rows(n)
            before[rows] = h
            h = run.matmul(h, weight.T, bias=bias, residual=x[rows], activation=activation)
            out[rows] = h
            state.set(n, h)
        ctx.save(out, before, weight)
        ctx.steps, ctx.activation, ctx.bias = steps, activation, bias is not None
        return out, state.value

    @staticmethod
    def backward(ctx: Any, grad: Any, grad_last: Any) -> Any:
        out, before, weight = ctx.saved
        run, of_state = implementation(grad), _State(grad_last)
        of_x = namespace(grad).empty_like(out)
        for rows, n in ctx.steps.backward():
            gates = run.rnn_cell_backward(grad[rows] + of_state.rows(n), out[rows], ctx.activation)
            of_x[rows] = gates
            of_state.set(n, run.matmul(gates, weight))
        return of_x, of_state.value, *_parameters(run, of_x, before, ctx.bias), None, None, None


def _parameters(run: Any, of_gates: Any, before: Any, bias: bool) -> tuple[Any, Any]:
    """Gradients of a recurrent weight and its bias from those of all gates: one product."""
    return run.matmul(of_gates.T, before), run.column_sum(of_gates) if bias else None


class LstmSequence(ArrayFunction):
    """LSTM along a packed sequence; x: (total, 4 H), products with the input, biases included; ``projection`` (R, H) of
    the state, or None.

    Saved for backward: activated gates (total, 4 H), cell states before each step and the states (total, H or R), and
    with a projection the states before it.
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
        xp, run, steps = namespace(x), implementation(x), _Steps(batch_sizes, reverse)
        acc = accumulator(x)
        h_state, c_state = _State(h0), _State(c0.astype(acc))
        hidden, width = c0.shape[1], h0.shape[1]
        out, before = xp.empty((steps.total, width), x.dtype), xp.empty((steps.total, width), x.dtype)
        gates = xp.empty((steps.total, 4 * hidden), x.dtype)
        cells = xp.empty((steps.total, hidden), acc)
        cells_before = xp.empty_like(cells)
        whole = None if projection is None else xp.empty((steps.total, hidden), x.dtype)
        for rows, n in steps:
            h, c = h_state.rows(n), c_state.rows(n)
            before[rows], cells_before[rows] = h, c
            products = run.matmul(h, weight.T, bias=bias, residual=x[rows])
            h, c, activated = run.lstm_cell(products, c)
            gates[rows], cells[rows] = activated, c
            if whole is not None:
                whole[rows] = h
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
        of_x = xp.empty_like(gates)
        of_out = None if projection is None else xp.empty((ctx.steps.total, grad.shape[1]), grad.dtype)
        for rows, n in ctx.steps.backward():
            of_h = grad[rows] + h_state.rows(n)
            if of_out is not None:
                of_out[rows] = of_h
                of_h = run.matmul(of_h, projection)
            of_gates, of_c = run.lstm_cell_backward(of_h, c_state.rows(n), gates[rows], cells[rows], cells_before[rows])
            of_x[rows] = of_gates
            h_state.set(n, run.matmul(of_gates, weight))
            c_state.set(n, of_c)
        of_projection = None if of_out is None else run.matmul(of_out.T, whole)
        return (
            of_x,
            h_state.value,
            c_state.value.astype(grad.dtype, copy=False),
            *_parameters(run, of_x, before, ctx.bias),
            of_projection,
            None,
            None,
        )


class GruSequence(ArrayFunction):
    """GRU along a packed sequence; x: (total, 3 H), products with the input and their bias.

    Saved for backward: gates and the new gate's product with the state (total, 4 H), and the states before each step.
    """

    @staticmethod
    def forward(ctx: Any, x: Any, h0: Any, weight: Any, bias: Any, batch_sizes: Sequence[int], reverse: bool) -> Any:
        xp, run, steps, state = namespace(x), implementation(x), _Steps(batch_sizes, reverse), _State(h0)
        hidden = h0.shape[1]
        out, before = xp.empty((steps.total, hidden), x.dtype), xp.empty((steps.total, hidden), x.dtype)
        saved = xp.empty((steps.total, 4 * hidden), x.dtype)
        for rows, n in steps:
            h = state.rows(n)
            before[rows] = h
            h, kept = run.gru_cell(x[rows], run.matmul(h, weight.T, bias=bias), h)
            out[rows], saved[rows] = h, kept
            state.set(n, h)
        ctx.save(saved, before, weight)
        ctx.steps, ctx.bias = steps, bias is not None
        return out, state.value

    @staticmethod
    def backward(ctx: Any, grad: Any, grad_last: Any) -> Any:
        saved, before, weight = ctx.saved
        xp, run, of_state = namespace(grad), implementation(grad), _State(grad_last)
        of_x = xp.empty((ctx.steps.total, 3 * before.shape[1]), grad.dtype)
        of_products = xp.empty_like(of_x)
        for rows, n in ctx.steps.backward():
            of_gates, of_product, of_h = run.gru_cell_backward(grad[rows] + of_state.rows(n), saved[rows], before[rows])
            of_x[rows], of_products[rows] = of_gates, of_product
            of_state.set(n, run.matmul(of_product, weight, residual=of_h))
        return of_x, of_state.value, *_parameters(run, of_products, before, ctx.bias), None, None


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
