"""A network learns what leaves the label alone from changed copies of its examples: ``fastnet lab augmentation``.

It learns a few digits, as they are or shifted by up to a pixel and turned by a few degrees anew in every batch, and is
tested on others that are shifted and turned so, too. On digits as upright and centred as these 8 x 8 ones are, nothing
is won, and points are lost in few steps: the figure shows it. A flip would not do: a mirrored 2 is no 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import fastnet
from fastnet.data.augment import Compose, RandomCrop, RandomRotation
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
    examples: int = 100
    shift: int = 1  # pixels of 8
    degrees: float = 10.0
    steps: int = 1000


QUICK = Settings(seeds=4, steps=100)

Data = tuple[fastnet.Tensor, fastnet.Tensor]


def as_images(data: Data) -> Data:
    """Digits (N, 64) from 0 to 1 as images (N, 1, 8, 8) of bytes."""
    x, y = data
    return (x * 255).reshape(-1, 1, 8, 8).to(fastnet.uint8), y


def learn(changed: bool, settings: Settings, seed: int) -> tuple[float, float]:
    """The share that is right in the end, in percent, of test digits as they are and of changed ones."""
    data, _, test = map(as_images, digits_with(settings.examples, seed))
    as_it_is = Compose([])
    change = Compose([RandomCrop(8, padding=settings.shift), RandomRotation(settings.degrees)])
    fastnet.manual_seed(1000 + seed)  # the same changed test digits for both
    tests = [(how(test[0]).flatten(1), test[1]) for how in (as_it_is, change)]
    fastnet.manual_seed(seed)
    model = mlp(64, 128, 10)
    optimizer = fastnet.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def prepare(x: fastnet.Tensor) -> fastnet.Tensor:
        return (change if changed else as_it_is)(x).flatten(1)

    train(model, optimizer, data, steps=settings.steps, batch_size=50, seed=seed, prepare=prepare)
    plain, moved = (100 * evaluate(model, digits)[1] for digits in tests)
    return plain, moved


def run(settings: Settings) -> Report:
    right = np.array([[learn(changed, settings, seed) for seed in range(settings.seeds)] for changed in (False, True)])
    figure, axes = panels(f"Augmentation: {settings.examples} training digits, {settings.steps} steps")
    titles = ("Test digits as they are", f"Test digits moved by {settings.shift} pixel, {settings.degrees:g} degrees")
    for i, title in enumerate(titles):
        groups = {"as they are": right[0, :, i].tolist(), "shifted and turned": right[1, :, i].tolist()}
        draw_groups(axes[i], groups)
        finish(axes[i], title=title, ylabel="right (%)", xlabel="training digits, a point a seed")
    gain = right[1, :, 1] - right[0, :, 1]
    return Report([Finding("accuracy on moved digits, augmented minus plain", gain, "points", above=0)], figure)
