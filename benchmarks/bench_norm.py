"""Normalisation: rows (layer, RMS) and channels-last images (batch)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from fastnet import cuda, kernels, reference

from . import shapes
from .cases import EPSILON, Case, Source, dtype_of, load_torch, ours, peers

EPS = 1e-5


def cases(sets: list[str], dtypes: list[str], wanted: tuple[str, ...]) -> Iterator[Case]:
    """Rows forward and backward, images forward with the batch's statistics."""
    for dtype in dtypes:
        for r, c in shapes.rows(sets):
            yield from _rows(r, c, dtype, wanted)
        for image in shapes.images(sets):
            yield _batch(image, dtype, wanted)


def _common(dtype: str, config: Any, notes: list[str]) -> dict[str, Any]:
    return {
        "config": config,
        # A mean and a deviation, each a few units in the last place of float32 off, of results below 16.
        "absolute": 16 * 16 * EPSILON["float32"],
        "relative": 2 * EPSILON[dtype],
        "notes": notes,
    }


def _rows(r: int, c: int, dtype: str, wanted: tuple[str, ...]) -> Iterator[Case]:
    torch, size, shape = load_torch(), dtype_of(dtype).itemsize, f"{r}x{c}"

    def layer(x: Any, w: Any, b: Any, *, by: Any = kernels) -> Any:
        return by.layer_norm(x, w, b, eps=EPS)[0]

    def layer_in_torch(x: Any, w: Any, b: Any) -> Any:
        return torch.nn.functional.layer_norm(x, (c,), w, b, EPS)

    def rms(x: Any, w: Any, *, by: Any = kernels) -> Any:
        return by.rms_norm(x, w, eps=EPS)[0]

    def backward(g: Any, x: Any, mean: Any, rstd: Any, w: Any, b: Any, *, by: Any = kernels) -> Any:
        return by.layer_norm_backward(g, x, mean, rstd, w)

    def backward_in_torch(g: Any, x: Any, mean: Any, rstd: Any, w: Any, b: Any) -> Any:
        statistics = mean[:, None], rstd[:, None]
        return torch.ops.aten.native_layer_norm_backward(g, x, [c], *statistics, w, b, [True] * 3)

    def inputs(source: Source) -> tuple:
        return source.normal((r, c), dtype), source.normal((c,), dtype), source.normal((c,), dtype)

    def backward_inputs(source: Source) -> tuple:
        x, w, b = inputs(source)
        return source.normal((r, c), dtype), x, *reference.layer_norm(x, eps=EPS)[1:], w, b

    notes: list[str] = []
    common = _common(dtype, lambda e: e.norm_config(r, c, 1, 1, True, 4), notes)
    yield Case(
        "layer_norm",
        shape,
        dtype,
        inputs,
        ours(layer) + peers(lambda *x: layer(*x, by=reference), layer_in_torch, wanted, notes),
        spec=lambda *x: layer(*x, by=reference),
        bytes=2 * size * r * c,
        kernels=("group_norm_kernel",),
        counted="layer_norm",
        **common,
    )
    yield Case(
        "rms_norm",
        shape,
        dtype,
        lambda source: inputs(source)[:2],
        ours(rms)
        + peers(
            lambda *x: rms(*x, by=reference), lambda x, w: torch.nn.functional.rms_norm(x, (c,), w, EPS), wanted, []
        ),
        spec=lambda *x: rms(*x, by=reference),
        bytes=2 * size * r * c,
        kernels=("group_norm_kernel",),
        counted="rms_norm",
        **common,
    )
    # PyTorch keeps the statistics of 16-bit rows in 16 bits on a CPU, in float32 on a GPU, as we do.
    theirs = backward_in_torch if cuda.is_available() or dtype == "float32" else None
    # The parameters' gradients are sums over the rows in float32, of terms below 16.
    common["absolute"] += 16 * r * EPSILON["float32"]
    yield Case(
        "layer_norm_backward",
        shape,
        dtype,
        backward_inputs,
        ours(backward) + peers(lambda *x: backward(*x, by=reference), theirs, wanted, []),
        spec=lambda *x: backward(*x, by=reference),
        bytes=3 * size * r * c,
        kernels=("group_norm_backward_kernel",),
        counted="layer_norm_backward",
        **common,
    )


def _batch(image: shapes.Image, dtype: str, wanted: tuple[str, ...]) -> Case:
    torch = load_torch()
    n, height, width, c = image

    def batch(x: Any, w: Any, b: Any, *, by: Any = kernels) -> Any:
        return by.batch_norm(x, w, b, eps=EPS)[0]

    def in_torch(x: Any, w: Any, b: Any) -> Any:
        return torch.nn.functional.batch_norm(x, None, None, w, b, training=True, eps=EPS)

    def inputs(source: Source) -> tuple:
        x = source.normal((n, height, width, c), dtype).transpose(0, 3, 1, 2)  # channels last in memory
        return x, source.normal((c,), dtype), source.normal((c,), dtype)

    notes: list[str] = []
    common = _common(dtype, lambda e: e.norm_config(n, c, height * width, 0, True, 4), notes)
    # PyTorch folds statistics and parameters into a scale and a shift, which it may round to the arrays' dtype.
    common["absolute"] += 8 * EPSILON[dtype]
    return Case(
        "batch_norm",
        str(image),
        dtype,
        inputs,
        ours(batch) + peers(lambda *x: batch(*x, by=reference), in_torch, wanted, notes),
        spec=lambda *x: batch(*x, by=reference),
        bytes=3 * dtype_of(dtype).itemsize * math.prod(image),  # x is read for its statistics, and again
        kernels=("channel_moments_kernel", "batch_statistics_kernel", "batch_norm_kernel"),
        counted="batch_norm",
        **common,
    )
