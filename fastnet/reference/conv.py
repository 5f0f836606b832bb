"""Convolutions in array code: the specification.

Images are (N, C, H, W) to the caller and channels-last in memory: results are (N, C, H, W) views of (N, H, W, C)
arrays, and so may arguments be; others are copied into that order once. The products of windows and weights are matrix
products, over some rows of the result at a time so that the windows lie in the cache; depthwise convolutions, which
have no such products, are sums over the places of the window.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastnet._device import namespace
from fastnet.errors import InputError, KindError
from fastnet.kernels._arrays import check_array
from fastnet.reference.pointwise import ACTIVATIONS, activate, rounded, wide

Pair = tuple[int, int]
LIMIT = 2**31 - 1  # of strides, paddings, dilations and sizes of windows
CHUNK_BYTES = {True: 1 << 20, False: 1 << 28}  # of windows at a time: NumPy's in the second-level cache, CuPy's
FEW_CHANNELS = 8  # below this many, windows lie window-major: the copy then runs along rows of pixels


@dataclass(frozen=True)
class ConvGeometry:
    """The sizes of one convolution: images (batch, channels, *image), windows of ``kernel`` places, results
    (batch, filters, *out)."""

    batch: int
    channels: int
    image: Pair
    filters: int
    kernel: Pair
    stride: Pair
    padding: tuple[Pair, Pair]  # (before, after) of each dimension
    dilation: Pair
    groups: int
    out: Pair

    @property
    def multiply_adds(self) -> int:
        """Of the forward product, padding included."""
        return self.batch * self.filters * math.prod(self.out) * self.channels // self.groups * math.prod(self.kernel)


# ---- arguments -----------------------------------------------------------------------------------------------------


def _number(function: str, argument: str, x: Any, least: int) -> int:
    if isinstance(x, (bool, np.bool_)) or not hasattr(x, "__index__"):
        raise KindError(f"{function}: {argument} is a {type(x).__name__}, expected an int")
    n = x.__index__()
    if not least <= n <= LIMIT:
        raise InputError(f"{function}: {argument} is {n}, expected {least} to {LIMIT}")
    return n


def check_pair(function: str, argument: str, x: Any, least: int) -> Pair:
    """An int, or one or two of them, as two."""
    if isinstance(x, (tuple, list)):
        if len(x) not in (1, 2):
            raise InputError(f"{function}: {argument} has {len(x)} entries, expected one or two")
        first, second = (x[0], x[0]) if len(x) == 1 else x
        return _number(function, argument, first, least), _number(function, argument, second, least)
    n = _number(function, argument, x, least)
    return n, n


def _padding(function: str, padding: Any, kernel: Pair, stride: Pair, dilation: Pair) -> tuple[Pair, Pair]:
    """'valid', 'same', an int, two ints (height, width), or two pairs (before, after)."""
    if isinstance(padding, str):
        if padding == "valid":
            return (0, 0), (0, 0)
        if padding != "same":
            raise InputError(f"{function}: padding is {padding!r}, expected 'valid', 'same' or numbers")
        if stride != (1, 1):
            raise InputError(
                f"{function}: padding='same' is not supported for strided convolutions, got stride {stride}"
            )
        both = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return (both[0] // 2, both[0] - both[0] // 2), (both[1] // 2, both[1] - both[1] // 2)
    if isinstance(padding, (tuple, list)) and len(padding) == 2 and any(isinstance(p, (tuple, list)) for p in padding):
        return check_pair(function, "padding", padding[0], 0), check_pair(function, "padding", padding[1], 0)
    height, width = check_pair(function, "padding", padding, 0)
    return (height, height), (width, width)


def conv_geometry(
    function: str,
    batch: int,
    channels: int,
    image: Pair,
    filters: int,
    kernel: Pair,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
) -> ConvGeometry:
    """The geometry of a convolution; ValueError or TypeError, naming ``function``, for numbers that make none."""
    stride = check_pair(function, "stride", stride, 1)
    dilation = check_pair(function, "dilation", dilation, 1)
    groups = _number(function, "groups", groups, 1)
    if min(kernel) < 1:
        raise InputError(f"{function}: weight has a window of {kernel[0]} x {kernel[1]}, expected at least 1 x 1")
    pads = _padding(function, padding, kernel, stride, dilation)
    if channels % groups:
        raise InputError(f"{function}: {channels} channels of the image do not divide into groups={groups}")
    if filters % groups:
        raise InputError(f"{function}: {filters} filters of weight do not divide into groups={groups}")
    out = []
    for size, k, s, (before, after), d in zip(image, kernel, stride, pads, dilation, strict=True):
        padded, extent = size + before + after, d * (k - 1) + 1
        if padded < extent:
            raise InputError(
                f"{function}: the window covers {extent} pixels (size {k}, dilation {d}), more than the padded image's "
                f"{padded} ({size} + {before} + {after})"
            )
        out.append((padded - extent) // s + 1)
    return ConvGeometry(
        batch,
        channels,
        (image[0], image[1]),
        filters,
        (kernel[0], kernel[1]),
        stride,
        pads,
        dilation,
        groups,
        (out[0], out[1]),
    )


def _check_images(function: str, x: Any, argument: str, weight: Any, name: str) -> None:
    check_array(function, argument, x, ndim=4)
    check_array(function, name, weight, ndim=4, like=x)
    if weight.dtype != x.dtype:
        raise KindError(
            f"{function}: {argument} and {name} must have the same dtype, got {x.dtype.name} and {weight.dtype.name}"
        )


def _check_epilogue(
    function: str, x: Any, shape: tuple[int, ...], bias: Any, activation: Any, parameter: Any, residual: Any
) -> None:
    for argument, a, wanted in (("bias", bias, shape[1:2]), ("residual", residual, shape)):
        if a is None:
            continue
        check_array(function, argument, a, ndim=len(wanted), like=x)
        if a.dtype != x.dtype:
            raise KindError(f"{function}: {argument} has dtype {a.dtype.name}, expected {x.dtype.name}")
        if tuple(a.shape) != wanted:
            raise InputError(f"{function}: {argument} has shape {tuple(a.shape)}, expected {wanted}")
    if activation not in ACTIVATIONS:
        raise InputError(f"{function}: activation is {activation!r}, expected one of {', '.join(ACTIVATIONS)}")
    if parameter is not None and (isinstance(parameter, bool) or not isinstance(parameter, (int, float, np.number))):
        raise KindError(f"{function}: parameter is a {type(parameter).__name__}, expected a number or None")


def _of_these_windows(function: str, grad: Any, g: ConvGeometry) -> ConvGeometry:
    """g with the windows that grad has; there may be fewer than fit the image (transposed convolutions whose output
    padding is at least the stride), and those that are missing count as zero."""
    fits = tuple(grad.shape[:2]) == (g.batch, g.filters) and grad.shape[2] <= g.out[0] and grad.shape[3] <= g.out[1]
    if not fits:
        raise InputError(
            f"{function}: grad has shape {tuple(grad.shape)}, expected {(g.batch, g.filters, *g.out)} for images of "
            f"{g.image[0]} x {g.image[1]} and windows of {g.kernel[0]} x {g.kernel[1]}"
        )
    return replace(g, out=(grad.shape[2], grad.shape[3]))


def check_conv2d(
    x: Any,
    weight: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    bias: Any,
    activation: Any,
    parameter: Any,
    residual: Any,
) -> ConvGeometry:
    """The geometry of ``conv2d``'s arguments, or an error that says what is wrong with them."""
    _check_images("conv2d", x, "x", weight, "weight")
    g = conv_geometry(
        "conv2d",
        x.shape[0],
        x.shape[1],
        x.shape[2:],
        weight.shape[0],
        weight.shape[2:],
        stride,
        padding,
        dilation,
        groups,
    )
    if weight.shape[1] * g.groups != g.channels:
        raise InputError(
            f"conv2d: weight has {weight.shape[1]} input channels per group, x has {g.channels} "
            f"({g.channels} / groups={g.groups} = {g.channels // g.groups} expected)"
        )
    _check_epilogue("conv2d", x, (g.batch, g.filters, *g.out), bias, activation, parameter, residual)
    return g


def check_moments(keep_moments: bool, activation: str, residual: Any, keep_preactivation: bool) -> None:
    """Moments are kept of a convolution alone, which batch normalisation follows."""
    if keep_moments and (activation != "none" or residual is not None or keep_preactivation):
        raise InputError(
            f"conv2d: moments are kept without activation, residual and preactivation, got activation={activation!r}, "
            f"residual={'None' if residual is None else 'an array'}, keep_preactivation={keep_preactivation}"
        )


def check_conv2d_input_grad(
    grad: Any,
    weight: Any,
    input_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    bias: Any,
    activation: Any,
    parameter: Any,
    residual: Any,
) -> ConvGeometry:
    """The geometry of the convolution whose input's gradient is wanted, or an error."""
    function = "conv2d_input_grad"
    _check_images(function, grad, "grad", weight, "weight")
    image = check_pair(function, "input_size", input_size, 0)
    channels = weight.shape[1] * _number(function, "groups", groups, 1)
    g = conv_geometry(
        function,
        grad.shape[0],
        channels,
        image,
        weight.shape[0],
        weight.shape[2:],
        stride,
        padding,
        dilation,
        groups,
    )
    g = _of_these_windows(function, grad, g)
    _check_epilogue(function, grad, (g.batch, g.channels, *g.image), bias, activation, parameter, residual)
    return g


def check_conv2d_weight_grad(
    grad: Any, x: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any, groups: Any
) -> ConvGeometry:
    """The geometry of the convolution whose weight's gradient is wanted, or an error."""
    function = "conv2d_weight_grad"
    _check_images(function, grad, "grad", x, "x")
    kernel = check_pair(function, "kernel_size", kernel_size, 1)
    g = conv_geometry(
        function, x.shape[0], x.shape[1], x.shape[2:], grad.shape[1], kernel, stride, padding, dilation, groups
    )
    return _of_these_windows(function, grad, g)


# ---- windows -------------------------------------------------------------------------------------------------------


def strided(x: Any, shape: tuple[int, ...], strides: tuple[int, ...]) -> Any:
    """A view of x's memory, strides in bytes."""
    if isinstance(x, np.ndarray):
        return np.lib.stride_tricks.as_strided(x, shape, strides)
    from cupy.lib.stride_tricks import as_strided

    return as_strided(x, shape, strides)


def channels_last(x: Any) -> Any:
    """(N, C, H, W) as a contiguous (N, H, W, C) array: a view where memory is so already."""
    return namespace(x).ascontiguousarray(x.transpose(0, 2, 3, 1))


def _padded(x: Any, g: ConvGeometry) -> Any:
    """x (N, C, H, W) channels-last with its padding, in the dtype that is computed in: one copy at most."""
    dtype = np.dtype(np.float32) if x.dtype.itemsize == 2 else x.dtype
    (top, bottom), (left, right) = g.padding
    if not (top or bottom or left or right):
        return channels_last(rounded(x, dtype))
    height, width = g.image
    out = namespace(x).empty((g.batch, top + height + bottom, left + width + right, g.channels), dtype)
    out[:, :top] = 0
    out[:, top + height :] = 0
    out[:, top : top + height, :left] = 0
    out[:, top : top + height, left + width :] = 0
    out[:, top : top + height, left : left + width] = x.transpose(0, 2, 3, 1)
    return out


def _windows(padded: Any, g: ConvGeometry) -> Any:
    """(N, P, Q, R, S, C): what every result sees, as a view."""
    n, h, w, c = padded.strides
    (sh, sw), (dh, dw) = g.stride, g.dilation
    return strided(padded, (g.batch, *g.out, *g.kernel, padded.shape[3]), (n, h * sh, w * sw, h * dh, w * dw, c))


def _tap(padded: Any, g: ConvGeometry, r: int, s: int) -> Any:
    """(N, P, Q, C): what place (r, s) of the window sees, as a view that may be added to."""
    (sh, sw), (dh, dw), (p, q) = g.stride, g.dilation, g.out
    return padded[:, r * dh : r * dh + (p - 1) * sh + 1 : sh, s * dw : s * dw + (q - 1) * sw + 1 : sw]


def _chunks(g: ConvGeometry, row_bytes: int, numpy: bool) -> Iterator[tuple[slice, slice]]:
    """Images and rows of the result of which ``row_bytes`` each (a row: all that belongs to its pixels) make about a
    chunk."""
    p = g.out[0]
    rows = max(1, CHUNK_BYTES[numpy] // max(1, row_bytes))
    if rows >= p:
        images = max(1, rows // max(1, p))
        for n in range(0, g.batch, images):
            yield slice(n, n + images), slice(0, p)
    else:
        rows = -(-p // -(-p // rows))  # chunks of one size, as nearly as may be
        for n in range(g.batch):
            for i in range(0, p, rows):
                yield slice(n, n + 1), slice(i, min(i + rows, p))


def _columns(windows: Any, g: ConvGeometry) -> Any:
    """Windows (n, p, Q, R, S, C) as matrices (G, M, R * S * C / G) for products; memory has the order in which the copy
    is fast."""
    n, p, q, r, s, c = windows.shape
    xp = namespace(windows)
    each = c // g.groups
    split = windows.reshape(n, p, q, r, s, g.groups, each) if g.groups > 1 else windows[..., None, :]
    if each * s < FEW_CHANNELS:
        major = xp.ascontiguousarray(split.transpose(5, 3, 4, 6, 0, 1, 2)).reshape(g.groups, r * s * each, n * p * q)
        return major.swapaxes(1, 2)
    return xp.ascontiguousarray(split.transpose(5, 0, 1, 2, 3, 4, 6)).reshape(g.groups, n * p * q, r * s * each)


def _is_pointwise(g: ConvGeometry) -> bool:
    """Whether windows are the pixels themselves."""
    return g.kernel == (1, 1) and g.stride == (1, 1) and g.padding == ((0, 0), (0, 0)) and g.groups == 1


# ---- the three products --------------------------------------------------------------------------------------------


def conv2d(
    x: Any,
    weight: Any,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    bias: Any = None,
    activation: str = "none",
    parameter: float | None = None,
    residual: Any = None,
    keep_preactivation: bool = False,
    keep_moments: bool = False,
    config: Any = None,
) -> Any:
    """``activation(sum_crs x[n, c, p * stride + r * dilation - padding, ...] weight[k, c, r, s] + bias + residual)``.

    Arguments and results as ``fastnet.kernels.conv2d``; 16-bit inputs are computed in float32 and rounded once.

    >>> import numpy as np
    >>> conv2d(np.ones((1, 1, 3, 3), np.float32), np.ones((1, 1, 2, 2), np.float32))[0, 0]
    array([[4., 4.],
           [4., 4.]], dtype=float32)
    """
    g = check_conv2d(x, weight, stride, padding, dilation, groups, bias, activation, parameter, residual)
    check_moments(keep_moments, activation, residual, keep_preactivation)
    with np.errstate(all="ignore"):
        padded, w = _padded(x, g), wide(weight)
        out = namespace(x).empty((g.batch, *g.out, g.filters), padded.dtype)
        if not out.size or not g.channels:
            out[...] = 0
        elif g.channels == g.groups > 1:
            _depthwise(out, padded, w, g)
        else:
            _products(out, padded, w, g)
        result = _finish(out, x.dtype, bias, activation, parameter, residual, keep_preactivation)
        return (result, _moments(result)) if keep_moments else result


def _moments(y: Any) -> Any:
    """(1, 3, K): count, mean and squared deviations of each channel of y (N, K, P, Q)."""
    xp, rows = namespace(y), wide(y).transpose(0, 2, 3, 1).reshape(-1, y.shape[1])
    moments = xp.empty((1, 3, y.shape[1]), rows.dtype)
    moments[0, 0] = len(rows)
    moments[0, 1] = xp.ones(len(rows), rows.dtype) @ rows / rows.dtype.type(max(len(rows), 1))  # BLAS sums in blocks
    deviations = rows - moments[0, 1]
    moments[0, 2] = xp.einsum("rc,rc->c", deviations, deviations)
    return moments


def _products(out: Any, padded: Any, w: Any, g: ConvGeometry) -> None:
    """out (N, P, Q, K) = windows times weights, group by group."""
    xp, numpy = namespace(out), isinstance(out, np.ndarray)
    if _is_pointwise(g):
        xp.matmul(padded.reshape(-1, g.channels), w.reshape(g.filters, g.channels).T, out=out.reshape(-1, g.filters))
        return
    taps, each = math.prod(g.kernel), g.channels // g.groups
    # (G, R * S * C / G, K / G)
    matrices = w.reshape(g.groups, g.filters // g.groups, each, taps).transpose(0, 3, 2, 1)
    matrices = xp.ascontiguousarray(matrices).reshape(g.groups, taps * each, g.filters // g.groups)
    windows = _windows(padded, g)
    for images, rows in _chunks(g, g.out[1] * taps * g.channels * out.itemsize, numpy):
        columns = _columns(windows[images, rows], g)
        place = out[images, rows].reshape(-1, g.groups, g.filters // g.groups).swapaxes(0, 1)
        if g.groups == 1:
            xp.matmul(columns[0], matrices[0], out=place[0])
        else:
            xp.matmul(columns, matrices, out=place)


def _depthwise_matrices(w: Any, g: ConvGeometry) -> Any:
    """(R, S, Q, C, K / C): weights repeated along a row, so that products run along whole rows."""
    xp = namespace(w)
    matrices = w.reshape(g.groups, -1, *g.kernel).transpose(2, 3, 0, 1)[:, :, None]
    return xp.ascontiguousarray(xp.broadcast_to(matrices, (*g.kernel, g.out[1], g.groups, matrices.shape[-1])))


def _depthwise(out: Any, padded: Any, w: Any, g: ConvGeometry) -> None:
    """As ``_products`` where each group has one channel: a sum over the places of the window."""
    xp, numpy = namespace(out), isinstance(out, np.ndarray)
    each = g.filters // g.groups
    matrices = _depthwise_matrices(w, g)
    for images, rows in _chunks(g, g.out[1] * g.filters * out.itemsize, numpy):
        total = out[images, rows].reshape(-1, rows.stop - rows.start, g.out[1], g.channels, each)
        product = None
        for r in range(g.kernel[0]):
            for s in range(g.kernel[1]):
                seen = _tap(padded, g, r, s)[images, rows][..., None]
                if product is None:
                    xp.multiply(seen, matrices[r, s], out=total)
                    product = xp.empty_like(total)
                else:
                    xp.multiply(seen, matrices[r, s], out=product)
                    total += product


def conv2d_input_grad(
    grad: Any,
    weight: Any,
    input_size: Any,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    bias: Any = None,
    activation: str = "none",
    parameter: float | None = None,
    residual: Any = None,
    keep_preactivation: bool = False,
    config: Any = None,
) -> Any:
    """The gradient of ``conv2d``'s input, ``sum_k grad weight`` over every window that sees a pixel; with bias,
    activation and residual, a transposed convolution.

    Arguments and results as ``fastnet.kernels.conv2d_input_grad``.

    >>> import numpy as np
    >>> conv2d_input_grad(np.ones((1, 1, 2, 2), np.float32), np.ones((1, 1, 2, 2), np.float32), (3, 3))[0, 0]
    array([[1., 2., 1.],
           [2., 4., 2.],
           [1., 2., 1.]], dtype=float32)
    """
    g = check_conv2d_input_grad(
        grad, weight, input_size, stride, padding, dilation, groups, bias, activation, parameter, residual
    )
    with np.errstate(all="ignore"):
        xp = namespace(grad)
        dy, w = channels_last(wide(grad)), wide(weight)
        (top, bottom), (left, right) = g.padding
        if _is_pointwise(g):
            out = (dy.reshape(-1, g.filters) @ w.reshape(g.filters, g.channels)).reshape(g.batch, *g.image, g.channels)
        else:
            padded = xp.zeros((g.batch, top + g.image[0] + bottom, left + g.image[1] + right, g.channels), dy.dtype)
            if dy.size and g.channels:
                if g.channels == g.groups > 1:
                    _depthwise_input_grad(padded, dy, w, g)
                elif g.groups == 1 and g.channels < FEW_CHANNELS:
                    _add_planes(padded, dy, w, g)
                else:
                    _add_products(padded, dy, w, g)
            out = padded[:, top : top + g.image[0], left : left + g.image[1]]
        return _finish(out, grad.dtype, bias, activation, parameter, residual, keep_preactivation)


def _add_products(padded: Any, dy: Any, w: Any, g: ConvGeometry) -> None:
    """padded += what each place of the window sends back to the pixels it saw: one product a place, which multiplies no
    zeros whatever the stride."""
    xp, numpy = namespace(dy), isinstance(dy, np.ndarray)
    each, filters = g.channels // g.groups, g.filters // g.groups
    # (R, S, G, K / G, C / G)
    matrices = xp.ascontiguousarray(w.reshape(g.groups, filters, each, *g.kernel).transpose(3, 4, 0, 1, 2))
    for images, rows in _chunks(g, g.out[1] * g.channels * dy.itemsize, numpy):
        sent = dy[images, rows]  # (n, p, Q, K)
        grouped = sent.reshape(-1, g.groups, filters).swapaxes(0, 1)
        product = xp.empty((*sent.shape[:3], g.channels), dy.dtype)
        place = product.reshape(-1, g.groups, each).swapaxes(0, 1)
        for r in range(g.kernel[0]):
            for s in range(g.kernel[1]):
                if g.groups == 1:
                    xp.matmul(grouped[0], matrices[r, s, 0], out=place[0])
                else:
                    xp.matmul(grouped, matrices[r, s], out=place)
                seen = _tap(padded, g, r, s)[images, rows]
                seen += product


def _add_planes(padded: Any, dy: Any, w: Any, g: ConvGeometry) -> None:
    """As ``_add_products`` for few channels: one product for all places, and planes of single channels."""
    xp, numpy = namespace(dy), isinstance(dy, np.ndarray)
    taps = math.prod(g.kernel)
    matrix = xp.ascontiguousarray(w.transpose(2, 3, 1, 0)).reshape(taps * g.channels, g.filters)
    planes = xp.zeros((g.channels, *padded.shape[:3]), dy.dtype)
    for images, rows in _chunks(g, g.out[1] * taps * g.channels * dy.itemsize, numpy):
        sent = dy[images, rows]
        products = matrix @ sent.reshape(-1, g.filters).T
        products = products.reshape(*g.kernel, g.channels, *sent.shape[:3])
        for r in range(g.kernel[0]):
            for s in range(g.kernel[1]):
                seen = _tap(planes.transpose(1, 2, 3, 0), g, r, s)[images, rows].transpose(3, 0, 1, 2)
                seen += products[r, s]
    padded[...] = planes.transpose(1, 2, 3, 0)


def _depthwise_input_grad(padded: Any, dy: Any, w: Any, g: ConvGeometry) -> None:
    """As ``_add_products`` where each group has one channel."""
    xp, numpy = namespace(dy), isinstance(dy, np.ndarray)
    each = g.filters // g.groups
    matrices = _depthwise_matrices(w, g)
    for images, rows in _chunks(g, g.out[1] * g.filters * dy.itemsize, numpy):
        sent = dy[images, rows].reshape(-1, rows.stop - rows.start, g.out[1], g.channels, each)
        product = xp.empty_like(sent)
        for r in range(g.kernel[0]):
            for s in range(g.kernel[1]):
                xp.multiply(sent, matrices[r, s], out=product)
                seen = _tap(padded, g, r, s)[images, rows]
                seen += product[..., 0] if each == 1 else product.sum(axis=-1)


def conv2d_weight_grad(
    grad: Any,
    x: Any,
    kernel_size: Any,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    config: Any = None,
) -> Any:
    """The gradient of ``conv2d``'s weight: every window times the gradient of what it gave, summed.

    Arguments and results as ``fastnet.kernels.conv2d_weight_grad``.

    >>> import numpy as np
    >>> conv2d_weight_grad(np.ones((1, 1, 2, 2), np.float32), np.ones((1, 1, 3, 3), np.float32), 2)[0, 0]
    array([[4., 4.],
           [4., 4.]], dtype=float32)
    """
    g = check_conv2d_weight_grad(grad, x, kernel_size, stride, padding, dilation, groups)
    with np.errstate(all="ignore"):
        xp, numpy = namespace(x), isinstance(x, np.ndarray)
        padded, dy = _padded(x, g), channels_last(wide(grad))
        taps, each, filters = math.prod(g.kernel), g.channels // g.groups, g.filters // g.groups
        total = xp.zeros((g.groups, taps * each, filters), dy.dtype)
        if not dy.size or not g.channels:
            pass
        elif _is_pointwise(g):
            total[0] = padded.reshape(-1, g.channels).T @ dy.reshape(-1, g.filters)
        elif each == 1 and g.groups > 1:
            _depthwise_weight_grad(total, padded, dy, g)
        else:
            windows = _windows(padded, g)
            for images, rows in _chunks(g, g.out[1] * taps * g.channels * dy.itemsize, numpy):
                columns = _columns(windows[images, rows], g)
                sent = dy[images, rows].reshape(-1, g.groups, filters).swapaxes(0, 1)
                if g.groups == 1:
                    total[0] += columns[0].T @ sent[0]
                else:
                    total += columns.swapaxes(1, 2) @ sent
        out = total.reshape(g.groups, *g.kernel, each, filters).transpose(0, 4, 3, 1, 2)
        return xp.ascontiguousarray(rounded(out, x.dtype)).reshape(g.filters, each, *g.kernel)


def _depthwise_weight_grad(total: Any, padded: Any, dy: Any, g: ConvGeometry) -> None:
    """total (C, R * S, K / C) += the products where each group has one channel."""
    xp, numpy = namespace(dy), isinstance(dy, np.ndarray)
    each = g.filters // g.groups
    for images, rows in _chunks(g, g.out[1] * g.filters * dy.itemsize, numpy):
        sent = dy[images, rows].reshape(-1, rows.stop - rows.start, g.out[1], g.channels, each)
        product = xp.empty_like(sent)
        for r in range(g.kernel[0]):
            for s in range(g.kernel[1]):
                xp.multiply(_tap(padded, g, r, s)[images, rows][..., None], sent, out=product)
                total[:, r * g.kernel[1] + s] += product.sum(axis=2).sum(axis=(0, 1))


def _finish(
    out: Any, dtype: Any, bias: Any, activation: str, parameter: Any, residual: Any, keep_preactivation: bool
) -> Any:
    """What becomes of the sums (N, H, W, C), which may be overwritten: (N, C, H, W) results."""
    if bias is not None:
        out += wide(bias)
    if residual is not None:
        out += wide(residual).transpose(0, 2, 3, 1)
    result = out if activation == "none" else activate(out, activation, parameter)
    xp = namespace(out)

    def image(y: Any) -> Any:
        return xp.ascontiguousarray(rounded(y, dtype)).transpose(0, 3, 1, 2)

    if not keep_preactivation:
        return image(result)
    return image(result), image(out.copy() if result is out else out)
