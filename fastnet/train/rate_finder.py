"""The learning-rate range test: losses while the rate rises, step by step, from far too small to far too large."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastnet.train import figures, resume
from fastnet.train.place import Batches
from fastnet.train.run import Enough, Run
from fastnet.train.trainer import Trainer

STOP, MEMORY = 4.0, 0.9  # the test ends where an exponential moving average of the losses is so many times its least
WIDTH = 0.025  # of the smoothing, as a share of the steps
MARGIN = 3.0  # how far the suggestion stays below the rate at which the loss was least


@dataclass
class RateRange:
    """What the test saw: the rate of each step, its loss, the losses smoothed; and the rate it suggests: that at which
    the smoothed loss fell fastest by the rate's logarithm, or a third of that at which it was least, whichever is
    lower."""

    rates: list[float]
    losses: list[float]
    smoothed: list[float]
    suggestion: float

    @property
    def at_least(self) -> float:
        """The rate at which the smoothed loss was least."""
        return self.rates[int(np.argmin(self.smoothed))]

    def plot(self, path: Path, title: str) -> None:
        """Draw the losses by rate into a PNG file, with the suggestion."""
        figure = figures.new_figure(7, 4.5)
        axes = figure.subplots()
        axes.plot(self.rates, self.losses, color="tab:blue", alpha=0.3, linewidth=0.8, label="a step's loss")
        axes.plot(self.rates, self.smoothed, color="tab:blue", label="smoothed")
        axes.axvline(self.suggestion, color="tab:orange", linestyle="--", label=f"suggestion: {self.suggestion:.2g}")
        axes.axvline(self.at_least, color="tab:gray", linestyle=":", label=f"least loss: {self.at_least:.2g}")
        axes.set(title=title, xlabel="learning rate", ylabel="loss (nats)", xscale="log")
        axes.set_ylim(0, 1.5 * max(self.losses[0], self.smoothed[0]))  # what grows beyond is too high, however far
        axes.grid(alpha=0.3)
        axes.legend()
        figure.savefig(path, dpi=120)


def find_learning_rate(
    trainer: Trainer, loader: Any, *, lowest: float = 1e-5, highest: float = 10.0, steps: int = 150
) -> RateRange:
    """Train for some steps while every group's rate rises from ``lowest`` to ``highest`` by the same factor a step;
    then put everything back: weights, optimizer, schedule, random numbers.

    It ends early where the loss has left its least value far behind, or is no number. Groups keep the ratios
    of their rates; the rates given are the first group's.

    Args:
        trainer: not in training; its schedule rests.
        loader: of batches, begun again when it ends.
        lowest, highest: rates.
        steps: how many from one to the other.

    Raises:
        ValueError: rates that are not 0 < lowest < highest, or fewer than ten steps.
        RuntimeError: the loss was no number within the first ten steps: ``lowest`` is too high.

    Source: Smith 2017, section 3.3.
    """
    if not 0 < lowest < highest or not math.isfinite(highest):
        raise ValueError(f"find_learning_rate: the range is {lowest} to {highest}, expected 0 < lowest < highest")
    if steps < 10:
        raise ValueError(f"find_learning_rate: steps is {steps}, expected at least 10")
    trainer._loader = loader  # whose own generator, where it has one, is put back too
    before = resume.copied(trainer.snapshot())
    scheduler, trainer.scheduler = trainer.scheduler, None  # rates are not its business here
    groups = trainer.optimizer.param_groups
    shares = [float(g["lr"]) / float(groups[0]["lr"]) for g in groups]
    rates, losses, averages = [], [], []
    average = 0.0
    batches = itertools.chain.from_iterable(Batches(loader) for _ in itertools.count())
    try:
        with trainer.running(steps) as advance:
            for i in range(steps):
                rate = lowest * (highest / lowest) ** (i / (steps - 1))
                for group, share in zip(groups, shares, strict=True):
                    group["lr"] = rate * share
                trainer.launch(list(itertools.islice(batches, trainer.accumulate)))
                try:
                    trainer.fetch()
                except FloatingPointError:
                    break
                loss = trainer.history.step_losses[-1]
                average = MEMORY * average + (1 - MEMORY) * loss
                rates.append(rate)
                losses.append(loss)
                averages.append(average / (1 - MEMORY ** (i + 1)))
                advance(f"learning rate {rate:.1e}  loss {loss:.4f}")
                if i >= 10 and averages[-1] > STOP * min(averages):
                    break
    finally:
        trainer.scheduler = scheduler
        trainer._set(before)
    if len(rates) < 10:
        raise RuntimeError(f"find_learning_rate: the loss was no number after {len(rates)} steps from rate {lowest}")
    smoothed = _smoothed(np.array(losses), max(2.0, WIDTH * steps))
    least = int(np.argmin(smoothed))
    fastest = int(np.argmin(np.gradient(smoothed, np.log(rates))[: least + 1]))
    return RateRange(rates, losses, smoothed.tolist(), min(rates[fastest], rates[least] / MARGIN))


def _smoothed(losses: np.ndarray, width: float) -> np.ndarray:
    """The median of each loss and the three on either side, which a single bad step does not move, then a Gaussian
    average of so many steps' width: neither lags behind the rates."""
    steps = np.arange(len(losses))
    medians = np.array([np.median(losses[max(0, i - 3) : i + 4]) for i in steps])
    weights = np.exp(-0.5 * ((steps[:, None] - steps) / width) ** 2)
    return weights @ medians / weights.sum(1)


def find_for(run: Callable[[], Any], **options: Any) -> RateRange:
    """The test of what ``run`` would train, in place of its training; options as ``find_learning_rate``'s.

    Raises:
        TypeError: it is not trained by a ``Trainer``.
        RuntimeError: nothing was to be trained.
    """
    found: list[RateRange] = []

    def instead(trainer: Run, loader: Any) -> None:
        if not isinstance(trainer, Trainer):
            raise TypeError(
                f"find_learning_rate: {type(trainer).__name__} trains, expected Trainer: the losses of a game need not "
                "fall where it goes well"
            )
        found.append(find_learning_rate(trainer, loader, **options))
        raise Enough

    Run.instead = instead
    try:
        run()
    except Enough:
        return found[0]
    finally:
        Run.instead = None
    raise RuntimeError("find_learning_rate: the run ended without training")
