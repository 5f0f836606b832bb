"""Pooling of one and two dimensions: largest values and means of windows, adaptive or not."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnet._tensor import Tensor
from fastnet.autograd import ArrayFunction
from fastnet.errors import InputError, KindError
from fastnet.kernels._runtime import implementation
from fastnet.ops._operands import check_tensor
from fastnet.reference.pool import pool_windows


class MaxPool2d(ArrayFunction):
    """The largest value of every window, and where it was if asked. Where windows do not overlap, the largest pixel is
    found again in backward: reading x once more costs less than writing and reading an index a window."""

    @staticmethod
    def forward(ctx: Any, x: Any, options: dict[str, Any], disjoint: bool, return_indices: bool) -> Any:
        ctx.image, ctx.options = x.shape[2:], options
        run: Any = implementation(x)
        indices: Any = None
        if return_indices or (ctx.needs_input_grad[0] and not disjoint):
            out, indices = run.max_pool2d(x, with_indices=True, **options)
            ctx.save(None, indices)
        else:
            out = run.max_pool2d(x, **options)
            ctx.save(x, None)
        return (out, indices.astype(np.int64)) if return_indices else out

    @staticmethod
    def backward(ctx: Any, grad: Any, _: Any = None) -> Any:
        x, indices = ctx.saved
        run = implementation(grad)
        of_x = run.max_pool2d_backward(grad, ctx.image, x=x, indices=indices, **ctx.options)
        return of_x, None, None, None


class AvgPool2d(ArrayFunction):
    """The mean of every window."""

    @staticmethod
    def forward(ctx: Any, x: Any, options: dict[str, Any]) -> Any:
        ctx.image, ctx.options = x.shape[2:], options
        return implementation(x).avg_pool2d(x, **options)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return implementation(grad).avg_pool2d_backward(grad, ctx.image, **ctx.options), None


# ---- arguments -----------------------------------------------------------------------------------------------------


def _images(function: str, input: Any, dims: int) -> Tensor:
    """input as (N, C, H, W): a batch of one where it has none, a height of one where it has one dimension."""
    check_tensor(function, input)
    if input.dim() not in (dims + 1, dims + 2):
        raise InputError(
            f"{function}: input has {input.dim()} dimensions {tuple(input.shape)}, expected {dims + 2} or, without a "
            f"batch, {dims + 1}"
        )
    if not input.dtype.is_floating_point:
        raise KindError(f"{function}: input has dtype {input.dtype}, expected a floating-point dtype")
    if 0 in input.shape[1:] or (input.dim() == dims + 1 and input.shape[0] == 0):
        raise InputError(f"{function}: input has shape {tuple(input.shape)}, expected no dimension of 0 but the batch")
    batched = input if input.dim() == dims + 2 else input.unsqueeze(0)
    return batched if dims == 2 else batched.unsqueeze(2)


def _like(result: Any, input: Tensor, dims: int) -> Any:
    """A result (N, C, P, Q), or several, with the dimensions that input had."""
    if isinstance(result, tuple):
        return tuple(_like(r, input, dims) for r in result)
    if dims == 1:
        result = result.squeeze(2)
    return result if input.dim() == dims + 2 else result.squeeze(0)


def _planar(function: str, **numbers: Any) -> dict[str, Any]:
    """Arguments of windows along one dimension as those of windows along the second of two."""
    out: dict[str, Any] = {}
    for argument, x in numbers.items():
        if x is None:
            out[argument] = None
            continue
        if isinstance(x, (tuple, list)):
            if len(x) != 1:
                raise InputError(f"{function}: {argument} has {len(x)} entries, expected one")
            x = x[0]
        out[argument] = (0 if argument == "padding" else 1, x)
    return out


def _output_size(function: str, output_size: Any, image: tuple[int, ...]) -> tuple[int, ...]:
    """Sizes with None taken as the image's."""
    sizes = tuple(output_size) if isinstance(output_size, (tuple, list)) else (output_size,) * len(image)
    if len(sizes) != len(image):
        raise InputError(f"{function}: output_size has {len(sizes)} entries, expected {len(image)}")
    return tuple(n if s is None else s for n, s in zip(image, sizes, strict=True))


def _max(function: str, input: Tensor, dims: int, return_indices: bool, **options: Any) -> Any:
    images = _images(function, input, dims)
    windows = pool_windows(function, images._data.shape[2:], **{"kernel_size": None, **options})
    return _like(MaxPool2d.apply(images, options, windows.disjoint, bool(return_indices)), input, dims)


def _avg(function: str, input: Tensor, dims: int, **options: Any) -> Tensor:
    images = _images(function, input, dims)
    numbers = {k: options.get(k) for k in ("kernel_size", "stride", "output_size")}
    numbers.update({k: options[k] for k in ("padding", "ceil_mode") if k in options})
    pool_windows(function, images._data.shape[2:], **numbers)
    return _like(AvgPool2d.apply(images, options), input, dims)


# ---- public functions ----------------------------------------------------------------------------------------------


def max_pool2d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest value of every window of an image.

    Args:
        input: (N, C, H, W) or (C, H, W), floating-point.
        kernel_size, dilation: of the window, an int or two.
        stride: from one window to the next; default kernel_size.
        padding: pixels around the image that count as minus infinity, at most half of the window.
        ceil_mode: whether a last window that lies partly beyond the image counts.
        return_indices: whether to return where the largest values were too, as indices into H * W.

    Returns:
        (N, C, P, Q), channels-last in memory; with ``return_indices`` a pair, the second int64.

    Raises:
        TypeError, ValueError: no such tensor, numbers out of range, or no room for a window.

    >>> import fastnet
    >>> fastnet.max_pool2d(fastnet.arange(16.0).reshape(1, 4, 4), 2)
    tensor([[[ 5.,  7.],
             [13., 15.]]])
    """
    return _max(
        "max_pool2d",
        input,
        2,
        return_indices,
        kernel_size=kernel_size,
        stride=stride,
        padding=padding,
        dilation=dilation,
        ceil_mode=ceil_mode,
    )


def max_pool1d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest value of every window along one dimension: (N, C, L) or (C, L), arguments as ``max_pool2d``.

    >>> import fastnet
    >>> fastnet.max_pool1d(fastnet.tensor([[1., 3., 2., 0.]]), 2)
    tensor([[3., 2.]])
    """
    numbers = _planar("max_pool1d", kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation)
    return _max("max_pool1d", input, 1, return_indices, ceil_mode=ceil_mode, **numbers)


def avg_pool2d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of every window of an image.

    Args:
        input, kernel_size, stride, padding, ceil_mode: as ``max_pool2d``; padding counts as zero.
        count_include_pad: whether padding counts among the pixels that a window's sum is divided by.
        divisor_override: what to divide by instead.

    >>> import fastnet
    >>> fastnet.nn.functional.avg_pool2d(fastnet.arange(16.0).reshape(1, 4, 4), 2)
    tensor([[[ 2.5000,  4.5000],
             [10.5000, 12.5000]]])
    """
    return _avg(
        "avg_pool2d",
        input,
        2,
        kernel_size=kernel_size,
        stride=None if stride == () else stride,
        padding=padding,
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
        divisor_override=divisor_override,
    )


def avg_pool1d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """The mean of every window along one dimension: (N, C, L) or (C, L), arguments as ``avg_pool2d``.

    >>> import fastnet
    >>> fastnet.avg_pool1d(fastnet.tensor([[1., 3., 2., 0.]]), 2)
    tensor([[2., 1.]])
    """
    numbers = _planar("avg_pool1d", kernel_size=kernel_size, stride=stride, padding=padding)
    return _avg("avg_pool1d", input, 1, ceil_mode=ceil_mode, count_include_pad=count_include_pad, **numbers)


def adaptive_avg_pool2d(input: Tensor, output_size: Any) -> Tensor:
    """Means of windows that divide an image evenly into ``output_size`` (an int or two, None for the image's own).

    Window i of P covers rows floor(i * H / P) to ceil((i + 1) * H / P).

    >>> import fastnet
    >>> fastnet.nn.functional.adaptive_avg_pool2d(fastnet.arange(16.0).reshape(1, 4, 4), 1)
    tensor([[[7.5000]]])
    """
    check_tensor("adaptive_avg_pool2d", input)
    return _avg(
        "adaptive_avg_pool2d", input, 2, output_size=_output_size("adaptive_avg_pool2d", output_size, input.shape[-2:])
    )


def adaptive_avg_pool1d(input: Tensor, output_size: Any) -> Tensor:
    """As ``adaptive_avg_pool2d`` along one dimension: (N, C, L) or (C, L).

    >>> import fastnet
    >>> fastnet.adaptive_avg_pool1d(fastnet.tensor([[1., 3., 2.]]), 2)
    tensor([[2.0000, 2.5000]])
    """
    check_tensor("adaptive_avg_pool1d", input)
    size = _output_size("adaptive_avg_pool1d", output_size, input.shape[-1:])
    return _avg("adaptive_avg_pool1d", input, 1, output_size=(1, *size))


def adaptive_max_pool2d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """The largest values of windows that divide an image evenly, as ``adaptive_avg_pool2d``.

    >>> import fastnet
    >>> fastnet.nn.functional.adaptive_max_pool2d(fastnet.arange(16.0).reshape(1, 4, 4), (1, 2))
    tensor([[[13., 15.]]])
    """
    check_tensor("adaptive_max_pool2d", input)
    size = _output_size("adaptive_max_pool2d", output_size, input.shape[-2:])
    return _max("adaptive_max_pool2d", input, 2, return_indices, output_size=size)


def adaptive_max_pool1d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """As ``adaptive_max_pool2d`` along one dimension: (N, C, L) or (C, L).

    >>> import fastnet
    >>> fastnet.nn.functional.adaptive_max_pool1d(fastnet.tensor([[1., 3., 2.]]), 1)
    tensor([[3.]])
    """
    check_tensor("adaptive_max_pool1d", input)
    size = _output_size("adaptive_max_pool1d", output_size, input.shape[-1:])
    return _max("adaptive_max_pool1d", input, 1, return_indices, output_size=(1, *size))
