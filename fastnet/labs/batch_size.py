"""Larger batches give less noisy gradients and more examples a second: ``fastnet lab batch-size``.

The mean of B independent samples has a standard deviation that falls with the square root of B: a slope of -1/2 on
logarithmic axes. Throughput rises, because a step costs something whatever its size.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

import fastnet
from fastnet.labs._experiment import Finding, Report, digits_with, draw_band, finish, mlp, panels
from fastnet.labs.sgd import gradient
from fastnet.nn import functional as F
from fastnet.ops.creation import from_numpy


@dataclass(frozen=True)
class Settings:
    seeds: int = 10
    sizes: tuple[int, ...] = (8, 16, 32, 64, 128, 256)
    batches: int = 100
    timed: int = 100


QUICK = Settings(seeds=5, sizes=(8, 32, 128), batches=40, timed=25)


def draw(rng: np.random.Generator, count: int, size: int) -> np.ndarray:
    """A batch: examples drawn independently of one another."""
    return rng.integers(0, count, size)


def noise(size: int, settings: Settings, seed: int) -> float:
    """The root mean square distance of a batch's gradient from the whole set's, as a share of the latter's norm."""
    (x, y), _, _ = digits_with(1257, seed)
    rng = np.random.default_rng(seed)
    fastnet.manual_seed(seed)
    model = mlp(64, 32, 10)
    whole = gradient(model, x, y)
    squares = []
    for _ in range(settings.batches):
        chosen = from_numpy(draw(rng, len(x), size))
        squares.append(float(np.sum((gradient(model, x[chosen], y[chosen]) - whole) ** 2)))
    return float(np.sqrt(np.mean(squares)) / np.linalg.norm(whole))


def throughput(size: int, settings: Settings, seed: int) -> float:
    """Examples a second in training: the median of single steps, which other work on the machine disturbs least."""
    (x, y), _, _ = digits_with(size, seed)
    fastnet.manual_seed(seed)
    model = mlp(64, 32, 10)
    optimizer = fastnet.optim.SGD(model.parameters(), lr=0.01)
    seconds = []
    for _ in range(settings.timed):
        start = time.perf_counter()
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    return size / float(np.median(seconds))


def run(settings: Settings) -> Report:
    from matplotlib.ticker import NullLocator

    seeds, sizes = range(settings.seeds), settings.sizes
    noises = np.array([[noise(size, settings, seed) for size in sizes] for seed in seeds])
    speeds = np.array([[throughput(size, settings, seed) for size in sizes] for seed in seeds])
    slopes = [float(np.polyfit(np.log(sizes), np.log(row), 1)[0]) for row in noises]
    figure, (left, right) = panels(
        "Batch size: gradient noise and throughput of a small network (bands: range over seeds)"
    )
    draw_band(left, sizes, noises.tolist(), "measured")
    left.plot(
        sizes, noises.mean(0)[0] * np.sqrt(sizes[0] / np.array(sizes)), "k:", label="falls with 1 / sqrt(batch size)"
    )
    finish(
        left,
        title="Distance of a batch's gradient from the true one",
        xlabel="batch size (examples)",
        ylabel="share of the true gradient's norm",
        xscale="log",
        yscale="log",
    )
    draw_band(right, sizes, speeds.tolist(), "training")
    finish(
        right,
        title="Throughput",
        xlabel="batch size (examples)",
        ylabel="examples a second",
        xscale="log",
        yscale="log",
    )
    for axes in (left, right):
        axes.set_xticks(sizes, [str(s) for s in sizes], minor=False)
        axes.xaxis.set_minor_locator(NullLocator())
    return Report(
        [
            Finding("slope of log noise by log batch size", slopes, "", above=-0.6, below=-0.4),
            Finding(
                f"throughput at {sizes[-1]} over that at {sizes[0]}", speeds[:, -1] / speeds[:, 0], "times", above=1.5
            ),
        ],
        figure,
    )
