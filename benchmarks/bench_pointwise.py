"""Elementwise passes: bias and GELU, SwiGLU, and their gradients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastnet import kernels, reference

from . import shapes
from .cases import EPSILON, Case, dtype_of, load_torch, ours, peers


def config(extension: Any, elements: int, itemsize: int) -> Any:
    """What an elementwise kernel runs with on contiguous arrays."""
    return extension.pointwise_config(elements, itemsize, True)


def cases(sets: list[str], dtypes: list[str], wanted: tuple[str, ...]) -> Iterator[Case]:
    """Bias and GELU, and SwiGLU of the halves of wider rows; gradients from the incoming one and the input."""
    yield from _gated(sets, dtypes, wanted)
    torch = load_torch()

    def forward(x: Any, b: Any) -> Any:
        return torch.nn.functional.gelu(x + b)

    def backward(g: Any, x: Any, b: Any) -> Any:
        return torch.ops.aten.gelu_backward(g, x + b)

    for dtype in dtypes:
        size = dtype_of(dtype).itemsize
        for r, c in shapes.rows(sets):
            notes: list[str] = []
            common: dict[str, Any] = {
                "config": lambda e, n=r * c, size=size: config(e, n, size),
                "blocks": lambda chosen: chosen.blocks,
                # PyTorch in eager mode rounds x + b, |x + b| < 16, before GELU (slope at most 1.13), we do not; its
                # exponentials and error functions are within a few units in the last place of float32.
                "absolute": 16 * 1.13 * (EPSILON[dtype] + 8 * EPSILON["float32"]),
                "relative": 2 * EPSILON[dtype],
                "notes": notes,
            }

            def gelu(x: Any, b: Any, *, by: Any = kernels) -> Any:
                return by.bias_activation(x, b, activation="gelu")

            def gelu_backward(g: Any, x: Any, b: Any, *, by: Any = kernels) -> Any:
                return by.bias_activation_backward(g, x, b, activation="gelu")

            yield Case(
                "bias_gelu",
                f"{r}x{c}",
                dtype,
                lambda source, r=r, c=c, dtype=dtype: (source.normal((r, c), dtype), source.normal((c,), dtype)),
                ours(gelu) + peers(lambda x, b: gelu(x, b, by=reference), forward, wanted, notes),
                spec=lambda x, b: gelu(x, b, by=reference),
                bytes=2 * size * r * c,
                kernels=("bias_activation_kernel",),
                counted="bias_activation",
                **common,
            )
            yield Case(
                "bias_gelu_backward",
                f"{r}x{c}",
                dtype,
                lambda source, r=r, c=c, dtype=dtype: (
                    source.normal((r, c), dtype),
                    source.normal((r, c), dtype),
                    source.normal((c,), dtype),
                ),
                ours(gelu_backward) + peers(lambda g, x, b: gelu_backward(g, x, b, by=reference), backward, wanted, []),
                spec=lambda g, x, b: gelu_backward(g, x, b, by=reference),
                bytes=3 * size * r * c,
                kernels=("bias_activation_backward_kernel",),
                counted="bias_activation_backward",
                **common,
            )


def _gated(sets: list[str], dtypes: list[str], wanted: tuple[str, ...]) -> Iterator[Case]:
    torch = load_torch()

    def halves(x: Any) -> tuple[Any, Any]:
        return x[:, : x.shape[1] // 2], x[:, x.shape[1] // 2 :]

    def forward(x: Any, *, by: Any = kernels) -> Any:
        return by.gated_activation(*halves(x))

    def backward(g: Any, x: Any, *, by: Any = kernels) -> Any:
        return by.gated_activation_backward(g, *halves(x), together=True)

    def forward_in_torch(x: Any) -> Any:
        gate, up = halves(x)
        return torch.nn.functional.silu(gate) * up

    def backward_in_torch(g: Any, x: Any) -> Any:
        gate, up = halves(x)
        of_gate = torch.ops.aten.silu_backward(g * up, gate)
        return torch.cat([of_gate, g * torch.nn.functional.silu(gate)], 1)

    for dtype in dtypes:
        size = dtype_of(dtype).itemsize
        for r, c in shapes.rows(sets):
            notes: list[str] = []
            common: dict[str, Any] = {
                "config": lambda e, n=r * c, size=size: config(e, n, size),
                "blocks": lambda chosen: chosen.blocks,
                # PyTorch in eager mode rounds a product of up to 64 before it multiplies again, we do not; exponentials
                # are within a few units in the last place of float32.
                "absolute": 64 * 1.13 * (EPSILON[dtype] + 8 * EPSILON["float32"]),
                "relative": 2 * EPSILON[dtype],
                "notes": notes,
            }
            yield Case(
                "swiglu",
                f"{r}x{c}",
                dtype,
                lambda source, r=r, c=c, dtype=dtype: (source.normal((r, 2 * c), dtype),),
                ours(forward) + peers(lambda x: forward(x, by=reference), forward_in_torch, wanted, notes),
                spec=lambda x: forward(x, by=reference),
                bytes=3 * size * r * c,
                kernels=("gated_activation_kernel",),
                counted="gated_activation",
                **common,
            )
            yield Case(
                "swiglu_backward",
                f"{r}x{c}",
                dtype,
                lambda source, r=r, c=c, dtype=dtype: (
                    source.normal((r, c), dtype),
                    source.normal((r, 2 * c), dtype),
                ),
                ours(backward) + peers(lambda g, x: backward(g, x, by=reference), backward_in_torch, wanted, []),
                spec=lambda g, x: backward(g, x, by=reference),
                bytes=5 * size * r * c,
                kernels=("gated_activation_backward_kernel",),
                counted="gated_activation_backward",
                **common,
            )
