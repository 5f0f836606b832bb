"""Augmentation of 8-bit images by a handwritten kernel."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnet.errors import InputError, KindError
from fastnet.kernels._arrays import empty, packed, stream_of
from fastnet.kernels._runtime import extension_for, record
from fastnet.kernels.random import check_state
from fastnet.kernels.reduction import loadable
from fastnet.reference.augment import check_augment, unit_scale, width_of
from fastnet.reference.conv import channels_last


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
    """Augment a batch of images in one pass: brightness, contrast, crop, rotation, flip, normalisation, in this order.

    Numbers are drawn anew for each image. Each of the steps is left out by default.

    Args:
        x: (N, C, H, W) uint8; channels-last memory is not copied.
        state: (2,) uint64, seed and base offset, beside x; read by the kernel.
        offset: added to the base: the place of this draw in its generator's stream.
        size: (h, w) of a crop at a random place; default (H, W).
        padding: pixels of 0 around the image before the crop: an int, or two (rows, columns).
        degrees: (low, high) of a counter-clockwise rotation, with bilinear interpolation and zeros outside the crop.
        flip: probability of a horizontal flip.
        brightness: (low, high) of a factor; results are rounded to 8 bits.
        contrast: (low, high) of a factor of the distance from the image's mean grey; results are rounded to 8 bits.
        scale_shift: (2, C) float32 beside x: results are ``value * scale_shift[0] + scale_shift[1]`` of values from 0
            to 255; default 1/255 and 0.
        config: an ``AugmentConfig`` to use in place of the one chosen for the problem.

    Returns:
        (N, C, h, w) float32 beside x, channels-last in memory.

    Raises:
        TypeError, ValueError: an argument is not as described.

    >>> import numpy as np, fastnet
    >>> x, state = np.full((1, 1, 2, 2), 51, np.uint8), np.array([0, 0], np.uint64)
    >>> with fastnet.kernels.use("emulated"):
    ...     fastnet.kernels.augment(x, state, brightness=(2.0, 2.0)).round(3).tolist()
    [[[[0.4000000059604645, 0.4000000059604645], [0.4000000059604645, 0.4000000059604645]]]]
    """
    how = check_augment(x, size, padding, flip, degrees, brightness, contrast, scale_shift)
    offset = check_state("augment", state, offset)
    ext = extension_for(x)
    if extension_for(state) is not ext:
        raise InputError("augment: state and x are on different devices")
    images = loadable(channels_last(x))
    n, channels = x.shape[:2]
    affine = unit_scale(x) if scale_shift is None else loadable(scale_shift)
    if scale_shift is None or not affine.flags.c_contiguous:
        affine = packed(affine)
    out = empty(x, (n, *how.size, channels), np.float32)
    if config is None:
        config = ext.augment_config(n, how.size[0] * how.size[1] * channels)
    if not isinstance(config, ext.AugmentConfig):
        raise KindError(f"augment: config is a {type(config).__name__}, expected an AugmentConfig of {ext.__name__}")
    record("augment", x, config=config)
    ranges = (None if r is None else width_of(r) for r in (how.degrees, how.brightness, how.contrast))
    ext.augment(out, images, affine, how.padding, how.flip_threshold, *ranges, state, offset, config, stream_of(x))
    return out.transpose(0, 3, 1, 2)
