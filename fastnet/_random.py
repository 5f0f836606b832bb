"""Random number generators: a seed and a place in its stream. Every call that draws takes one place, so the numbers
depend on the seed and the order of calls alone, and are the same on every device (fastnet/reference/random.py)."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from fastnet import _capture
from fastnet._device import device as Device
from fastnet.errors import InputError, KindError


class Generator:
    """A source of random numbers, as ``torch.Generator``.

    >>> import fastnet
    >>> g = fastnet.Generator().manual_seed(1)
    >>> a = fastnet.rand(3, generator=g)
    >>> bool((a == fastnet.rand(3, generator=g.manual_seed(1))).all())
    True
    """

    def __init__(self, device: Any = "cpu"):
        self.device = Device(device)
        self._offset = 0
        self._seed = 0
        self._states: dict[Any, Any] = {}

    def manual_seed(self, seed: int) -> Generator:
        """Start anew from a seed: any integer of 64 bits, negative ones counting from 2^64 down."""
        if not isinstance(seed, (int, np.integer)) or isinstance(seed, bool):
            raise KindError(f"manual_seed: seed is a {type(seed).__name__}, expected an int")
        if not -(2**63) <= seed < 2**64:
            raise InputError(f"Overflow when unpacking long: seed {seed} does not fit 64 bits")
        self._seed = int(seed) % 2**64
        self._offset = 0
        self._states = {}  # arrays of the old seed live on in graphs that still use them
        return self

    def initial_seed(self) -> int:
        """The seed."""
        return self._seed

    def seed(self) -> int:
        """Start anew from a seed of the operating system's."""
        self.manual_seed(int.from_bytes(os.urandom(8), "little"))
        return self._seed

    def get_state(self) -> Any:
        """Seed and place in the stream, as a uint8 tensor that ``set_state`` takes."""
        from fastnet._tensor import Tensor

        return Tensor._wrap(np.array([self._seed, self._offset], np.uint64).view(np.uint8).copy())

    def set_state(self, state: Any) -> Generator:
        """Go on from where ``get_state`` was."""
        data = state.numpy() if hasattr(state, "numpy") else np.asarray(state)
        if data.dtype != np.uint8 or data.size != 16:
            raise KindError(f"set_state: expected a uint8 tensor of 16 elements, got {data.dtype} of {data.size}")
        seed, offset = np.ascontiguousarray(data).view(np.uint64).tolist()
        self.manual_seed(seed)
        self._offset = offset
        return self

    def state_array(self, xp: Any) -> Any:
        """[seed, 0] as a uint64 array of NumPy or CuPy, which kernels read and add the place of a draw to."""
        if _capture.current is not None:
            return _capture.current.state_array(self, xp)
        key = xp.__name__ if xp is np else (xp.__name__, xp.cuda.Device().id)
        if key not in self._states:
            self._states[key] = xp.asarray(np.array([self._seed, 0], np.uint64))
        return self._states[key]

    def next_offset(self) -> int:
        """The place of the next draw, which it takes."""
        if _capture.current is not None:
            return _capture.current.next_offset(self)
        offset = self._offset
        self._offset = (offset + 1) % 2**64
        return offset


default_generator = Generator()
default_generator.seed()


def manual_seed(seed: int) -> Generator:
    """Start the default generator anew from a seed, for all devices."""
    return default_generator.manual_seed(seed)


def seed() -> int:
    """Start the default generator anew from a seed of the operating system's."""
    return default_generator.seed()


def initial_seed() -> int:
    """The default generator's seed."""
    return default_generator.initial_seed()


def get_rng_state() -> Any:
    """The default generator's state, as a uint8 tensor."""
    return default_generator.get_state()


def set_rng_state(new_state: Any) -> None:
    """Set the default generator's state."""
    default_generator.set_state(new_state)
