"""The made-up device: its memory, streams, events and graphs, and the record of everything that waited for it."""

from __future__ import annotations

import itertools
import os
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

ALIGNMENT = 512  # bytes, as CuPy's pool rounds
NAME, MAJOR, MINOR, MEMORY = b"Made Up", 9, 0, 80 << 30


class CUDARuntimeError(RuntimeError):
    """What the runtime reports."""


# ---- waiting ---------------------------------------------------------------------------------------------------------

HERE = os.path.dirname(__file__)
waits: list[str] = []  # what has waited for the device, in order, and the line that asked


def wait(call: str) -> None:
    """The host waits for the device, which it may not while a stream is captured."""
    if _capturing is not None:
        raise CUDARuntimeError(
            f"cudaErrorStreamCaptureUnsupported: operation not permitted when stream is capturing ({call})"
        )
    frame = sys._getframe(1)
    while frame.f_back is not None and os.path.dirname(frame.f_code.co_filename) == HERE:
        frame = frame.f_back
    waits.append(f"{call} in {os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}")


def copy_to_device(call: str) -> None:
    """The host's memory is copied to the device: asynchronously, by way of pinned memory, but not into a capture."""
    if _capturing is not None:
        raise RuntimeError(f"the current stream is capturing, so H2D transfers are disallowed ({call})")


# ---- memory ----------------------------------------------------------------------------------------------------------


class Memory:
    """One allocation. Its bytes are 0xFF: NaN in every floating-point format."""

    def __init__(self, nbytes: int, pool: MemoryPool):
        self.size, self.device_id = nbytes, Device().id
        self.raw = np.full(nbytes + ALIGNMENT, 0xFF, np.uint8)
        start = -self.raw.ctypes.data % ALIGNMENT
        self.bytes = self.raw[start : start + nbytes]
        self.ptr = self.bytes.ctypes.data
        pool._used += nbytes
        pool._peak = max(pool._peak, pool._used)
        weakref.finalize(self, pool._give_back, nbytes)


class MemoryPointer:
    """Where an array begins."""

    def __init__(self, mem: Any, offset: int):
        self.mem, self.ptr, self.device_id = mem, mem.ptr + offset, mem.device_id


class MemoryPool:
    """Memory that is kept when arrays go."""

    def __init__(self) -> None:
        self._used = self._peak = 0

    def _give_back(self, nbytes: int) -> None:
        self._used -= nbytes

    def malloc(self, size: int) -> MemoryPointer:
        return MemoryPointer(Memory(size, self), 0)

    def used_bytes(self) -> int:
        return self._used

    def total_bytes(self) -> int:
        return self._peak

    def free_bytes(self) -> int:
        return self._peak - self._used

    def free_all_blocks(self) -> None:
        self._peak = self._used


default_pool = MemoryPool()
_allocators: list[Callable[[int], MemoryPointer]] = [default_pool.malloc]


def allocate(nbytes: int) -> MemoryPointer:
    return _allocators[-1](nbytes)


@contextmanager
def using_allocator(allocator: Callable[[int], MemoryPointer]) -> Iterator[None]:
    _allocators.append(allocator)
    try:
        yield
    finally:
        _allocators.pop()


# ---- devices, streams, events ----------------------------------------------------------------------------------------

_device = 0
COUNT = 2


class Device:
    """A device. All memory is one, so work goes anywhere; what is made remembers where."""

    def __init__(self, device: int | None = None):
        self.id = _device if device is None else int(device)
        if not 0 <= self.id < COUNT:
            raise CUDARuntimeError("cudaErrorInvalidDevice: invalid device ordinal")

    def __int__(self) -> int:
        return self.id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<CUDA Device {self.id}>"

    def use(self) -> None:
        global _device
        _device = self.id

    def __enter__(self) -> Device:
        self._before = _device
        self.use()
        return self

    def __exit__(self, *exception: object) -> None:
        Device(self._before).use()

    def synchronize(self) -> None:
        wait("Device.synchronize")

    compute_capability = f"{MAJOR}{MINOR}"
    mem_info = property(lambda self: (MEMORY - default_pool.total_bytes(), MEMORY))


_clock = itertools.count(1)
_streams = itertools.count(0x5000)


class Event:
    """A mark in a stream; the clock ticks a millisecond at each."""

    done = True

    def __init__(self, block: bool = False, disable_timing: bool = False, interprocess: bool = False):
        self.disable_timing, self.time = disable_timing, None

    def record(self, stream: Stream | None = None) -> None:
        self.time = next(_clock)
        (get_current_stream() if stream is None else stream).put.append(("record", self))

    def synchronize(self) -> None:
        wait("Event.synchronize")


def get_elapsed_time(start_event: Event, end_event: Event) -> float:
    if start_event.time is None or end_event.time is None or start_event.disable_timing or end_event.disable_timing:
        raise CUDARuntimeError("cudaErrorInvalidResourceHandle: invalid resource handle")
    return float(end_event.time - start_event.time)


class Stream:
    """A queue of work, which is done as it is given; ``put`` lists marks and waits."""

    null: Stream
    done = True

    def __init__(self, null: bool = False, non_blocking: bool = False, ptds: bool = False, priority: int | None = None):
        self.ptr = 0 if null else next(_streams)
        self.is_non_blocking, self.priority, self.device_id, self.put = non_blocking, priority, Device().id, []

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and self.ptr == other.ptr

    def __hash__(self) -> int:
        return hash(self.ptr)

    def use(self) -> Stream:
        _current[-1] = self
        return self

    def __enter__(self) -> Stream:
        _current.append(self)
        return self

    def __exit__(self, *exception: object) -> None:
        _current.pop()

    def synchronize(self) -> None:
        wait("Stream.synchronize")

    def record(self, event: Event | None = None) -> Event:
        event = Event() if event is None else event
        event.record(self)
        return event

    def wait_event(self, event: Event) -> None:
        self.put.append(("wait", event))

    def begin_capture(self, mode: int | None = None) -> None:
        global _capturing
        if self.ptr == 0:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        if _capturing is not None:
            raise CUDARuntimeError("cudaErrorIllegalState: a stream is being captured already")
        _capturing = []

    def end_capture(self) -> Graph:
        global _capturing
        if _capturing is None:
            raise CUDARuntimeError("cudaErrorIllegalState: the stream is not being captured")
        work, _capturing = _capturing, None
        return Graph(work)

    def is_capturing(self) -> bool:
        return _capturing is not None and self == get_current_stream()


Stream.null = Stream(null=True)
_current = [Stream.null]


def get_current_stream(device_id: int = -1) -> Stream:
    return _current[-1]


# ---- graphs ----------------------------------------------------------------------------------------------------------

_capturing: list[Callable[[], Any]] | None = None


def is_capturing() -> bool:
    return _capturing is not None


def enqueue(work: Callable[[], Any]) -> None:
    """Do work on the device or, while a stream is captured, note it only. What it reads and writes it holds."""
    if _capturing is None:
        work()
    else:
        _capturing.append(work)


class Graph:
    """Captured work, done again by each launch, on the memory it was captured with."""

    def __init__(self, work: list[Callable[[], Any]]):
        self._work = work

    def launch(self, stream: Stream | None = None) -> None:
        with np.errstate(all="ignore"):
            for work in self._work:
                work()

    def upload(self, stream: Stream | None = None) -> None:
        pass


def properties(device: int) -> dict[str, Any]:
    return {
        "name": NAME + b" %d" % device,
        "major": MAJOR,
        "minor": MINOR,
        "totalGlobalMem": MEMORY,
        "multiProcessorCount": 132,
        "l2CacheSize": 50 << 20,
        "sharedMemPerBlockOptin": 227 << 10,
        "maxThreadsPerMultiProcessor": 2048,
        "warpSize": 32,
    }
