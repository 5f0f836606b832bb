"""Convolutions of channels-last images: forward, with the moments of results that a batch norm takes (beside PyTorch's
in a pass of their own), with bias and ReLU in the same launch, and the gradients of both operands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastnet import cuda, kernels, reference

from . import shapes
from .cases import EPSILON, Case, Source, dtype_of, load_torch, ours, peers

DIRECTIONS = {"conv2d": "forward", "conv2d_input_grad": "input_grad", "conv2d_weight_grad": "weight_grad"}
GATHER = ("conv_gather_kernel", "conv_sm80_gather_kernel")
KERNELS = {
    "conv2d": GATHER,
    "conv2d_input_grad": GATHER,
    "conv2d_weight_grad": ("conv_weight_grad_kernel", "conv_sm80_weight_grad_kernel"),
}


def cases(sets: list[str], dtypes: list[str], wanted: tuple[str, ...]) -> Iterator[Case]:
    """The layers of the sets, each in every direction."""
    for dtype in dtypes:
        for layer in shapes.convolutions(sets):
            yield from _directions(layer, dtype, wanted)


def _images(source: Source, n: int, side: int, channels: int, dtype: str) -> Any:
    return source.normal((n, side, side, channels), dtype).transpose(0, 3, 1, 2)  # channels last in memory


def _directions(layer: shapes.Convolution, dtype: str, wanted: tuple[str, ...]) -> Iterator[Case]:
    torch, n, k, side = load_torch(), layer.n, layer.kernel, layer.out
    how: dict[str, Any] = {"stride": layer.stride, "padding": layer.padding}

    def inputs(source: Source) -> dict[str, Any]:
        return {
            "x": _images(source, n, layer.side, layer.channels, dtype),
            "weight": _images(source, layer.filters, k, layer.channels, dtype),
            "grad": _images(source, n, side, layer.filters, dtype),
            "bias": source.normal((layer.filters,), dtype),
        }

    def forward(x: Any, w: Any, *, by: Any = kernels) -> Any:
        return by.conv2d(x, w, **how)

    def with_moments(x: Any, w: Any, *, by: Any = kernels) -> Any:
        return by.conv2d(x, w, keep_moments=True, **how)[0]

    def fused(x: Any, w: Any, b: Any, *, by: Any = kernels) -> Any:
        return by.conv2d(x, w, bias=b, activation="relu", **how)

    def input_grad(g: Any, w: Any, *, by: Any = kernels) -> Any:
        return by.conv2d_input_grad(g, w, (layer.side, layer.side), **how)

    def weight_grad(g: Any, x: Any, *, by: Any = kernels) -> Any:
        return by.conv2d_weight_grad(g, x, k, **how)

    def forward_in_torch(x: Any, w: Any) -> Any:
        return torch.nn.functional.conv2d(x, w, **how)

    def with_moments_in_torch(x: Any, w: Any) -> Any:
        out = forward_in_torch(x, w)
        torch.var_mean(out, (0, 2, 3))
        return out

    def fused_in_torch(x: Any, w: Any, b: Any) -> Any:
        return torch.relu(torch.nn.functional.conv2d(x, w, b, **how))

    def input_grad_in_torch(g: Any, w: Any) -> Any:
        return torch.nn.grad.conv2d_input((n, layer.channels, layer.side, layer.side), w, g, **how)

    def weight_grad_in_torch(g: Any, x: Any) -> Any:
        return torch.nn.grad.conv2d_weight(x, (layer.filters, layer.channels, k, k), g, **how)

    pixels, operands, results = n * side * side, n * layer.side**2 * layer.channels, n * side * side * layer.filters
    weights, places = layer.filters * layer.channels * k * k, k * k
    for name, function, terms, given, run, theirs in (
        ("conv2d", "conv2d", places * layer.channels, ("x", "weight"), forward, forward_in_torch),
        ("conv2d_moments", "conv2d", places * layer.channels, ("x", "weight"), with_moments, with_moments_in_torch),
        ("conv2d_bias_relu", "conv2d", places * layer.channels, ("x", "weight", "bias"), fused, fused_in_torch),
        (
            "conv2d_input_grad",
            "conv2d_input_grad",
            places * layer.filters,
            ("grad", "weight"),
            input_grad,
            input_grad_in_torch,
        ),
        ("conv2d_weight_grad", "conv2d_weight_grad", pixels, ("grad", "x"), weight_grad, weight_grad_in_torch),
    ):
        notes: list[str] = []
        if name.endswith("grad") and dtype == "float16" and not cuda.is_available():
            theirs = None  # PyTorch on a CPU rounds to float16 what it adds up
        yield Case(
            name,
            str(layer),
            dtype,
            lambda source, given=given: tuple(inputs(source)[key] for key in given),
            ours(run) + peers(lambda *x, run=run: run(*x, by=reference), theirs, wanted, notes),
            spec=lambda *x, run=run: run(*x, by=reference),
            flops=2 * pixels * places * layer.channels * layer.filters,
            bytes=dtype_of(dtype).itemsize * (operands + results + weights),
            ceiling="matmul",
            # As products (bench_matmul); PyTorch in eager mode may round before it adds the bias.
            absolute=2 * 2.0**-21 * terms + (EPSILON[dtype] * 6 * (terms + 1) ** 0.5 if name.endswith("relu") else 0),
            relative=2 * EPSILON[dtype],
            config=lambda e, function=function: e.conv_config(
                DIRECTIONS[function],
                dtype,
                (n, layer.channels, layer.filters, 1),
                *((layer.side, side, k, layer.stride, layer.padding, 1),) * 2,
            ),
            kernels=KERNELS[function],
            counted=function,
            notes=notes,
        )
