"""Windows of images as columns, and their sum back into images."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from fastnet._device import namespace
from fastnet._tensor import Tensor
from fastnet.autograd import ArrayFunction
from fastnet.errors import InputError
from fastnet.ops._numeric import rounded, wide
from fastnet.ops._operands import check_tensor
from fastnet.reference.conv import ConvGeometry, check_pair, conv_geometry, strided


def _unfold(x: Any, g: ConvGeometry) -> Any:
    """(N, C, H, W) to (N, C * R * S, P * Q)."""
    (top, bottom), (left, right) = g.padding
    padded = namespace(x).pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    n, c, h, w = padded.strides
    (sh, sw), (dh, dw) = g.stride, g.dilation
    windows = strided(padded, (g.batch, g.channels, *g.kernel, *g.out), (n, c, h * dh, w * dw, h * sh, w * sw))
    return windows.reshape(g.batch, g.channels * math.prod(g.kernel), math.prod(g.out))


def _fold(x: Any, g: ConvGeometry) -> Any:
    """(N, C * R * S, P * Q) to (N, C, H, W), sums of what the windows hold of each pixel."""
    (top, bottom), (left, right) = g.padding
    windows = wide(x).reshape(g.batch, g.channels, *g.kernel, *g.out)
    out = namespace(x).zeros((g.batch, g.channels, top + g.image[0] + bottom, left + g.image[1] + right), windows.dtype)
    (sh, sw), (dh, dw), (p, q) = g.stride, g.dilation, g.out
    for r in range(g.kernel[0]):
        for s in range(g.kernel[1]):
            rows = slice(r * dh, r * dh + (p - 1) * sh + 1, sh)
            out[:, :, rows, s * dw : s * dw + (q - 1) * sw + 1 : sw] += windows[:, :, r, s]
    return rounded(out[:, :, top : top + g.image[0], left : left + g.image[1]], x.dtype)


class Unfold(ArrayFunction):
    """Windows as columns."""

    @staticmethod
    def forward(ctx: Any, x: Any, g: ConvGeometry) -> Any:
        ctx.geometry = g
        return _unfold(x, g)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return _fold(grad, ctx.geometry), None


class Fold(ArrayFunction):
    """Columns summed into images."""

    @staticmethod
    def forward(ctx: Any, x: Any, g: ConvGeometry) -> Any:
        ctx.geometry = g
        return _fold(x, g)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return _unfold(grad, ctx.geometry), None


def unfold(input: Tensor, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Tensor:
    """Every window of an image as a column, as ``torch.nn.functional.unfold``.

    Args:
        input: (N, C, H, W) or (C, H, W).
        kernel_size, dilation, padding, stride: an int or two, for height and width.

    Returns:
        (N, C * R * S, L) for L windows, without N where input has none.

    Raises:
        TypeError, ValueError: no tensor, of another rank, or numbers that give no windows.

    >>> import fastnet
    >>> from fastnet.nn import functional as F
    >>> F.unfold(fastnet.arange(4.0).reshape(1, 1, 2, 2), (1, 2))
    tensor([[[0., 2.],
             [1., 3.]]])
    """
    check_tensor("unfold", input)
    if input.dim() == 3:
        return unfold(input.unsqueeze(0), kernel_size, dilation, padding, stride).squeeze(0)
    if input.dim() != 4 or 0 in input.shape[1:]:
        raise InputError(
            f"unfold: input has shape {tuple(input.shape)}, expected (N, C, H, W) or (C, H, W) with C, H and W above 0"
        )
    kernel = check_pair("unfold", "kernel_size", kernel_size, 1)
    pads = check_pair("unfold", "padding", padding, 0)
    n, c, h, w = input.shape
    return Unfold.apply(input, conv_geometry("unfold", n, c, (h, w), 1, kernel, stride, pads, dilation, 1))


def fold(
    input: Tensor, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Tensor:
    """Windows summed into an image, as ``torch.nn.functional.fold``: the gradient of ``unfold``.

    Args:
        input: (N, C * R * S, L) or (C * R * S, L), L the windows of the image.
        output_size: of the image, an int or two.
        kernel_size, dilation, padding, stride: an int or two, for height and width.

    Returns:
        (N, C, *output_size), without N where input has none.

    Raises:
        TypeError, ValueError: no tensor, of another shape, or numbers that give other windows.

    >>> import fastnet
    >>> from fastnet.nn import functional as F
    >>> F.fold(fastnet.ones(1, 2, 2), (1, 3), (1, 2))
    tensor([[[[1., 2., 1.]]]])
    """
    check_tensor("fold", input)
    if input.dim() == 2:
        return fold(input.unsqueeze(0), output_size, kernel_size, dilation, padding, stride).squeeze(0)
    if input.dim() != 3 or 0 in input.shape[1:]:
        raise InputError(
            f"fold: input has shape {tuple(input.shape)}, expected (N, C * R * S, L) or (C * R * S, L), none 0 but N"
        )
    kernel = check_pair("fold", "kernel_size", kernel_size, 1)
    image = check_pair("fold", "output_size", output_size, 1)
    pads = check_pair("fold", "padding", padding, 0)
    n, columns, windows = input.shape
    channels, left = divmod(columns, math.prod(kernel))
    if left:
        raise InputError(f"fold: input has {columns} rows, expected a multiple of the window's {math.prod(kernel)}")
    g = conv_geometry("fold", n, 1, image, 1, kernel, stride, pads, dilation, 1)
    if windows != math.prod(g.out):
        raise InputError(f"fold: input has {windows} windows, expected {g.out[0]} * {g.out[1]} for these sizes")
    return Fold.apply(input, replace(g, channels=channels))
