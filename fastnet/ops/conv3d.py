"""Convolutions of volumes, on the kernels' convolutions of images.

A window of a volume is some slices of it. Laid side by side as channels, they make every convolution of volumes one
convolution of images, whose sums over depth, height, width and channels are accumulated and rounded once; the cost is
a copy of the input for every slice of a window. A transposed convolution is the same the other way round: one
transposed convolution of images gives all slices of all windows, which are added where they overlap.
"""

from __future__ import annotations

from typing import Any

from fastnet._device import namespace
from fastnet._tensor import Tensor
from fastnet.autograd import ArrayFunction
from fastnet.errors import InputError, KindError
from fastnet.ops._numeric import rounded, wide
from fastnet.ops.conv import _check_bias, _check_tensors, conv2d, conv_transpose2d
from fastnet.ops.padding import pad


def _slices(x: Any, windows: int, taps: int, stride: int, dilation: int) -> Any:
    """x (N, C, D, H, W) as the slices of its windows, (N, windows, C, taps, H, W)."""
    xp = namespace(x)
    index = xp.arange(windows)[:, None] * stride + xp.arange(taps) * dilation
    return xp.ascontiguousarray(xp.take(x, index, axis=2).transpose(0, 2, 1, 3, 4, 5))


def _overlapped(y: Any, depth: int, stride: int, dilation: int) -> Any:
    """Slices of windows y (N, windows, C, taps, H, W) added where they lie, (N, C, depth, H, W)."""
    xp = namespace(y)
    n, windows, c, taps, h, w = y.shape
    total = xp.zeros((n, c, depth, h, w), wide(y[:0]).dtype)
    for tap in range(taps):
        first = tap * dilation
        total[:, :, first : first + (windows - 1) * stride + 1 : stride] += y[:, :, :, tap].transpose(0, 2, 1, 3, 4)
    return rounded(total, y.dtype)


class DepthWindows(ArrayFunction):
    """The slices of every window of a volume."""

    @staticmethod
    def forward(ctx: Any, x: Any, windows: int, taps: int, stride: int, dilation: int) -> Any:
        ctx.depth, ctx.steps = x.shape[2], (stride, dilation)
        return _slices(x, windows, taps, stride, dilation)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return _overlapped(grad, ctx.depth, *ctx.steps), None, None, None, None


class DepthOverlap(ArrayFunction):
    """The slices of windows added where they lie in a volume."""

    @staticmethod
    def forward(ctx: Any, y: Any, depth: int, stride: int, dilation: int) -> Any:
        ctx.windows, ctx.taps, ctx.steps = y.shape[1], y.shape[3], (stride, dilation)
        return _overlapped(y, depth, stride, dilation)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return _slices(grad, ctx.windows, ctx.taps, *ctx.steps), None, None, None


def _three(function: str, argument: str, x: Any, least: int) -> tuple[int, int, int]:
    """An int, or three, as three of at least ``least``."""
    values = tuple(x) if isinstance(x, (tuple, list)) else (x,)
    values = values * 3 if len(values) == 1 else values
    if len(values) != 3:
        raise InputError(f"{function}: {argument} has {len(values)} entries, expected one or three")
    for n in values:
        if isinstance(n, bool) or not hasattr(n, "__index__"):
            raise KindError(f"{function}: {argument} is {x!r}, expected an int or three of them")
        if n.__index__() < least:
            raise InputError(f"{function}: {argument} is {x!r}, expected at least {least}")
    return values[0].__index__(), values[1].__index__(), values[2].__index__()


def _check_groups(function: str, groups: Any) -> int:
    if isinstance(groups, bool) or not hasattr(groups, "__index__"):
        raise KindError(f"{function}: groups is a {type(groups).__name__}, expected an int")
    if groups < 1:
        raise InputError(f"{function}: groups is {groups}, expected at least 1")
    return groups.__index__()


def conv3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlation of volumes with filters, as ``torch.nn.functional.conv3d``: one ``conv2d`` of all slices of
    all windows.

    Args:
        input: (N, C, D, H, W) or (C, D, H, W), floating-point.
        weight: (K, C / groups, T, R, S) of input's dtype.
        bias: (K,) or None.
        stride, dilation: an int or three, for depth, height and width.
        padding: an int or three, ``'valid'`` (none) or ``'same'`` (as much as keeps the size; stride 1 only).
        groups: the channels and filters are divided into so many groups, convolved apart.

    Returns:
        (N, K, O, P, Q), without N where input has none.

    Raises:
        TypeError, ValueError: tensors of dtypes, shapes or devices that do not fit, numbers out of range.

    >>> import fastnet
    >>> fastnet.conv3d(fastnet.ones(1, 2, 4, 4, 4), fastnet.ones(3, 2, 3, 3, 3), padding=1).shape
    fastnet.Size([1, 3, 4, 4, 4])
    """
    _check_tensors("conv3d", input, weight, bias, 3)
    if input.dim() == 4:
        return conv3d(input.unsqueeze(0), weight, bias, stride, padding, dilation, groups).squeeze(0)
    strides, dilations = _three("conv3d", "stride", stride, 1), _three("conv3d", "dilation", dilation, 1)
    groups = _check_groups("conv3d", groups)
    n, channels, depth, height, width = input.shape
    filters, per_group, taps, rows, columns = weight.shape
    if per_group * groups != channels:
        raise InputError(
            f"conv3d: weight has {per_group} input channels per group, input has {channels} "
            f"({channels} / groups={groups} = {channels // groups} expected)"
        )
    if isinstance(padding, str):
        if padding not in ("same", "valid"):
            raise InputError(f"conv3d: padding is {padding!r}, expected 'same', 'valid' or numbers")
        if padding == "same" and max(strides) > 1:
            raise InputError("conv3d: padding='same' is not supported for strided convolutions")
        both = [d * (k - 1) if padding == "same" else 0 for d, k in zip(dilations, weight.shape[2:], strict=True)]
    else:
        both = [2 * p for p in _three("conv3d", "padding", padding, 0)]
    around = [(b // 2, b - b // 2) for b in both]
    if around[0] != (0, 0) or any(a != b for a, b in around):
        # What is odd about 'same' is padded here; height and width are otherwise left to the kernels.
        planar = [around[i] if around[i][0] != around[i][1] else (0, 0) for i in (2, 1)]
        input = pad(input, [*planar[0], *planar[1], *around[0]])
        depth, height, width = input.shape[2:]
    inside = tuple(a if a == b else 0 for a, b in around[1:])
    windows = (depth - dilations[0] * (taps - 1) - 1) // strides[0] + 1
    if not taps or windows < 1:
        raise InputError(f"conv3d: a window of {tuple(weight.shape[2:])} does not fit a volume of depth {depth}")
    slices = DepthWindows.apply(input, windows, taps, strides[0], dilations[0])
    images = slices.reshape(n * windows, channels * taps, height, width)
    planes = weight.reshape(filters, per_group * taps, rows, columns)
    out = conv2d(images, planes, bias, strides[1:], inside, dilations[1:], groups)
    return out.reshape(n, windows, *out.shape[1:]).transpose(1, 2)


def conv_transpose3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """Transposed convolution of volumes, as ``torch.nn.functional.conv_transpose3d``: the input's gradient of a
    convolution. One ``conv_transpose2d`` gives all slices, which are added where they overlap.

    Args:
        input: (N, C, D, H, W) or (C, D, H, W).
        weight: (C, K / groups, T, R, S).
        bias: (K,) or None.
        stride, padding, dilation: those of the convolution that it transposes.
        output_padding: elements added at the far ends, less than the stride or the dilation.
        groups: as ``conv3d``.

    Returns:
        (N, K, (D - 1) * stride - 2 * padding + dilation * (T - 1) + output_padding + 1, ...).

    >>> import fastnet
    >>> fastnet.conv_transpose3d(fastnet.ones(1, 2, 4, 4, 4), fastnet.ones(2, 3, 2, 2, 2), stride=2).shape
    fastnet.Size([1, 3, 8, 8, 8])
    """
    function = "conv_transpose3d"
    _check_tensors(function, input, weight, bias, 3)
    if input.dim() == 4:
        batch = input.unsqueeze(0)
        return conv_transpose3d(batch, weight, bias, stride, padding, output_padding, groups, dilation).squeeze(0)
    strides, dilations = _three(function, "stride", stride, 1), _three(function, "dilation", dilation, 1)
    pads, extra = _three(function, "padding", padding, 0), _three(function, "output_padding", output_padding, 0)
    groups = _check_groups(function, groups)
    n, channels, depth, height, width = input.shape
    taken, per_group, taps, rows, columns = weight.shape
    if taken != channels:
        raise InputError(f"{function}: weight takes {taken} channels, input has {channels}")
    if extra[0] >= strides[0] and extra[0] >= dilations[0]:
        raise InputError(
            f"{function}: output_padding is {extra[0]}, expected less than the stride {strides[0]} or the dilation "
            f"{dilations[0]}"
        )
    whole = (depth - 1) * strides[0] + dilations[0] * (taps - 1) + 1
    left = whole - 2 * pads[0] + extra[0]
    if left < 1 or depth < 1:
        raise InputError(f"{function}: the result would have a depth of {left}, expected at least 1")
    _check_bias(function, bias, per_group * groups)
    images = input.transpose(1, 2).reshape(n * depth, channels, height, width)
    planes = weight.reshape(channels, per_group * taps, rows, columns)
    out = conv_transpose2d(images, planes, None, strides[1:], pads[1:], extra[1:], groups, dilations[1:])
    slices = out.reshape(n, depth, per_group * groups, taps, *out.shape[2:])
    volume = DepthOverlap.apply(slices, max(whole, pads[0] + left), strides[0], dilations[0])
    volume = volume.narrow(2, pads[0], left)
    return volume if bias is None else volume + bias.reshape(-1, 1, 1, 1)
