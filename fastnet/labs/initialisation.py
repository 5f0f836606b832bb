"""Units that begin with equal weights never differ; small random weights let them: ``fastnet lab initialisation``.

Equal units see the same inputs and get the same gradients, step after step: a layer of them is worth one. The claim is
about weights as they begin, whatever the data (Goodfellow, Bengio and Courville 2016, section 8.4).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import fastnet
from fastnet import nn
from fastnet.labs._experiment import Finding, Report, digits_with, draw_groups, evaluate, finish, mlp, panels, train


@dataclass(frozen=True)
class Settings:
    seeds: int = 10
    hidden: int = 32
    value: float = 0.1
    spread: float = 0.1  # standard deviation of the random weights
    steps: int = 600


QUICK = Settings(seeds=5, steps=200)


def different(weight: fastnet.Tensor) -> int:
    """How many kinds of units a layer has: the rank of its weights, differences of rounding aside."""
    return int(np.linalg.matrix_rank(weight.detach().numpy(), rtol=1e-3))


def run(settings: Settings) -> Report:
    kinds: list[list[float]] = [[], []]
    accuracies: list[list[float]] = [[], []]
    for seed in range(settings.seeds):
        data, _, test = digits_with(1257, seed)
        for i, spread in enumerate((0.0, settings.spread)):
            fastnet.manual_seed(seed)
            model = mlp(64, settings.hidden, 10)
            for parameter in model.parameters():
                if parameter.dim() > 1 and spread:
                    nn.init.normal_(parameter, std=spread)
                else:
                    nn.init.constant_(parameter, settings.value if parameter.dim() > 1 else 0.0)
            optimizer = fastnet.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
            train(model, optimizer, data, steps=settings.steps, batch_size=64, seed=seed)
            kinds[i].append(different(next(model.parameters())))
            accuracies[i].append(100 * evaluate(model, test)[1])
    figure, (left, right) = panels(
        f"Initialisation: {settings.hidden} hidden units after {settings.steps} steps on digits"
    )
    names = ("equal", "random")
    draw_groups(left, dict(zip(names, kinds, strict=True)))
    finish(
        left,
        title="Units that differ",
        ylabel="rank of the hidden layer's weights",
        xlabel="weights at the start, a point a seed",
    )
    draw_groups(right, dict(zip(names, accuracies, strict=True)))
    finish(
        right, title="Test accuracy", ylabel="right (%)", xlabel="weights at the start, a point a seed", ylim=(0, 100)
    )
    return Report(
        [
            Finding("units that differ after equal weights", kinds[0], "units", above=0.5, below=1.5),
            Finding("units that differ, random minus equal", np.subtract(kinds[1], kinds[0]), "units", above=1),
            Finding("test accuracy, random minus equal", np.subtract(accuracies[1], accuracies[0]), "points", above=10),
        ],
        figure,
    )
