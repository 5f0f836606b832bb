"""Windows as columns, and back, as layers."""

from __future__ import annotations

from typing import Any

from fastnet._tensor import Tensor
from fastnet.nn import functional as F
from fastnet.nn.module import Module


class Unfold(Module):
    """Every window of an image as a column: ``F.unfold``.

    >>> import fastnet
    >>> fastnet.nn.Unfold(3)(fastnet.ones(2, 4, 5, 5)).shape
    fastnet.Size([2, 36, 9])
    """

    def __init__(self, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1):
        super().__init__()
        self.kernel_size, self.dilation, self.padding, self.stride = kernel_size, dilation, padding, stride

    def forward(self, input: Tensor) -> Tensor:
        return F.unfold(input, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, dilation={self.dilation}, padding={self.padding}, stride={self.stride}"


class Fold(Module):
    """Windows summed into an image: ``F.fold``.

    >>> import fastnet
    >>> fastnet.nn.Fold((5, 5), 3)(fastnet.ones(2, 36, 9)).shape
    fastnet.Size([2, 4, 5, 5])
    """

    def __init__(self, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1):
        super().__init__()
        self.output_size = output_size
        self.kernel_size, self.dilation, self.padding, self.stride = kernel_size, dilation, padding, stride

    def forward(self, input: Tensor) -> Tensor:
        return F.fold(input, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        return (
            f"output_size={self.output_size}, kernel_size={self.kernel_size}, dilation={self.dilation}, "
            f"padding={self.padding}, stride={self.stride}"
        )
