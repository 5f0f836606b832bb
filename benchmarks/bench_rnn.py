"""Recurrent steps: LSTM and GRU after the products of a step, forward and backward."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastnet import kernels, reference

from . import shapes
from .cases import EPSILON, Case, Source, dtype_of, load_torch, ours, peers


def cases(sets: list[str], dtypes: list[str], wanted: tuple[str, ...]) -> Iterator[Case]:
    """Steps of the sets' states."""
    for dtype in dtypes:
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
