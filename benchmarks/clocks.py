"""How long a call takes: on the host, and on a GPU between two CUDA events around the replay of a CUDA graph."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from .cases import Implementation, from_torch


class Prepared(Protocol):
    """Calls ready to be timed again and again."""

    mode: str  # how they are timed
    calls: int  # calls in one sample

    def sample(self) -> float:
        """Microseconds of one call, by one sample."""
        ...

    def results(self) -> list[tuple[int, Any]]:
        """What the timed calls themselves write, from poisoned memory where that is possible: (number of the inputs,
        outputs)."""
        ...


class Clock(Protocol):
    def copies(self, nbytes: float) -> int:
        """How many sets of inputs to rotate over."""
        ...

    def prepare(self, implementation: Implementation, inputs: Sequence[tuple]) -> Prepared:
        """Warm up, and record where that is possible."""
        ...


def flat(outputs: Any) -> list[Any]:
    """The arrays among outputs, in order."""
    if outputs is None:
        return []
    if isinstance(outputs, (tuple, list)):
        return [x for o in outputs for x in flat(o)]
    return [outputs]


class _Rotation:
    """Calls an implementation with one set of inputs after the other. Outputs live until their set's turn comes again:
    otherwise the allocator would hand every call the memory of the last one, which the L2 cache still holds."""

    def __init__(self, run: Callable[..., Any], inputs: Sequence[tuple]):
        self._run, self._inputs = run, inputs
        self._next = 0
        self.outputs: list[Any] = [None] * len(inputs)

    def __call__(self) -> None:
        i = self._next
        self._next = (i + 1) % len(self._inputs)
        self.outputs[i] = self._run(*self._inputs[i])

    def results(self) -> list[tuple[int, Any]]:
        return [(i, o) for i, o in enumerate(self.outputs) if o is not None]


class HostClock:
    """Wall-clock time, for the CPU and for what the host does before a kernel runs."""

    def __init__(self, seconds: float = 0.02, now: Callable[[], float] = time.perf_counter):
        self.seconds, self.now = seconds, now

    def copies(self, nbytes: float) -> int:
        return 1

    def prepare(self, implementation: Implementation, inputs: Sequence[tuple]) -> Prepared:
        return _OnHost(_Rotation(implementation.run, inputs), self)


class _OnHost:
    mode = "host"

    def __init__(self, call: _Rotation, clock: HostClock):
        self._call, self._clock, self.calls = call, clock, 1
        call()  # lazy imports, pools
        elapsed = self._time()
        while elapsed < clock.seconds:  # one sample lasts about clock.seconds
            self.calls = max(self.calls + 1, int(self.calls * min(100.0, 1.2 * clock.seconds / max(elapsed, 1e-9))))
            elapsed = self._time()

    def _time(self) -> float:
        start = self._clock.now()
        for _ in range(self.calls):
            self._call()
        return self._clock.now() - start

    def sample(self) -> float:
        return self._time() / self.calls * 1e6

    def results(self) -> list[tuple[int, Any]]:
        return self._call.results()


class CudaClock:
    """Time between two CUDA events on the current stream. The calls of a sample are captured into a CUDA graph once and
    replayed, so that neither Python nor launches are in it; an implementation that cannot be captured is timed call by
    call, and its rows say so (``events`` in place of ``graph``)."""

    def __init__(self, seconds: float = 0.002, most_calls: int = 2000, most_copies: int = 512):
        import cupy

        self._cupy = cupy
        self.seconds, self.most_calls, self.most_copies = seconds, most_calls, most_copies
        self.l2 = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)["l2CacheSize"]
        self.failures: dict[str, str] = {}  # implementation: why its calls could not be captured

    def copies(self, nbytes: float) -> int:
        """Sets of inputs and outputs that together exceed twice the L2 cache."""
        return max(2, min(self.most_copies, int(2 * self.l2 // max(nbytes, 1)) + 1))

    def is_cold(self, nbytes: float) -> bool:
        """Whether that many sets do exceed it: very small ones do not."""
        return self.copies(nbytes) * nbytes > 2 * self.l2

    def elapsed(self, work: Callable[[], None]) -> float:
        """Seconds of the GPU that ``work`` takes."""
        start, end = self._cupy.cuda.Event(), self._cupy.cuda.Event()
        start.record()
        work()
        end.record()
        end.synchronize()
        return self._cupy.cuda.get_elapsed_time(start, end) / 1e3

    def prepare(self, implementation: Implementation, inputs: Sequence[tuple]) -> Prepared:
        call = _Rotation(implementation.run, inputs)
        for _ in inputs:  # pools, handles, compilation
            call()

        def once() -> None:
            for _ in inputs:
                call()

        each = max(self.elapsed(once) / len(inputs), 1e-7)
        calls = max(len(inputs), min(self.most_calls, int(self.seconds / each) + 1))
        calls += -calls % len(inputs)  # whole turns

        def several() -> None:
            for _ in range(calls):
                call()

        try:
            record = self._record_torch if implementation.is_torch else self._record_cupy
            replay, kept = record(several)
            mode = "graph"
        except Exception as error:  # of any library: a copy to the host, a synchronisation
            self.failures[implementation.name] = f"{type(error).__name__}: {error}".splitlines()[0]
            replay, kept, mode = several, None, "events"
        self.elapsed(replay)
        return _OnGpu(self, call, replay, kept, calls, mode)

    def _record_cupy(self, work: Callable[[], None]) -> tuple[Callable[[], None], Any]:
        # A pool of the graph's own: its replays write to the memory that its capture allocated, outputs and workspaces,
        # so that no other array may be given it.
        cupy = self._cupy
        pool = cupy.cuda.MemoryPool()
        stream = cupy.cuda.Stream(non_blocking=True)
        cupy.cuda.Device().synchronize()
        with stream, cupy.cuda.using_allocator(pool.malloc):
            work()  # fills the pool: allocating while capturing would call the driver
            stream.synchronize()
            stream.begin_capture()
            try:
                work()
            finally:
                graph = stream.end_capture()

        def replay() -> None:
            graph.launch(cupy.cuda.get_current_stream())

        return replay, (pool, graph)

    def _record_torch(self, work: Callable[[], None]) -> tuple[Callable[[], None], Any]:
        import torch

        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        with torch.cuda.graph(graph):  # has a pool of its own
            work()
        return graph.replay, graph


class _OnGpu:
    def __init__(self, clock: CudaClock, call: _Rotation, replay: Callable[[], None], kept: Any, calls: int, mode: str):
        self._clock, self._call, self._replay, self._kept = clock, call, replay, kept
        self.calls, self.mode = calls, mode

    def sample(self) -> float:
        return self._clock.elapsed(self._replay) / self.calls * 1e6

    def results(self) -> list[tuple[int, Any]]:
        found = self._call.results()
        if self.mode == "graph":  # a replay that did nothing would leave what is there now
            for _, outputs in found:
                for x in flat(outputs):
                    array = from_torch(x) if hasattr(x, "detach") else x
                    array.view(f"u{array.itemsize}").fill(2 ** (8 * array.itemsize) - 1)  # NaN in every format
            self._replay()
        return found


def clock_for(on_gpu: bool) -> Clock:
    return CudaClock() if on_gpu else HostClock()
