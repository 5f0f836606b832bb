"""The GPU: what there is, waiting for it, its memory, streams. Names and answers without a GPU are torch.cuda's."""

from __future__ import annotations

import importlib
from typing import Any

from fastnet._device import device as Device
from fastnet._device import synchronise, why_no_cuda

_peaks: dict[int, int] = {}


def is_available() -> bool:
    """Whether a GPU can be used; ``fastnet info`` says why not."""
    return why_no_cuda() is None


def is_initialized() -> bool:
    """Whether a GPU has been found."""
    return is_available()


def is_bf16_supported() -> bool:
    """Whether the GPU has bfloat16 arithmetic (compute capability 8.0 and later)."""
    return is_available() and get_device_capability() >= (8, 0)


def manual_seed(seed: int) -> None:
    """Start the default generator anew from a seed: there is one for all devices."""
    from fastnet._random import default_generator

    default_generator.manual_seed(seed)


manual_seed_all = manual_seed


def _runtime() -> Any:
    why = why_no_cuda()
    if why:
        raise RuntimeError(f"fastnet.cuda: {why}")
    import cupy

    return cupy


def device_count() -> int:
    """How many GPUs there are; 0 without one."""
    return _runtime().cuda.runtime.getDeviceCount() if is_available() else 0


def current_device() -> int:
    """The index of the GPU that new arrays live on."""
    return _runtime().cuda.Device().id


def set_device(device: Any) -> None:
    """Make a GPU the current one."""
    index = device if isinstance(device, int) else Device(device).index
    if index is not None:
        _runtime().cuda.Device(index).use()


def get_device_name(device: Any = None) -> str:
    """The name of a GPU."""
    index = current_device() if device is None else device if isinstance(device, int) else Device(device).index or 0
    return _runtime().cuda.runtime.getDeviceProperties(index)["name"].decode()


def get_device_capability(device: Any = None) -> tuple[int, int]:
    """The compute capability of a GPU: (major, minor)."""
    index = current_device() if device is None else device if isinstance(device, int) else Device(device).index or 0
    properties = _runtime().cuda.runtime.getDeviceProperties(index)
    return properties["major"], properties["minor"]


def synchronize(device: Any = None) -> None:
    """Wait until everything given to the GPU is done; raises what kernels found wrong in their data."""
    _runtime().cuda.Device().synchronize()
    synchronise()


def memory_allocated(device: Any = None) -> int:
    """Bytes of arrays alive in the memory pool; 0 without a GPU."""
    if not is_available():
        return 0
    used = _runtime().get_default_memory_pool().used_bytes()
    index = current_device()
    _peaks[index] = max(_peaks.get(index, 0), used)
    return used


def max_memory_allocated(device: Any = None) -> int:
    """The most bytes that the pool has held from the driver since ``reset_peak_memory_stats``; 0 without a GPU.

    The pool never gives memory back by itself, so what it holds is its peak (rounded up to the pool's blocks).
    """
    if not is_available():
        return 0
    return max(_runtime().get_default_memory_pool().total_bytes(), _peaks.get(current_device(), 0))


def reset_peak_memory_stats(device: Any = None) -> None:
    """Start ``max_memory_allocated`` anew: memory that no array uses goes back to the driver."""
    if is_available():
        _peaks[current_device()] = 0
        empty_cache()


def empty_cache() -> None:
    """Give memory that no array uses back to the driver."""
    if is_available():
        _runtime().get_default_memory_pool().free_all_blocks()


class Stream:
    """A queue of work on a GPU; as a context manager, the one that work inside goes to."""

    def __init__(self, device: Any = None, priority: int = 0):
        self._stream = _runtime().cuda.Stream(non_blocking=True)

    def synchronize(self) -> None:
        """Wait until everything in it is done."""
        self._stream.synchronize()

    @property
    def cuda_stream(self) -> int:
        return self._stream.ptr

    def __enter__(self) -> Stream:
        self._stream.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._stream.__exit__(*exception)


def stream(stream: Stream) -> Stream:
    """A context manager in which work goes to ``stream``."""
    return stream


def __getattr__(name: str) -> Any:
    if name in ("CaptureError", "GraphedStep", "graph"):
        return getattr(importlib.import_module("fastnet.cuda.graphs"), name)
    if name == "amp":
        return importlib.import_module("fastnet.cuda.amp")
    raise AttributeError(f"module 'fastnet.cuda' has no attribute {name!r}")
