"""Pooling by handwritten kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnet.errors import InputError, KindError
from fastnet.kernels._arrays import empty, stream_of
from fastnet.kernels._runtime import extension_for, record
from fastnet.kernels.pointwise import address
from fastnet.kernels.reduction import loadable
from fastnet.reference.conv import channels_last
from fastnet.reference.pool import (
    Windows,
    check_divisor,
    check_max_pool2d_backward,
    check_pool,
    check_pool_backward,
    flag,
)


def _images(x: Any) -> Any:
    """(N, C, H, W) as contiguous (N, H, W, C) elements at multiples of their size."""
    return loadable(channels_last(x))


def _numbers(w: Windows) -> tuple[tuple[int, ...], tuple[int, ...], bool]:
    """What the extension takes of the windows."""
    axes = [(w.image[i], w.out[i], w.kernel[i], w.stride[i], w.padding[i], w.dilation[i]) for i in (0, 1)]
    return axes[0], axes[1], w.adaptive


def _config(function: str, ext: Any, config: Any, out: Any, *others: Any) -> Any:
    """The config for what is written and read beside it: 16 bytes of channels at once where all allow it."""
    vector = 16 // out.itemsize
    fits = out.shape[3] % vector == 0 and all(address(a) % 16 == 0 for a in (out, *others) if a is not None)
    if config is None:
        return ext.pool_config(out.size // max(1, out.shape[3]), out.shape[3], out.itemsize, fits)
    if not isinstance(config, ext.PoolConfig):
        raise KindError(f"{function}: config is a {type(config).__name__}, expected a PoolConfig of {ext.__name__}")
    if config.vector != 1 and not (config.vector == vector and fits):
        raise InputError(f"{function}: config {config}: these arrays' channels or alignment do not allow its vector")
    return config


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
    """The largest value of every window of images; NaN if it has one.

    Args:
        x: (N, C, H, W) float32, float64, float16 or bfloat16; channels-last memory is not copied.
        kernel_size, dilation: of the window, an int or two.
        stride: from one window to the next, an int or two; default kernel_size.
        padding: pixels around the image that never win, an int or two, at most half of the window.
        ceil_mode: whether a last window that lies partly beyond the image counts.
        output_size: in place of all these: an int or two, so many windows that divide the image evenly.
        with_indices: whether to return where the largest values were too.
        config: a ``PoolConfig`` to use in place of the one chosen for the problem.

    Returns:
        (N, C, P, Q) beside x, channels-last in memory; with ``with_indices`` a pair, the second int32 pixels counted
        along rows (h * W + w), of equal values the first, of NaN the last.

    Raises:
        TypeError, ValueError: x is not such an array, a number is out of range, or no window fits.

    >>> import numpy as np, fastnet
    >>> with fastnet.kernels.use("emulated"):
    ...     fastnet.kernels.max_pool2d(np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4), 2)[0, 0]
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
    flag("max_pool2d", "with_indices", with_indices)
    ext = extension_for(x)
    images = _images(x)
    shape = (x.shape[0], *w.out, x.shape[1])
    out = empty(x, shape, x.dtype)
    indices = empty(x, shape, np.int32) if with_indices else None
    config = _config("max_pool2d", ext, config, out, images)
    if out.size:
        record("max_pool2d", x, config=config)
        ext.max_pool(out, indices, images, *_numbers(w), config, stream_of(x))
    out = out.transpose(0, 3, 1, 2)
    return out if indices is None else (out, indices.transpose(0, 3, 1, 2))


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
    """The gradient of ``max_pool2d``'s input: grad of every window at its largest pixel, summed where windows overlap.

    Args:
        grad: (N, C, P, Q).
        image_size: (H, W), or one number for both.
        kernel_size, stride, padding, dilation, ceil_mode, output_size, config: as ``max_pool2d``.
        x: (N, C, H, W) of grad's dtype, in which the largest pixels are found again; or None.
        indices: int32 of grad's shape, as ``max_pool2d`` returned them, in place of x.

    Returns:
        (N, C, H, W) beside grad, channels-last in memory.

    Raises:
        TypeError, ValueError: an argument is not as described.
    """
    function = "max_pool2d_backward"
    w = check_pool_backward(
        function,
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
    ext = extension_for(grad)
    dy = _images(grad)
    images, chosen = (None if a is None else _images(a) for a in (x, indices))
    out = empty(grad, (grad.shape[0], *w.image, grad.shape[1]), grad.dtype)
    config = _config(function, ext, config, out, dy, images)
    if out.size:
        record(function, grad, config=config)
        ext.max_pool_backward(out, dy, images, chosen, *_numbers(w), config, stream_of(grad))
    return out.transpose(0, 3, 1, 2)


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
    """The mean of every window of images, summed in float32 (float64 for float64) and rounded once.

    Args:
        x, kernel_size, stride, padding, ceil_mode, output_size, config: as ``max_pool2d``; padding counts as zero.
        count_include_pad: whether padding counts among the pixels that a sum is divided by.
        divisor_override: what to divide by instead, not 0; or None.

    Returns:
        (N, C, P, Q) beside x, channels-last in memory.

    Raises:
        TypeError, ValueError: as ``max_pool2d``.

    >>> import numpy as np, fastnet
    >>> with fastnet.kernels.use("emulated"):
    ...     fastnet.kernels.avg_pool2d(np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2), output_size=1)[0, 0]
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
    ext = extension_for(x)
    images = _images(x)
    out = empty(x, (x.shape[0], *w.out, x.shape[1]), x.dtype)
    config = _config("avg_pool2d", ext, config, out, images)
    if out.size:
        record("avg_pool2d", x, config=config)
        ext.avg_pool(out, images, *_numbers(w), bool(count_include_pad), divisor, config, stream_of(x))
    return out.transpose(0, 3, 1, 2)


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
    """The gradient of ``avg_pool2d``'s input: grad of every window over its divisor, at each of its pixels.

    Args:
        grad: (N, C, P, Q).
        image_size: (H, W), or one number for both.
        The others: as ``avg_pool2d``.

    Returns:
        (N, C, H, W) beside grad, channels-last in memory.

    Raises:
        TypeError, ValueError: an argument is not as described.
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
    ext = extension_for(grad)
    dy = _images(grad)
    out = empty(grad, (grad.shape[0], *w.image, grad.shape[1]), grad.dtype)
    config = _config(function, ext, config, out, dy)
    if out.size:
        record(function, grad, config=config)
        ext.avg_pool_backward(out, dy, *_numbers(w), bool(count_include_pad), divisor, config, stream_of(grad))
    return out.transpose(0, 3, 1, 2)
