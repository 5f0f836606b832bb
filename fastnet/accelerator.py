"""torch.accelerator's names: the one kind of accelerator is a CUDA GPU."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from fastnet import cuda
from fastnet._device import device as Device
from fastnet.cuda import (
    current_device,
    current_stream,
    device_count,
    empty_cache,
    is_available,
    max_memory_allocated,
    max_memory_reserved,
    memory_allocated,
    memory_reserved,
    reset_peak_memory_stats,
    set_device,
    synchronize,
)

__all__ = [
    "current_accelerator",
    "current_device_index",
    "current_stream",
    "device_count",
    "device_index",
    "empty_cache",
    "is_available",
    "max_memory_allocated",
    "max_memory_reserved",
    "memory_allocated",
    "memory_reserved",
    "reset_peak_memory_stats",
    "set_device_index",
    "synchronize",
]


def current_accelerator(check_available: bool = False) -> Device | None:
    """The device ``cuda``, or None where no GPU can be used."""
    return Device("cuda") if is_available() else None


current_device_index = current_device
set_device_index = set_device


@contextlib.contextmanager
def device_index(device: int | None) -> Iterator[None]:
    """A context manager in which a GPU is the current one; None changes nothing."""
    with contextlib.nullcontext() if device is None else cuda.device(device):
        yield
