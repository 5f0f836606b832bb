"""The GPU: what there is, waiting for it, its memory, streams. Names and answers without a GPU are torch.cuda's."""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

from fastnet._device import device as Device
from fastnet._device import synchronise, why_no_cuda
from fastnet.errors import OutOfMemoryError as OutOfMemoryError

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


def _index(device: Any) -> int:
    if device is None:
        return current_device()
    return device if isinstance(device, int) else Device(device).index or 0


class device:
    """A context manager in which a GPU (an index or a device) is the current one; None or below zero: no change."""

    def __init__(self, device: Any):
        self.idx = -1 if device is None else _index(device)

    def __enter__(self) -> device:
        if self.idx >= 0:
            self._before = current_device()
            set_device(self.idx)
        return self

    def __exit__(self, *exception: Any) -> None:
        if self.idx >= 0:
            set_device(self._before)


_on = device  # where an argument has the name


class DeviceProperties(NamedTuple):
    """What the driver says of a GPU."""

    name: str
    major: int  # with minor: compute capability
    minor: int
    total_memory: int  # bytes
    multi_processor_count: int
    L2_cache_size: int  # bytes
    shared_memory_per_block_optin: int  # bytes
    max_threads_per_multi_processor: int
    warp_size: int


def get_device_properties(device: Any = None) -> DeviceProperties:
    """What the driver says of a GPU."""
    p = _runtime().cuda.runtime.getDeviceProperties(_index(device))
    return DeviceProperties(
        p["name"].decode(),
        p["major"],
        p["minor"],
        p["totalGlobalMem"],
        p["multiProcessorCount"],
        p["l2CacheSize"],
        p["sharedMemPerBlockOptin"],
        p["maxThreadsPerMultiProcessor"],
        p["warpSize"],
    )


def get_device_name(device: Any = None) -> str:
    """The name of a GPU."""
    return get_device_properties(device).name


def get_device_capability(device: Any = None) -> tuple[int, int]:
    """The compute capability of a GPU: (major, minor)."""
    return get_device_properties(device)[1:3]


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


def memory_reserved(device: Any = None) -> int:
    """Bytes that the memory pool holds from the driver; 0 without a GPU."""
    return _runtime().get_default_memory_pool().total_bytes() if is_available() else 0


max_memory_reserved = max_memory_allocated  # the pool gives nothing back by itself


def mem_get_info(device: Any = None) -> tuple[int, int]:
    """Bytes of a GPU's memory: (free, all)."""
    with _on(device):
        return _runtime().cuda.runtime.memGetInfo()


def reset_peak_memory_stats(device: Any = None) -> None:
    """Start ``max_memory_allocated`` anew: memory that no array uses goes back to the driver."""
    if is_available():
        _peaks[current_device()] = 0
        empty_cache()


def empty_cache() -> None:
    """Give memory that no array uses back to the driver."""
    if is_available():
        _runtime().get_default_memory_pool().free_all_blocks()


def get_rng_state(device: Any = None) -> Any:
    """The default generator's state: there is one for all devices."""
    from fastnet._random import get_rng_state

    return get_rng_state()


def set_rng_state(new_state: Any, device: Any = None) -> None:
    """Set the default generator's state."""
    from fastnet._random import set_rng_state

    set_rng_state(new_state)


class Event:
    """A mark in a stream.

    Args:
        enable_timing: whether ``elapsed_time`` may be asked.
        blocking: whether ``synchronize`` gives the CPU away while it waits.
        interprocess: whether other processes may see it.
    """

    def __init__(self, enable_timing: bool = False, blocking: bool = False, interprocess: bool = False):
        self._event = _runtime().cuda.Event(blocking, not enable_timing, interprocess)

    def record(self, stream: Stream | None = None) -> None:
        """Put the mark at the end of a stream, None for the current one."""
        self._event.record(None if stream is None else stream._stream)

    def wait(self, stream: Stream | None = None) -> None:
        """Work given to a stream from now on waits for the mark."""
        (current_stream() if stream is None else stream).wait_event(self)

    def synchronize(self) -> None:
        """Wait until everything before the mark is done."""
        self._event.synchronize()

    def query(self) -> bool:
        """Whether everything before the mark is done."""
        return self._event.done

    def elapsed_time(self, end_event: Event) -> float:
        """Milliseconds from this mark to a later one."""
        return _runtime().cuda.get_elapsed_time(self._event, end_event._event)


class Stream:
    """A queue of work on a GPU; as a context manager, the one that work inside goes to."""

    def __init__(self, device: Any = None, priority: int = 0):
        with _on(device):
            self._stream = _runtime().cuda.Stream(non_blocking=True, priority=priority)

    @classmethod
    def _of(cls, stream: Any) -> Stream:
        self = cls.__new__(cls)
        self._stream = stream
        return self

    def synchronize(self) -> None:
        """Wait until everything in it is done."""
        self._stream.synchronize()

    def query(self) -> bool:
        """Whether everything in it is done."""
        return self._stream.done

    def record_event(self, event: Event | None = None) -> Event:
        """A mark at its end."""
        event = Event() if event is None else event
        event.record(self)
        return event

    def wait_event(self, event: Event) -> None:
        """What is given to it from now on waits for a mark."""
        self._stream.wait_event(event._event)

    def wait_stream(self, stream: Stream) -> None:
        """What is given to it from now on waits for what another one holds."""
        self.wait_event(stream.record_event())

    @property
    def cuda_stream(self) -> int:
        return self._stream.ptr

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and self.cuda_stream == other.cuda_stream

    def __hash__(self) -> int:
        return hash(self.cuda_stream)

    def __enter__(self) -> Stream:
        self._stream.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._stream.__exit__(*exception)


def current_stream(device: Any = None) -> Stream:
    """The stream that work goes to."""
    return Stream._of(_runtime().cuda.get_current_stream())


def default_stream(device: Any = None) -> Stream:
    """The stream that work goes to unless another is chosen."""
    return Stream._of(_runtime().cuda.Stream.null)


def set_stream(stream: Stream) -> None:
    """Let work go to a stream from now on."""
    stream._stream.use()


def stream(stream: Stream) -> Stream:
    """A context manager in which work goes to ``stream``."""
    return stream


def __getattr__(name: str) -> Any:
    if name in ("CaptureError", "GraphedStep", "graph"):
        return getattr(importlib.import_module("fastnet.cuda.graphs"), name)
    if name == "amp":
        return importlib.import_module("fastnet.cuda.amp")
    raise AttributeError(f"module 'fastnet.cuda' has no attribute {name!r}")
