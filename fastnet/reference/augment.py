"""Augmentation of 8-bit images in array code: the specification.

Brightness and contrast as Pillow's ``ImageEnhance`` has them, rounded to 8 bits after each; crop with padding, rotation
with bilinear interpolation and horizontal flip as torchvision's transforms have them; normalisation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnet._device import namespace
from fastnet.errors import InputError, KindError
from fastnet.kernels._arrays import check_array
from fastnet.reference.conv import channels_last
from fastnet.reference.random import philox

DRAWS = 8  # indices of Philox an image: top, left, angle, flip, brightness, contrast, and two to spare
LARGEST = 2**15  # rows or columns, padding included: coordinates are exact in float32


@dataclass(frozen=True)
class Augmentation:
    """Checked arguments of ``augment``."""

    size: tuple[int, int]
    padding: tuple[int, int]
    flip: float
    degrees: tuple[float, float] | None
    brightness: tuple[float, float] | None
    contrast: tuple[float, float] | None

    @property
    def flip_threshold(self) -> int:
        """Flipped where the upper 24 bits of the draw are below it."""
        return math.ceil(self.flip * 2**24)


def _whole(name: str, value: Any, least: int) -> tuple[int, int]:
    pair = (value, value) if isinstance(value, (int, np.integer)) else value
    if (
        not isinstance(pair, (tuple, list))
        or len(pair) != 2
        or not all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in pair)
    ):
        raise KindError(f"augment: {name} is {value!r}, expected an int or two")
    if min(pair) < least:
        raise InputError(f"augment: {name} is {value!r}, expected at least {least}")
    return int(pair[0]), int(pair[1])


def _range(name: str, value: Any, least: float) -> tuple[float, float] | None:
    if value is None:
        return None
    if (
        not isinstance(value, (tuple, list))
        or len(value) != 2
        or not all(isinstance(n, (int, float, np.number)) and not isinstance(n, bool) for n in value)
    ):
        raise KindError(f"augment: {name} is {value!r}, expected two numbers or None")
    low, high = float(value[0]), float(value[1])
    if not (least <= low <= high <= 1e6):
        raise InputError(f"augment: {name} is {value!r}, expected low <= high within {least:g} and 1e6")
    return low, high


def check_augment(
    x: Any, size: Any, padding: Any, flip: Any, degrees: Any, brightness: Any, contrast: Any, scale_shift: Any
) -> Augmentation:
    """The arguments of ``augment``, checked."""
    check_array("augment", "x", x, dtypes=("uint8",), ndim=4)
    channels, height, width = x.shape[1:]
    if min(channels, height, width) < 1:
        raise InputError(f"augment: x has shape {tuple(x.shape)}, expected images (N, C, H, W) that are not empty")
    wanted = _whole("size", (height, width) if size is None else size, 1)
    pads = _whole("padding", padding, 0)
    padded = height + 2 * pads[0], width + 2 * pads[1]
    if max(padded) > LARGEST:
        raise InputError(f"augment: padded images are {padded[0]} x {padded[1]}, expected at most {LARGEST} a side")
    if wanted[0] > padded[0] or wanted[1] > padded[1]:
        raise InputError(
            f"augment: size is {wanted}, expected at most the padded image's {padded[0]} x {padded[1]} "
            f"({height} x {width} and padding={padding})"
        )
    if isinstance(flip, bool) or not isinstance(flip, (int, float, np.number)):
        raise KindError(f"augment: flip is a {type(flip).__name__}, expected a probability")
    if not 0 <= flip <= 1:
        raise InputError(f"augment: flip is {flip}, expected a probability between 0 and 1")
    if contrast is not None and channels not in (1, 3):
        raise InputError(f"augment: contrast needs grey or RGB images, x has {channels} channels, expected 1 or 3")
    if scale_shift is not None:
        check_array("augment", "scale_shift", scale_shift, dtypes=("float32",), ndim=2, like=x)
        if scale_shift.shape != (2, channels):
            raise InputError(
                f"augment: scale_shift has shape {tuple(scale_shift.shape)}, expected (2, {channels}): a scale and a "
                "shift a channel"
            )
    return Augmentation(
        wanted,
        pads,
        float(flip),
        _range("degrees", degrees, -1e6),
        _range("brightness", brightness, 0),
        _range("contrast", contrast, 0),
    )


def unit_scale(x: Any) -> Any:
    """The scale and shift (2, C) that take 0..255 to 0..1."""
    xp = namespace(x)
    out = xp.zeros((2, x.shape[1]), np.float32)
    out[0] = np.float32(1) / np.float32(255)
    return out


def width_of(limits: tuple[float, float]) -> tuple[float, float]:
    """(low, high - low) as float32 numbers."""
    return float(np.float32(limits[0])), float(np.float32(limits[1] - limits[0]))


def _uniform(limits: tuple[float, float], words: Any) -> Any:
    """low + width * u, rounded once to float32."""
    low, width = width_of(limits)
    return (width * ((words >> np.uint32(8)).astype(np.float64) * 2.0**-24) + low).astype(np.float32)


def _place(words: Any, n: int) -> Any:
    return (words.astype(np.uint64) * np.uint64(n) >> np.uint64(32)).astype(np.int64)


def _to_byte(values: Any, xp: Any) -> Any:
    """Toward zero, within 8 bits."""
    return xp.clip(values, 0, 255).astype(np.int64)


def _coloured(x: Any, how: Augmentation, words: Any, xp: Any) -> Any:
    """Brightness, then contrast, of (N, H, W, C) integers."""
    x = x.astype(np.int64)
    if how.brightness is not None:
        factor = _uniform(how.brightness, words[:, 4])[:, None, None, None]
        x = _to_byte(factor * x.astype(np.float32), xp)
    if how.contrast is not None:
        weights = xp.asarray([19595, 38470, 7471]) if x.shape[3] == 3 else None
        greys = x[..., 0] if weights is None else ((x * weights).sum(axis=3) + 0x8000) >> 16
        pixels = greys.shape[1] * greys.shape[2]
        mean = ((2 * greys.sum(axis=(1, 2)) + pixels) // (2 * pixels))[:, None, None, None]
        factor = _uniform(how.contrast, words[:, 5]).astype(np.float64)[:, None, None, None]
        x = _to_byte((factor * (x - mean) + mean).astype(np.float32), xp)
    return x


def _cropped(x: Any, how: Augmentation, words: Any, xp: Any) -> Any:
    """(N, h, w, C) float32 of (N, H, W, C), with zeros in the padding."""
    (pad_y, pad_x), (height, width) = how.padding, how.size
    padded = xp.pad(x, ((0, 0), (pad_y, pad_y), (pad_x, pad_x), (0, 0)))
    top = _place(words[:, 0], padded.shape[1] - height + 1)[:, None] + xp.arange(height)
    left = _place(words[:, 1], padded.shape[2] - width + 1)[:, None] + xp.arange(width)
    n = xp.arange(len(x))
    return padded[n[:, None, None], top[:, :, None], left[:, None, :]].astype(np.float32)


def _rotated(x: Any, how: Augmentation, words: Any, xp: Any) -> Any:
    """(N, h, w, C) turned counter-clockwise about the centre: bilinear, zeros outside."""
    assert how.degrees is not None
    n, height, width, _ = x.shape
    f = np.float32
    angle = (_uniform(how.degrees, words[:, 2]) * f(math.pi / 180))[:, None, None]
    cosine, sine = xp.cos(angle), xp.sin(angle)
    middle_y, middle_x = f((height - 1) / 2), f((width - 1) / 2)
    dy = (xp.arange(height, dtype=f) - middle_y)[:, None]
    dx = xp.arange(width, dtype=f) - middle_x
    at_y, at_x = sine * dx + cosine * dy + middle_y, cosine * dx - sine * dy + middle_x  # (N, h, w)
    floor_y, floor_x = xp.floor(at_y), xp.floor(at_x)
    share_y, share_x = (at_y - floor_y)[..., None], (at_x - floor_x)[..., None]
    # A frame of zeros; what lies further out is brought there.
    framed = xp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    image = xp.arange(n)[:, None, None]

    def tap(down: int, right: int) -> Any:
        y = xp.clip(floor_y.astype(np.int64) + down + 1, 0, height + 1)
        return framed[image, y, xp.clip(floor_x.astype(np.int64) + right + 1, 0, width + 1)]

    upper = share_x * tap(0, 1) + (1 - share_x) * tap(0, 0)
    lower = share_x * tap(1, 1) + (1 - share_x) * tap(1, 0)
    return share_y * lower + (1 - share_y) * upper


def augment(
    x: Any,
    state: Any,
    offset: int = 0,
    *,
    size: Any = None,
    padding: Any = 0,
    degrees: Any = None,
    flip: float = 0.0,
    brightness: Any = None,
    contrast: Any = None,
    scale_shift: Any = None,
    config: Any = None,
) -> Any:
    """Brightness, contrast, crop, rotation, flip and normalisation of (N, C, H, W) uint8, as float32 (N, C, h, w)."""
    how = check_augment(x, size, padding, flip, degrees, brightness, contrast, scale_shift)
    xp = namespace(x)
    blocks = xp.arange(len(x) * DRAWS // 4, dtype=np.uint64)
    position = state[1:2] + np.uint64(int(offset) % 2**64)
    words = philox(blocks, state[0:1], position).reshape(len(x), DRAWS)
    images = _cropped(_coloured(channels_last(x), how, words, xp), how, words, xp)
    if how.degrees is not None:
        images = _rotated(images, how, words, xp)
    flipped = (words[:, 3] >> np.uint32(8)) < how.flip_threshold
    images = xp.where(flipped[:, None, None, None], images[:, :, ::-1], images)
    scale, shift = unit_scale(x) if scale_shift is None else scale_shift
    return xp.ascontiguousarray(images * scale + shift).transpose(0, 3, 1, 2)
