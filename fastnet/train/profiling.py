"""Where the steps of a run go: ``fastnet profile RECIPE``."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastnet.kernels import _runtime
from fastnet.train.run import Enough, Run
from fastnet.utils import cost
from fastnet.utils.cost import Calls

WARM_UP = 2  # steps that are not looked at


@dataclass
class Line:
    """One function of ``fastnet.kernels`` over a step: calls, floating-point operations, bytes that it must move; and
    seconds, measured on a GPU, else predicted for one, 0 where neither can be had."""

    name: str
    dtype: str
    calls: float
    flops: float
    bytes: float
    seconds: float


@dataclass
class Profile:
    """What a step of a run costs, the most costly function first.

    Attributes:
        lines: by function.
        steps: how many were looked at.
        step_seconds: of a whole step, by the clock of this machine; what of it is in no line is array code and Python.
        measured: whether the lines' seconds were measured on a GPU.
        device: the GPU that measured them, or for which they are predicted; empty where there are no seconds.
    """

    lines: list[Line]
    steps: int
    step_seconds: float
    measured: bool
    device: str


def predicted_seconds(calls: Calls, properties: dict[str, Any]) -> float:
    """What calls would take on a device at its published rates: the slower of moving their bytes and of their
    operations, and a launch each. An estimate that ranks, and claims nothing about speed."""
    peak = properties["peaks"].get(calls.dtype, properties["peaks"]["float32"])
    work = max(calls.bytes / properties["copy_bandwidth"], calls.flops / peak)
    return work + calls.calls * properties["launch_seconds"]


class _Events:
    """Times calls by CUDA events, which are read when all are done."""

    def __init__(self) -> None:
        import cupy

        self._cupy = cupy
        self._pairs: list[tuple[Any, Any, Calls]] = []

    def __call__(self, run: Callable[[], Any], calls: Calls) -> Any:
        begin, end = self._cupy.cuda.Event(), self._cupy.cuda.Event()
        begin.record()
        result = run()
        end.record()
        self._pairs.append((begin, end, calls))
        return result

    def finish(self) -> None:
        self._cupy.cuda.Device().synchronize()
        for begin, end, calls in self._pairs:
            calls.seconds += self._cupy.cuda.get_elapsed_time(begin, end) / 1e3


def profile(run: Callable[[], Any], *, steps: int = 5, on_gpu: bool = False, device: str = "H200") -> Profile:
    """Run something that trains by a ``Run``, look at some steps after the first two, and end it there.

    Args:
        run: trains; a recipe's ``run`` with its options.
        steps: how many to look at; fewer where the run ends before.
        on_gpu: whether it runs on a GPU; then times are measured.
        device: for which they are predicted otherwise.

    Raises:
        ValueError: an unknown device, or fewer than one step.
        RuntimeError: the run took no step that could be looked at.
    """
    if steps < 1:
        raise ValueError(f"profile: steps is {steps}, expected at least 1")
    events = _Events() if on_gpu else None
    taken, elapsed = 0, 0.0
    total = cost.Cost()

    def profiler(step: Callable[[], Any]) -> Any:
        nonlocal taken, elapsed
        taken += 1
        if taken <= WARM_UP:
            return step()
        if taken > WARM_UP + steps:
            raise Enough
        began = time.perf_counter()
        with cost.count(events) as counted:
            result = step()
        elapsed += time.perf_counter() - began
        for name, found in counted.calls.items():
            kept = total.calls.setdefault(name, Calls(dtype=found.dtype))
            kept.calls, kept.flops, kept.bytes = (
                kept.calls + found.calls, kept.flops + found.flops, kept.bytes + found.bytes
            )  # fmt: skip
            parts.append((kept, found))
        return result

    parts: list[tuple[Calls, Calls]] = []
    Run.profiler = profiler
    try:
        run()
    except Enough:
        pass
    finally:
        Run.profiler = None
    looked_at = min(taken - WARM_UP, steps)
    if looked_at < 1:
        raise RuntimeError(f"profile: the run ended after {taken} steps, expected more than {WARM_UP}")
    if events is not None:
        events.finish()
        for kept, found in parts:
            kept.seconds += found.seconds
    properties = _properties("" if on_gpu else device, on_gpu)
    lines = []
    for name, found in total.calls.items():
        seconds = found.seconds if on_gpu else predicted_seconds(found, properties) if properties else 0.0
        shares = (x / looked_at for x in (found.calls, found.flops, found.bytes, seconds))
        lines.append(Line(name, found.dtype, *shares))
    lines.sort(key=lambda line: (-line.seconds, -line.bytes, line.name))
    return Profile(lines, looked_at, elapsed / looked_at, on_gpu, properties["name"] if properties else "")


def _properties(device: str, on_gpu: bool) -> dict[str, Any] | None:
    """A device's, or None where there is no extension to tell."""
    found = _runtime._extension("_cuda" if on_gpu else "_emulated")
    return None if isinstance(found, str) else found.device_properties(device)
