"""Resampling of images and signals: one axis after another, each a short list of taps or of windows."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from fastnet._device import namespace
from fastnet._tensor import Tensor
from fastnet.autograd import ArrayFunction
from fastnet.errors import InputError, KindError
from fastnet.ops._numeric import rounded, wide
from fastnet.ops._operands import check_tensor
from fastnet.ops.shape import clone

LINEAR = {"linear": 1, "bilinear": 2, "trilinear": 3}
MODES = ("nearest", "nearest-exact", "area", "bicubic", *LINEAR)
CUBIC = -0.75  # Keys' parameter, as PyTorch's and OpenCV's
CUBIC_ANTIALIAS = -0.5  # as Pillow's, whose results PyTorch's have with antialias


def _taps(
    mode: str, n: int, out: int, scale_factor: float | None, align_corners: bool, real: Any
) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """For each output: which inputs count and by how much (None: 1). ``real``: the type of PyTorch's arithmetic."""
    scale = real(1 / scale_factor) if scale_factor else real(n) / real(out)
    i = np.arange(out).astype(real)
    if mode.startswith("nearest"):
        source = np.floor((i + real(0.5) if mode == "nearest-exact" else i) * scale)
        return [(np.minimum(source.astype(np.int64), n - 1), None)]
    if align_corners:
        source = i * (real(n - 1) / real(out - 1) if out > 1 else real(0))
    else:
        source = scale * (i + real(0.5)) - real(0.5)
    if mode != "bicubic":
        source = np.maximum(source, 0)
    first = np.minimum(np.floor(source).astype(np.int64), n - 1)
    t = np.clip(source - first.astype(real), 0, 1)
    if mode != "bicubic":
        return [(first, 1 - t), (np.minimum(first + 1, n - 1), t)]
    weights = [_cubic(d, CUBIC) for d in (t + 1, t, 1 - t, 2 - t)]
    return [(np.clip(first + k - 1, 0, n - 1), w.astype(real)) for k, w in enumerate(weights)]


def _cubic(d: np.ndarray, a: float) -> np.ndarray:
    """Weights at distances d (Keys: Cubic convolution interpolation for digital image processing, 1981)."""
    near, far = ((a + 2) * d - (a + 3)) * d * d + 1, ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d < 1, near, np.where(d < 2, far, 0))


def _antialiased_taps(
    mode: str, n: int, out: int, scale_factor: float | None, align_corners: bool, real: Any
) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """As ``_taps``, but the filter is as wide as what an output covers of the input, where that is more than one
    element; its weights add up to 1."""
    if align_corners:
        scale = real(n - 1) / real(out - 1) if out > 1 else real(0)
    else:
        scale = real(1 / scale_factor) if scale_factor else real(n) / real(out)
    stretch = max(scale, real(1))
    support = (1 if mode == "bilinear" else 2) * stretch
    centre = scale * (np.arange(out).astype(real) + real(0.5))
    first = np.maximum((centre - support + real(0.5)).astype(np.int64), 0)
    end = np.minimum((centre + support + real(0.5)).astype(np.int64), n)
    index = first + np.arange((end - first).max())[:, None]
    distance = np.abs((index - centre + real(0.5)) / stretch)
    weights = np.maximum(1 - distance, 0) if mode == "bilinear" else _cubic(distance, CUBIC_ANTIALIAS)
    weights = np.where(index < end, weights, 0)
    weights = (weights / weights.sum(axis=0)).astype(real)
    return list(zip(np.minimum(index, n - 1), weights, strict=True))


def _windows(n: int, out: int) -> list[tuple[int, int]]:
    return [(i * n // out, -(-(i + 1) * n // out)) for i in range(out)]


class Resample(ArrayFunction):
    """One axis of x resampled. ``matrix`` (n, outputs) is the same linear map as ``taps``, for backward: a product
    adds up in a fixed order what several outputs took from one input."""

    @staticmethod
    def forward(ctx: Any, x: Any, axis: int, taps: list, matrix: np.ndarray) -> Any:
        xp = namespace(x)
        ctx.axis, ctx.matrix = axis, matrix
        if taps[0][1] is None:
            return xp.take(x, xp.asarray(taps[0][0]), axis)
        w = wide(x)
        shape = [-1 if i == axis else 1 for i in range(x.ndim)]
        total = 0
        for index, weight in taps:
            total = total + xp.take(w, xp.asarray(index), axis) * xp.asarray(weight).astype(w.dtype).reshape(shape)
        return rounded(total, x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        xp = namespace(grad)
        w = wide(grad)
        moved = xp.matmul(xp.moveaxis(w, ctx.axis, -1), xp.asarray(ctx.matrix).astype(w.dtype).T)
        return rounded(xp.ascontiguousarray(xp.moveaxis(moved, -1, ctx.axis)), grad.dtype), None, None, None


class AreaMean(ArrayFunction):
    """One axis of x averaged over windows, which may overlap."""

    @staticmethod
    def forward(ctx: Any, x: Any, axis: int, windows: list, matrix: np.ndarray) -> Any:
        xp = namespace(x)
        ctx.axis, ctx.matrix = axis, matrix
        w = wide(x)
        means = [w[(slice(None),) * axis + (slice(a, b),)].mean(axis=axis) for a, b in windows]
        return rounded(xp.stack(means, axis), x.dtype)

    backward: Any = staticmethod(Resample.backward)


def _resampled(
    x: Tensor, axis: int, mode: str, out: int, scale_factor: float | None, align_corners: bool, antialias: bool
) -> Tensor:
    n = x.shape[axis]
    matrix = np.zeros((n, out))
    if mode == "area":
        windows = _windows(n, out)
        for i, (a, b) in enumerate(windows):
            matrix[a:b, i] = 1 / (b - a)
        return AreaMean.apply(x, axis, windows, matrix)
    real = np.float64 if x._data.dtype == np.float64 and not mode.startswith("nearest") else np.float32
    taps = (_antialiased_taps if antialias else _taps)(mode, n, out, scale_factor, align_corners, real)
    for index, weight in taps:
        np.add.at(matrix, (index, np.arange(out)), 1.0 if weight is None else weight)
    return Resample.apply(x, axis, taps, matrix)


def _each(name: str, value: Any, spatial: int) -> list:
    values = list(value) if isinstance(value, (list, tuple)) else [value] * spatial
    if len(values) != spatial:
        raise InputError(
            f"interpolate: {name} has {len(values)} entries, expected {spatial}: one for each spatial dimension of the "
            "input"
        )
    return values


def interpolate(
    input: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """Resample (N, C, d1, ...) to another size.

    Args:
        input: (N, C, L), (N, C, H, W) or (N, C, D, H, W).
        size: of the result's spatial dimensions; a number for all.
        scale_factor: in place of size: result's over input's.
        mode: "nearest", "nearest-exact", "area" (the mean of what an element covers), "linear" (3 dimensions),
            "bilinear", "bicubic" (4), "trilinear" (5).
        align_corners: whether the corner elements' centres, and not their outer corners, are aligned.
        recompute_scale_factor: compute coordinates from the sizes and not from ``scale_factor``.
        antialias: whether the filter of "bilinear" and "bicubic" widens where the result is smaller, so that every
            input counts; as Pillow resizes.

    Raises:
        ValueError, NotImplementedError: arguments that do not fit.

    >>> import fastnet
    >>> interpolate(fastnet.tensor([[[0.0, 1.0]]]), scale_factor=2)
    tensor([[[0., 0., 1., 1.]]])
    """
    check_tensor("interpolate", input)
    spatial = input.ndim - 2
    if mode not in MODES:
        raise NotImplementedError(f"interpolate: mode is {mode!r}, expected one of {', '.join(MODES)}")
    if spatial not in (1, 2, 3):
        raise NotImplementedError(
            f"Input Error: Only 3D, 4D and 5D input Tensors supported (got {input.ndim}D) for the modes: {MODES}"
        )
    takes = LINEAR.get(mode, 2 if mode == "bicubic" else spatial)
    if takes != spatial:
        raise NotImplementedError(f"Got {input.ndim}D input, but {mode} mode needs {takes + 2}D input")
    interpolating = mode in LINEAR or mode == "bicubic"
    if align_corners is not None and not interpolating:
        raise InputError(
            "align_corners option can only be set with the interpolating modes: linear | bilinear | bicubic | trilinear"
        )
    if not input.dtype.is_floating_point and not (mode.startswith("nearest") and input.dtype.name == "uint8"):
        raise NotImplementedError(f"interpolate: not implemented for {input.dtype.name} in mode {mode}")
    if antialias and mode not in ("bilinear", "bicubic"):
        raise InputError(
            "Anti-alias option is restricted to bilinear and bicubic modes and requires a 4-D tensor as input"
        )
    if (size is None) == (scale_factor is None):
        raise InputError(
            "only one of size or scale_factor should be defined"
            if size is not None
            else "either size or scale_factor should be defined"
        )
    if size is not None:
        if recompute_scale_factor:
            raise InputError("recompute_scale_factor is not meaningful with an explicit size.")
        sizes, factors = [int(s) for s in _each("size", size, spatial)], [None] * spatial
    else:
        factors = [float(f) for f in _each("scale_factor", scale_factor, spatial)]
        sizes = [math.floor(n * f) for n, f in zip(input.shape[2:], factors, strict=True)]
        if recompute_scale_factor or mode == "area":
            factors = [None] * spatial
    if min(sizes) < 1 or 0 in input.shape[1:]:
        raise InputError(
            f"Input and output sizes should be greater than 0, but got input {tuple(input.shape)} and output {sizes}"
        )
    result = input
    for i, (out, factor) in enumerate(zip(sizes, factors, strict=True)):
        if out != input.shape[2 + i]:
            result = _resampled(result, 2 + i, mode, out, factor, bool(align_corners), bool(antialias))
    return clone(input) if result is input else result


def upsample(
    input: Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest", align_corners: bool | None = None
) -> Tensor:
    """PyTorch's deprecated name of ``interpolate``."""
    warnings.warn("`nn.functional.upsample` is deprecated. Use `nn.functional.interpolate` instead.", stacklevel=2)
    return interpolate(input, size, scale_factor, mode, align_corners)


def upsample_nearest(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """PyTorch's deprecated name of ``interpolate`` by nearest neighbours."""
    warnings.warn(
        "`nn.functional.upsample_nearest` is deprecated. Use `nn.functional.interpolate` instead.", stacklevel=2
    )
    return interpolate(input, size, scale_factor, mode="nearest")


def upsample_bilinear(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """PyTorch's deprecated name of bilinear ``interpolate`` with aligned corners."""
    warnings.warn(
        "`nn.functional.upsample_bilinear` is deprecated. Use `nn.functional.interpolate` instead.", stacklevel=2
    )
    return interpolate(input, size, scale_factor, mode="bilinear", align_corners=True)


def _check_factor(name: str, argument: str, factor: Any) -> int:
    if isinstance(factor, bool) or not hasattr(factor, "__index__"):
        raise KindError(f"{name}: {argument} is a {type(factor).__name__}, expected an int")
    if factor <= 0:
        raise InputError(f"{name} expects a positive {argument}, but got {factor}")
    return int(factor)


def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """(..., C r^2, H, W) to (..., C, H r, W r): channels become places (Shi et al. 2016)."""
    check_tensor("pixel_shuffle", input)
    r = _check_factor("pixel_shuffle", "upscale_factor", upscale_factor)
    if input.ndim < 3:
        raise InputError(f"pixel_shuffle expects input to have at least 3 dimensions, but got {input.ndim}")
    *batch, c, h, w = input.shape
    if c % (r * r):
        raise InputError(
            "pixel_shuffle expects its input's 'channel' dimension to be divisible by the square of upscale_factor, "
            f"but {c} is not divisible by {r * r}"
        )
    n = len(batch)
    split = input.reshape(*batch, c // (r * r), r, r, h, w)
    return split.permute(*range(n), n, n + 3, n + 1, n + 4, n + 2).reshape(*batch, c // (r * r), h * r, w * r)


def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """(..., C, H r, W r) to (..., C r^2, H, W): the inverse of ``pixel_shuffle``."""
    check_tensor("pixel_unshuffle", input)
    r = _check_factor("pixel_unshuffle", "downscale_factor", downscale_factor)
    if input.ndim < 3:
        raise InputError(f"pixel_unshuffle expects input to have at least 3 dimensions, but got {input.ndim}")
    *batch, c, h, w = input.shape
    if h % r or w % r:
        raise InputError(f"pixel_unshuffle expects height and width to be divisible by {r}, but got {h} and {w}")
    n = len(batch)
    split = input.reshape(*batch, c, h // r, r, w // r, r)
    return split.permute(*range(n), n, n + 2, n + 4, n + 1, n + 3).reshape(*batch, c * r * r, h // r, w // r)


def channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """(N, C, ...) with the channels of ``groups`` groups interleaved (Zhang et al. 2017)."""
    check_tensor("channel_shuffle", input)
    groups = _check_factor("channel_shuffle", "groups", groups)
    if input.ndim < 3:
        raise InputError(f"channel_shuffle expects input with > 2 dims, but got input with sizes {tuple(input.shape)}")
    n, c, *rest = input.shape
    if c % groups:
        raise InputError(f"Number of channels must be divisible by groups. Got {c} channels and {groups} groups.")
    return input.reshape(n, groups, c // groups, *rest).transpose(1, 2).reshape(n, c, *rest)
