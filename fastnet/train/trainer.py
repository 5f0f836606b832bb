"""The training loop of a classifier, of examples or of each position of sequences: validation, best checkpoint,
metrics as CSV, curves as PNG, cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import fastnet
from fastnet import nn
from fastnet._serialization import save
from fastnet._tensor import Tensor
from fastnet.amp import GradScaler
from fastnet.optim.lr_scheduler import ReduceLROnPlateau
from fastnet.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from fastnet.train import diagnosis, figures, inspection
from fastnet.train.run import History as RunHistory
from fastnet.train.run import Run
from fastnet.train.steps import record_of

RECORDED = 400  # gradient norms by layer are kept for about so many steps of a run
GROUPS = 1024  # of validation targets, at most, whose mean losses are compared from epoch to epoch


@dataclass
class Epoch:
    """One line of metrics.csv. Losses are means over targets in nats, accuracies shares, times seconds;
    ``validation_rise_error`` is the standard error of what ``validation_loss`` lies above the least until then, from
    the differences target by target; ``gradient_norm`` is the mean over steps, before clipping, ``learning_rate`` that
    of the last step."""

    epoch: int
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    validation_rise_error: float
    gradient_norm: float
    learning_rate: float
    seconds: float
    examples_per_second: float


@dataclass
class History(RunHistory):
    """What a run gave. ``gradient_norms`` has a norm a step, of all gradients before clipping; ``layer_norms`` those of
    each layer's weights at ``layer_steps``, by layer from the first to the last; ``least_losses`` the validation losses
    of the epoch where their mean was least, as means of groups of targets. Of models with a recurrent layer,
    ``time_norms`` has for each epoch what ``inspection.gradients_by_time`` gives of validation's first batch."""

    epochs: list[Epoch] = field(default_factory=list)
    best_by: str = "accuracy"
    gradient_norms: list[float] = field(default_factory=list)
    layer_steps: list[int] = field(default_factory=list)
    layer_norms: list[list[float]] = field(default_factory=list)
    least_losses: np.ndarray = field(default_factory=lambda: np.zeros(0))
    time_norms: list[list[float]] = field(default_factory=list)

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
        out: folder for metrics.csv, steps.csv, checkpoint.safetensors (the best model), checkpoints (to resume from),
            curves.png, gradients.png and, of a network with convolutions, features.png, of one with recurrent layers,
            gradients_by_time.png. None writes nothing.
        progress: whether to draw a progress bar.
        units: what a target is called, in the plural: images, characters.
        best_by: the validation number that decides which checkpoint is kept: "accuracy" or "loss".
        max_norm: gradients are scaled so that their norm is at most this; None leaves them.
        ema: decay of an exponential moving average of the weights, which is what is validated and kept; None without.
        patience: epochs without a better validation number after which training stops; None never.
        after_epoch: called with the epoch's number once its numbers are written.
        precision, accumulate, checkpoint_every, fetch_every, graph, resume, options: as ``Run``'s.
    """

    Row = Epoch
    totals_are = ("loss", "right", "targets", "gradient norm", "steps")

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
        ema: float | None = None,
        patience: int | None = None,
        after_epoch: Callable[[int], None] | None = None,
        precision: str = "float32",
        accumulate: int = 1,
        checkpoint_every: int | None = None,
        fetch_every: int | None = None,
        graph: bool = False,
        resume: Path | None = None,
        options: dict[str, Any] | None = None,
    ):
        super().__init__(
            device,
            out,
            progress,
            units,
            precision=precision,
            accumulate=accumulate,
            checkpoint_every=checkpoint_every,
            fetch_every=fetch_every,
            graph=graph,
            resume=resume,
            options=options,
        )
        if best_by not in ("accuracy", "loss"):
            raise ValueError(f"Trainer: best_by is {best_by!r}, expected 'accuracy' or 'loss'")
        if schedule_by not in ("epoch", "step"):
            raise ValueError(f"Trainer: schedule_by is {schedule_by!r}, expected 'epoch' or 'step'")
        if patience is not None and patience < 1:
            raise ValueError(f"Trainer: patience is {patience!r}, expected a positive number of epochs")
        self.model, self.optimizer, self.scheduler, self.schedule_by = model, optimizer, scheduler, schedule_by
        self.max_norm, self.patience, self.after_epoch = max_norm, patience, after_epoch
        self.ema = None if ema is None else AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(ema))
        self.scaler = GradScaler(str(device).split(":")[0]) if precision == "float16" else None
        # With a scaler an infinite gradient skips the step and lowers the scale.
        self.watched = ("loss", "gradient") if self.scaler is None else ("loss",)
        self.loss, self._each_loss = nn.CrossEntropyLoss(), nn.CrossEntropyLoss(reduction="none")
        self.history: History = History(best_by=best_by)
        self._layers = diagnosis.layers_of(model)
        self._record_every = 1
        self._first: tuple[Any, Tensor] | None = None  # batch of the last loader that was evaluated

    def parts(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "optimizer": self.optimizer,
            "scheduler": self.scheduler,
            "scaler": self.scaler,
            "ema": self.ema,
        }

    def more(self) -> dict[str, Any]:
        h = self.history
        return {
            "gradient_norms": Tensor._wrap(np.array(h.gradient_norms, np.float64)),
            "layer_steps": Tensor._wrap(np.array(h.layer_steps, np.int64)),
            "layer_norms": Tensor._wrap(np.array(h.layer_norms, np.float64).reshape(-1, len(self._layers))),
            "least_losses": Tensor._wrap(h.least_losses),
            "time_norms": h.time_norms,
        }

    def set_more(self, state: dict[str, Any]) -> None:
        h = self.history
        h.gradient_norms, h.layer_steps = state["gradient_norms"].tolist(), state["layer_steps"].tolist()
        h.layer_norms = state["layer_norms"].tolist()
        h.least_losses = state["least_losses"].numpy()
        h.time_norms = [[float(v) for v in norms] for norms in state["time_norms"]]

    def logits(self, x: Any) -> Tensor:
        """The model's logits for a batch."""
        return self.model(x)

    def _judged(self, x: Any, y: Tensor, criterion: nn.Module | None = None) -> tuple[Tensor, Tensor]:
        """Mean loss of a batch, or what another criterion makes of it, and how many targets were right."""
        with self.autocast():
            logits = self.logits(x)
            logits, y = logits.reshape(-1, logits.shape[-1]), y.reshape(-1)
            loss = (criterion or self.loss)(logits, y)
        return loss, (logits.detach().argmax(1) == y).sum()

    def diagnosed_loss(self, batch: Any) -> Tensor:
        return self._judged(*batch)[0]

    def step(self, x: Any, y: Tensor) -> tuple[float, int]:
        """One optimizer step on one batch; its loss and how many targets were right."""
        before = self.totals[1]
        self.launch([(x, y)])
        self.fetch()
        return self.history.step_losses[-1], int(self.totals[1] - before)

    def train_step(self, batches: Sequence[Any]) -> Tensor:
        self.optimizer.zero_grad()
        mean: Any = 0.0
        total, right, count = 0.0, 0, 0
        for x, y in batches:
            loss, correct = self._judged(x, y)
            share = loss / len(batches) if len(batches) > 1 else loss
            (share if self.scaler is None else self.scaler.scale(share)).backward()
            wide = loss.detach().double()
            mean, total = mean + wide, total + wide * y.numel()
            right, count = right + correct, count + y.numel()
        mean = mean / len(batches)
        layers = self._layer_norms()
        norm = self.update(self.optimizer, mean, self.max_norm, self.scaler)
        if self.ema is not None:
            self.ema.update_parameters(self.model)
        watched = [mean] if self.scaler is not None else [mean, norm]
        return record_of([mean, total, right, count, norm, 1, *watched, norm, *layers])

    def _layer_norms(self) -> list[Any]:
        """Gradient norms of the layers, in the steps that record them; in a CUDA graph, where all steps are alike, in
        all."""
        if not self.graph and self.steps_done % self._record_every:
            return []
        norms = diagnosis.gradient_norms(list(self._layers.values()))
        return norms if self.scaler is None else [n / self.scaler.get_scale_array() for n in norms]

    def after_step(self) -> None:
        if self.scheduler is not None and self.schedule_by == "step":
            self.scheduler.step()

    def recorded(self, more: Sequence[float]) -> None:
        h = self.history
        h.gradient_norms.append(more[0])
        if len(h.step_losses) % self._record_every == 0:
            h.layer_steps.append(len(h.step_losses) + 1)
            h.layer_norms.append(list(more[1:]))

    def evaluate(self, loader: Any) -> tuple[float, float]:
        """Mean loss and accuracy over a loader, in evaluation mode."""
        losses, accuracy = self._evaluated(loader)
        return float(losses.mean()), accuracy

    def _evaluated(self, loader: Any) -> tuple[np.ndarray, float]:
        """The loss of each target of a loader, float64, and the accuracy, in evaluation mode."""
        self.model.eval()
        self.begin_pass()
        self._first = None
        losses: list[Tensor] = []
        right: Any = 0
        with fastnet.no_grad():
            for batch in loader:
                x, y = self.placed(batch)
                self._first = self._first or (x, y)
                each, correct = self._judged(x, y, self._each_loss)
                losses.append(each.double())
                right = right + correct
        self.model.train()
        values = fastnet.cat(losses).numpy(force=True)
        return values, int(right) / len(values)

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Inside, the model is the one with averaged weights, where they are kept."""
        model = self.model
        if self.ema is not None:
            self.model = self.ema.module
        try:
            yield
        finally:
            self.model = model

    def fit(self, train: Any, validation: Any, epochs: int) -> History:
        """Train until so many epochs are done or patience is at its end; keeps the checkpoint of the best validation
        accuracy, or loss. Raises as ``Run.train``."""
        self._validation = validation
        self._record_every = max(1, epochs * len(train) // self.accumulate // RECORDED)
        self.train(train, epochs)
        return self.history

    def load_best(self) -> None:
        """Give the model the weights of the best checkpoint, where one was written."""
        if self.out is not None:
            self.model.load_state_dict(fastnet.load(self.out / "checkpoint.safetensors", map_location=self.device))

    def end_epoch(self, number: int, seconds: float) -> None:
        total, right, n, norms, steps = self.totals
        rate = float(self.optimizer.param_groups[0]["lr"])
        history = self.history
        with self._averaged():
            losses, accuracy = self._evaluated(self._validation)
            loss, error = float(losses.mean()), self._rise_error(losses)
            history.epochs.append(
                Epoch(number, total / n, right / n, loss, accuracy, error, norms / steps, rate, seconds, n / seconds)
            )
            self._look_at_time()
            if self.out is not None and history.best is history.epochs[-1]:
                save(self.model.state_dict(), self.out / "checkpoint.safetensors")
        self.write_metrics()
        self._warn_of_trouble(len(losses))
        if self.scheduler is not None and self.schedule_by == "epoch":
            self.scheduler.step(*[loss] * isinstance(self.scheduler, ReduceLROnPlateau))
        if self.after_epoch is not None:
            self.after_epoch(number)

    def _rise_error(self, losses: np.ndarray) -> float:
        """``Epoch.validation_rise_error`` of an epoch of these losses; they are kept where their mean is the least."""
        h = self.history
        least = min((e.validation_loss for e in h.epochs), default=np.inf)
        groups = np.array([part.mean() for part in np.array_split(losses, min(len(losses), GROUPS))])
        if losses.mean() < least:
            h.least_losses = groups
            return 0.0
        if len(groups) != len(h.least_losses):  # another number of targets: there are no pairs
            return float(np.hypot(diagnosis.standard_error(groups), diagnosis.standard_error(h.least_losses)))
        return diagnosis.standard_error(groups - h.least_losses)

    def _look_at_time(self) -> None:
        """Add the epoch's ``History.time_norms``, where there is a recurrent layer. In evaluation mode it draws no
        random numbers, and it leaves gradients alone: the run's bits are as without."""
        layer = inspection.recurrent_layer(self.model)
        if layer is None or self._first is None:
            return
        x, y = self._first

        def loss() -> Tensor:
            logits = self.logits(x)
            last = (logits, y) if logits.dim() == 2 else (logits[:, -1], y[:, -1])
            return self._each_loss(*last).sum()

        self.begin_pass()
        with inspection.evaluating(self.model):
            self.history.time_norms.append(inspection.gradients_by_time(layer, loss).tolist())
        self.begin_pass()

    def _warn_of_trouble(self, targets: int) -> None:
        """Say once what the numbers say of overfitting, from so many targets of validation, and of the first layer's
        gradients."""
        h = self.history
        steps = self.totals[-1]
        norms = np.array(
            [n for s, n in zip(h.layer_steps, h.layer_norms, strict=True) if s > len(h.step_losses) - steps]
        )
        sizes = [p.numel() for p in self._layers.values()]
        first_layers = diagnosis.first_layers(list(self._layers), sizes, norms)
        for text in (diagnosis.overfitting(h.epochs, targets), first_layers):
            if text is not None and not any(w.split(":")[0] == text.split(":")[0] for w in h.warnings):
                self.warn(text)

    def finished(self) -> bool:
        h = self.history
        return bool(self.patience and h.epochs and len(h.epochs) - h.best.epoch >= self.patience)

    def describe(self, number: int) -> str:
        total, right, n = self.totals[:3]
        return f"epoch {number}  loss {total / n:.4f}  accuracy {right / n:.1%}"

    def step_rows(self) -> list[dict[str, Any]]:
        h = self.history
        pairs = zip(h.step_losses, h.gradient_norms, strict=True)
        return [{"step": i, "loss": loss, "gradient_norm": norm} for i, (loss, norm) in enumerate(pairs, 1)]

    def results(self) -> dict[str, Any]:
        best = self.history.best
        return {
            "best_epoch": best.epoch,
            "validation_accuracy": best.validation_accuracy,
            "validation_loss": best.validation_loss,
        }

    def plot(self, title: str) -> Path:
        """Draw losses and accuracies by epoch into curves.png, gradient norms by step into gradients.png; and what the
        class's documentation says of convolutions and recurrent layers."""
        assert self.out is not None
        h = self.history
        if h.time_norms:
            figures.draw_gradients_by_time(h.time_norms, self.out / "gradients_by_time.png", title)
        filters = inspection.first_filters(self.model)
        if filters is not None and self._first is not None and isinstance(self._first[0], Tensor):
            images = self._first[0]
            maps = inspection.feature_maps(self.model, images)
            image = images[0].float().numpy(force=True)
            figures.draw_features(image, *filters, maps, self.out / "features.png", title)
        figures.draw_gradients(
            h.gradient_norms,
            h.layer_steps,
            np.array(h.layer_norms),
            list(self._layers),
            self.out / "gradients.png",
            title,
        )
        figure = figures.new_figure(10, 4)
        figure.suptitle(title)
        epochs = h.epochs
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
