"""Pooling layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastnet._tensor import Tensor
from fastnet.nn import functional as F
from fastnet.nn.module import Module


class _MaxPool(Module):
    _function: Callable

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ):
        super().__init__()
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.dilation = padding, dilation
        self.return_indices, self.ceil_mode = return_indices, ceil_mode

    def forward(self, input: Tensor) -> Any:
        return type(self)._function(
            input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices
        )

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, dilation={self.dilation}, "
            f"ceil_mode={self.ceil_mode}"
        )


class MaxPool1d(_MaxPool):
    """The largest value of every window along one dimension: ``F.max_pool1d``.

    >>> import fastnet
    >>> fastnet.nn.MaxPool1d(2)(fastnet.ones(2, 4, 9)).shape
    fastnet.Size([2, 4, 4])
    """

    _function = staticmethod(F.max_pool1d)


class MaxPool2d(_MaxPool):
    """The largest value of every window of an image: ``F.max_pool2d``.

    >>> import fastnet
    >>> fastnet.nn.MaxPool2d(3, stride=2, padding=1)(fastnet.ones(2, 4, 8, 8)).shape
    fastnet.Size([2, 4, 4, 4])
    """

    _function = staticmethod(F.max_pool2d)


class AvgPool1d(Module):
    """The mean of every window along one dimension: ``F.avg_pool1d``.

    >>> import fastnet
    >>> fastnet.nn.AvgPool1d(2)(fastnet.ones(2, 4, 9)).shape
    fastnet.Size([2, 4, 4])
    """

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ):
        super().__init__()
        stride = kernel_size if stride is None else stride
        # Tuples of one, as PyTorch keeps and prints them.
        self.kernel_size, self.stride, self.padding = (
            tuple(x) if isinstance(x, (tuple, list)) else (x,) for x in (kernel_size, stride, padding)
        )
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad

    def forward(self, input: Tensor) -> Tensor:
        return F.avg_pool1d(input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool2d(Module):
    """The mean of every window of an image: ``F.avg_pool2d``.

    >>> import fastnet
    >>> fastnet.nn.AvgPool2d(2)(fastnet.ones(2, 4, 8, 8)).shape
    fastnet.Size([2, 4, 4, 4])
    """

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ):
        super().__init__()
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.ceil_mode = padding, ceil_mode
        self.count_include_pad, self.divisor_override = count_include_pad, divisor_override

    def forward(self, input: Tensor) -> Tensor:
        return F.avg_pool2d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class _AdaptiveAvgPool(Module):
    _function: Callable

    def __init__(self, output_size: Any):
        super().__init__()
        self.output_size = output_size

    def forward(self, input: Tensor) -> Tensor:
        return type(self)._function(input, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """Means of windows that divide a sequence evenly: ``F.adaptive_avg_pool1d``.

    >>> import fastnet
    >>> fastnet.nn.AdaptiveAvgPool1d(3)(fastnet.ones(2, 4, 10)).shape
    fastnet.Size([2, 4, 3])
    """

    _function = staticmethod(F.adaptive_avg_pool1d)


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """Means of windows that divide an image evenly; with an output size of 1 the mean of the whole image (Lin et al.
    2013): ``F.adaptive_avg_pool2d``.

    >>> import fastnet
    >>> fastnet.nn.AdaptiveAvgPool2d((1, None))(fastnet.ones(2, 4, 7, 7)).shape
    fastnet.Size([2, 4, 1, 7])
    """

    _function = staticmethod(F.adaptive_avg_pool2d)


class _AdaptiveMaxPool(Module):
    _function: Callable

    def __init__(self, output_size: Any, return_indices: bool = False):
        super().__init__()
        self.output_size, self.return_indices = output_size, return_indices

    def forward(self, input: Tensor) -> Any:
        return type(self)._function(input, self.output_size, self.return_indices)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """The largest values of windows that divide a sequence evenly: ``F.adaptive_max_pool1d``.

    >>> import fastnet
    >>> fastnet.nn.AdaptiveMaxPool1d(3)(fastnet.ones(2, 4, 10)).shape
    fastnet.Size([2, 4, 3])
    """

    _function = staticmethod(F.adaptive_max_pool1d)


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """The largest values of windows that divide an image evenly: ``F.adaptive_max_pool2d``.

    >>> import fastnet
    >>> fastnet.nn.AdaptiveMaxPool2d(3)(fastnet.ones(2, 4, 7, 7)).shape
    fastnet.Size([2, 4, 3, 3])
    """

    _function = staticmethod(F.adaptive_max_pool2d)
