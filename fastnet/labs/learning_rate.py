"""Too small a learning rate crawls, too large a one diverges, a falling one settles: ``fastnet lab learning-rate``.

A network learns digits at rates over six orders of magnitude, for the same number of steps. Then at a high rate that
still learns, held or falling along a cosine (Loshchilov and Hutter 2017).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

import fastnet
from fastnet.labs._experiment import (
    Finding,
    Report,
    digits_with,
    draw_band,
    draw_groups,
    evaluate,
    finish,
    mlp,
    panels,
    train,
)


@dataclass(frozen=True)
class Settings:
    seeds: int = 10
    rates: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
    high: float = 1.0
    steps: int = 400


QUICK = Settings(seeds=5, rates=(1e-4, 1e-1, 100.0), steps=200)
WORST = 1e3  # nats: where a diverged run is drawn


def final_loss(rate: float, settings: Settings, seed: int, falling: bool = False) -> tuple[float, float]:
    """Training loss in nats at the start and at the end; WORST where it is not finite."""
    data, _, _ = digits_with(600, seed)
    fastnet.manual_seed(seed)
    model = mlp(64, 32, 10)
    optimizer = fastnet.optim.SGD(model.parameters(), lr=rate)
    scheduler = fastnet.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=settings.steps) if falling else None
    start = evaluate(model, data)[0]
    with np.errstate(over="ignore", invalid="ignore"):
        train(model, optimizer, data, steps=settings.steps, batch_size=8, seed=seed, scheduler=scheduler)
        end = evaluate(model, data)[0]
    return start, min(end, WORST) if math.isfinite(end) else WORST


def run(settings: Settings) -> Report:
    seeds = range(settings.seeds)
    losses = np.array([[final_loss(rate, settings, seed) for rate in settings.rates] for seed in seeds])
    start, end = losses[:, 0, 0], losses[:, :, 1]
    best = end.mean(0).argmin()
    held, falls = (
        np.array([final_loss(settings.high, settings, seed, falling)[1] for seed in seeds]) for falling in (False, True)
    )
    figure, (left, right) = panels(f"Learning rate: a small network on digits, {settings.steps} steps")
    draw_band(left, settings.rates, end.tolist(), "at the end")
    left.axhline(start.mean(), color="k", linestyle=":", label="at the start")
    finish(
        left,
        title="Loss by learning rate (band: range over seeds)",
        xlabel="learning rate",
        ylabel=f"training cross-entropy (nats, at most {WORST:g})",
        xscale="log",
        yscale="log",
    )
    draw_groups(right, {"held": held.tolist(), "cosine": falls.tolist()})
    finish(
        right,
        title=f"Schedule, from a rate of {settings.high:g}",
        xlabel="learning rate, a point a seed",
        ylabel="training cross-entropy (nats)",
        yscale="log",
    )
    return Report(
        [
            Finding(
                f"loss at lr {settings.rates[0]:g} minus that at the best, {settings.rates[best]:g}",
                end[:, 0] - end[:, best],
                "nats",
                above=1,
            ),
            Finding(
                f"loss at lr {settings.rates[-1]:g} minus that before training", end[:, -1] - start, "nats", above=0
            ),
            Finding("log10 of the loss at a held rate over that at a falling one", np.log10(held / falls), "", above=0),
        ],
        figure,
    )
