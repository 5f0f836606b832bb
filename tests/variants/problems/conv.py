"""Problems of convolutions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fastnet.kernels._runtime import extension_for

from .inputs import Call, channels_last, misaligned, normal


def convolutions(rng: np.random.Generator, dtype: Any) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, dict]]:
    """Images, a weight, a gradient of the result, options."""
    for x, weight, out, options in [
        ((1, 1, 1, 1), (1, 1, 1, 1), (1, 1), {}),
        ((2, 8, 6, 7), (5, 8, 3, 3), (6, 7), {"padding": 1}),
        ((1, 3, 7, 9), (70, 3, 3, 2), (4, 4), {"stride": (2, 3), "padding": ((1, 2), (1, 2))}),
        ((2, 6, 9, 5), (4, 3, 2, 3), (7, 5), {"groups": 2, "dilation": (2, 1), "padding": (0, 1)}),
        ((1, 4, 5, 5), (4, 1, 3, 3), (3, 3), {"groups": 4, "stride": 2, "padding": 1}),
        ((0, 4, 4, 4), (2, 4, 1, 1), (4, 4), {}),
    ]:
        yield normal(rng, x, dtype), normal(rng, weight, dtype), normal(rng, (x[0], weight[0], *out), dtype), options


def conv_configs(dtype: Any, **how: Any) -> list[Any]:
    """One of every family and tile; of sm90's two, of one consumer and of two."""
    config = extension_for(np.empty(0)).ConvConfig
    item = np.dtype(dtype).itemsize
    tiles = {2: [(128, 128), (128, 64), (64, 64)], 4: [(128, 64), (64, 64)], 8: []}[item]
    return [
        config("general", 32, 32),
        *(config("sm80", *t, stages=2 + i, **how) for i, t in enumerate(tiles)),
        *(config("sm90", *t, stages=3, **how) for t in ([(128, 128), (64, 64)] if item == 2 else [])),
    ]


def of_every_config(
    rng: np.random.Generator, dtype: Any, **how: Any
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, dict]]:
    """As ``convolutions``: one of many steps, whose phases and groups have edges, with every config."""
    options = {"stride": 2, "padding": 1, "groups": 2}
    for config in conv_configs(dtype, **how):
        x, weight, grad = (normal(rng, s, dtype) for s in ((2, 48, 9, 7), (80, 24, 3, 3), (2, 80, 5, 4)))
        yield x, weight, grad, {**options, "config": config}


def depthwise(
    rng: np.random.Generator, dtype: Any, **how: Any
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, dict]]:
    """As ``convolutions``: channels in 16 bytes, and more filters than channels, by few blocks."""
    for channels, filters in [(24, 24), (3, 6)]:
        x, weight = normal(rng, (2, channels, 7, 9), dtype), normal(rng, (filters, 1, 4, 3), dtype)
        config = extension_for(np.empty(0)).ConvConfig("depthwise", 64, 2, max_blocks=2, **how)
        options = {"stride": (2, 1), "padding": 1, "groups": channels, "config": config}
        yield x, weight, normal(rng, (2, filters, 3, 9), dtype), options


def few_channels(
    rng: np.random.Generator, dtype: Any, **how: Any
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, dict]]:
    """As ``convolutions``: first layers, of several tiles a block, two chunks of filters, rows of any alignment."""
    for x, filters, window, out in [((2, 3, 9, 11), 72, 5, (5, 6)), ((1, 1, 8, 16), 8, 3, (4, 8))]:
        config = extension_for(np.empty(0)).ConvConfig("few_channels", 2, 4, max_blocks=2, **how)
        options = {"stride": 2, "padding": window // 2, "config": config}
        weight = normal(rng, (filters, x[1], window, window), dtype)
        yield normal(rng, x, dtype), weight, normal(rng, (x[0], filters, *out), dtype), options


def small_conv2d(rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for x, weight, grad, options in convolutions(rng, dtype):
        yield (channels_last(x), weight), {**options, "residual": grad, "activation": "relu"}
        yield (misaligned(x), misaligned(weight)), {**options, "bias": weight[:, 0, 0, 0], "keep_preactivation": True}
    of_all = [*of_every_config(rng, dtype, max_blocks=2), *depthwise(rng, dtype), *few_channels(rng, dtype)]
    for x, weight, grad, options in of_all:
        yield (channels_last(x), weight), {**options, "residual": grad}
    of_all = [*of_every_config(rng, dtype, max_blocks=2), *depthwise(rng, dtype), *few_channels(rng, dtype)]
    for x, weight, _, options in of_all:
        yield (channels_last(x), weight), {**options, "bias": weight[:, 0, 0, 0], "keep_moments": True}


def small_conv2d_input_grad(rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for x, weight, grad, options in convolutions(rng, dtype):
        yield (channels_last(grad), weight, x.shape[2:]), options
        yield (misaligned(grad), misaligned(weight), x.shape[2:]), options
    for x, weight, grad, options in [*of_every_config(rng, dtype, max_blocks=2), *depthwise(rng, dtype)]:
        yield (channels_last(grad), weight, x.shape[2:]), options


def small_conv2d_weight_grad(rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for x, weight, grad, options in convolutions(rng, dtype):
        yield (channels_last(grad), channels_last(x), weight.shape[2:]), options
        yield (misaligned(grad), misaligned(x), weight.shape[2:]), options
    of_all = [
        *of_every_config(rng, dtype, splits=2, max_blocks=3),
        *depthwise(rng, dtype, splits=2),
        *few_channels(rng, dtype, splits=2),
    ]
    for x, weight, grad, options in of_all:
        yield (channels_last(grad), channels_last(x), weight.shape[2:]), options


def aligned_conv2d(rng: np.random.Generator, dtype: Any) -> Call:
    x, weight = normal(rng, (2, 32, 16, 16), dtype), normal(rng, (64, 32, 3, 3), dtype)
    return (channels_last(x), channels_last(weight)), {"padding": 1}


def aligned_conv2d_input_grad(rng: np.random.Generator, dtype: Any) -> Call:
    grad, weight = normal(rng, (2, 64, 8, 8), dtype), normal(rng, (64, 32, 3, 3), dtype)
    return (channels_last(grad), channels_last(weight), 16), {"padding": 1, "stride": 2}


def aligned_conv2d_weight_grad(rng: np.random.Generator, dtype: Any) -> Call:
    grad, x = normal(rng, (2, 64, 16, 16), dtype), normal(rng, (2, 32, 16, 16), dtype)
    return (channels_last(grad), channels_last(x), 3), {"padding": 1}


def aligned_convolutions() -> dict[str, Callable[[np.random.Generator, Any], Call]]:
    """Every family on a 3x3 layer of stride 1: beside the config that is chosen."""

    def product(function: str, family: str) -> Callable[[np.random.Generator, Any], Call]:
        def call(rng: np.random.Generator, dtype: Any) -> Call:
            if family.startswith("sm90"):
                dtype = np.float16 if np.dtype(dtype).itemsize != 2 else dtype
            x, weight, grad = (normal(rng, s, dtype) for s in ((2, 64, 16, 16), (128, 64, 3, 3), (2, 128, 16, 16)))
            split = {"splits": 2} if family.endswith("split") else {}
            # The family's largest, but for sm90's with more columns than there are.
            config = next(c for c in conv_configs(dtype, **split) if c.family == family.split()[0])
            if function == "conv2d":
                moments = {"keep_moments": True} if family.endswith("moments") else {}
                return (channels_last(x), channels_last(weight)), {"padding": 1, "config": config, **moments}
            if function == "conv2d_input_grad":
                return (channels_last(grad), channels_last(weight), 16), {"padding": 1, "config": config}
            return (channels_last(grad), channels_last(x), 3), {"padding": 1, "config": config}

        return call

    functions = ("conv2d", "conv2d_input_grad", "conv2d_weight_grad")
    made = {f"{f}: {family}": product(f, family) for f in functions for family in ("general", "sm80", "sm90")}
    split = {f"conv2d_weight_grad: {s}": product("conv2d_weight_grad", s) for s in ("sm80 split", "sm90 split")}
    moments = {f"conv2d: {f}": product("conv2d", f) for f in ("general moments", "sm80 moments", "sm90 moments")}

    def large(rng: np.random.Generator, dtype: Any) -> Call:
        grad, x = normal(rng, (1, 512, 4, 4), dtype), normal(rng, (1, 256, 4, 4), dtype)
        config = next(c for c in conv_configs(dtype) if c.family == "sm80")
        return (channels_last(grad), channels_last(x), 3), {"padding": 1, "config": config}

    def first_layer(
        function: str, channels: int, window: int, stride: int, size: int = 32, **more: Any
    ) -> Callable[[np.random.Generator, Any], Call]:
        def call(rng: np.random.Generator, dtype: Any) -> Call:
            x, weight, grad = (
                normal(rng, s, dtype)
                for s in (
                    (2, channels, size, size),
                    (64, channels, window, window),
                    (2, 64, size // stride, size // stride),
                )
            )
            options = {"padding": window // 2, "stride": stride, **more}
            if function == "conv2d":
                return (channels_last(x), channels_last(weight)), options
            return (channels_last(grad), channels_last(x), window), options

        return call

    def depthwise_layer(function: str, **more: Any) -> Callable[[np.random.Generator, Any], Call]:
        def call(rng: np.random.Generator, dtype: Any) -> Call:
            x, weight = normal(rng, (2, 64, 16, 16), dtype), normal(rng, (64, 1, 3, 3), dtype)
            options = {"padding": 1, "groups": 64, **more}
            if function == "conv2d":
                return (channels_last(x), weight), options
            last = (weight, 16) if function == "conv2d_input_grad" else (channels_last(x), 3)
            return (channels_last(normal(rng, (2, 64, 16, 16), dtype)), *last), options

        return call

    firsts = {
        f"{f}: {what}": first_layer(f, *sizes)
        for f in ("conv2d", "conv2d_weight_grad")
        for what, sizes in (
            ("first layer 7x7", (3, 7, 2)),
            ("first layer 3x3", (1, 3, 1)),
            ("first layer 5x5", (1, 5, 1, 28)),
        )
    }
    return {
        **made,
        **split,
        **moments,
        **{f"{f}: depthwise": depthwise_layer(f) for f in functions},
        "conv2d_weight_grad: sm80 large": large,
        "conv2d: depthwise moments": depthwise_layer("conv2d", keep_moments=True),
        "conv2d: first layer 3x3 moments": first_layer("conv2d", 1, 3, 1, keep_moments=True),
        **firsts,
    }


SMALL: dict[str, Callable[[np.random.Generator, Any], Iterator[Call]]] = {
    "conv2d": small_conv2d,
    "conv2d_input_grad": small_conv2d_input_grad,
    "conv2d_weight_grad": small_conv2d_weight_grad,
}


ALIGNED: dict[str, Callable[[np.random.Generator, Any], Call]] = {
    "conv2d": aligned_conv2d,
    "conv2d_input_grad": aligned_conv2d_input_grad,
    "conv2d_weight_grad": aligned_conv2d_weight_grad,
    **aligned_convolutions(),
}
