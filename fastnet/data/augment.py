"""Augmentation that keeps the label: torchvision's transforms, composed into one kernel a batch.

    augment = Compose([ColorJitter(brightness=0.2), RandomCrop(32, padding=4), RandomHorizontalFlip(),
                       Normalize(mean=(0.49, 0.48, 0.45), std=(0.25, 0.24, 0.26))])
    x = augment(images)  # (N, 3, H, W) uint8 to (N, 3, 32, 32) float32

They take batches, draw anew for each image from the default generator, and come in one order: ``ColorJitter``,
``RandomCrop``, ``RandomRotation``, ``RandomHorizontalFlip``, ``Normalize``, each at most once. Values are brought from
0..255 to 0..1 (torchvision's ``ToTensor``) before ``Normalize``. Brightness comes before contrast always.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnet._device import namespace
from fastnet._random import default_generator
from fastnet._tensor import Tensor
from fastnet.kernels._runtime import implementation

__all__ = ["ColorJitter", "Compose", "Normalize", "RandomCrop", "RandomHorizontalFlip", "RandomRotation"]


class _Transform:
    """One step; alone it is called as a composition of one."""

    def arguments(self) -> dict[str, Any]:
        """What it asks of ``kernels.augment``."""
        raise NotImplementedError

    def __call__(self, x: Tensor) -> Tensor:
        return Compose([self])(x)

    def __repr__(self) -> str:
        values = ", ".join(f"{k}={v}" for k, v in self.arguments().items())
        return f"{type(self).__name__}({values})"


class ColorJitter(_Transform):
    """Brightness and contrast times factors drawn from 1 - value to 1 + value, or from given pairs."""

    def __init__(self, brightness: Any = 0, contrast: Any = 0):
        self.brightness = _factor("brightness", brightness)
        self.contrast = _factor("contrast", contrast)

    def arguments(self) -> dict[str, Any]:
        return {"brightness": self.brightness, "contrast": self.contrast}


class RandomCrop(_Transform):
    """A crop of ``size`` (an int or two) at a random place, after ``padding`` zeros (an int or two: left and right, top
    and bottom) on each side."""

    def __init__(self, size: Any, padding: Any = None):
        self.size = size
        self.padding = 0 if padding is None else padding

    def arguments(self) -> dict[str, Any]:
        # torchvision's pairs of padding name left and right first; sizes the height.
        padding = tuple(self.padding[::-1]) if isinstance(self.padding, (tuple, list)) else self.padding
        return {"size": self.size, "padding": padding}


class RandomRotation(_Transform):
    """A counter-clockwise rotation by an angle from -degrees to degrees, or from a given pair, about the centre, with
    bilinear interpolation and zeros outside."""

    def __init__(self, degrees: Any):
        if isinstance(degrees, (int, float)):
            if degrees < 0:
                raise ValueError(f"RandomRotation: degrees is {degrees}, expected a number that is not negative")
            degrees = (-degrees, degrees)
        self.degrees = tuple(degrees)

    def arguments(self) -> dict[str, Any]:
        return {"degrees": self.degrees}


class RandomHorizontalFlip(_Transform):
    """Left and right exchanged with probability p."""

    def __init__(self, p: float = 0.5):
        self.p = p

    def arguments(self) -> dict[str, Any]:
        return {"flip": self.p}


class Normalize(_Transform):
    """(value - mean) / std for each channel, of values from 0 to 1."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        self.mean, self.std = np.atleast_1d(np.asarray(mean, np.float64)), np.atleast_1d(np.asarray(std, np.float64))
        if self.mean.ndim != 1 or self.mean.shape != self.std.shape:
            raise ValueError(
                f"Normalize: mean has shape {self.mean.shape} and std {self.std.shape}, expected one number a channel"
            )
        if not (self.std > 0).all():
            raise ValueError(f"Normalize: std is {self.std.tolist()}, expected positive numbers")

    def arguments(self) -> dict[str, Any]:
        scale = 1 / (255 * self.std)
        return {"scale_shift": np.stack([scale, -self.mean / self.std]).astype(np.float32)}

    def __repr__(self) -> str:
        return f"Normalize(mean={self.mean.tolist()}, std={self.std.tolist()})"


_ORDER = (ColorJitter, RandomCrop, RandomRotation, RandomHorizontalFlip, Normalize)


class Compose(_Transform):
    """Transforms one after another, as one kernel.

    Raises:
        TypeError: one is not a transform of this module.
        ValueError: they are not in the module's order.

    >>> import fastnet
    >>> fastnet.manual_seed(0)  # doctest: +ELLIPSIS
    <...>
    >>> images = fastnet.full((4, 3, 8, 8), 255, dtype=fastnet.uint8)
    >>> x = Compose([RandomCrop(6), RandomHorizontalFlip()])(images)
    >>> tuple(x.shape), x.dtype, x.max().item()
    ((4, 3, 6, 6), fastnet.float32, 1.0)
    """

    def __init__(self, transforms: Sequence[_Transform]):
        self.transforms = list(transforms)
        for transform in self.transforms:
            if type(transform) not in _ORDER:
                raise TypeError(
                    f"Compose: got a {type(transform).__name__}, expected transforms of fastnet.data.augment"
                )
        places = [_ORDER.index(type(t)) for t in self.transforms]
        if any(a >= b for a, b in itertools.pairwise(places)):
            names = ", ".join(type(t).__name__ for t in self.transforms)
            wanted = ", ".join(t.__name__ for t in _ORDER)
            raise ValueError(f"Compose: got {names}, expected each at most once and in this order: {wanted}")
        self._affine: dict[Any, Any] = {}  # scale and shift by device: a captured step finds them where they were

    def arguments(self) -> dict[str, Any]:
        return {name: value for t in self.transforms for name, value in t.arguments().items()}

    def __call__(self, x: Tensor) -> Tensor:
        """(N, C, H, W) uint8 to (N, C, h, w) float32, on the same device.

        Raises:
            TypeError, ValueError: x is not such a tensor, or a transform does not suit it.
        """
        if not isinstance(x, Tensor):
            raise TypeError(f"{type(self).__name__}: x is a {type(x).__name__}, expected a Tensor of uint8 images")
        data, xp = x._data, namespace(x._data)
        arguments = self.arguments()
        if "scale_shift" in arguments:
            if str(x.device) not in self._affine:
                self._affine[str(x.device)] = xp.asarray(arguments["scale_shift"])
            arguments["scale_shift"] = self._affine[str(x.device)]
        state, offset = default_generator.state_array(xp), default_generator.next_offset()
        return Tensor._wrap(implementation(data).augment(data, state, offset, **arguments))

    def __repr__(self) -> str:
        return f"Compose({self.transforms})"


def _factor(name: str, value: Any) -> tuple[float, float] | None:
    """The range of a factor; None where it is always 1."""
    if isinstance(value, (int, float)):
        if not value >= 0:
            raise ValueError(f"ColorJitter: {name} is {value}, expected a number that is not negative")
        value = (max(0.0, 1 - value), 1.0 + value)
    low, high = value
    return None if low == high == 1 else (float(low), float(high))
