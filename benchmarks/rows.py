"""Rows: what was measured, as CSV and as a table in the terminal."""

from __future__ import annotations

import csv
import dataclasses
import datetime
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any


@dataclass
class Row:
    """One measurement.

    Times are microseconds; ``spread`` is (third - first quartile) / median. ``percent_of_ceiling`` is the share of what
    was measured in the same run: the copy bandwidth, or the best product of the vendor's library in that dtype.
    ``ratio_to_best_peer`` above 1 is faster than the fastest peer. ``timing`` says how: a replayed CUDA graph, events
    around calls, or the host's clock; ``l2`` whether inputs came from memory. ``config`` is what dispatch chose and
    ``predicted_us`` what the cost model said of it.
    """

    operation: str
    shape: str
    dtype: str
    implementation: str
    gpu: str
    commit: str
    date: str
    median_us: float
    spread: float
    tflops: float = 0.0
    gbytes_per_s: float = 0.0
    ceiling: str = ""
    percent_of_ceiling: float = 0.0
    ratio_to_best_peer: float = 0.0
    best_peer: str = ""
    flop_per_byte: float = 0.0
    timing: str = ""
    l2: str = ""
    config: str = ""
    predicted_us: float = 0.0


COLUMNS = tuple(f.name for f in dataclasses.fields(Row))


@cache
def device_name() -> str:
    """The GPU, or the processor."""
    from fastnet import cuda

    if cuda.is_available():
        return cuda.get_device_name()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


@cache
def commit() -> str:
    """The commit of the checkout that is measured, with ``+`` where it has changes; or the version of the package."""
    import fastnet

    here = Path(__file__).resolve().parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True)
        except OSError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    # As installed, the package may lie inside some other repository: only one that holds this file counts.
    if not git("ls-files", Path(__file__).name):
        return fastnet.__version__
    return f"{git('rev-parse', '--short', 'HEAD')}{'+' if git('status', '--porcelain', '--untracked-files=no') else ''}"


def today() -> str:
    return datetime.date.today().isoformat()


def write(rows: Sequence[Any], path: Path) -> None:
    """Rows (of one dataclass) as CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = [f.name for f in dataclasses.fields(rows[0])] if rows else list(COLUMNS)
    with open(path, "w", newline="") as f:
        writer = csv.DictWriter(f, fieldnames=columns)
        writer.writeheader()
        writer.writerows(asdict(r) for r in rows)


def read(path: Path) -> list[Row]:
    """Rows from CSV."""
    kinds: dict[str, Any] = {f.name: float if f.type == "float" else str for f in dataclasses.fields(Row)}
    with open(path, newline="") as f:
        return [Row(**{k: kinds[k](v) for k, v in r.items()}) for r in csv.DictReader(f)]


def table(columns: Sequence[tuple[str, str]], lines: Sequence[Sequence[str]], title: str = "") -> None:
    """Print a table: (heading, left or right) for each column. Piped, it is as wide as it needs to be."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    drawn = Table(title=title or None, title_justify="left")
    for heading, side in columns:
        drawn.add_column(heading, justify=side, overflow="fold")  # type: ignore[arg-type]
    for line in lines:
        drawn.add_row(*line)
    console.print(drawn)


def show(rows: Sequence[Row]) -> None:
    """A table in the terminal, an implementation a line."""
    columns = [
        *((h, "left") for h in ("operation", "shape", "dtype", "implementation")),
        *(
            (h, "right")
            for h in ("median us", "spread", "TFLOP/s", "GB/s", "of ceiling", "to best peer", "predicted us")
        ),
        ("timing", "left"),
    ]
    lines = []
    for r in rows:
        lines.append(
            (
                r.operation,
                r.shape,
                r.dtype,
                r.implementation,
                f"{r.median_us:,.1f}",
                f"{r.spread:.0%}",
                f"{r.tflops:,.3g}" if r.tflops else "",
                f"{r.gbytes_per_s:,.4g}" if r.gbytes_per_s else "",
                f"{r.percent_of_ceiling:.0f} % {r.ceiling}" if r.percent_of_ceiling else "",
                f"{r.ratio_to_best_peer:.2f} x {r.best_peer}" if r.best_peer else "",
                f"{r.predicted_us:,.1f}" if r.predicted_us else "",
                f"{r.timing}{', L2 ' + r.l2 if r.l2 else ''}",
            )
        )
    table(columns, lines)
