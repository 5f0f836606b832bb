"""Timing and rows.

Peers are timed interleaved in one process on the same inputs: A, B, A, B, ..., so that a machine that slows down slows
all of them. On a GPU each sample is the time between two CUDA events; inputs rotate over copies that together exceed
twice the L2 cache, so that they come from memory, as in a training step. Inputs are drawn from N(0, 1): constants run
faster and prove nothing.
"""

from __future__ import annotations

import csv
import datetime
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

COLUMNS = (
    "operation",
    "shape",
    "dtype",
    "implementation",
    "device",
    "commit",
    "date",
    "median_us",
    "spread",
    "gflops",
    "gbytes",
    "ratio_to_peer",
    "peer",
)


@dataclass
class Row:
    """One measurement. Times are microseconds; spread is (third - first quartile) / median; ratio_to_peer above 1 is
    faster."""

    operation: str
    shape: str
    dtype: str
    implementation: str
    device: str
    commit: str
    date: str
    median_us: float
    spread: float
    gflops: float = 0.0
    gbytes: float = 0.0
    ratio_to_peer: float = 0.0
    peer: str = ""


@dataclass
class Case:
    """One problem: the same work by several implementations."""

    operation: str
    shape: str
    dtype: str
    run: dict[str, Callable[[], Any]]  # implementation -> a call; the first is ours, the last the peer
    flops: float = 0.0
    bytes: float = 0.0


def device_name() -> str:
    """The GPU, or the processor."""
    from fastnet import cuda

    if cuda.is_available():
        return cuda.get_device_name()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def commit() -> str:
    """The commit of the checkout that is measured, or the version of the package."""
    import fastnet

    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True
    )
    return done.stdout.strip() if done.returncode == 0 else fastnet.__version__


def sample_cpu(call: Callable[[], Any], seconds: float) -> float:
    """Microseconds of one call, averaged over calls that take about ``seconds``."""
    count, elapsed = 1, 0.0
    while True:
        start = time.perf_counter()
        for _ in range(count):
            call()
        elapsed = time.perf_counter() - start
        if elapsed >= seconds:
            return elapsed / count * 1e6
        count = max(count + 1, int(count * min(100.0, 1.2 * seconds / max(elapsed, 1e-9))))


def sample_gpu(call: Callable[[], Any], seconds: float) -> float:
    """Microseconds of one call on the GPU, between two events, averaged over calls that take about ``seconds``."""
    import cupy

    start, end = cupy.cuda.Event(), cupy.cuda.Event()
    count = 1
    while True:
        start.record()
        for _ in range(count):
            call()
        end.record()
        end.synchronize()
        elapsed = cupy.cuda.get_elapsed_time(start, end) / 1e3
        if elapsed >= seconds:
            return elapsed / count * 1e6
        count = max(count + 1, int(count * min(100.0, 1.2 * seconds / max(elapsed, 1e-9))))


def rotating(make: Callable[[], tuple], run: Callable[..., Any], nbytes: float, on_gpu: bool) -> Callable[[], Any]:
    """A call whose inputs come from copies that together exceed twice the L2 cache (60 MB); one copy on the CPU."""
    copies = [make() for _ in range(max(1, min(64, int(120e6 / max(nbytes, 1)) + 1)) if on_gpu else 1)]
    place = [0]

    def call() -> Any:
        place[0] = (place[0] + 1) % len(copies)
        return run(*copies[place[0]])

    return call


def measure(case: Case, *, samples: int = 9, seconds: float = 0.02) -> list[Row]:
    """Interleaved medians of every implementation of a case."""
    from fastnet import cuda

    sample = sample_gpu if cuda.is_available() else sample_cpu
    times: dict[str, list[float]] = {name: [] for name in case.run}
    for call in case.run.values():  # warm caches, pools and lazy imports
        call()
    for _ in range(samples):
        for name, call in case.run.items():
            times[name].append(sample(call, seconds))
    peer = list(case.run)[-1]
    rows = []
    for name, t in times.items():
        median = statistics.median(t)
        low, _, high = statistics.quantiles(t, n=4)
        rows.append(
            Row(
                case.operation,
                case.shape,
                case.dtype,
                name,
                device_name(),
                commit(),
                datetime.date.today().isoformat(),
                round(median, 3),
                round((high - low) / median, 3),
                round(case.flops / median / 1e3, 3),
                round(case.bytes / median / 1e3, 3),
                round(statistics.median(times[peer]) / median, 3) if name != peer else 0.0,
                peer if name != peer else "",
            )
        )
    return rows


def show(rows: Sequence[Row]) -> None:
    """A table in the terminal."""
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for heading in (
        "operation",
        "shape",
        "dtype",
        "implementation",
        "median us",
        "spread",
        "GFLOP/s",
        "GB/s",
        "ratio to peer",
    ):
        table.add_column(
            heading, justify="left" if heading in ("operation", "shape", "dtype", "implementation") else "right"
        )
    for r in rows:
        table.add_row(
            r.operation,
            r.shape,
            r.dtype,
            r.implementation,
            f"{r.median_us:,.1f}",
            f"{r.spread:.0%}",
            f"{r.gflops:,.1f}" if r.gflops else "",
            f"{r.gbytes:,.1f}" if r.gbytes else "",
            f"{r.ratio_to_peer:.2f} x {r.peer}" if r.peer else "",
        )
    Console(width=150).print(table)


def write(rows: Sequence[Row], path: Path) -> None:
    """Rows as CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as f:
        writer = csv.DictWriter(f, fieldnames=COLUMNS)
        writer.writeheader()
        writer.writerows(asdict(r) for r in rows)
