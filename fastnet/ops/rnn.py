"""Recurrent layers and cells as differentiable operations.

A sequence is packed, as ``nn.utils.rnn.PackedSequence``: the rows of time step t, ``batch_sizes[t]`` of them, follow
those of step t - 1, and batch sizes never grow; a padded batch of equal lengths is a special case. The products with
the input are one matrix product for all steps; the rest of a layer, in one direction or both, is one kernel, and the
gradients of its weights one more product. Projected states take a product and a kernel in each step.

What is kept for backward, beside inputs and outputs of the operation, in bytes for each row and direction (s: size of
the dtype, 4 of float32; cell states are float32 for 16-bit dtypes):

==========  ===================  =============================================================
layer       bytes                what
==========  ===================  =============================================================
RNN         0                    the states are the layer's result
LSTM        4 H s + H max(s, 4)  gates after their activations, cell states
projected   5 H s + H max(s, 4)  the same, and states before their projection
GRU         4 H s                gates after their activations, the new gate's product with h
==========  ===================  =============================================================

That is no more than PyTorch keeps (``tests/test_rnn_sequence.py``, in float32 and bfloat16, packed or not).
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
        out, h_last = implementation(h0).rnn(x, h0, weight, bias, batch_sizes, activation)
        ctx.save(out, h0, *weight)
        ctx.batch_sizes, ctx.activation, ctx.bias = batch_sizes, activation, bias is not None
        return out, h_last

    @staticmethod
    def backward(ctx: Any, grad: Any, grad_last: Any) -> Any:
        out, h0, *weight = ctx.saved
        run = implementation(grad)
        of_x, of_h0 = run.rnn_backward(grad, grad_last, out, weight, ctx.batch_sizes, ctx.activation)
        return of_h0, None, None, *_gradients(ctx, run, of_x, of_x, out, h0)


class LstmSequence(ArrayFunction):
    """LSTM along a packed sequence, in one direction or both; parameters as ``RnnSequence``'s, with 4 H gates."""

    @staticmethod
    def forward(ctx: Any, h0: Any, c0: Any, batch_sizes: list[int], *parameters: Any) -> Any:
        x, weight, bias = _directions(parameters)
        wide = c0.astype(accumulator(c0), copy=False)
        out, h_last, c_last, gates, cells = implementation(h0).lstm(x, h0, wide, weight, bias, batch_sizes)
        ctx.save(out, h0, wide, gates, cells, weight)
        ctx.batch_sizes, ctx.bias = batch_sizes, bias is not None
        return out, h_last, c_last.astype(h0.dtype, copy=False)

    @staticmethod
    def backward(ctx: Any, grad: Any, grad_h: Any, grad_c: Any) -> Any:
        out, h0, c0, gates, cells, weight = ctx.saved
        run, wide = implementation(grad), grad_c.astype(c0.dtype, copy=False)
        of_x, of_h0, of_c0 = run.lstm_backward(grad, grad_h, wide, gates, cells, c0, weight, ctx.batch_sizes)
        return of_h0, of_c0.astype(grad.dtype, copy=False), None, *_gradients(ctx, run, of_x, of_x, out, h0)


class GruSequence(ArrayFunction):
    """GRU along a packed sequence, in one direction or both; parameters as ``RnnSequence``'s, with 3 H gates."""

    @staticmethod
    def forward(ctx: Any, h0: Any, batch_sizes: list[int], *parameters: Any) -> Any:
        x, weight, bias = _directions(parameters)
        out, h_last, saved = implementation(h0).gru(x, h0, weight, bias, batch_sizes)
        ctx.save(out, h0, saved, weight)
        ctx.batch_sizes, ctx.bias = batch_sizes, bias is not None
        return out, h_last

    @staticmethod
    def backward(ctx: Any, grad: Any, grad_last: Any) -> Any:
        out, h0, saved, weight = ctx.saved
        run = implementation(grad)
        of_x, of_products, of_h0 = run.gru_backward(grad, grad_last, saved, out, h0, weight, ctx.batch_sizes)
        return of_h0, None, *_gradients(ctx, run, of_x, of_products, out, h0)


class ProjectedLstmSequence(ArrayFunction):
    """LSTM whose state is projected, along a packed sequence, in one direction or both, step by step.

    parameters: x (total, 4 H), the products with the input, the recurrent weight (4 H, R), its bias (4 H,) or None and
    the projection (R, H), of each direction. h0 (directions, batch, R), c0 (directions, batch, H).
    """

    @staticmethod
    def forward(ctx: Any, h0: Any, c0: Any, batch_sizes: list[int], *parameters: Any) -> Any:
        xp, run, acc = namespace(h0), implementation(h0), accumulator(h0)
        projections, wide = parameters[3::4], c0.astype(acc, copy=False)
        x, weight, bias = _directions([p for i, p in enumerate(parameters) if i % 4 != 3])
        (directions, _, width), hidden, total = h0.shape, c0.shape[2], sum(batch_sizes)
        out = xp.empty((total, directions * width), h0.dtype)
        all_gates, all_cells, all_whole, ends = [], [], [], []
        for d in range(directions):
            h_state, c_state = _State(h0[d]), _State(wide[d])
            gates, whole = (xp.empty((total, size), h0.dtype) for size in (4 * hidden, hidden))
            cells = xp.empty((total, hidden), acc)
            for n, rows in walk(batch_sizes, d):
                products = run.matmul(
                    h_state.rows(n), weight[d].T, bias=None if bias is None else bias[d], residual=x[d][rows]
                )
                h, c, activated = run.lstm_cell(products, c_state.rows(n))
                gates[rows], cells[rows], whole[rows] = activated, c, h
                h = run.matmul(h, projections[d].T)
                out[rows, d * width : (d + 1) * width] = h
                h_state.set(n, h)
                c_state.set(n, c)
            all_gates.append(gates)
            all_cells.append(cells)
            all_whole.append(whole)
            ends.append((h_state.value, c_state.value))
        ctx.save(all_gates, all_cells, all_whole, out, h0, wide, weight, projections)
        ctx.batch_sizes, ctx.bias = batch_sizes, bias is not None
        h_last, c_last = (xp.stack(s) for s in zip(*ends, strict=True))
        return out, h_last, c_last.astype(h0.dtype, copy=False)

    @staticmethod
    def backward(ctx: Any, grad: Any, grad_h: Any, grad_c: Any) -> Any:
        all_gates, all_cells, all_whole, out, h0, c0, weight, projections = ctx.saved
        xp, run, sizes = namespace(grad), implementation(grad), ctx.batch_sizes
        width, wide = h0.shape[2], grad_c.astype(c0.dtype, copy=False)
        ends: list[Any] = []
        of_parameters: list[Any] = []
        for d, (gates, cells, whole) in enumerate(zip(all_gates, all_cells, all_whole, strict=True)):
            mine = slice(d * width, (d + 1) * width)
            h_state, c_state = _State(grad_h[d]), _State(wide[d])
            cells_before = before_each_step(cells, c0[d], sizes, d)
            of_x, of_out = xp.empty_like(gates), xp.empty((len(out), width), out.dtype)
            for n, rows in reversed(walk(sizes, d)):
                of_h = grad[rows, mine] + h_state.rows(n)
                of_out[rows] = of_h
                of_h = run.matmul(of_h, projections[d])
                of_gates, of_c = run.lstm_cell_backward(
                    of_h, c_state.rows(n), gates[rows], cells[rows], cells_before[rows]
                )
                of_x[rows] = of_gates
                h_state.set(n, run.matmul(of_gates, weight[d]))
                c_state.set(n, of_c)
            before = before_each_step(out[:, mine], h0[d], sizes, d)
            of_parameters += [of_x, *_parameters(run, of_x, before, ctx.bias), run.matmul(of_out.T, whole)]
            ends.append((h_state.value, c_state.value))
        of_h0, of_c0 = (xp.stack(s) for s in zip(*ends, strict=True))
        return of_h0, of_c0.astype(grad.dtype, copy=False), None, *of_parameters


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
