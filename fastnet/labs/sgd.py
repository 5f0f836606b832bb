"""Steps along the gradient of random samples learn more from the same reading than exact ones: ``fastnet lab sgd``.

w <- w - lr * gradient (Robbins and Monro 1951). Gradient descent reads every example for one step; stochastic gradient
descent a few. Both read the same number of examples, each at the best of the same learning rates. A sample's gradient
points downhill: on average it is the whole set's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import fastnet
from fastnet.labs._experiment import (
    Finding,
    Report,
    batches,
    digits_with,
    draw_band,
    draw_groups,
    evaluate,
    finish,
    mlp,
    panels,
    train,
)
from fastnet.nn import functional as F


@dataclass(frozen=True)
class Settings:
    seeds: int = 10
    batch_size: int = 32
    examples: int = 1216
    passes: int = 8
    rates: tuple[float, ...] = (0.03, 0.1, 0.3, 1.0)


QUICK = Settings(seeds=5, passes=4, rates=(0.1, 0.3, 1.0))


def descend(settings: Settings, batch_size: int, rate: float, seed: int) -> list[float]:
    """The training loss in nats before each pass and at the end."""
    data, _, _ = digits_with(settings.examples, seed)
    fastnet.manual_seed(seed)
    model = mlp(64, 64, 10)
    optimizer = fastnet.optim.SGD(model.parameters(), lr=rate)
    per_pass = settings.examples // batch_size
    losses = [evaluate(model, data)[0]]

    def after_step(step: int) -> None:
        if step % per_pass == 0:
            losses.append(evaluate(model, data)[0])

    train(
        model,
        optimizer,
        data,
        steps=settings.passes * per_pass,
        batch_size=batch_size,
        seed=seed,
        after_step=after_step,
    )
    return losses


def gradient(model: fastnet.nn.Module, x: fastnet.Tensor, y: fastnet.Tensor) -> np.ndarray:
    """The gradient of the loss by all parameters, one vector."""
    gradients = fastnet.autograd.grad(F.cross_entropy(model(x), y), list(model.parameters()))
    return np.concatenate([g.numpy().ravel() for g in gradients])


def agreement(settings: Settings, seed: int, samples: int = 20) -> float:
    """The mean cosine of the angle between a batch's gradient and the whole set's, at the start."""
    data, _, _ = digits_with(settings.examples, seed)
    fastnet.manual_seed(seed)
    model = mlp(64, 64, 10)
    whole = gradient(model, *data)
    of_batches = [gradient(model, *batch) for batch in batches(*data, settings.batch_size, samples, seed)]
    return float(np.mean([g @ whole / (np.linalg.norm(g) * np.linalg.norm(whole)) for g in of_batches]))


def run(settings: Settings) -> Report:
    seeds = range(settings.seeds)
    best = []
    for size in (settings.examples, settings.batch_size):
        curves = {rate: [descend(settings, size, rate, seed) for seed in seeds] for rate in settings.rates}
        best.append(min(curves.items(), key=lambda item: np.mean([c[-1] for c in item[1]])))
    cosines = [agreement(settings, seed) for seed in seeds]
    figure, (left, right) = panels("Gradient descent and stochastic gradient descent on digits")
    for name, (rate, curves) in zip(("whole set", f"{settings.batch_size} examples"), best, strict=True):
        draw_band(left, range(settings.passes + 1), curves, f"{name} a step, lr {rate:g}")
    finish(
        left,
        title="Loss by examples read (band: range over seeds)",
        xlabel="passes over the training set",
        ylabel="training cross-entropy (nats)",
        yscale="log",
    )
    draw_groups(right, {f"{settings.batch_size} examples": cosines})
    finish(
        right,
        title="A batch's gradient against the whole set's",
        ylabel="cosine of their angle",
        xlabel="a point a seed",
        ylim=(-1, 1),
    )
    (_, exact), (_, stochastic) = best
    ahead = [a[-1] - b[-1] for a, b in zip(exact, stochastic, strict=True)]
    return Report(
        [
            Finding(
                f"loss of gradient descent minus that of SGD after {settings.passes} passes", ahead, "nats", above=0
            ),
            Finding("cosine between a batch's gradient and the whole set's", cosines, "", above=0),
        ],
        figure,
    )
