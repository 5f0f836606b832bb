"""LSTM and GRU: layers, forward and forward with the gradients of input and parameters, and single steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastnet import kernels, reference
from fastnet._device import namespace
from fastnet.reference.rnn_sequence import before_each_step

from . import shapes
from .cases import EPSILON, Case, Source, dtype_of, load_torch, ours, peers


def cases(sets: list[str], dtypes: list[str], wanted: tuple[str, ...]) -> Iterator[Case]:
    """Layers, and steps of the sets' states."""
    for dtype in dtypes:
        for layer in shapes.layers(sets):
            for name, gates in (("lstm", 4), ("gru", 3)):
                yield from _layers(name, gates, layer, dtype, wanted)
        for state in shapes.states(sets):
            yield from _steps(state, dtype, wanted)


def _steps(state: shapes.State, dtype: str, wanted: tuple[str, ...]) -> Iterator[Case]:
    torch, shape = load_torch(), tuple(state)
    size, elements = dtype_of(dtype).itemsize, state.batch * state.hidden

    def of(source: Source, parts: int = 1, kind: str = dtype) -> Any:
        return source.normal((state.batch, parts * state.hidden), kind)

    def lstm_inputs(source: Source) -> tuple:
        return of(source, 4), of(source, 1, "float32")

    def lstm_backward_inputs(source: Source) -> tuple:
        gates, c = lstm_inputs(source)
        _, after, activated = reference.lstm_cell(gates, c)
        return of(source), of(source, 1, "float32"), activated, after, c

    def gru_inputs(source: Source) -> tuple:
        return of(source, 3), of(source, 3), of(source)

    def gru_backward_inputs(source: Source) -> tuple:
        x, s, h = gru_inputs(source)
        return of(source), reference.gru_cell(x, s, h)[1], h

    def lstm_in_torch(gates: Any, c: Any) -> Any:
        i, f, g, o = gates.float().chunk(4, 1)
        i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
        after = f * c + i * g
        return (o * after.tanh()).to(gates.dtype), after, torch.cat([i, f, g, o], 1).to(gates.dtype)

    def gru_in_torch(x: Any, s: Any, h: Any) -> Any:
        (xr, xz, xn), (sr, sz, sn) = x.float().chunk(3, 1), s.float().chunk(3, 1)
        r, z = (xr + sr).sigmoid(), (xz + sz).sigmoid()
        n = (xn + r * sn).tanh()
        return ((1 - z) * n + z * h.float()).to(x.dtype), torch.cat([r, z, n, sn], 1).to(x.dtype)

    # What a step reads and writes, in states of the arrays' dtype and, of an LSTM's cells, in float32.
    for name, make, theirs, moved, cells in (
        ("lstm_cell", lstm_inputs, lstm_in_torch, 9, 2),
        ("lstm_cell_backward", lstm_backward_inputs, None, 9, 4),
        ("gru_cell", gru_inputs, gru_in_torch, 12, 0),
        ("gru_cell_backward", gru_backward_inputs, None, 13, 0),
    ):
        notes: list[str] = []
        yield Case(
            name,
            str(state),
            dtype,
            make,
            ours(getattr(kernels, name)) + peers(getattr(reference, name), theirs, wanted, notes),
            spec=getattr(reference, name),
            bytes=elements * (moved * size + 4 * cells),
            # Exponentials a few units in the last place of float32 off, of results and factors below 8.
            absolute=64 * EPSILON["float32"],
            relative=2 * EPSILON[dtype] + 16 * EPSILON["float32"],
            config=lambda e: e.rnn_config(*shape),
            kernels=(f"{name}_kernel",),
            counted=name,
            notes=notes,
        )


def _layers(name: str, gates: int, layer: shapes.Layer, dtype: str, wanted: tuple[str, ...]) -> Iterator[Case]:
    """Initial states are zeros; parameters follow the input, a direction after the other, as PyTorch orders them."""
    torch, (batch, hidden, steps, directions) = load_torch(), layer
    size, rows, sizes = dtype_of(dtype).itemsize, layer.batch * layer.steps, [layer.batch] * layer.steps

    def inputs(source: Source) -> tuple:
        scale = hidden**-0.5
        shape = (gates * hidden, hidden)
        weights = [
            source.normal(s, dtype, scale) for _ in range(directions) for s in (shape, shape, shape[:1], shape[:1])
        ]
        return source.normal((steps, batch, hidden), dtype), *weights

    def training_inputs(source: Source) -> tuple:
        # Gradients of weights, sums over all rows, are then of size 1.
        return *inputs(source), source.normal((steps, batch, directions * hidden), dtype, rows**-0.5)

    def walked(x: Any, parameters: tuple, by: Any) -> tuple:
        """Result and what backward takes."""
        flat, zeros = x.reshape(rows, hidden), namespace(x).zeros
        products = [by.matmul(flat, w.T, bias=b) for w, b in zip(parameters[::4], parameters[2::4], strict=True)]
        h0 = zeros((directions, batch, hidden), x.dtype)
        c0 = (zeros((directions, batch, hidden), "float32"),) if gates == 4 else ()
        weights, biases = list(parameters[1::4]), list(parameters[3::4])
        return h0, c0, getattr(by, name)(products, h0, *c0, weights, biases, sizes), weights

    def forward(x: Any, *parameters: Any, by: Any = kernels) -> Any:
        return walked(x, parameters, by)[2][0].reshape(steps, batch, -1)

    def training(x: Any, *more: Any, by: Any = kernels) -> Any:
        *parameters, g = more
        h0, c0, kept, weights = walked(x, tuple(parameters), by)
        out, flat, nothing = kept[0], x.reshape(rows, hidden), h0
        g = g.reshape(rows, -1)
        if gates == 4:
            of_x, _, _ = by.lstm_backward(g, nothing, c0[0], kept[3], kept[4], c0[0], weights, sizes)
            of_products = of_x
        else:
            of_x, of_products, _ = by.gru_backward(g, nothing, kept[2], out, h0, weights, sizes)
        of_input: Any = None
        grads = []
        for d in range(directions):
            of_input = by.matmul(of_x[d], parameters[4 * d], residual=of_input)
            before = before_each_step(out[:, d * hidden : (d + 1) * hidden], h0[d], sizes, d)
            of_ih, of_bias_ih = by.matmul(of_x[d].T, flat, row_sums=True)
            of_hh, of_bias_hh = by.matmul(of_products[d].T, before, row_sums=True)
            grads += [of_ih, of_hh, of_bias_ih, of_bias_hh]
        return out.reshape(steps, batch, -1), of_input.reshape(x.shape), *grads

    def forward_in_torch(x: Any, *parameters: Any) -> Any:
        zeros = torch.zeros(directions, batch, hidden, dtype=x.dtype, device=x.device)
        state = (zeros, zeros) if gates == 4 else zeros
        return getattr(torch, name)(x, state, parameters, True, 1, 0.0, True, directions == 2, False)[0]

    def training_in_torch(*arrays: Any) -> Any:
        *leaves, g = (x.detach().requires_grad_() for x in arrays)
        out = forward_in_torch(*leaves)
        return (out, *torch.autograd.grad(out, leaves, g.detach()))

    products = 4 * rows * directions * gates * hidden * hidden  # with the input and with the state
    parameter_bytes = size * directions * gates * hidden * 2 * (hidden + 1)
    notes: list[str] = []
    common: dict[str, Any] = {
        # States and gradients are rounded in every step and the next one halves what went before, roughly.
        "absolute": 8 * EPSILON[dtype] + 256 * EPSILON["float32"],
        "relative": 4 * EPSILON[dtype],
        "ceiling": "",
        "config": lambda e: e.rnn_sequence_config(name, False, size, batch, hidden, directions),
    }
    yield Case(
        f"{name}_layer",
        str(layer),
        dtype,
        inputs,
        ours(forward) + peers(lambda *x: forward(*x, by=reference), forward_in_torch, wanted, notes),
        spec=lambda *x: forward(*x, by=reference),
        flops=products,
        bytes=size * rows * hidden * (1 + directions) + parameter_bytes,
        kernels=("rnn_sequence_kernel",),
        counted=name,
        notes=notes,
        **common,
    )
    yield Case(
        f"{name}_layer_training",
        str(layer),
        dtype,
        training_inputs,
        ours(training) + peers(lambda *x: training(*x, by=reference), training_in_torch, wanted, []),
        spec=lambda *x: training(*x, by=reference),
        flops=3 * products,
        bytes=2 * size * rows * hidden * (1 + directions) + 2 * parameter_bytes,
        kernels=("rnn_sequence_kernel", "rnn_sequence_backward_kernel"),
        counted=f"{name}_backward",
        **common,
    )
