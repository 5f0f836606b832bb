"""The training loop of a classifier, of examples or of each position of sequences: validation, best checkpoint,
metrics as CSV, curves as PNG, cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fastnet
from fastnet import nn
from fastnet._serialization import save
from fastnet._tensor import Tensor
from fastnet.train import figures
from fastnet.train.run import History as RunHistory
from fastnet.train.run import Run


@dataclass
class Epoch:
    """One line of metrics.csv. Losses are means over targets in nats, accuracies shares, times seconds."""

    epoch: int
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    learning_rate: float
    seconds: float
    examples_per_second: float


@dataclass
class History(RunHistory):
    """What a run gave."""

    epochs: list[Epoch] = field(default_factory=list)
    best_by: str = "accuracy"

    @property
    def best(self) -> Epoch:
        """The epoch whose model is kept."""
        if self.best_by == "loss":
            return min(self.epochs, key=lambda e: e.validation_loss)
        return max(self.epochs, key=lambda e: (e.validation_accuracy, -e.validation_loss))


class Trainer(Run):
    """Trains a classifier on batches (x, y).

    Args:
        model: gives logits (N, C), or (N, T, C) for sequences; y has their shape without C.
        optimizer: over the model's parameters.
        scheduler: of the learning rate, or None.
        schedule_by: when it steps: after each "epoch" or each "step".
        device: where batches go.
        out: folder for metrics.csv, checkpoint.safetensors and curves.png. None writes nothing.
        progress: whether to draw a progress bar.
        units: what a target is called, in the plural: images, characters.
        best_by: the validation number that decides which checkpoint is kept: "accuracy" or "loss".
        max_norm: gradients are scaled so that their norm is at most this; None leaves them.
        after_epoch: called with the epoch's number once its numbers are written.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Any,
        *,
        scheduler: Any = None,
        schedule_by: str = "epoch",
        device: str = "cpu",
        out: Path | None = None,
        progress: bool = True,
        units: str = "images",
        best_by: str = "accuracy",
        max_norm: float | None = None,
        after_epoch: Callable[[int], None] | None = None,
    ):
        super().__init__(device, out, progress, units)
        if best_by not in ("accuracy", "loss"):
            raise ValueError(f"Trainer: best_by is {best_by!r}, expected 'accuracy' or 'loss'")
        if schedule_by not in ("epoch", "step"):
            raise ValueError(f"Trainer: schedule_by is {schedule_by!r}, expected 'epoch' or 'step'")
        self.model, self.optimizer, self.scheduler, self.schedule_by = model, optimizer, scheduler, schedule_by
        self.max_norm, self.after_epoch = max_norm, after_epoch
        self.loss = nn.CrossEntropyLoss()
        self.history: History = History(best_by=best_by)

    def begin_pass(self) -> None:
        """Called before each pass over a loader: for models that carry a state from batch to batch."""

    def logits(self, x: Any) -> Tensor:
        """The model's logits for a batch."""
        return self.model(x)

    def _judged(self, x: Any, y: Tensor) -> tuple[Tensor, int]:
        """Mean loss of a batch, and how many targets were right."""
        logits = self.logits(x)
        logits, y = logits.reshape(-1, logits.shape[-1]), y.reshape(-1)
        return self.loss(logits, y), int((logits.detach().argmax(1) == y).sum().item())

    def step(self, x: Any, y: Tensor) -> tuple[float, int]:
        """One optimizer step on a batch; its loss and how many targets were right."""
        loss, right = self._judged(x, y)
        self.optimizer.zero_grad()
        loss.backward()
        if self.max_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.max_norm)
        self.optimizer.step()
        if self.scheduler is not None and self.schedule_by == "step":
            self.scheduler.step()
        return self.finite("loss", loss.item()), right

    def evaluate(self, loader: Any) -> tuple[float, float]:
        """Mean loss and accuracy over a loader, in evaluation mode."""
        self.model.eval()
        self.begin_pass()
        total, right, n = 0.0, 0, 0
        with fastnet.no_grad():
            for x, y in loader:
                loss, correct = self._judged(x.to(self.device), y.to(self.device))
                total, right, n = total + loss.item() * y.numel(), right + correct, n + y.numel()
        self.model.train()
        return total / n, right / n

    def fit(self, train: Any, validation: Any, epochs: int) -> History:
        """Train for so many epochs; keeps the checkpoint of the best validation accuracy, or loss.

        KeyboardInterrupt ends training after the current epoch's numbers so far are written.
        """
        history = self.history
        with self.running(epochs * len(train)) as advance:
            for number in range(1, epochs + 1):
                history.epochs.append(self._epoch(number, train, validation, advance))
                if self.out is not None and history.best is history.epochs[-1]:
                    save(self.model.state_dict(), self.out / "checkpoint.safetensors")
                self.write_metrics()
                if self.scheduler is not None and self.schedule_by == "epoch":
                    self.scheduler.step()
                if self.after_epoch is not None:
                    self.after_epoch(number)
        return history

    def _epoch(self, number: int, train: Any, validation: Any, advance: Callable[[str], None]) -> Epoch:
        rate = self.optimizer.param_groups[0]["lr"]
        total, right, n = 0.0, 0, 0
        started = time.perf_counter()
        self.begin_pass()
        for x, y in train:
            x, y = x.to(self.device), y.to(self.device)
            loss, correct = self.counted(self.step, x, y)
            self.history.step_losses.append(loss)
            total, right, n = total + loss * y.numel(), right + correct, n + y.numel()
            advance(f"epoch {number}  loss {total / n:.4f}  accuracy {right / n:.1%}")
        seconds = time.perf_counter() - started
        validation_loss, validation_accuracy = self.evaluate(validation)
        return Epoch(
            number, total / n, right / n, validation_loss, validation_accuracy, float(rate), seconds, n / seconds
        )

    def results(self) -> dict[str, Any]:
        best = self.history.best
        return {
            "best_epoch": best.epoch,
            "validation_accuracy": best.validation_accuracy,
            "validation_loss": best.validation_loss,
        }

    def plot(self, title: str) -> Path:
        """Draw losses and accuracies by epoch into curves.png."""
        assert self.out is not None
        figure = figures.new_figure(10, 4)
        figure.suptitle(title)
        epochs = self.history.epochs
        x = [e.epoch for e in epochs]
        left, right = figure.subplots(1, 2)
        losses = [v for e in epochs for v in (e.train_loss, e.validation_loss)]
        figures.draw_lines(
            left,
            x,
            {"training": [e.train_loss for e in epochs], "validation": [e.validation_loss for e in epochs]},
            title="Cross-entropy loss",
            xlabel="epoch",
            ylabel="mean loss (nats)",
            yscale="log" if max(losses) > 4 * min(losses) else "linear",
        )
        figures.draw_lines(
            right,
            x,
            {
                "training (in training mode)": [100 * e.train_accuracy for e in epochs],
                "validation": [100 * e.validation_accuracy for e in epochs],
            },
            title="Accuracy",
            xlabel="epoch",
            ylabel=f"{self.units} right (%)",
        )
        path = self.out / "curves.png"
        figure.savefig(path, dpi=120)
        return path
