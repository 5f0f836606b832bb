"""Rows of a table by index, and the gradient of the table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastnet import kernels, reference

from . import shapes
from .cases import EPSILON, Case, dtype_of, load_torch, ours, peers


def cases(sets: list[str], dtypes: list[str], wanted: tuple[str, ...]) -> Iterator[Case]:
    """Tables of the sets, indices uniform."""
    torch = load_torch()
    for dtype in dtypes:
        size = dtype_of(dtype).itemsize
        for table in shapes.tables(sets):
            rows, width, count = table

            def backward(g: Any, i: Any, *, by: Any = kernels, rows: int = rows) -> Any:
                return by.embedding_backward(g, i, rows)

            def backward_in_torch(g: Any, i: Any, rows: int = rows) -> Any:
                return torch.ops.aten.embedding_dense_backward(g, i, rows, -1, False)

            notes: list[str] = []
            common: dict[str, Any] = {
                "config": lambda e, n=width * size: e.embedding_config(n),
                "kernels": ("embedding",),
                "notes": notes,
            }
            yield Case(
                "embedding",
                str(table),
                dtype,
                lambda source, t=table, d=dtype: (source.normal(t[:2], d), source.integers(t.rows, (t.count,))),
                ours(kernels.embedding)
                + peers(reference.embedding, lambda w, i: torch.nn.functional.embedding(i, w), wanted, notes),
                spec=reference.embedding,
                bytes=2 * size * width * count + 8 * count,
                counted="embedding",
                **common,
            )
            yield Case(
                "embedding_backward",
                str(table),
                dtype,
                lambda source, t=table, d=dtype: (
                    source.normal((t.count, t.width), d),
                    source.integers(t.rows, (t.count,)),
                ),
                ours(backward) + peers(lambda g, i, f=backward: f(g, i, by=reference), backward_in_torch, wanted, []),
                spec=lambda g, i, f=backward: f(g, i, by=reference),
                bytes=size * width * (count + rows) + 8 * count,
                # Sums of the few gradients that fall on a row, in any order; PyTorch on a CPU adds 16-bit rows in 16
                # bits.
                absolute=64 * EPSILON["float32"] + 16 * EPSILON[dtype] * (size == 2),
                relative=2 * EPSILON[dtype],
                counted="embedding_backward",
                **common,
            )
