"""Pooling in array code: the specification. Images are (N, C, H, W) to the caller, results channels-last in memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnet._device import namespace
from fastnet.errors import InputError, KindError
from fastnet.kernels._arrays import check_array
from fastnet.reference.conv import Pair, channels_last, check_pair
from fastnet.reference.pointwise import rounded, wide


@dataclass(frozen=True)
class Windows:
    """The windows of one pooling: of ``kernel`` places each, or adaptive, where they divide the image evenly."""

    image: Pair
    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    out: Pair
    adaptive: bool

    def first(self, axis: int) -> np.ndarray:
        """Where each window begins, in the image."""
        at = np.arange(self.out[axis])
        if self.adaptive:
            return at * self.image[axis] // self.out[axis]
        begin, d = at * self.stride[axis] - self.padding[axis], self.dilation[axis]
        return np.where(begin < 0, begin + (-begin + d - 1) // d * d, begin)

    def end(self, axis: int) -> np.ndarray:
        """Where each window ends, in the image (exclusive)."""
        at, size = np.arange(self.out[axis]), self.image[axis]
        if self.adaptive:
            return -(-(at + 1) * size // self.out[axis])
        reach = self.dilation[axis] * (self.kernel[axis] - 1) + 1
        return np.minimum(at * self.stride[axis] - self.padding[axis] + reach, size)

    def extent(self, axis: int) -> int:
        """Places of the largest window."""
        if not self.adaptive:
            return self.kernel[axis]
        return int((self.end(axis) - self.first(axis)).max()) if self.out[axis] else 0

    def pixels(self, axis: int, count_include_pad: bool) -> np.ndarray:
        """How many pixels each window averages along an axis; padding counts if asked, what lies beyond it never."""
        if self.adaptive or not count_include_pad:
            return self.end(axis) - self.first(axis)
        begin = np.arange(self.out[axis]) * self.stride[axis] - self.padding[axis]
        return np.minimum(begin + self.kernel[axis], self.image[axis] + self.padding[axis]) - begin

    @property
    def disjoint(self) -> bool:
        """Whether no pixel is in two windows."""
        if self.adaptive:
            return all(n % p == 0 for n, p in zip(self.image, self.out, strict=True))
        return all(s > d * (k - 1) for k, s, d in zip(self.kernel, self.stride, self.dilation, strict=True))


# ---- arguments -----------------------------------------------------------------------------------------------------


def flag(function: str, argument: str, x: Any) -> bool:
    if not isinstance(x, (bool, np.bool_)):
        raise KindError(f"{function}: {argument} is a {type(x).__name__}, expected a bool")
    return bool(x)


def pool_windows(
    function: str,
    image: Pair,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: Any = False,
    output_size: Any = None,
) -> Windows:
    """The windows for these arguments; ValueError or TypeError, naming ``function``, where there are none."""
    if min(image) < 1:
        raise InputError(f"{function}: images have {image[0]} x {image[1]} pixels, expected at least 1 x 1")
    if max(image) * min(image) > 2**31 - 1:
        raise InputError(f"{function}: images have {image[0]} x {image[1]} pixels, expected fewer than 2^31")
    if output_size is not None:
        if kernel_size is not None:
            raise InputError(f"{function}: kernel_size and output_size are both given, expected one")
        out = check_pair(function, "output_size", output_size, 0)
        if any(n * p > 2**31 - 1 for n, p in zip(image, out, strict=True)):
            raise InputError(
                f"{function}: output_size is {out}, expected at most 2^31 / {image[0]} and 2^31 / {image[1]}"
            )
        return Windows((image[0], image[1]), (1, 1), (1, 1), (0, 0), (1, 1), out, True)
    kernel = check_pair(function, "kernel_size", kernel_size, 1)
    strides = kernel if stride is None else check_pair(function, "stride", stride, 1)
    pads, dilations = check_pair(function, "padding", padding, 0), check_pair(function, "dilation", dilation, 1)
    ceil = flag(function, "ceil_mode", ceil_mode)
    sizes = []
    for n, k, s, p, d in zip(image, kernel, strides, pads, dilations, strict=True):
        reach = d * (k - 1) + 1
        if p > k // 2:
            raise InputError(f"{function}: padding is {p}, expected at most half of the window's {k} places")
        size = (n + 2 * p - reach + (s - 1 if ceil else 0)) // s + 1
        if ceil and (size - 1) * s >= n + p:  # the last window must begin in the image or in the padding before it
            size -= 1
        if size < 1:
            raise InputError(f"{function}: the window covers {reach} pixels, more than the padded image's {n + 2 * p}")
        sizes.append(size)
    return Windows((image[0], image[1]), kernel, strides, pads, dilations, (sizes[0], sizes[1]), False)


def check_pool(function: str, x: Any, **options: Any) -> Windows:
    """The windows of x (N, C, H, W)."""
    check_array(function, "x", x, ndim=4)
    windows = pool_windows(function, x.shape[2:], **options)
    _check_pixels(function, x.shape[0], windows)
    return windows


def _check_pixels(function: str, batch: int, windows: Windows) -> None:
    if batch * max(math.prod(windows.image), math.prod(windows.out)) >= 2**32:
        raise InputError(
            f"{function}: {batch} images of {windows.image}, results of {windows.out}: expected fewer than 2^32 pixels"
        )


def check_pool_backward(function: str, grad: Any, image_size: Any, **options: Any) -> Windows:
    """The windows of images of ``image_size`` whose results have the gradient grad (N, C, P, Q)."""
    check_array(function, "grad", grad, ndim=4)
    windows = pool_windows(function, check_pair(function, "image_size", image_size, 1), **options)
    if tuple(grad.shape[2:]) != windows.out:
        raise InputError(
            f"{function}: grad has shape {tuple(grad.shape)}, expected {(*grad.shape[:2], *windows.out)} for images of "
            f"{windows.image[0]} x {windows.image[1]}"
        )
    _check_pixels(function, grad.shape[0], windows)
    return windows


def check_max_pool2d_backward(grad: Any, windows: Windows, x: Any, indices: Any) -> None:
    """One of x and indices, of the shape that belongs to grad."""
    function = "max_pool2d_backward"
    if (x is None) == (indices is None):
        raise InputError(f"{function}: expected one of x and indices, got {'neither' if x is None else 'both'}")
    if x is not None:
        check_array(function, "x", x, dtypes=(grad.dtype.name,), ndim=4, like=grad)
        argument, got, wanted = "x", x, (*grad.shape[:2], *windows.image)
    else:
        check_array(function, "indices", indices, dtypes=("int32",), ndim=4, like=grad)
        argument, got, wanted = "indices", indices, tuple(grad.shape)
    if tuple(got.shape) != wanted:
        raise InputError(f"{function}: {argument} has shape {tuple(got.shape)}, expected {wanted}")


def check_divisor(function: str, count_include_pad: Any, divisor_override: Any) -> int:
    """divisor_override, 0 for None."""
    flag(function, "count_include_pad", count_include_pad)
    if divisor_override is None:
        return 0
    if isinstance(divisor_override, bool) or not hasattr(divisor_override, "__index__"):
        raise KindError(f"{function}: divisor_override is a {type(divisor_override).__name__}, expected an int or None")
    divisor = divisor_override.__index__()
    if not 0 < abs(divisor) < 2**31:
        raise InputError(f"{function}: divisor_override is {divisor}, expected a number other than 0 below 2^31")
    return divisor


# ---- places of windows ---------------------------------------------------------------------------------------------


def _padded(x: Any, w: Windows, value: float) -> Any:
    """x (N, C, H, W) channels-last, with ``value`` wherever windows look beyond the image."""
    images = channels_last(wide(x))
    if w.adaptive:
        return images
    shape = _padded_shape(images.shape, w)
    if shape == images.shape:
        return images
    out = namespace(x).full(shape, value, images.dtype)
    top, left = w.padding
    inside = _inside(w, shape)
    out[inside] = images[:, : inside[1].stop - top, : inside[2].stop - left]
    return out


def _padded_shape(shape: tuple[int, ...], w: Windows) -> tuple[int, ...]:
    """Pixels that windows see, padding included: the image may be larger where windows leave some of it out."""
    n, height, width, c = shape
    sees = [(o - 1) * s + d * (k - 1) + 1 for o, s, d, k in zip(w.out, w.stride, w.dilation, w.kernel, strict=True)]
    return n, max(sees[0], height + w.padding[0]), max(sees[1], width + w.padding[1]), c


def _inside(w: Windows, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Where the image lies in the padded one."""
    (top, left), (height, width) = w.padding, w.image
    return slice(None), slice(top, top + height), slice(left, left + width)


def _tap(padded: Any, w: Windows, r: int, s: int) -> Any:
    """(N, P, Q, C): what place (r, s) of every window sees, as a view; for adaptive windows a copy, in which windows of
    fewer places see their last one again."""
    if w.adaptive:
        xp = namespace(padded)
        rows = xp.asarray(np.minimum(w.first(0) + r, w.end(0) - 1))
        columns = xp.asarray(np.minimum(w.first(1) + s, w.end(1) - 1))
        return padded[:, rows[:, None], columns]
    (sh, sw), (dh, dw), (p, q) = w.stride, w.dilation, w.out
    return padded[:, r * dh : r * dh + (p - 1) * sh + 1 : sh, s * dw : s * dw + (q - 1) * sw + 1 : sw]


def _positions(w: Windows, r: int, s: int, like: Any) -> Any:
    """(P, Q, 1) int32: the pixels, counted along rows, that place (r, s) of every window sees."""
    sees = []
    for axis, i in ((0, r), (1, s)):
        if w.adaptive:
            sees.append(np.minimum(w.first(axis) + i, w.end(axis) - 1))
        else:
            sees.append(np.arange(w.out[axis]) * w.stride[axis] - w.padding[axis] + i * w.dilation[axis])
    return namespace(like).asarray((sees[0][:, None] * w.image[1] + sees[1]).astype(np.int32)[..., None])


def _places(w: Windows) -> Iterator[tuple[int, int]]:
    for r in range(w.extent(0)):
        for s in range(w.extent(1)):
            yield r, s


# ---- largest values ------------------------------------------------------------------------------------------------


def max_pool2d(
    x: Any,
    kernel_size: Any = None,
    *,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    output_size: Any = None,
    with_indices: bool = False,
    config: Any = None,
) -> Any:
    """The largest value of every window; NaN if it has one.

    Arguments and results as ``fastnet.kernels.max_pool2d``.

    >>> import numpy as np
    >>> max_pool2d(np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4), 2)[0, 0]
    array([[ 5.,  7.],
           [13., 15.]], dtype=float32)
    """
    w = check_pool(
        "max_pool2d",
        x,
        kernel_size=kernel_size,
        stride=stride,
        padding=padding,
        dilation=dilation,
        ceil_mode=ceil_mode,
        output_size=output_size,
    )
    with np.errstate(all="ignore"):
        padded = _padded(x, w, -math.inf)
        out, indices = _largest(padded, w, flag("max_pool2d", "with_indices", with_indices))
        out = rounded(out, x.dtype).transpose(0, 3, 1, 2)
        return (out, indices.transpose(0, 3, 1, 2)) if with_indices else out


def _largest(padded: Any, w: Windows, with_indices: bool) -> tuple[Any, Any]:
    """Values and, if wanted, pixels (N, P, Q, C)."""
    xp = namespace(padded)
    shape = (padded.shape[0], *w.out, padded.shape[3])
    if not with_indices:
        out = None
        for r, s in _places(w):
            seen = _tap(padded, w, r, s)
            out = seen.copy() if out is None else xp.maximum(out, seen, out=out)
        return xp.empty(shape, padded.dtype) if out is None else out, None
    out = xp.full(shape, -math.inf, padded.dtype)
    begin = w.first(0)[:, None] * w.image[1] + w.first(1)
    indices = xp.broadcast_to(xp.asarray(begin.astype(np.int32))[..., None], shape).copy()
    for r, s in _places(w):
        seen = _tap(padded, w, r, s)
        better = (seen > out) | xp.isnan(seen)  # the first of equal values, the last NaN, as PyTorch
        xp.copyto(out, seen, where=better)
        xp.copyto(indices, _positions(w, r, s, padded), where=better)
    return out, indices


def max_pool2d_backward(
    grad: Any,
    image_size: Any,
    kernel_size: Any = None,
    *,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    output_size: Any = None,
    x: Any = None,
    indices: Any = None,
    config: Any = None,
) -> Any:
    """grad of every window at the pixel that was its largest, summed where windows overlap.

    Arguments and results as ``fastnet.kernels.max_pool2d_backward``.

    >>> import numpy as np
    >>> x = np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)
    >>> max_pool2d_backward(np.ones((1, 1, 1, 1), np.float32), 2, 2, x=x)[0, 0]
    array([[0., 0.],
           [0., 1.]], dtype=float32)
    """
    w = check_pool_backward(
        "max_pool2d_backward",
        grad,
        image_size,
        kernel_size=kernel_size,
        stride=stride,
        padding=padding,
        dilation=dilation,
        ceil_mode=ceil_mode,
        output_size=output_size,
    )
    check_max_pool2d_backward(grad, w, x, indices)
    with np.errstate(all="ignore"):
        xp = namespace(grad)
        dy = channels_last(wide(grad))
        n, _, _, c = dy.shape
        shape = (n, *w.image, c) if w.adaptive else _padded_shape((n, *w.image, c), w)
        out = xp.zeros(shape, dy.dtype)
        if x is not None and w.disjoint and not w.adaptive and not any(w.padding):
            _send_to_largest(out, dy, _padded(x, w, -math.inf), w)
        else:
            if indices is None:
                _, chosen = _largest(_padded(x, w, -math.inf), w, True)
            else:
                chosen = channels_last(indices)
            _send_to_pixels(out, dy, chosen, w)
        inside = out if w.adaptive else out[_inside(w, shape)]
        return xp.ascontiguousarray(rounded(inside, grad.dtype)).transpose(0, 3, 1, 2)


def _send_to_pixels(out: Any, dy: Any, chosen: Any, w: Windows) -> None:
    """out (N, H, W, C), padded, += dy at the pixels chosen (N, P, Q, C)."""
    xp = namespace(out)
    if w.adaptive:
        positions = xp.arange(math.prod(w.image), dtype=np.int32).reshape(*w.image, 1)
        for p, (top, bottom) in enumerate(zip(w.first(0), w.end(0), strict=True)):
            for q, (left, right) in enumerate(zip(w.first(1), w.end(1), strict=True)):
                hit = positions[top:bottom, left:right] == chosen[:, p, q][:, None, None]
                out[:, top:bottom, left:right] += xp.where(hit, dy[:, p, q][:, None, None], dy.dtype.type(0))
        return
    for r, s in _places(w):
        seen = _tap(out, w, r, s)
        seen += xp.where(chosen == _positions(w, r, s, out), dy, dy.dtype.type(0))


def _send_to_largest(out: Any, dy: Any, padded: Any, w: Windows) -> None:
    """As ``_send_to_pixels`` for windows apart from one another, whose largest values are found again."""
    xp = namespace(out)
    largest, _ = _largest(padded, w, False)
    if bool(xp.isnan(largest).any()):
        _, chosen = _largest(padded, w, True)
        return _send_to_pixels(out, dy, chosen, w)
    left = xp.ones(largest.shape, bool)
    for r, s in _places(w):
        hit = _tap(padded, w, r, s) == largest
        hit &= left
        left ^= hit
        # Not a product: infinite times zero would be NaN.
        xp.copyto(_tap(out, w, r, s), dy, where=hit)
    return None


# ---- means ---------------------------------------------------------------------------------------------------------


def avg_pool2d(
    x: Any,
    kernel_size: Any = None,
    *,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    output_size: Any = None,
    config: Any = None,
) -> Any:
    """The mean of every window, summed in float32 (float64 for float64) and rounded once.

    Arguments and results as ``fastnet.kernels.avg_pool2d``.

    >>> import numpy as np
    >>> avg_pool2d(np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2), output_size=1)[0, 0]
    array([[1.5]], dtype=float32)
    """
    divisor = check_divisor("avg_pool2d", count_include_pad, divisor_override)
    w = check_pool(
        "avg_pool2d",
        x,
        kernel_size=kernel_size,
        stride=stride,
        padding=padding,
        ceil_mode=ceil_mode,
        output_size=output_size,
    )
    with np.errstate(all="ignore"):
        xp = namespace(x)
        padded = _padded(x, w, 0.0)
        if w.adaptive:
            total = _sums_along(_sums_along(padded, w, 1), w, 0)
        else:
            total = None
            for r, s in _places(w):
                seen = _tap(padded, w, r, s)
                total = seen.copy() if total is None else xp.add(total, seen, out=total)
        total = xp.asarray(total)
        total /= _divisors(w, count_include_pad, divisor, total)
        return rounded(total, x.dtype).transpose(0, 3, 1, 2)


def _sums_along(x: Any, w: Windows, axis: int) -> Any:
    """(N, H, W, C) with the sums of adaptive windows in place of one of H and W."""
    pieces = [
        x[(slice(None),) * (axis + 1) + (slice(a, b),)].sum(axis=axis + 1, keepdims=True)
        for a, b in zip(w.first(axis), w.end(axis), strict=True)
    ]
    if not pieces:
        return x[(slice(None),) * (axis + 1) + (slice(0, 0),)]
    return pieces[0] if len(pieces) == 1 else namespace(x).concatenate(pieces, axis=axis + 1)


def _divisors(w: Windows, count_include_pad: bool, divisor: int, like: Any) -> Any:
    """(P, Q, 1): what the sum of every window is divided by."""
    if divisor:
        return like.dtype.type(divisor)
    sizes = w.pixels(0, count_include_pad)[:, None] * w.pixels(1, count_include_pad)
    return namespace(like).asarray(sizes.astype(like.dtype)[..., None])


def avg_pool2d_backward(
    grad: Any,
    image_size: Any,
    kernel_size: Any = None,
    *,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    output_size: Any = None,
    config: Any = None,
) -> Any:
    """grad of every window over its divisor, at each of its pixels.

    Arguments and results as ``fastnet.kernels.avg_pool2d_backward``.

    >>> import numpy as np
    >>> avg_pool2d_backward(np.ones((1, 1, 1, 1), np.float32), 2, 2)[0, 0]
    array([[0.25, 0.25],
           [0.25, 0.25]], dtype=float32)
    """
    function = "avg_pool2d_backward"
    divisor = check_divisor(function, count_include_pad, divisor_override)
    w = check_pool_backward(
        function,
        grad,
        image_size,
        kernel_size=kernel_size,
        stride=stride,
        padding=padding,
        ceil_mode=ceil_mode,
        output_size=output_size,
    )
    with np.errstate(all="ignore"):
        xp = namespace(grad)
        dy = channels_last(wide(grad))
        dy = dy / _divisors(w, count_include_pad, divisor, dy)
        n, _, _, c = dy.shape
        if w.adaptive:
            out = xp.zeros((n, *w.image, c), dy.dtype)
            for p, (top, bottom) in enumerate(zip(w.first(0), w.end(0), strict=True)):
                for q, (left, right) in enumerate(zip(w.first(1), w.end(1), strict=True)):
                    out[:, top:bottom, left:right] += dy[:, p, q][:, None, None]
        else:
            shape = _padded_shape((n, *w.image, c), w)
            out = xp.zeros(shape, dy.dtype)
            for r, s in _places(w):
                seen = _tap(out, w, r, s)
                seen += dy
            out = out[_inside(w, shape)]
        return xp.ascontiguousarray(rounded(out, grad.dtype)).transpose(0, 3, 1, 2)
