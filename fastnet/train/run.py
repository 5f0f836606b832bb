"""What every training run does, whatever it trains: passes over a loader with a progress bar, checkpoints from which it
goes on to the same bits, numbers by epoch and by step, cost, files."""

from __future__ import annotations

import csv
import itertools
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import fastnet
from fastnet import nn
from fastnet._device import device as Device
from fastnet._tensor import Tensor
from fastnet.train import checkpoints, resume, steps
from fastnet.train.diagnosis import where_not_finite
from fastnet.train.interrupts import Interrupted, Stop, stoppable
from fastnet.train.place import Batches, random_state, set_random_state
from fastnet.utils import cost, energy

FETCH_EVERY = 10  # steps between readings of a GPU's numbers
PRECISIONS = ("float32", "tf32", "bfloat16", "float16")


class Enough(Exception):
    """Ends a run of which no more is wanted: see ``Run.profiler`` and ``Run.instead``."""


@dataclass
class History:
    """What a run gave: one row an epoch, a loss a step, and what it cost. Rows are dataclasses with at least ``epoch``,
    ``seconds`` and ``examples_per_second``."""

    epochs: list[Any] = field(default_factory=list)
    step_losses: list[float] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    flops_per_step: int = 0
    flops_total: int = 0
    seconds: float = 0.0
    peak_memory_bytes: int = 0
    joules: float | None = None  # of the GPU, over what of the run was in this process


class Run:
    """What trainers share.

    Args:
        device: where batches go.
        out: folder for the run's files. None writes nothing.
        progress: whether to draw a progress bar.
        units: what an example is called, in the plural.
        precision: "float32"; "tf32", which allows TF32 in products of float32 matrices; "bfloat16" or "float16", which
            autocast forward (float16 with a scaled loss).
        accumulate: batches whose gradients are added up for one step; the loss is their mean.
        checkpoint_every: steps between checkpoints; at the end of every epoch there is one anyway. They are written
            to ``out/checkpoints``.
        fetch_every: steps whose numbers are read from the device at once, which waits for it; None: 10 on a GPU, 1 on
            the CPU. A NaN is found then, at the step where it arose: steps after it change nothing.
        graph: whether each step is one launch of a CUDA graph (``fastnet.cuda.graph``), made of the third of its form.
        resume: a checkpoint, or a folder with checkpoints, from which to go on; None begins.
        options: plain values by name that decide what the run computes; a checkpoint with others is refused.
    """

    Row: type  # of one epoch
    profiler: Callable[[Callable[[], Any]], Any] | None = None  # set by fastnet.train.profiling: makes the steps
    instead: Callable[[Run, Any], None] | None = None  # set by fastnet.train.rate_finder: takes the place of training
    totals_are: tuple[str, ...] = ()  # the names of what a step adds up over an epoch
    watched: tuple[str, ...] = ("loss",)  # of each step, what must be finite, in the order in which they arise

    def __init__(
        self,
        device: str,
        out: Path | None,
        progress: bool,
        units: str,
        *,
        precision: str = "float32",
        accumulate: int = 1,
        checkpoint_every: int | None = None,
        fetch_every: int | None = None,
        graph: bool = False,
        resume: Path | None = None,
        options: dict[str, Any] | None = None,
    ):
        name = type(self).__name__
        if precision not in PRECISIONS:
            raise ValueError(f"{name}: precision is {precision!r}, expected one of {', '.join(PRECISIONS)}")
        for argument, value in (
            ("accumulate", accumulate),
            ("checkpoint_every", checkpoint_every),
            ("fetch_every", fetch_every),
        ):
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ValueError(f"{name}: {argument} is {value!r}, expected a positive integer")
        if graph and Device(device).type != "cuda":
            raise ValueError(f"{name}: graph is True and device {str(device)!r}, expected a GPU: cuda or cuda:N")
        self.device, self.out, self.progress, self.units = device, out, progress, units
        self.precision, self.accumulate, self.checkpoint_every = precision, accumulate, checkpoint_every
        self.resume, self.options = resume, options or {}
        self.fetch_every = fetch_every or (FETCH_EVERY if Device(device).type == "cuda" else 1)
        self.graph = graph
        self.history: Any = History()
        self.carried: Any = None  # tensors that the model hands from batch to batch
        self.totals = [0.0] * len(self.totals_are)
        self._pending: list[steps.Launched] = []
        self._halt: Tensor | None = None
        self._newest: Path | None = None  # checkpoint that this run wrote, or went on from
        self._graphed = steps.GraphedSteps(self)
        self._batches: Batches | None = None
        self._loader: Any = None
        self._began: float | None = None
        self._seconds_before = self._epoch_seconds = 0.0
        self._say: Callable[[str], None] = lambda text: print(text, flush=True)

    # ---- what a trainer defines --------------------------------------------------------------------------------------

    def parts(self) -> dict[str, Any]:
        """Everything with a ``state_dict`` that a checkpoint holds, by name; None for what this run has not."""
        raise NotImplementedError

    def train_step(self, batches: Sequence[Any]) -> Tensor:
        """One step on so many batches, without waiting for the device; its record: loss, what it adds to the totals,
        the values of ``watched``, and whatever else ``recorded`` takes."""
        raise NotImplementedError

    def after_step(self) -> None:
        """What the host does after a step: schedules."""

    def recorded(self, more: Sequence[float]) -> None:
        """Keep what else a step's record holds; the step is not yet among the history's."""

    def end_epoch(self, number: int, seconds: float) -> None:
        """Add the epoch's row to the history, from the totals; whatever else there is to do then."""
        raise NotImplementedError

    def describe(self, number: int) -> str:
        """The epoch so far, for the progress bar."""
        return f"epoch {number}"

    def finished(self) -> bool:
        """Whether to stop before all epochs are done."""
        return False

    def begin_pass(self) -> None:
        """Called before each pass over a loader: for models that carry a state from batch to batch."""
        self.carried = None

    # ---- the loop ----------------------------------------------------------------------------------------------------

    def train(self, loader: Any, epochs: int) -> None:
        """Train until so many epochs are done, from a checkpoint on if there is one to resume.

        Raises:
            CheckpointError, FileNotFoundError: the checkpoint to resume is damaged, another run's, or not there;
                nothing was changed.
            FloatingPointError: a loss or gradient became NaN or infinite; says at which step and in which layer.
            ValueError: the loader has no batches.
            Interrupted: Ctrl-C or SIGTERM; the step was finished and a checkpoint written.
        """
        if Run.instead is not None:
            return Run.instead(self, loader)
        self._loader, place = loader, None
        if len(loader) == 0:
            raise ValueError(
                f"{type(self).__name__}: the loader gives no batches: is the batch size above its examples?"
            )
        if self.resume is not None:
            place = self._load(checkpoints.find(self.resume))
        else:
            self._say_what_is_replaced()
        per_epoch = -(-len(loader) // self.accumulate)
        with self.running(epochs * per_epoch) as advance, stoppable() as stop:
            while len(self.history.epochs) < epochs and not self.finished():
                number = len(self.history.epochs) + 1
                self._epoch(number, place, stop, advance)
                place = None
                self.end_epoch(number, self._epoch_seconds)
                self._end_pass()
                self.checkpoint()
                self._obey(stop)

    def _epoch(self, number: int, place: Any, stop: Stop, advance: Callable[[str], None]) -> None:
        if place is None:
            self._end_pass()
            self.begin_pass()
        self._batches = Batches(self._loader, place)
        while True:
            began = time.perf_counter()
            batches = list(itertools.islice(self._batches, self.accumulate))
            if not batches:
                self.fetch()
                self._epoch_seconds += time.perf_counter() - began
                return
            self.launch(batches)
            if len(self._pending) >= self.fetch_every:
                self.fetch()
            self._epoch_seconds += time.perf_counter() - began
            advance(self.describe(number) if self.totals[-1] else f"epoch {number}")
            if self.checkpoint_every and self.steps_done % self.checkpoint_every == 0:
                self.checkpoint()
            self._obey(stop, unsaved=True)

    @property
    def steps_done(self) -> int:
        """Steps given to the device, read or not."""
        return len(self.history.step_losses) + len(self._pending)

    def launch(self, batches: Sequence[Any]) -> None:
        """Give a step to the device; ``fetch`` reads its numbers."""
        placed = [self.placed(b) for b in batches]
        start = fastnet.get_rng_state(), self.carried
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # what is not finite is watched
            record = self.counted(self._graphed if self.graph else self.train_step, placed)
        self._pending.append(steps.Launched(record, *start, placed))
        self.after_step()

    def fetch(self) -> None:
        """Read the numbers of the steps since the last time into the history; waits for the device.

        Raises:
            FloatingPointError: a value that is watched is NaN or infinite.
        """
        pending, self._pending = self._pending, []
        if not pending:
            return
        n = 1 + len(self.totals_are)
        for step, values in zip(pending, steps.fetched([p.record for p in pending]), strict=True):
            watched, more = values[n : n + len(self.watched)], values[n + len(self.watched) :]
            for what, value in zip(self.watched, watched, strict=True):
                self._check_finite(what, value, step)
            self.recorded(more)
            self.history.step_losses.append(values[0])
            self.totals = [a + b for a, b in zip(self.totals, values[1:n], strict=True)]

    def update(self, optimizer: Any, loss: Tensor, max_norm: float | None = None, scaler: Any = None) -> Any:
        """Unscale, clip and apply the gradients in one pass over them; the norm of all before clipping, on the device.

        Where the loss or, without a scaler, a gradient is not finite, this step and all after it change nothing.
        Nothing waits for the device, but for optimizers that cannot leave out a step by themselves (Muon).
        """
        halt = self._halt
        if halt is None:
            halt = self._halt = fastnet.zeros(1, dtype=fastnet.float64, device=loss.device)
        halt.copy_(fastnet.maximum(halt, (~loss.detach().isfinite()).double()))
        if not getattr(optimizer, "_step_supports_amp_scaling", False):
            return self._update_waiting(optimizer, max_norm, scaler)
        with steps.halting(optimizer, halt):
            if scaler is None:
                optimizer.step(max_norm=max_norm)
            else:
                scaler.step(optimizer, max_norm=max_norm)
                scaler.update()
        stepped = any(p.grad is not None for group in optimizer.param_groups for p in group["params"])
        return optimizer.grad_norm if stepped else 0.0

    def _update_waiting(self, optimizer: Any, max_norm: float | None, scaler: Any) -> Any:
        if scaler is not None:
            scaler.unscale_(optimizer)
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, math.inf if max_norm is None else max_norm)
        if scaler is not None:
            scaler.step(optimizer)
            scaler.update()
        elif bool(norm.isfinite()) and not bool(self._halt):
            optimizer.step()
        return norm

    def _end_pass(self) -> None:
        self._batches, self.totals, self._epoch_seconds = None, [0.0] * len(self.totals_are), 0.0

    def _obey(self, stop: Stop, unsaved: bool = False) -> None:
        if stop.signal is not None:
            written = self.checkpoint() if unsaved else self._newest
            raise Interrupted(stop.signal, self.steps_done, written)

    def placed(self, batch: Any) -> Any:
        """A batch on the run's device."""
        if isinstance(batch, (list, tuple)):
            return [x.to(self.device) if hasattr(x, "to") else x for x in batch]
        return batch.to(self.device)

    def autocast(self) -> Any:
        """Around forward: what the run's precision asks for."""
        if self.precision not in ("bfloat16", "float16"):
            return nullcontext()
        return fastnet.autocast(str(self.device).split(":")[0], getattr(fastnet, self.precision))

    def _check_finite(self, what: str, value: float, step: steps.Launched) -> None:
        """Raise FloatingPointError for a value that is NaN or infinite: at which step, and where it arose when the step
        is computed again."""
        if math.isfinite(value):
            return
        where = None
        for batch in step.batches:
            fastnet.set_rng_state(step.random_state)
            self.carried = step.carried
            where = where_not_finite(self.parts()["model"], batch, lambda batch=batch: self.diagnosed_loss(batch))
            if where is not None:
                break
        kept = self._newest
        raise FloatingPointError(
            f"the {what} became {'NaN' if value != value else 'infinite'} at step {len(self.history.step_losses) + 1}, "
            f"{where or 'in no layer when computed again'}: a smaller learning rate or clipping (--max-norm) may help"
            + ("" if kept is None else f"; the last checkpoint is {kept}")
        )

    def diagnosed_loss(self, batch: Any) -> Tensor:
        """The loss of a batch, to be computed again."""
        raise NotImplementedError

    # ---- checkpoints -------------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Everything that decides how the run goes on: tensors, plain values, and containers of them."""
        self.fetch()
        h = self.history
        place = None
        if self._batches is not None:
            place = {
                **self._batches.place(),
                "totals": list(self.totals),
                "seconds": self._epoch_seconds,
                "carried": self.carried,
            }
        return {
            **{name: None if part is None else part.state_dict() for name, part in self.parts().items()},
            "run": {
                "kind": type(self).__name__,
                "options": self.options,
                "precision": self.precision,
                "accumulate": self.accumulate,
                "epochs": [asdict(e) for e in h.epochs],
                "step_losses": Tensor._wrap(np.array(h.step_losses, np.float64)),
                "warnings": list(h.warnings),
                "flops_per_step": h.flops_per_step,
                "seconds": self._seconds_so_far(),
                **self.more(),
            },
            "place": place,
            "random": random_state(self._loader),
        }

    def more(self) -> dict[str, Any]:
        """What else a trainer keeps in a checkpoint."""
        return {}

    def set_more(self, state: dict[str, Any]) -> None:
        """Go back to what ``more`` returned."""

    def checkpoint(self) -> Path | None:
        """Write a checkpoint; its JSON file, or None where nothing is written."""
        if self.out is None:
            return None
        state = self.snapshot()
        folder, step = self.out / "checkpoints", len(self.history.step_losses)
        self._newest = checkpoints.write(folder, step, state, end=self._batches is None)
        return self._newest

    def _say_what_is_replaced(self) -> None:
        folder = None if self.out is None else self.out / "checkpoints"
        if folder is not None and folder.is_dir() and any(folder.glob("step_*.json")):
            self.say(f"the checkpoints in {folder} are an earlier run's: this one's take their place")

    def _load(self, path: Path) -> Any:
        """Go on from a checkpoint; the place in a pass, or None between passes."""
        state = checkpoints.read(path)
        resume.check(path, state, self.snapshot(), self.parts(), len(self._loader), len(self.totals), self.Row)
        before = resume.copied(self.snapshot())
        try:
            self._set(state)
        except Exception as error:
            self._set(before)
            raise checkpoints.CheckpointError(f"{path}: {error!r:.300}") from error
        self._newest = path
        self.say(f"going on from {path}: {len(self.history.step_losses)} steps done")
        return state["place"]

    def _set(self, state: dict[str, Any]) -> None:
        self._pending, self._halt = [], None
        self._graphed.clear()
        for name, part in self.parts().items():
            if part is not None:
                part.load_state_dict(state[name])
        run, h = state["run"], self.history
        h.epochs = [self.Row(**row) for row in run["epochs"]]
        h.step_losses = run["step_losses"].tolist()
        h.warnings, h.flops_per_step, self._seconds_before = (
            list(run["warnings"]),
            run["flops_per_step"],
            run["seconds"],
        )
        self.set_more(run)
        place = state["place"]
        if place is not None:
            self.totals, self._epoch_seconds = list(place["totals"]), place["seconds"]
            self.carried = resume.placed(place["carried"], self.device)
        set_random_state(state["random"], self._loader)

    # ---- numbers and files -------------------------------------------------------------------------------------------

    def say(self, text: str) -> None:
        """Print text, above the progress bar where there is one."""
        self._say(text)

    def warn(self, text: str | None) -> None:
        """Say a warning and keep it for the summary; nothing for None."""
        if text is not None:
            self.history.warnings.append(text)
            self.say(f"warning: {text}")

    @contextmanager
    def running(self, total: int) -> Iterator[Callable[[str], None]]:
        """Around a run of so many steps in all: its precision, time and cost; gives what advances the progress bar."""
        history, self._began, meter = self.history, time.perf_counter(), energy.meter_for(self.device)
        before = fastnet.get_float32_matmul_precision()
        if self.precision == "tf32":
            fastnet.set_float32_matmul_precision("high")
        try:
            with self._bar(total) as advance:
                yield advance
        finally:
            fastnet.set_float32_matmul_precision(before)
            self._seconds_before = history.seconds = self._seconds_so_far()
            self._began = None
            history.flops_total = history.flops_per_step * len(history.step_losses)
            history.peak_memory_bytes = cost.peak_memory_bytes(self.device)
            history.joules = None if meter is None else meter.joules()

    def _seconds_so_far(self) -> float:
        return self._seconds_before + (0.0 if self._began is None else time.perf_counter() - self._began)

    @contextmanager
    def _bar(self, total: int) -> Iterator[Callable[[str], None]]:
        if not self.progress:
            yield lambda text: None
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
        with Progress(*columns) as progress:
            task = progress.add_task("starting", total=total, completed=len(self.history.step_losses))
            before, self._say = self._say, lambda text: progress.console.print(text, markup=False, highlight=False)
            yield lambda text: progress.update(task, advance=1, description=text)
            self._say = before

    def counted(self, step: Callable[..., Any], *batch: Any) -> Any:
        """A step's result; the first step's floating-point operations are counted."""
        if Run.profiler is not None:
            return Run.profiler(lambda: step(*batch))
        if self.history.flops_per_step:
            return step(*batch)
        with cost.count() as counted:
            result = step(*batch)
        self.history.flops_per_step = counted.flops
        return result

    def write_metrics(self) -> None:
        """Write metrics.csv: a line an epoch; and steps.csv: a line a step."""
        if self.out is None:
            return
        _write_csv(self.out / "metrics.csv", list(map(asdict, self.history.epochs)))
        _write_csv(self.out / "steps.csv", self.step_rows())

    def step_rows(self) -> list[dict[str, Any]]:
        """The lines of steps.csv."""
        return [{"step": i, "loss": loss} for i, loss in enumerate(self.history.step_losses, 1)]

    def results(self) -> dict[str, Any]:
        """What the summary says of quality."""
        return {}

    def write_summary(self, **more: Any) -> dict[str, Any]:
        """Write summary.json: results and cost."""
        assert self.out is not None
        h = self.history
        peak, known_from = cost.peak_flops_per_second(self.device, self.precision)
        rate = h.flops_total / sum(e.seconds for e in h.epochs)
        summary = {
            **more,
            "epochs": len(h.epochs),
            "steps": len(h.step_losses),
            "precision": self.precision,
            **self.results(),
            "warnings": h.warnings,
            "seconds": h.seconds,
            "flops_per_step": h.flops_per_step,
            "flops_total": h.flops_total,
            "flops_per_second": rate,
            "share_of_peak": rate / peak,
            "peak_flops_per_second": peak,
            "peak_is": known_from,
            "examples_per_second": sum(e.examples_per_second for e in h.epochs) / len(h.epochs),
            "examples_are": self.units,
            "peak_memory_bytes": h.peak_memory_bytes,
            "energy_joules": h.joules,
        }
        (self.out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
        return summary


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    if rows:
        with open(path, "w", newline="") as f:
            writer = csv.DictWriter(f, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
