"""Pooling layers of volumes, norms over windows, the inverse of maximum pooling, windows drawn at random."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastnet._tensor import Tensor
from fastnet.errors import InputError
from fastnet.nn import functional as F
from fastnet.nn.module import Module
from fastnet.nn.pool import AvgPool2d, _AdaptiveAvgPool, _AdaptiveMaxPool, _MaxPool


class MaxPool3d(_MaxPool):
    """The largest value of every window of a volume: ``F.max_pool3d``.

    >>> import fastnet
    >>> fastnet.nn.MaxPool3d(3, stride=2, padding=1)(fastnet.ones(2, 4, 8, 8, 8)).shape
    fastnet.Size([2, 4, 4, 4, 4])
    """

    _function = staticmethod(F.max_pool3d)


class AvgPool3d(AvgPool2d):
    """The mean of every window of a volume: ``F.avg_pool3d``.

    >>> import fastnet
    >>> fastnet.nn.AvgPool3d(2)(fastnet.ones(2, 4, 8, 8, 8)).shape
    fastnet.Size([2, 4, 4, 4, 4])
    """

    def forward(self, input: Tensor) -> Tensor:
        return F.avg_pool3d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """Means of windows that divide a volume evenly: ``F.adaptive_avg_pool3d``.

    >>> import fastnet
    >>> fastnet.nn.AdaptiveAvgPool3d((1, None, 2))(fastnet.ones(2, 4, 5, 6, 7)).shape
    fastnet.Size([2, 4, 1, 6, 2])
    """

    _function = staticmethod(F.adaptive_avg_pool3d)


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """The largest values of windows that divide a volume evenly: ``F.adaptive_max_pool3d``.

    >>> import fastnet
    >>> fastnet.nn.AdaptiveMaxPool3d(3)(fastnet.ones(2, 4, 7, 7, 7)).shape
    fastnet.Size([2, 4, 3, 3, 3])
    """

    _function = staticmethod(F.adaptive_max_pool3d)


class _LPPool(Module):
    _function: Callable

    def __init__(self, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False):
        super().__init__()
        self.norm_type, self.kernel_size, self.stride, self.ceil_mode = norm_type, kernel_size, stride, ceil_mode

    def forward(self, input: Tensor) -> Tensor:
        return type(self)._function(input, float(self.norm_type), self.kernel_size, self.stride, self.ceil_mode)

    def extra_repr(self) -> str:
        return (
            f"norm_type={self.norm_type}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"ceil_mode={self.ceil_mode}"
        )


class LPPool1d(_LPPool):
    """(sum of x^p)^(1/p) over every window along one dimension: ``F.lp_pool1d``.

    >>> import fastnet
    >>> fastnet.nn.LPPool1d(2, 3, stride=2)(fastnet.ones(2, 4, 9)).shape
    fastnet.Size([2, 4, 4])
    """

    _function = staticmethod(F.lp_pool1d)


class LPPool2d(_LPPool):
    """(sum of x^p)^(1/p) over every window of an image: ``F.lp_pool2d``."""

    _function = staticmethod(F.lp_pool2d)


class LPPool3d(_LPPool):
    """(sum of x^p)^(1/p) over every window of a volume: ``F.lp_pool3d``."""

    _function = staticmethod(F.lp_pool3d)


def _tuple(x: Any, dims: int) -> tuple:
    return tuple(x) if isinstance(x, (tuple, list)) else (x,) * dims


class _MaxUnpool(Module):
    _function: Callable
    _dims: int

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0):
        super().__init__()
        self.kernel_size = _tuple(kernel_size, self._dims)
        self.stride = _tuple(kernel_size if stride is None else stride, self._dims)
        self.padding = _tuple(padding, self._dims)

    def forward(self, input: Tensor, indices: Tensor, output_size: Any = None) -> Tensor:
        return type(self)._function(input, indices, self.kernel_size, self.stride, self.padding, output_size)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxUnpool1d(_MaxUnpool):
    """The inverse of ``MaxPool1d``: ``F.max_unpool1d``."""

    _function, _dims = staticmethod(F.max_unpool1d), 1


class MaxUnpool2d(_MaxUnpool):
    """The inverse of ``MaxPool2d``, whose results go where they came from: ``F.max_unpool2d``.

    >>> import fastnet
    >>> pool = fastnet.nn.MaxPool2d(2, return_indices=True)
    >>> fastnet.nn.MaxUnpool2d(2)(*pool(fastnet.ones(2, 4, 6, 6))).shape
    fastnet.Size([2, 4, 6, 6])
    """

    _function, _dims = staticmethod(F.max_unpool2d), 2


class MaxUnpool3d(_MaxUnpool):
    """The inverse of ``MaxPool3d``: ``F.max_unpool3d``."""

    _function, _dims = staticmethod(F.max_unpool3d), 3


class _FractionalMaxPool(Module):
    _function: Callable
    _dims: int

    def __init__(
        self,
        kernel_size: Any,
        output_size: Any = None,
        output_ratio: Any = None,
        return_indices: bool = False,
        _random_samples: Any = None,
    ):
        super().__init__()
        name = type(self).__name__
        if not all(k > 0 for k in _tuple(kernel_size, 1)):
            raise InputError(f"{name}: kernel_size must be greater than 0, but got {kernel_size}")
        if (output_size is None) == (output_ratio is None):
            raise InputError(f"{name} requires one of output_size and output_ratio")
        self.kernel_size = _tuple(kernel_size, self._dims)
        self.return_indices = return_indices
        self.register_buffer("_random_samples", _random_samples)
        self.output_size = None if output_size is None else _tuple(output_size, self._dims)
        self.output_ratio = None if output_ratio is None else _tuple(output_ratio, self._dims)
        if self.output_ratio is not None and not all(0 < r < 1 for r in self.output_ratio):
            raise InputError(f"{name}: output_ratio must be between 0 and 1 (got {output_ratio})")

    def forward(self, input: Tensor) -> Any:
        return type(self)._function(
            input,
            self.kernel_size,
            self.output_size,
            self.output_ratio,
            self.return_indices,
            _random_samples=self._random_samples,
        )


class FractionalMaxPool2d(_FractionalMaxPool):
    """The largest values of windows whose places are drawn at random (Graham 2014): ``F.fractional_max_pool2d``.

    >>> import fastnet
    >>> fastnet.nn.FractionalMaxPool2d(2, output_size=(5, 4))(fastnet.ones(2, 4, 8, 8)).shape
    fastnet.Size([2, 4, 5, 4])
    """

    _function, _dims = staticmethod(F.fractional_max_pool2d), 2


class FractionalMaxPool3d(_FractionalMaxPool):
    """As ``FractionalMaxPool2d``, for volumes: ``F.fractional_max_pool3d``."""

    _function, _dims = staticmethod(F.fractional_max_pool3d), 3


class LocalResponseNorm(Module):
    """Each element divided by a power of what its neighbouring channels hold (Krizhevsky, Sutskever and Hinton 2012):
    ``F.local_response_norm``.

    >>> import fastnet
    >>> fastnet.nn.LocalResponseNorm(5)(fastnet.ones(2, 8, 4, 4)).shape
    fastnet.Size([2, 8, 4, 4])
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0):
        super().__init__()
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, input: Tensor) -> Tensor:
        return F.local_response_norm(input, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"
