"""Pooling of volumes: the kernels' pooling of every slice, then windows along depth; both orders give the same largest
values and, since a box of pixels has as many in each of its rows, the same means."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnet._array_code import where
from fastnet._device import namespace
from fastnet._tensor import Tensor
from fastnet.autograd import ArrayFunction
from fastnet.errors import InputError, KindError
from fastnet.ops._numeric import rounded, wide
from fastnet.ops._operands import check_tensor
from fastnet.ops.conv3d import _three
from fastnet.ops.pool import _output_size, adaptive_avg_pool2d, adaptive_max_pool2d, avg_pool2d, max_pool2d
from fastnet.reference.pool import Windows, pool_windows


class DepthMaximum(ArrayFunction):
    """The largest value of windows along depth, and where it was: ``places`` (N, C, D, P, Q) says where in its slice
    each element of x came from. NaN counts as largest; of equals the first counts."""

    @staticmethod
    def forward(ctx: Any, x: Any, places: Any, windows: Windows, slice_size: int) -> tuple[Any, Any]:
        xp = namespace(x)
        first, end, step = windows.first(0), windows.end(0), windows.dilation[0]
        best: Any = None
        source: Any = None
        for tap in range(windows.extent(0)):
            at = first + tap * step
            inside = xp.asarray(at < end)[:, None, None]
            at = xp.asarray(np.minimum(at, x.shape[2] - 1))
            value = xp.take(x, at, axis=2)
            depth = xp.broadcast_to(at[:, None, None], value.shape)
            if best is None:
                best, source = value, depth
            else:
                better = inside & ((value > best) | xp.isnan(value))
                best, source = where(better, value, best), xp.where(better, depth, source)
        if best is None:
            best, source = xp.empty((*x.shape[:2], 0, *x.shape[3:]), x.dtype), xp.empty((0,), np.int64)
            return best, source.reshape(best.shape)
        ctx.source, ctx.shape = source, x.shape
        return best, source * slice_size + xp.take_along_axis(places, source, axis=2)

    @staticmethod
    def backward(ctx: Any, grad: Any, _: Any = None) -> Any:
        xp = namespace(grad)
        out, g = xp.zeros(ctx.shape, wide(grad[:0]).dtype), wide(grad)
        sizes = (*grad.shape[:2], *grad.shape[3:])
        a, b, p, q = (xp.arange(m).reshape([-1 if k == j else 1 for k in range(4)]) for j, m in enumerate(sizes))
        for i in range(grad.shape[2]):  # windows in order: no two elements of one write to the same place
            out[a, b, ctx.source[:, :, i], p, q] += g[:, :, i]
        return rounded(out, grad.dtype), None, None, None


class AxisMean(ArrayFunction):
    """Sums over windows along one axis, each divided by its divisor; windows may overlap."""

    @staticmethod
    def forward(ctx: Any, x: Any, axis: int, windows: list[tuple[int, int]], divisors: list[float]) -> Any:
        xp = namespace(x)
        ctx.shape, ctx.axis, ctx.windows, ctx.divisors = x.shape, axis, windows, divisors
        w = xp.moveaxis(wide(x), axis, 0)
        out = xp.empty((len(windows), *w.shape[1:]), w.dtype)
        for i, ((a, b), by) in enumerate(zip(windows, divisors, strict=True)):
            out[i] = w[a:b].sum(axis=0) / w.dtype.type(by)
        return rounded(xp.ascontiguousarray(xp.moveaxis(out, 0, axis)), x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        xp = namespace(grad)
        g = xp.moveaxis(wide(grad), ctx.axis, 0)
        out = xp.zeros((ctx.shape[ctx.axis], *g.shape[1:]), g.dtype)
        for i, ((a, b), by) in enumerate(zip(ctx.windows, ctx.divisors, strict=True)):
            out[a:b] += g[i] / g.dtype.type(by)
        return rounded(xp.ascontiguousarray(xp.moveaxis(out, 0, ctx.axis)), grad.dtype), None, None, None


# ---- arguments -----------------------------------------------------------------------------------------------------


def _volumes(function: str, input: Any) -> Tensor:
    """input (N, C, D, H, W) or (C, D, H, W), checked, with its batch."""
    check_tensor(function, input)
    if input.dim() not in (4, 5):
        raise InputError(
            f"{function}: input has {input.dim()} dimensions {tuple(input.shape)}, expected 5 or, without a batch, 4"
        )
    if not input.dtype.is_floating_point:
        raise KindError(f"{function}: input has dtype {input.dtype}, expected a floating-point dtype")
    if 0 in input.shape[1:] or (input.dim() == 4 and input.shape[0] == 0):
        raise InputError(f"{function}: input has shape {tuple(input.shape)}, expected no dimension of 0 but the batch")
    return input if input.dim() == 5 else input.unsqueeze(0)


def _like(result: Tensor, input: Tensor) -> Tensor:
    return result if input.dim() == 5 else result.squeeze(0)


def _slices(x: Tensor) -> Tensor:
    """Volumes (N, C, D, H, W) as images (N * D, C, H, W)."""
    n, c, d, h, w = x.shape
    return x.transpose(1, 2).reshape(n * d, c, h, w)


def _stacked(images: Tensor, n: int) -> Tensor:
    """Images (N * D, C, P, Q) as volumes (N, C, D, P, Q)."""
    d = images.shape[0] // n if n else 0
    return images.reshape(n, d, *images.shape[1:]).transpose(1, 2)


def _depth(function: str, size: int, numbers: dict[str, tuple[int, int, int]], ceil_mode: Any) -> Windows:
    """The windows along depth."""
    along = {name: (x[0], 0 if name == "padding" else 1) for name, x in numbers.items()}
    return pool_windows(function, (size, 1), ceil_mode=ceil_mode, **along)


def _numbers(function: str, kernel_size: Any, stride: Any, padding: Any, dilation: Any = None) -> dict:
    out = {"kernel_size": _three(function, "kernel_size", kernel_size, 1)}
    out["stride"] = out["kernel_size"] if stride in (None, (), []) else _three(function, "stride", stride, 1)
    out["padding"] = _three(function, "padding", padding, 0)
    if dilation is not None:
        out["dilation"] = _three(function, "dilation", dilation, 1)
    return out


# ---- public functions ----------------------------------------------------------------------------------------------


def max_pool3d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest value of every window of a volume (N, C, D, H, W) or (C, D, H, W); arguments as ``max_pool2d``, an
    int or three. The indices count within D * H * W.

    >>> import fastnet
    >>> fastnet.max_pool3d(fastnet.arange(8.0).reshape(1, 2, 2, 2), 2)
    tensor([[[[7.]]]])
    """
    name = "max_pool3d"
    x = _volumes(name, input)
    numbers = _numbers(name, kernel_size, stride, padding, dilation)
    windows = _depth(name, x.shape[2], numbers, ceil_mode)
    flat = {k: v[1:] for k, v in numbers.items()}
    images, places = max_pool2d(_slices(x), **flat, ceil_mode=ceil_mode, return_indices=True)
    n = x.shape[0]
    out, index = DepthMaximum.apply(_stacked(images, n), _stacked(places, n)._data, windows, x.shape[3] * x.shape[4])
    return (_like(out, input), _like(index, input)) if return_indices else _like(out, input)


def adaptive_max_pool3d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """The largest values of windows that divide a volume evenly; sizes an int or three, None for the volume's own.

    >>> import fastnet
    >>> fastnet.nn.functional.adaptive_max_pool3d(fastnet.arange(8.0).reshape(1, 2, 2, 2), (1, 1, 2))
    tensor([[[[6., 7.]]]])
    """
    name = "adaptive_max_pool3d"
    x = _volumes(name, input)
    size = _output_size(name, output_size, x.shape[2:])
    windows = pool_windows(name, (x.shape[2], 1), None, output_size=(size[0], 1))
    images, places = adaptive_max_pool2d(_slices(x), size[1:], return_indices=True)
    n = x.shape[0]
    out, index = DepthMaximum.apply(_stacked(images, n), _stacked(places, n)._data, windows, x.shape[3] * x.shape[4])
    return (_like(out, input), _like(index, input)) if return_indices else _like(out, input)


def avg_pool3d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of every window of a volume (N, C, D, H, W) or (C, D, H, W); arguments as ``avg_pool2d``, an int or
    three.

    >>> import fastnet
    >>> fastnet.nn.functional.avg_pool3d(fastnet.arange(8.0).reshape(1, 2, 2, 2), 2)
    tensor([[[[3.5000]]]])
    """
    name = "avg_pool3d"
    x = _volumes(name, input)
    numbers = _numbers(name, kernel_size, stride, padding)
    windows = _depth(name, x.shape[2], numbers, ceil_mode)
    flat = {k: v[1:] for k, v in numbers.items()}
    images = avg_pool2d(
        _slices(x),
        **flat,
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
        divisor_override=divisor_override,
    )
    spans = list(zip(windows.first(0).tolist(), windows.end(0).tolist(), strict=True))
    divisors = windows.pixels(0, count_include_pad).tolist() if divisor_override is None else [1] * len(spans)
    return _like(AxisMean.apply(_stacked(images, x.shape[0]), 2, spans, divisors), input)


def adaptive_avg_pool3d(input: Tensor, output_size: Any) -> Tensor:
    """Means of windows that divide a volume evenly; sizes an int or three, None for the volume's own.

    >>> import fastnet
    >>> fastnet.nn.functional.adaptive_avg_pool3d(fastnet.arange(8.0).reshape(1, 2, 2, 2), 1)
    tensor([[[[3.5000]]]])
    """
    name = "adaptive_avg_pool3d"
    x = _volumes(name, input)
    size = _output_size(name, output_size, x.shape[2:])
    windows = pool_windows(name, (x.shape[2], 1), None, output_size=(size[0], 1))
    images = _stacked(adaptive_avg_pool2d(_slices(x), size[1:]), x.shape[0])
    spans = list(zip(windows.first(0).tolist(), windows.end(0).tolist(), strict=True))
    return _like(AxisMean.apply(images, 2, spans, [b - a for a, b in spans]), input)


# ---- what is made of means -----------------------------------------------------------------------------------------


def _lp(mean: Tensor, norm_type: float, places: int) -> Tensor:
    """The norm from the mean of the powers; a negative sum, of odd powers, gives no complex number but NaN or 0."""
    return (mean.sign() * mean.abs().relu() * places).pow(1.0 / norm_type)


def _lp_stride(stride: Any) -> Any:
    return None if stride == () else stride


def lp_pool1d(
    input: Tensor, norm_type: float, kernel_size: int, stride: int | None = None, ceil_mode: bool = False
) -> Tensor:
    """(sum of x^p)^(1/p) over every window along one dimension, p being ``norm_type``.

    >>> import fastnet
    >>> fastnet.nn.functional.lp_pool1d(fastnet.tensor([[3., 4.]]), 2, 2)
    tensor([[5.]])
    """
    from fastnet.ops.pool import avg_pool1d, max_pool1d

    check_tensor("lp_pool1d", input)
    if norm_type in (math.inf, -math.inf):
        return _extreme_size(max_pool1d, input, norm_type, kernel_size, stride, ceil_mode)
    mean = avg_pool1d(input.pow(norm_type), kernel_size, _lp_stride(stride), 0, ceil_mode)
    return _lp(mean, norm_type, _places(kernel_size, 1))


def lp_pool2d(input: Tensor, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Tensor:
    """(sum of x^p)^(1/p) over every window of an image, p being ``norm_type``.

    >>> import fastnet
    >>> fastnet.nn.functional.lp_pool2d(fastnet.ones(1, 2, 2), 2, 2)
    tensor([[[2.]]])
    """
    check_tensor("lp_pool2d", input)
    if norm_type in (math.inf, -math.inf):
        return _extreme_size(max_pool2d, input, norm_type, kernel_size, stride, ceil_mode)
    mean = avg_pool2d(input.pow(norm_type), kernel_size, _lp_stride(stride), 0, ceil_mode)
    return _lp(mean, norm_type, _places(kernel_size, 2))


def lp_pool3d(input: Tensor, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Tensor:
    """(sum of x^p)^(1/p) over every window of a volume, p being ``norm_type``.

    >>> import fastnet
    >>> fastnet.nn.functional.lp_pool3d(fastnet.ones(1, 2, 2, 4), 3, (2, 2, 2)).shape
    fastnet.Size([1, 1, 1, 2])
    """
    check_tensor("lp_pool3d", input)
    if norm_type in (math.inf, -math.inf):
        return _extreme_size(max_pool3d, input, norm_type, kernel_size, stride, ceil_mode)
    mean = avg_pool3d(input.pow(norm_type), kernel_size, _lp_stride(stride), 0, ceil_mode)
    return _lp(mean, norm_type, _places(kernel_size, 3))


def _extreme_size(pool: Any, input: Tensor, norm_type: float, kernel_size: Any, stride: Any, ceil_mode: bool) -> Tensor:
    """The greatest or least magnitude of every window: the norms of p = inf and -inf."""
    sign = 1 if norm_type > 0 else -1
    return pool(input.abs() * sign, kernel_size, stride, 0, 1, ceil_mode) * sign


def _places(kernel_size: Any, dims: int) -> int:
    sizes = tuple(kernel_size) if isinstance(kernel_size, (tuple, list)) else (kernel_size,)
    return math.prod(sizes * dims if len(sizes) == 1 else sizes)


def local_response_norm(input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """x / (k + alpha * mean of x^2 over ``size`` neighbouring channels)^beta, channels beyond the ends counting as
    zeros (Krizhevsky, Sutskever and Hinton 2012, section 3.3).

    Args:
        input: (N, C, ...).
        size: channels that count, size // 2 before each and (size - 1) // 2 after it.
        alpha, beta, k: numbers.

    >>> import fastnet
    >>> fastnet.nn.functional.local_response_norm(fastnet.ones(1, 3, 2), 1, alpha=1.0, beta=1.0)[0, 0]
    tensor([0.5000, 0.5000])
    """
    check_tensor("local_response_norm", input)
    if input.dim() < 3:
        raise InputError(
            f"local_response_norm: expected 3D or higher dimensionality input (got {input.dim()} dimensions)"
        )
    if input.numel() == 0:
        return input
    channels = input.shape[1]
    spans = [(max(0, i - size // 2), min(channels, i + (size - 1) // 2 + 1)) for i in range(channels)]
    mean = AxisMean.apply(input.mul(input), 1, spans, [size] * channels)
    return input / mean.mul(alpha).add(k).pow(beta)
