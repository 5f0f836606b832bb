"""Dropout, whose mask is drawn and not stored."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastnet import kernels, reference

from . import bench_pointwise, shapes
from .cases import EPSILON, Case, dtype_of, load_torch, ours, peers

P = 0.5


def _dropped(inputs: tuple, outputs: list[Any]) -> bool:
    """PyTorch draws other masks: about half of the elements are 0, the others twice what they were."""
    x, y = inputs[0].astype("float32"), outputs[0].astype("float32")
    kept = y != 0
    share, deviation = float(kept.mean()), (P * (1 - P) / x.size) ** 0.5
    return bool(((y == 2 * x) | ~kept).all()) and abs(share - (1 - P)) < 6 * deviation + 1e-3  # some x are 0


def cases(sets: list[str], dtypes: list[str], wanted: tuple[str, ...]) -> Iterator[Case]:
    """Forward, p = 0.5."""
    torch = load_torch()
    for dtype in dtypes:
        size = dtype_of(dtype).itemsize
        for r, c in shapes.rows(sets):
            notes: list[str] = []
            yield Case(
                "dropout",
                f"{r}x{c}",
                dtype,
                lambda source, r=r, c=c, dtype=dtype: (source.normal((r, c), dtype), source.state()),
                ours(lambda x, state: kernels.dropout(x, P, state))
                + peers(
                    lambda x, state: reference.dropout(x, P, state),
                    lambda x, state: torch.nn.functional.dropout(x, P),
                    wanted,
                    notes,
                    holds=_dropped,
                ),
                spec=lambda x, state: reference.dropout(x, P, state),
                bytes=2 * size * r * c,
                relative=2 * EPSILON[dtype],
                config=lambda e, n=r * c, size=size: bench_pointwise.config(e, n, size),
                blocks=lambda chosen: chosen.blocks,
                kernels=("dropout_kernel",),
                counted="dropout",
                notes=notes,
            )
