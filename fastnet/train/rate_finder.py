"""The learning-rate range test: losses while the rate rises, step by step, from far too small to far too large."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastnet.train import figures, resume
from fastnet.train.place import Batches
from fastnet.train.trainer import Trainer

SMOOTHING = 0.9  # of the losses, as an exponential moving average
STOP = 4.0  # the test ends where the smoothed loss is so many times the least


@dataclass
class RateRange:
    """What the test saw: the rate of each step, its loss, the losses smoothed; and the rate it suggests, at which the
    smoothed loss fell fastest by the rate's logarithm."""

    rates: list[float]
    losses: list[float]
    smoothed: list[float]
    suggestion: float

    def plot(self, path: Path, title: str) -> None:
        """Draw the losses by rate into a PNG file, with the suggestion."""
        figure = figures.new_figure(7, 4.5)
        axes = figure.subplots()
        axes.plot(self.rates, self.losses, color="tab:blue", alpha=0.3, linewidth=0.8, label="a step's loss")
        axes.plot(self.rates, self.smoothed, color="tab:blue", label="smoothed")
        axes.axvline(self.suggestion, color="tab:orange", linestyle="--", label=f"suggestion: {self.suggestion:.2g}")
        top = STOP * min(self.smoothed)
        axes.set(title=title, xlabel="learning rate", ylabel="loss (nats)", xscale="log")
        axes.set_ylim(0, max(top, max(self.smoothed)) * 1.05)
        axes.grid(alpha=0.3)
        axes.legend()
        figure.savefig(path, dpi=120)


def find_learning_rate(
    trainer: Trainer, loader: Any, *, lowest: float = 1e-6, highest: float = 10.0, steps: int = 100
) -> RateRange:
    """Train for some steps while every group's rate rises from ``lowest`` to ``highest`` by the same factor a step;
    then put everything back: weights, optimizer, schedule, random numbers.

    It ends early where the smoothed loss has left its least value far behind, or is no number. Groups keep the ratios
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
    before = resume.copied(trainer.snapshot())
    scheduler, trainer.scheduler = trainer.scheduler, None
    groups = trainer.optimizer.param_groups
    shares = [float(g["lr"]) / float(groups[0]["lr"]) for g in groups]
    rates, losses, smoothed = [], [], []
    average = 0.0
    batches = itertools.chain.from_iterable(Batches(loader) for _ in itertools.count())
    try:
        for i in range(steps):
            rate = lowest * (highest / lowest) ** (i / (steps - 1))
            for group, share in zip(groups, shares, strict=True):
                group["lr"] = rate * share
            taken = [trainer.placed(b) for b in itertools.islice(batches, trainer.accumulate)]
            try:
                with np.errstate(over="ignore", invalid="ignore"):
                    loss, _ = trainer.train_step(taken)
            except FloatingPointError:
                break
            average = SMOOTHING * average + (1 - SMOOTHING) * loss
            rates.append(rate)
            losses.append(loss)
            smoothed.append(average / (1 - SMOOTHING ** (i + 1)))
            if i >= 10 and smoothed[-1] > STOP * min(smoothed):
                break
    finally:
        trainer.scheduler = scheduler
        trainer._set(before)
    if len(rates) < 10:
        raise RuntimeError(f"find_learning_rate: the loss was no number after {len(rates)} steps from rate {lowest}")
    slope = np.gradient(smoothed, np.log(rates))
    best = int(np.argmin(slope[: int(np.argmin(smoothed)) + 1]))
    return RateRange(rates, losses, smoothed, rates[best])
