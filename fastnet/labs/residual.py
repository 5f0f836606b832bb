"""Networks of a hundred layers train with shortcuts, y = f(x) + x, and not without: ``fastnet lab residual``.

The same layers with the same weights at the start, with and without shortcuts (He et al. 2016), and a shallow network
without: it is depth that the shortcuts cure.
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
    draw_band,
    draw_groups,
    evaluate,
    finish,
    panels,
    train,
)
from fastnet.nn import functional as F


@dataclass(frozen=True)
class Settings:
    seeds: int = 6
    blocks: int = 50  # of two layers each, and one before and one after them
    width: int = 32
    steps: int = 200
    shortcut: bool = True


QUICK = Settings(seeds=3, width=16, steps=30)


class Block(nn.Module):
    """Two layers, their input normalised, with or without a shortcut around them."""

    def __init__(self, width: int, shortcut: bool):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first = nn.Linear(width, width)
        self.second = nn.Linear(width, width)
        self.shortcut = shortcut

    def forward(self, x: fastnet.Tensor) -> fastnet.Tensor:
        y = self.second(F.relu(self.first(self.norm(x))))
        return x + y if self.shortcut else y


def learn(blocks: int, shortcut: bool, settings: Settings, seed: int) -> tuple[list[float], float]:
    """The losses of the steps in nats, and the share of test digits that are right."""
    data, _, test = digits_with(1257, seed)
    fastnet.manual_seed(seed)
    width = settings.width
    model = nn.Sequential(
        nn.Linear(64, width),
        *[Block(width, shortcut) for _ in range(blocks)],
        nn.LayerNorm(width),
        nn.Linear(width, 10),
    )
    optimizer = fastnet.optim.Adam(model.parameters(), lr=2e-3)
    losses = train(model, optimizer, data, steps=settings.steps, batch_size=64, seed=seed)
    return losses, 100 * evaluate(model, test)[1]


def run(settings: Settings) -> Report:
    deep = 2 * settings.blocks + 2
    runs = {
        f"{deep} layers, shortcuts": (settings.blocks, settings.shortcut),
        f"{deep} layers, none": (settings.blocks, False),
        "4 layers, none": (1, False),
    }
    results = {name: [learn(*how, settings, seed) for seed in range(settings.seeds)] for name, how in runs.items()}
    figure, (left, right) = panels(f"Shortcuts in deep networks: digits, {settings.steps} steps")
    for name, of_seeds in results.items():
        draw_band(left, range(1, settings.steps + 1), [losses for losses, _ in of_seeds], name)
    finish(left, title="Training loss (band: range over seeds)", xlabel="step", ylabel="cross-entropy (nats)")
    accuracies = {name: np.array([accuracy for _, accuracy in of_seeds]) for name, of_seeds in results.items()}
    draw_groups(right, {name.replace(", ", "\n"): values.tolist() for name, values in accuracies.items()})
    finish(right, title="Test accuracy", xlabel="a point a seed", ylabel="right (%)", ylim=(0, 100))
    with_shortcuts, without, shallow = accuracies.values()
    return Report(
        [
            Finding(
                f"test accuracy of {deep} layers, with shortcuts minus without",
                with_shortcuts - without,
                "points",
                above=20,
            ),
            Finding("test accuracy without shortcuts, 4 layers minus deep", shallow - without, "points", above=20),
        ],
        figure,
    )
