"""Convolutional layers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from fastnet._tensor import Tensor
from fastnet.errors import InputError, KindError
from fastnet.nn import functional as F
from fastnet.nn import init
from fastnet.nn.module import Module
from fastnet.nn.parameter import Parameter
from fastnet.ops.creation import empty

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


def entries(layer: str, argument: str, x: Any, count: int, least: int) -> tuple[int, ...]:
    """An int, or ``count`` of them, as a tuple of ``count``; ValueError or TypeError for anything else."""
    values = tuple(x) if isinstance(x, (tuple, list)) else (x,) * count
    if len(values) != count:
        raise InputError(f"{layer}: {argument} has {len(values)} entries, expected {count}")
    for n in values:
        if isinstance(n, bool) or not hasattr(n, "__index__"):
            raise KindError(f"{layer}: {argument} is {x!r}, expected an int or {count} of them")
        if n.__index__() < least:
            raise InputError(f"{layer}: {argument} is {x!r}, expected at least {least}")
    return tuple(n.__index__() for n in values)


class _Conv(Module):
    """What the four layers share: their numbers, parameters and text."""

    dims: int
    transposed = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any,
        padding: Any,
        dilation: Any,
        output_padding: Any,
        groups: int,
        bias: bool,
        padding_mode: str,
        device: Any,
        dtype: Any,
    ):
        super().__init__()
        layer, dims = type(self).__name__, self.dims
        (self.in_channels,) = entries(layer, "in_channels", in_channels, 1, 0)
        (self.out_channels,) = entries(layer, "out_channels", out_channels, 1, 0)
        (self.groups,) = entries(layer, "groups", groups, 1, 1)
        for name, n in (("in_channels", self.in_channels), ("out_channels", self.out_channels)):
            if n % self.groups:
                raise InputError(f"{layer}: {name}={n} must be divisible by groups={self.groups}")
        self.kernel_size = entries(layer, "kernel_size", kernel_size, dims, 1)
        self.stride = entries(layer, "stride", stride, dims, 1)
        self.dilation = entries(layer, "dilation", dilation, dims, 1)
        self.output_padding = entries(layer, "output_padding", output_padding, dims, 0)
        if padding_mode not in PADDING_MODES:
            raise InputError(f"{layer}: padding_mode is {padding_mode!r}, expected one of {', '.join(PADDING_MODES)}")
        if self.transposed and padding_mode != "zeros":
            raise InputError(f"{layer}: padding_mode is {padding_mode!r}, expected 'zeros'")
        self.padding_mode = padding_mode
        self.padding: str | tuple[int, ...]
        if isinstance(padding, str) and not self.transposed:
            if padding not in ("same", "valid"):
                raise InputError(f"{layer}: padding is {padding!r}, expected 'same', 'valid' or numbers")
            if padding == "same" and any(s != 1 for s in self.stride):
                raise InputError(f"{layer}: padding='same' is not supported for strided convolutions")
            self.padding = padding
        else:
            self.padding = entries(layer, "padding", padding, dims, 0)
        shape = (self.out_channels, self.in_channels // self.groups, *self.kernel_size)
        if self.transposed:
            shape = (self.in_channels, self.out_channels // self.groups, *self.kernel_size)
        self.weight = Parameter(empty(*shape, device=device, dtype=dtype))
        if bias:
            self.bias = Parameter(empty(self.out_channels, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias anew."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            fan_in = math.prod(self.weight.shape[1:])
            bound = 1 / math.sqrt(fan_in) if fan_in else 0
            init.uniform_(self.bias, -bound, bound)

    def _around(self) -> tuple[int, ...]:
        """The padding as ``F.pad`` takes it: before and after, from the last dimension on."""
        out: list[int] = []
        for i in reversed(range(self.dims)):
            if isinstance(self.padding, str):
                both = self.dilation[i] * (self.kernel_size[i] - 1) if self.padding == "same" else 0
                out += [both // 2, both - both // 2]
            else:
                out += [self.padding[i]] * 2
        return tuple(out)

    def _convolve(self, function: Callable, input: Tensor) -> Tensor:
        padding: Any = self.padding
        if self.padding_mode != "zeros":
            input, padding = F.pad(input, self._around(), self.padding_mode), 0
        return function(input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        if isinstance(self.padding, str) or any(self.padding):
            text += f", padding={self.padding}"
        if self.dilation != (1,) * self.dims:
            text += f", dilation={self.dilation}"
        if any(self.output_padding):
            text += f", output_padding={self.output_padding}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        if self.padding_mode != "zeros":
            text += f", padding_mode={self.padding_mode}"
        return text


class _ConvForward(_Conv):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            0,
            groups,
            bias,
            padding_mode,
            device,
            dtype,
        )


class Conv1d(_ConvForward):
    """Cross-correlation along one dimension with learned filters.

    Args:
        in_channels, out_channels: of input and output.
        kernel_size, stride, dilation: of the window, an int (or a tuple of one).
        padding: an int, ``'valid'`` or ``'same'``.
        groups: channels and filters are divided into so many groups, convolved apart.
        bias: whether there is one.
        padding_mode: ``'zeros'``, ``'reflect'``, ``'replicate'`` or ``'circular'``.
        device, dtype: of the parameters.

    Shape: (N, C, L) or (C, L). ``weight`` (out_channels, in_channels / groups, kernel_size) and ``bias`` start uniform
    within 1 / sqrt(fan in), as in PyTorch.

    >>> import fastnet
    >>> fastnet.nn.Conv1d(4, 8, 3, padding="same")(fastnet.ones(2, 4, 10)).shape
    fastnet.Size([2, 8, 10])
    """

    dims = 1

    def forward(self, input: Tensor) -> Tensor:
        return self._convolve(F.conv1d, input)


class Conv2d(_ConvForward):
    """Cross-correlation of images with learned filters (LeCun et al. 1998).

    Args:
        in_channels, out_channels: of input and output.
        kernel_size, stride, dilation: of the window, an int or two for height and width.
        padding: an int or two, ``'valid'`` or ``'same'``.
        groups: channels and filters are divided into so many groups, convolved apart; in_channels of them make a
            depthwise convolution.
        bias: whether there is one.
        padding_mode: ``'zeros'``, ``'reflect'``, ``'replicate'`` or ``'circular'``.
        device, dtype: of the parameters.

    Shape: (N, C, H, W) or (C, H, W); results are channels-last in memory. ``weight`` (out_channels,
    in_channels / groups, R, S) and ``bias`` start uniform within 1 / sqrt(fan in), as in PyTorch.

    >>> import fastnet
    >>> fastnet.nn.Conv2d(3, 8, 3, stride=2, padding=1)(fastnet.ones(2, 3, 32, 32)).shape
    fastnet.Size([2, 8, 16, 16])
    """

    dims = 2

    def forward(self, input: Tensor) -> Tensor:
        return self._convolve(F.conv2d, input)


class _ConvTranspose(_Conv):
    transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            output_padding,
            groups,
            bias,
            padding_mode,
            device,
            dtype,
        )

    def _transpose(self, function: Callable, input: Tensor, output_size: Any) -> Tensor:
        output_padding = self.output_padding
        if output_size is not None:
            output_padding = self._padding_for(input, [int(n) for n in output_size])
        return function(
            input, self.weight, self.bias, self.stride, self.padding, output_padding, self.groups, self.dilation
        )

    def _padding_for(self, input: Tensor, wanted: list[int]) -> tuple[int, ...]:
        """The output padding that gives a result of this size."""
        layer, leading = type(self).__name__, input.dim() - self.dims
        if len(wanted) == leading + self.dims:
            wanted = wanted[leading:]
        if len(wanted) != self.dims:
            raise InputError(
                f"{layer}: output_size has {len(wanted)} entries, expected {self.dims} or {leading + self.dims}"
            )
        least = []
        for i, size in enumerate(input.shape[leading:]):
            reach = self.dilation[i] * (self.kernel_size[i] - 1) + 1
            least.append((size - 1) * self.stride[i] - 2 * int(self.padding[i]) + reach)
        most = [n + s - 1 for n, s in zip(least, self.stride, strict=True)]
        if any(not a <= n <= b for a, n, b in zip(least, wanted, most, strict=True)):
            raise InputError(
                f"{layer}: output_size is {wanted}, expected from {least} to {most} for an input of "
                f"{tuple(input.shape[leading:])}"
            )
        return tuple(n - a for n, a in zip(wanted, least, strict=True))


class ConvTranspose1d(_ConvTranspose):
    """Transposed convolution along one dimension: the gradient of ``Conv1d``'s input as a layer.

    Arguments as ``ConvTranspose2d``, one number each. Shape: (N, C, L) or (C, L); ``weight``
    (in_channels, out_channels / groups, kernel_size).

    >>> import fastnet
    >>> fastnet.nn.ConvTranspose1d(4, 2, 2, stride=2)(fastnet.ones(2, 4, 5)).shape
    fastnet.Size([2, 2, 10])
    """

    dims = 1

    def forward(self, input: Tensor, output_size: Any = None) -> Tensor:
        return self._transpose(F.conv_transpose1d, input, output_size)


class ConvTranspose2d(_ConvTranspose):
    """Transposed convolution of images (Zeiler et al. 2010): the gradient of ``Conv2d``'s input as a layer.

    Args:
        in_channels, out_channels: of input and output.
        kernel_size, stride, padding, dilation: those of the convolution that it transposes.
        output_padding: pixels added at the bottom and the right.
        groups, bias, device, dtype: as ``Conv2d``.
        padding_mode: ``'zeros'``.

    Shape: (N, C, H, W) or (C, H, W) to (H - 1) * stride - 2 * padding + dilation * (R - 1) + output_padding + 1 rows;
    ``weight`` (in_channels, out_channels / groups, R, S). ``forward`` takes an ``output_size``, which chooses the
    output padding.

    >>> import fastnet
    >>> fastnet.nn.ConvTranspose2d(8, 3, 4, stride=2, padding=1)(fastnet.ones(2, 8, 7, 7)).shape
    fastnet.Size([2, 3, 14, 14])
    """

    dims = 2

    def forward(self, input: Tensor, output_size: Any = None) -> Tensor:
        return self._transpose(F.conv_transpose2d, input, output_size)
