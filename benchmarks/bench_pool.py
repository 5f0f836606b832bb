"""Pooling of channels-last images: 3x3 windows at stride 2, 2x2 ones that do not overlap, and the mean of an image."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from fastnet import kernels, reference

from . import shapes
from .cases import EPSILON, Case, Source, dtype_of, load_torch, ours, peers

WINDOWS = {
    "3x3": {"kernel_size": 3, "stride": 2, "padding": 1},
    "2x2": {"kernel_size": 2, "stride": 2},
}


def cases(sets: list[str], dtypes: list[str], wanted: tuple[str, ...]) -> Iterator[Case]:
    """Largest values and means, forward and backward."""
    for dtype in dtypes:
        for image in shapes.images(sets):
            for window, how in WINDOWS.items():
                yield from _pooling("max_pool2d", image, f"{image} {window}", how, dtype, wanted)
            yield from _pooling("avg_pool2d", image, f"{image} 2x2", WINDOWS["2x2"], dtype, wanted)
            yield from _pooling("avg_pool2d", image, f"{image} all", {"kernel_size": image[1:3]}, dtype, wanted)


def _pooling(
    function: str, image: shapes.Image, shape: str, how: dict[str, Any], dtype: str, wanted: tuple[str, ...]
) -> Iterator[Case]:
    torch, largest = load_torch(), function == "max_pool2d"
    n, height, width, channels = image
    size, elements = dtype_of(dtype).itemsize, math.prod(image)
    kernel = how["kernel_size"] if isinstance(how["kernel_size"], tuple) else (how["kernel_size"],) * 2
    stride, padding = how.get("stride", 1), how.get("padding", 0)
    out = tuple((s + 2 * padding - k) // stride + 1 for s, k in zip((height, width), kernel, strict=True))
    results = n * math.prod(out) * channels

    def images(source: Source, rows: int, columns: int) -> Any:
        return source.normal((n, rows, columns, channels), dtype).transpose(0, 3, 1, 2)  # channels last in memory

    def forward(x: Any, *, by: Any = kernels) -> Any:
        return getattr(by, function)(x, **how)

    def backward(g: Any, x: Any, *, by: Any = kernels) -> Any:
        found = {"x": x} if largest else {}
        return getattr(by, f"{function}_backward")(g, (height, width), **how, **found)

    def forward_in_torch(x: Any) -> Any:
        return getattr(torch.nn.functional, function)(x, **how)

    def backward_in_torch(g: Any, x: Any) -> Any:
        leaf = x.detach().requires_grad_()
        return torch.autograd.grad(forward_in_torch(leaf), leaf, g)[0]

    def config(pixels: int) -> Any:
        return lambda e: e.pool_config(pixels, channels, size, channels % (16 // size) == 0)

    places = math.prod(kernel)
    # A mean of values below 6, added in float32.
    bounds = {"absolute": (0 if largest else 6 * EPSILON["float32"] * places), "relative": 2 * EPSILON[dtype]}
    notes: list[str] = []
    yield Case(
        function,
        shape,
        dtype,
        lambda source: (images(source, height, width),),
        ours(forward) + peers(lambda x: forward(x, by=reference), forward_in_torch, wanted, notes),
        spec=lambda x: forward(x, by=reference),
        bytes=size * (elements + results),
        config=config(n * math.prod(out)),
        kernels=(f"{function[:3]}_pool_kernel",),
        counted=function,
        notes=notes,
        **bounds,
    )
    yield Case(
        f"{function}_backward",
        shape,
        dtype,
        lambda source: (images(source, *out), images(source, height, width)),
        ours(backward) + peers(lambda *x: backward(*x, by=reference), backward_in_torch, wanted, []),
        spec=lambda *x: backward(*x, by=reference),
        bytes=size * (elements * (2 if largest else 1) + results),
        config=config(n * height * width),
        kernels=(f"{function[:3]}_pool_backward_kernel",),
        counted=f"{function}_backward",
        notes=[],
        # A pixel of 3x3 windows at stride 2 is in up to four of them, and what is added may be rounded each time.
        absolute=3 * 12 * EPSILON[dtype] if kernel[0] > stride > 1 else 0,
        relative=2 * EPSILON[dtype] + 2 * EPSILON["float32"],
    )
