"""Column sums: the gradient of a bias."""

from __future__ import annotations

from collections.abc import Iterator

from fastnet import kernels, reference

from . import shapes
from .cases import EPSILON, Case, dtype_of, ours, peers


def cases(sets: list[str], dtypes: list[str], wanted: tuple[str, ...]) -> Iterator[Case]:
    """Sums over the rows."""
    for dtype in dtypes:
        size = dtype_of(dtype).itemsize
        for r, c in shapes.rows(sets):
            notes: list[str] = []
            yield Case(
                "column_sum",
                f"{r}x{c}",
                dtype,
                lambda source, r=r, c=c, dtype=dtype: (source.normal((r, c), dtype),),
                ours(kernels.column_sum) + peers(reference.column_sum, lambda x: x.sum(0), wanted, notes),
                spec=reference.column_sum,
                bytes=size * (r + 1) * c,
                # Sums in float32, in whatever order: each addition rounds a number that is nearly always below
                # 6 sqrt(r), and errors of either sign add up as the root of their number.
                absolute=6 * r * EPSILON["float32"],
                relative=2 * EPSILON[dtype],
                config=lambda e, r=r, c=c: e.column_sum_config(r, c, False),
                kernels=("column_sum",),
                counted="column_sum",
                notes=notes,
            )
