"""Dropout narrows the gap between training and test: ``fastnet lab dropout``.

The same network learns the same few digits, some of them mislabelled, with and without dropout. At test time every
unit is active; because units that stay are scaled by 1 / (1 - p) in training, the expectation is the same (Srivastava
et al. 2014, section 4).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import fastnet
from fastnet import nn
from fastnet.labs._experiment import (
    Finding,
    Report,
    digits_with,
    draw_groups,
    evaluate,
    finish,
    mlp,
    panels,
    train,
)


@dataclass(frozen=True)
class Settings:
    seeds: int = 12
    p: float = 0.5
    examples: int = 200
    wrong: float = 0.2
    hidden: int = 128
    steps: int = 800


QUICK = Settings(seeds=5, steps=200)


def scaled_in_training(p: float, draws: int = 2000) -> float:
    """The mean output of dropout in training for an input of one: one in expectation."""
    return nn.Dropout(p)(fastnet.ones(draws, 64)).mean().item()


def run(settings: Settings) -> Report:
    gaps: list[list[float]] = [[], []]
    tests: list[list[float]] = [[], []]
    expectations = []
    for seed in range(settings.seeds):
        data, _, test = digits_with(settings.examples, seed, settings.wrong)
        for i, p in enumerate((0.0, settings.p)):
            fastnet.manual_seed(seed)
            model = mlp(64, settings.hidden, settings.hidden, 10, dropout=p)
            optimizer = fastnet.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
            train(model, optimizer, data, steps=settings.steps, batch_size=50, seed=seed)
            tests[i].append(evaluate(model, test)[0])
            gaps[i].append(tests[i][-1] - evaluate(model, data)[0])
        expectations.append(scaled_in_training(settings.p) - 1)
    figure, (left, right) = panels(
        f"Dropout: {settings.examples} training digits, {settings.wrong:.0%} given a random label"
    )
    names = ("none", f"p = {settings.p:g}")
    draw_groups(left, dict(zip(names, gaps, strict=True)))
    finish(
        left,
        title="Gap: test loss minus training loss",
        ylabel="cross-entropy (nats)",
        xlabel="dropout, a point a seed",
    )
    draw_groups(right, dict(zip(names, tests, strict=True)))
    finish(right, title="Test loss", ylabel="cross-entropy (nats)", xlabel="dropout, a point a seed")
    narrower = np.subtract(gaps[0], gaps[1])
    return Report(
        [
            Finding(f"gap without dropout minus gap with p={settings.p:g}", narrower, "nats", above=0),
            Finding("mean output in training minus output at test, input 1", expectations, "", above=-0.01, below=0.01),
        ],
        figure,
    )
