"""The training loop of a classifier: progress bar, validation, best checkpoint, metrics as CSV, curves as PNG, cost."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import fastnet
from fastnet import nn
from fastnet._serialization import save
from fastnet._tensor import Tensor
from fastnet.utils import cost


@dataclass
class Epoch:
    """One line of metrics.csv. Losses are means over examples in nats, accuracies shares, times seconds."""

    epoch: int
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    learning_rate: float
    seconds: float
    examples_per_second: float


@dataclass
class History:
    """What a run gave."""

    epochs: list[Epoch] = field(default_factory=list)
    step_losses: list[float] = field(default_factory=list)
    flops_per_step: int = 0
    flops_total: int = 0
    seconds: float = 0.0
    peak_memory_bytes: int = 0

    @property
    def best(self) -> Epoch:
        return max(self.epochs, key=lambda e: (e.validation_accuracy, -e.validation_loss))


class Trainer:
    """Trains a classifier on batches (x, y).

    Args:
        model: gives logits (N, C).
        optimizer: over the model's parameters.
        scheduler: stepped once an epoch, or None.
        device: where batches go.
        out: folder for metrics.csv, checkpoint.safetensors and curves.png; created. None writes nothing.
        progress: whether to draw a progress bar.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Any,
        *,
        scheduler: Any = None,
        device: str = "cpu",
        out: Path | None = None,
        progress: bool = True,
    ):
        self.model, self.optimizer, self.scheduler, self.device = model, optimizer, scheduler, device
        self.out, self.progress = out, progress
        self.loss = nn.CrossEntropyLoss()
        self.history = History()

    def step(self, x: Tensor, y: Tensor) -> tuple[float, int]:
        """One optimizer step on a batch; its loss and how many examples were right."""
        logits = self.model(x)
        loss = self.loss(logits, y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        value = loss.item()
        if value != value:
            raise FloatingPointError(
                f"the loss became NaN at step {len(self.history.step_losses) + 1}: try a smaller learning rate"
            )
        return value, int((logits.argmax(1) == y).sum().item())

    def evaluate(self, loader: Any) -> tuple[float, float]:
        """Mean loss and accuracy over a loader, in evaluation mode."""
        self.model.eval()
        total, right, n = 0.0, 0, 0
        with fastnet.no_grad():
            for x, y in loader:
                x, y = x.to(self.device), y.to(self.device)
                logits = self.model(x)
                total += self.loss(logits, y).item() * len(y)
                right += int((logits.argmax(1) == y).sum().item())
                n += len(y)
        self.model.train()
        return total / n, right / n

    def fit(self, train: Any, validation: Any, epochs: int) -> History:
        """Train for so many epochs; keeps the checkpoint of the best validation accuracy.

        KeyboardInterrupt ends training after the current epoch's numbers so far are written.
        """
        history = self.history
        began = time.perf_counter()
        with self._progress(epochs * len(train)) as advance:
            for number in range(1, epochs + 1):
                history.epochs.append(self._epoch(number, train, validation, advance))
                if self.out is not None:
                    if history.best is history.epochs[-1]:
                        save(self.model.state_dict(), self.out / "checkpoint.safetensors")
                    self._write_metrics()
                if self.scheduler is not None:
                    self.scheduler.step()
        history.seconds = time.perf_counter() - began
        history.flops_total = history.flops_per_step * len(history.step_losses)
        history.peak_memory_bytes = cost.peak_memory_bytes()
        return history

    def _epoch(self, number: int, train: Any, validation: Any, advance: Callable[[str], None]) -> Epoch:
        history = self.history
        rate = self.optimizer.param_groups[0]["lr"]
        total, right, n = 0.0, 0, 0
        started = time.perf_counter()
        for x, y in train:
            x, y = x.to(self.device), y.to(self.device)
            if history.flops_per_step:
                loss, correct = self.step(x, y)
            else:
                with cost.count() as counted:
                    loss, correct = self.step(x, y)
                history.flops_per_step = counted.flops
            history.step_losses.append(loss)
            total, right, n = total + loss * len(y), right + correct, n + len(y)
            advance(f"epoch {number}  loss {total / n:.4f}  accuracy {right / n:.1%}")
        seconds = time.perf_counter() - started
        validation_loss, validation_accuracy = self.evaluate(validation)
        return Epoch(
            number, total / n, right / n, validation_loss, validation_accuracy, float(rate), seconds, n / seconds
        )

    def _progress(self, steps: int) -> Any:
        from contextlib import contextmanager

        @contextmanager
        def bar() -> Any:
            if not self.progress:
                yield lambda text: None
                return
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
            with Progress(*columns) as progress:
                task = progress.add_task("starting", total=steps)
                yield lambda text: progress.update(task, advance=1, description=text)

        return bar()

    def _write_metrics(self) -> None:
        assert self.out is not None
        with open(self.out / "metrics.csv", "w", newline="") as f:
            writer = csv.DictWriter(f, fieldnames=list(asdict(self.history.epochs[0])))
            writer.writeheader()
            writer.writerows(asdict(e) for e in self.history.epochs)

    def plot(self, title: str) -> Path:
        """Draw losses and accuracies by epoch into curves.png."""
        assert self.out is not None
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(10, 4), layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle(title)
        epochs = self.history.epochs
        x = [e.epoch for e in epochs]
        left, right = figure.subplots(1, 2)
        left.plot(x, [e.train_loss for e in epochs], marker="o", markersize=3, label="training")
        left.plot(x, [e.validation_loss for e in epochs], marker="o", markersize=3, label="validation")
        left.set(title="Cross-entropy loss", xlabel="epoch", ylabel="loss (nats per example)", yscale="log")
        right.plot(
            x, [100 * e.train_accuracy for e in epochs], marker="o", markersize=3, label="training (with dropout)"
        )
        right.plot(x, [100 * e.validation_accuracy for e in epochs], marker="o", markersize=3, label="validation")
        right.set(title="Accuracy", xlabel="epoch", ylabel="correct (%)")
        for axes in (left, right):
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.grid(alpha=0.3)
            axes.legend()
        path = self.out / "curves.png"
        figure.savefig(path, dpi=120)
        return path

    def write_summary(self, **more: Any) -> dict[str, Any]:
        """Write summary.json: results and cost."""
        assert self.out is not None
        h = self.history
        summary = {
            **more,
            "epochs": len(h.epochs),
            "steps": len(h.step_losses),
            "best_epoch": h.best.epoch,
            "validation_accuracy": h.best.validation_accuracy,
            "seconds": h.seconds,
            "flops_per_step": h.flops_per_step,
            "flops_total": h.flops_total,
            "flops_per_second": h.flops_total / sum(e.seconds for e in h.epochs),
            "examples_per_second": sum(e.examples_per_second for e in h.epochs) / len(h.epochs),
            "peak_memory_bytes": h.peak_memory_bytes,
        }
        (self.out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
        return summary
