"""Layers that change the size of images and signals without parameters: upsampling, pixel shuffles, padding."""

from __future__ import annotations

from typing import Any

from fastnet._tensor import Tensor
from fastnet.errors import InputError
from fastnet.nn import functional as F
from fastnet.nn.module import Module


class Upsample(Module):
    """``interpolate`` as a layer."""

    def __init__(
        self,
        size: Any = None,
        scale_factor: Any = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
    ):
        super().__init__()
        self.name = type(self).__name__
        self.size, self.mode, self.align_corners = size, mode, align_corners
        self.recompute_scale_factor = recompute_scale_factor
        if isinstance(scale_factor, tuple):
            self.scale_factor: Any = tuple(float(f) for f in scale_factor)
        else:
            self.scale_factor = float(scale_factor) if scale_factor else None

    def forward(self, input: Tensor) -> Tensor:
        return F.interpolate(
            input, self.size, self.scale_factor, self.mode, self.align_corners, self.recompute_scale_factor
        )

    def extra_repr(self) -> str:
        how = f"size={self.size!r}" if self.scale_factor is None else f"scale_factor={self.scale_factor!r}"
        return f"{how}, mode={self.mode!r}"


class UpsamplingNearest2d(Upsample):
    """Nearest-neighbour upsampling of (N, C, H, W)."""

    def __init__(self, size: Any = None, scale_factor: Any = None):
        super().__init__(size, scale_factor, mode="nearest")


class UpsamplingBilinear2d(Upsample):
    """Bilinear upsampling of (N, C, H, W) with aligned corners."""

    def __init__(self, size: Any = None, scale_factor: Any = None):
        super().__init__(size, scale_factor, mode="bilinear", align_corners=True)


class PixelShuffle(Module):
    """(..., C r^2, H, W) to (..., C, H r, W r)."""

    def __init__(self, upscale_factor: int):
        super().__init__()
        self.upscale_factor = upscale_factor

    def forward(self, input: Tensor) -> Tensor:
        return F.pixel_shuffle(input, self.upscale_factor)

    def extra_repr(self) -> str:
        return f"upscale_factor={self.upscale_factor}"


class PixelUnshuffle(Module):
    """(..., C, H r, W r) to (..., C r^2, H, W)."""

    def __init__(self, downscale_factor: int):
        super().__init__()
        self.downscale_factor = downscale_factor

    def forward(self, input: Tensor) -> Tensor:
        return F.pixel_unshuffle(input, self.downscale_factor)

    def extra_repr(self) -> str:
        return f"downscale_factor={self.downscale_factor}"


class ChannelShuffle(Module):
    """The channels of ``groups`` groups interleaved."""

    def __init__(self, groups: int):
        super().__init__()
        self.groups = groups

    def forward(self, input: Tensor) -> Tensor:
        return F.channel_shuffle(input, self.groups)

    def extra_repr(self) -> str:
        return f"groups={self.groups}"


class _Pad(Module):
    """Elements added around the last ``_spatial`` dimensions: as many everywhere, or (before last, after last, ...)."""

    _spatial, _mode = 1, "constant"
    value: float | None = None

    def __init__(self, padding: Any):
        super().__init__()
        padding = tuple(padding) if isinstance(padding, (tuple, list)) else (padding,) * (2 * self._spatial)
        if len(padding) != 2 * self._spatial:
            raise InputError(
                f"{type(self).__name__}: padding has {len(padding)} entries, expected a number or {2 * self._spatial}"
            )
        self.padding = padding

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, self._mode, self.value)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ConstantPad1d(_Pad):
    """A value around the last dimension."""

    def __init__(self, padding: Any, value: float):
        super().__init__(padding)
        self.value = value

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ConstantPad2d(ConstantPad1d):
    """A value around the last two dimensions."""

    _spatial = 2


class ConstantPad3d(ConstantPad1d):
    """A value around the last three dimensions."""

    _spatial = 3


class ZeroPad1d(_Pad):
    """Zeros around the last dimension."""

    value = 0.0


class ZeroPad2d(ZeroPad1d):
    """Zeros around the last two dimensions."""

    _spatial = 2


class ZeroPad3d(ZeroPad1d):
    """Zeros around the last three dimensions."""

    _spatial = 3


class ReflectionPad1d(_Pad):
    """The last dimension continued by its mirror image."""

    _mode = "reflect"


class ReflectionPad2d(ReflectionPad1d):
    """The last two dimensions continued by their mirror images."""

    _spatial = 2


class ReflectionPad3d(ReflectionPad1d):
    """The last three dimensions continued by their mirror images."""

    _spatial = 3


class ReplicationPad1d(_Pad):
    """The last dimension continued by its border."""

    _mode = "replicate"


class ReplicationPad2d(ReplicationPad1d):
    """The last two dimensions continued by their borders."""

    _spatial = 2


class ReplicationPad3d(ReplicationPad1d):
    """The last three dimensions continued by their borders."""

    _spatial = 3


class CircularPad1d(_Pad):
    """The last dimension continued from its other end."""

    _mode = "circular"


class CircularPad2d(CircularPad1d):
    """The last two dimensions continued from their other ends."""

    _spatial = 2


class CircularPad3d(CircularPad1d):
    """The last three dimensions continued from their other ends."""

    _spatial = 3
