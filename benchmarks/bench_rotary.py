"""Rotary position embedding of queries, in both conventions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastnet import kernels, reference

from . import shapes
from .cases import EPSILON, Case, Source, dtype_of, load_torch, ours, peers


def cases(sets: list[str], dtypes: list[str], wanted: tuple[str, ...]) -> Iterator[Case]:
    """The queries of the sets' attention, all of a head turned."""
    for dtype in dtypes:
        for heads in shapes.attention(sets):
            for interleaved in (False, True):
                yield _case(heads, interleaved, dtype, wanted)


def _case(heads: shapes.Heads, interleaved: bool, dtype: str, wanted: tuple[str, ...]) -> Case:
    torch, size, half = load_torch(), dtype_of(dtype).itemsize, heads.width // 2

    def inputs(source: Source) -> tuple:
        angles = source.normal((heads.tokens, half))
        return source.normal(tuple(heads), dtype), source.xp.cos(angles), source.xp.sin(angles)

    def turn(x: Any, cos: Any, sin: Any, *, by: Any = kernels) -> Any:
        return by.rotary_embedding(x, cos, sin, interleaved=interleaved)

    def turn_in_torch(x: Any, cos: Any, sin: Any) -> Any:
        if interleaved:
            a, b = x.float().unflatten(-1, (half, 2)).unbind(-1)
            return torch.stack([a * cos - b * sin, b * cos + a * sin], -1).flatten(-2).to(x.dtype)
        a, b = x.float().chunk(2, -1)
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1).to(x.dtype)

    notes: list[str] = []
    return Case(
        "rotary_embedding_interleaved" if interleaved else "rotary_embedding",
        str(heads),
        dtype,
        inputs,
        ours(turn) + peers(lambda *x: turn(*x, by=reference), turn_in_torch, wanted, notes),
        spec=lambda *x: turn(*x, by=reference),
        bytes=2 * size * heads.batch * heads.heads * heads.tokens * heads.width + 8 * heads.tokens * half,
        # Two products of up to 8 and their sum.
        absolute=32 * EPSILON["float32"],
        relative=2 * EPSILON[dtype],
        config=lambda e: e.rotary_config(heads.batch, heads.heads, heads.tokens, half),
        kernels=("rotary_embedding_kernel",),
        counted="rotary_embedding",
        notes=notes,
    )
