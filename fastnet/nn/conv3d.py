"""Convolutional layers of volumes."""

from __future__ import annotations

from typing import Any

from fastnet._tensor import Tensor
from fastnet.nn import functional as F
from fastnet.nn.conv import _ConvForward, _ConvTranspose


class Conv3d(_ConvForward):
    """Cross-correlation of volumes with learned filters: ``F.conv3d``.

    Arguments as ``Conv2d``, an int or three for depth, height and width. Shape: (N, C, D, H, W) or (C, D, H, W);
    ``weight`` (out_channels, in_channels / groups, T, R, S).

    >>> import fastnet
    >>> fastnet.nn.Conv3d(3, 8, 3, stride=2, padding=1)(fastnet.ones(2, 3, 8, 8, 8)).shape
    fastnet.Size([2, 8, 4, 4, 4])
    """

    dims = 3

    def forward(self, input: Tensor) -> Tensor:
        return self._convolve(F.conv3d, input)


class ConvTranspose3d(_ConvTranspose):
    """Transposed convolution of volumes: the gradient of ``Conv3d``'s input as a layer.

    Arguments as ``ConvTranspose2d``, an int or three. Shape: (N, C, D, H, W) or (C, D, H, W); ``weight``
    (in_channels, out_channels / groups, T, R, S).

    >>> import fastnet
    >>> fastnet.nn.ConvTranspose3d(8, 3, 4, stride=2, padding=1)(fastnet.ones(2, 8, 3, 3, 3)).shape
    fastnet.Size([2, 3, 6, 6, 6])
    """

    dims = 3

    def forward(self, input: Tensor, output_size: Any = None) -> Tensor:
        return self._transpose(F.conv_transpose3d, input, output_size)
