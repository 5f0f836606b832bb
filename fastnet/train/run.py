"""What every training run keeps and writes: a progress bar, numbers by epoch, cost, files."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fastnet.utils import cost


@dataclass
class History:
    """What a run gave: one row an epoch, and what it cost. Rows are dataclasses with at least ``epoch``, ``seconds``
    and ``examples_per_second``."""

    epochs: list[Any] = field(default_factory=list)
    step_losses: list[float] = field(default_factory=list)
    flops_per_step: int = 0
    flops_total: int = 0
    seconds: float = 0.0
    peak_memory_bytes: int = 0


class Run:
    """What trainers share.

    Args:
        device: where batches go.
        out: folder for the run's files. None writes nothing.
        progress: whether to draw a progress bar.
        units: what an example is called, in the plural.
    """

    def __init__(self, device: str, out: Path | None, progress: bool, units: str):
        self.device, self.out, self.progress, self.units = device, out, progress, units
        self.history: Any = History()
        self._say: Callable[[str], None] = lambda text: print(text, flush=True)

    def say(self, text: str) -> None:
        """Print text, above the progress bar where there is one."""
        self._say(text)

    @contextmanager
    def running(self, steps: int) -> Iterator[Callable[[str], None]]:
        """Around a run of so many steps: its time and cost; gives what advances the progress bar."""
        history, began = self.history, time.perf_counter()
        with self._bar(steps) as advance:
            yield advance
        history.seconds = time.perf_counter() - began
        history.flops_total = history.flops_per_step * len(history.step_losses)
        history.peak_memory_bytes = cost.peak_memory_bytes()

    @contextmanager
    def _bar(self, steps: int) -> Iterator[Callable[[str], None]]:
        if not self.progress:
            yield lambda text: None
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
        with Progress(*columns) as progress:
            task = progress.add_task("starting", total=steps)
            before, self._say = self._say, lambda text: progress.console.print(text, markup=False, highlight=False)
            yield lambda text: progress.update(task, advance=1, description=text)
            self._say = before

    def counted(self, step: Callable[..., Any], *batch: Any) -> Any:
        """A step's result; the first step's floating-point operations are counted."""
        if self.history.flops_per_step:
            return step(*batch)
        with cost.count() as counted:
            result = step(*batch)
        self.history.flops_per_step = counted.flops
        return result

    def finite(self, name: str, loss: float) -> float:
        """loss, or FloatingPointError where it is NaN."""
        if loss != loss:
            raise FloatingPointError(
                f"the {name} became NaN at step {len(self.history.step_losses) + 1}: try a smaller learning rate"
            )
        return loss

    def write_metrics(self) -> None:
        """Write metrics.csv: a line an epoch."""
        if self.out is None:
            return
        with open(self.out / "metrics.csv", "w", newline="") as f:
            writer = csv.DictWriter(f, fieldnames=list(asdict(self.history.epochs[0])))
            writer.writeheader()
            writer.writerows(asdict(e) for e in self.history.epochs)

    def results(self) -> dict[str, Any]:
        """What the summary says of quality."""
        return {}

    def write_summary(self, **more: Any) -> dict[str, Any]:
        """Write summary.json: results and cost."""
        assert self.out is not None
        h = self.history
        summary = {
            **more,
            "epochs": len(h.epochs),
            "steps": len(h.step_losses),
            **self.results(),
            "seconds": h.seconds,
            "flops_per_step": h.flops_per_step,
            "flops_total": h.flops_total,
            "flops_per_second": h.flops_total / sum(e.seconds for e in h.epochs),
            "examples_per_second": sum(e.examples_per_second for e in h.epochs) / len(h.epochs),
            "examples_are": self.units,
            "peak_memory_bytes": h.peak_memory_bytes,
        }
        (self.out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
        return summary
