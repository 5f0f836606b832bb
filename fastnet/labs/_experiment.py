"""What the labs share: findings and their confidence intervals, batches, small networks, figures."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

import fastnet
from fastnet import nn
from fastnet._tensor import Tensor
from fastnet.data import digits
from fastnet.nn import functional as F
from fastnet.ops.creation import from_numpy
from fastnet.train.figures import new_figure

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Finding:
    """One figure that supports or refutes a claim: a value a seed, and where their mean has to lie.

    It holds if the whole confidence interval of the mean lies ``above`` and ``below`` these bounds.

    >>> Finding("difference", [1.0, 2.0, 3.0], "points", above=0.0).holds
    False
    >>> Finding("difference", [1.0, 2.0, 3.0, 2.0], "points", above=0.0).holds
    True
    """

    what: str
    values: np.ndarray | list[float]  # (seeds,)
    unit: str
    above: float = -math.inf
    below: float = math.inf

    def __post_init__(self) -> None:
        if self.seeds < 2:
            raise ValueError(f"Finding: {self.what} has {self.seeds} values, expected at least 2: one a seed")

    @property
    def seeds(self) -> int:
        return np.size(self.values)

    @property
    def mean(self) -> float:
        return float(np.mean(self.values))

    @property
    def interval(self) -> tuple[float, float]:
        """Student's confidence interval of the mean; NaN where a value is."""
        from scipy.stats import t

        error = float(np.std(self.values, ddof=1)) / math.sqrt(self.seeds)
        half = float(t.ppf((1 + CONFIDENCE) / 2, self.seeds - 1)) * error
        return self.mean - half, self.mean + half

    @property
    def holds(self) -> bool:
        low, high = self.interval
        return self.above < low and high < self.below

    @property
    def wanted(self) -> str:
        """Where the interval has to lie, in words."""
        bounds = [f"above {self.above:g}"] if self.above > -math.inf else []
        bounds += [f"below {self.below:g}"] if self.below < math.inf else []
        return " and ".join(bounds)

    def __str__(self) -> str:
        low, high = self.interval
        return (
            f"{self.what}: {self.mean:.4g} {self.unit} ({CONFIDENCE:.0%} confidence interval {low:.4g} to {high:.4g}, "
            f"{self.seeds} seeds; claimed: {self.wanted}): {'holds' if self.holds else 'does NOT hold'}"
        )


@dataclass(frozen=True)
class Report:
    """What a lab found, and its figure."""

    findings: list[Finding]
    figure: Any

    @property
    def holds(self) -> bool:
        return all(f.holds for f in self.findings)


def digits_with(
    count: int, seed: int, wrong: float = 0.0
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Training, validation and test sets of digits as (x (N, 64) float32, y (N,) int64), divided by ``seed``.

    Args:
        count: training examples kept.
        seed: of the division, and of the wrong labels.
        wrong: share of training labels replaced by a random class.
    """
    parts = [(p.tensors[0].flatten(1), p.tensors[1]) for p in digits(seed)]
    x, y = (t[:count] for t in parts[0])
    if wrong:
        rng = np.random.default_rng(seed)
        labels = y.numpy().copy()
        replaced = rng.random(len(labels)) < wrong
        labels[replaced] = rng.integers(0, 10, int(replaced.sum()))
        y = from_numpy(labels)
    return (x, y), parts[1], parts[2]


def mlp(*widths: int, activation: Callable[[], nn.Module] = nn.ReLU, dropout: float = 0.0) -> nn.Sequential:
    """A fully connected network of these widths, input and output included."""
    layers: list[nn.Module] = []
    for i, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        if i:
            layers += [activation()] + ([nn.Dropout(dropout)] if dropout else [])
        layers.append(nn.Linear(inputs, outputs))
    return nn.Sequential(*layers)


def batches(x: Tensor, y: Tensor, size: int, steps: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """So many batches, in a new random order each pass; what is left of a pass is dropped."""
    rng = np.random.default_rng(seed)
    order, at = rng.permutation(len(x)), 0
    for _ in range(steps):
        if at + size > len(x):
            order, at = rng.permutation(len(x)), 0
        chosen = from_numpy(np.sort(order[at : at + size]))
        at += size
        yield x[chosen], y[chosen]


def train(
    model: nn.Module,
    optimizer: Any,
    data: tuple[Tensor, Tensor],
    *,
    steps: int,
    batch_size: int,
    seed: int,
    scheduler: Any = None,
    after_step: Callable[[int], None] | None = None,
    prepare: Callable[[Tensor], Tensor] = lambda x: x,
) -> list[float]:
    """Minimise cross-entropy; the losses of the steps in nats, up to the first that is not finite."""
    losses = []
    for step, (x, y) in enumerate(batches(*data, batch_size, steps, seed), 1):
        model.train()
        optimizer.zero_grad()
        loss = F.cross_entropy(model(prepare(x)), y)
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            break
        loss.backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        if after_step is not None:
            after_step(step)
    return losses


def evaluate(model: nn.Module, data: tuple[Tensor, Tensor]) -> tuple[float, float]:
    """Mean cross-entropy in nats, and the share that is right, with dropout off."""
    x, y = data
    was = model.training
    model.eval()
    with fastnet.no_grad():
        logits = model(x)
        result = F.cross_entropy(logits, y).item(), (logits.argmax(1) == y).float().mean().item()
    model.train(was)
    return result


def panels(title: str, count: int = 2) -> tuple[Any, list[Any]]:
    """A figure with so many panels side by side."""
    figure = new_figure(5.2 * count, 4.2)
    figure.suptitle(title)
    return figure, list(figure.subplots(1, count, squeeze=False)[0])


def draw_band(axes: Any, x: ArrayLike, runs: ArrayLike, name: str) -> None:
    """The mean of runs over x as a line, and the runs' range as a band."""
    values = np.asarray(runs)
    (line,) = axes.plot(x, values.mean(0), label=name)
    axes.fill_between(x, values.min(0), values.max(0), color=line.get_color(), alpha=0.2, linewidth=0)


def draw_groups(axes: Any, groups: dict[str, list[float]]) -> None:
    """A column of points a group, one a seed, and their mean as a line."""
    for i, values in enumerate(groups.values()):
        spread = np.linspace(-0.12, 0.12, len(values))
        axes.scatter(i + spread, values, s=18, color=f"C{i}", alpha=0.8)
        axes.hlines(np.mean(values), i - 0.25, i + 0.25, color=f"C{i}")
    axes.set_xticks(range(len(groups)), list(groups))
    axes.set_xlim(-0.5, len(groups) - 0.5)
    axes.grid(alpha=0.3, axis="y")


def finish(axes: Any, **labels: Any) -> None:
    """Title, axes with units, a grid, and a legend where lines have names."""
    axes.set(**labels)
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)
