"""Weight decay, loss + lambda * sum w^2, keeps weights small and the test loss low: ``fastnet lab weight-decay``.

The gradient gains 2 * lambda * w, which is what the optimizer's ``weight_decay`` = 2 * lambda adds. A network learns
a few digits, some of them mislabelled, with and without; the penalty written into the loss gives the same weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import fastnet
from fastnet.labs._experiment import Finding, Report, digits_with, draw_groups, evaluate, finish, mlp, panels, train
from fastnet.nn import functional as F


@dataclass(frozen=True)
class Settings:
    seeds: int = 12
    penalty: float = 0.003  # lambda
    examples: int = 300
    wrong: float = 0.2
    hidden: int = 128
    steps: int = 1000


QUICK = Settings(seeds=5, examples=150, steps=400)


def distance_of_rules(penalty: float, seed: int, steps: int = 20) -> float:
    """How far apart the weights end, relative to how far they moved, of the two ways to write the penalty."""
    (x, y), _, _ = digits_with(100, seed)
    ends = []
    for in_loss in (False, True):
        fastnet.manual_seed(seed)
        model = mlp(64, 16, 10)
        start = fastnet.nn.utils.parameters_to_vector(model.parameters()).detach().numpy().copy()
        decay = 0.0 if in_loss else 2 * penalty
        optimizer = fastnet.optim.SGD(model.parameters(), lr=0.1, weight_decay=decay)
        for _ in range(steps):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            if in_loss:
                loss = loss + penalty * fastnet.stack([(w * w).sum() for w in model.parameters()]).sum()
            loss.backward()
            optimizer.step()
        ends.append(fastnet.nn.utils.parameters_to_vector(model.parameters()).detach().numpy() - start)
    return float(np.linalg.norm(ends[0] - ends[1]) / np.linalg.norm(ends[0]))


def run(settings: Settings) -> Report:
    sizes: list[list[float]] = [[], []]
    losses: list[list[float]] = [[], []]
    distances = []
    for seed in range(settings.seeds):
        data, _, test = digits_with(settings.examples, seed, settings.wrong)
        for i, penalty in enumerate((0.0, settings.penalty)):
            fastnet.manual_seed(seed)
            model = mlp(64, settings.hidden, 10)
            optimizer = fastnet.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=2 * penalty)
            train(model, optimizer, data, steps=settings.steps, batch_size=50, seed=seed)
            sizes[i].append(float(np.sqrt(sum((w * w).sum().item() for w in model.parameters()))))
            losses[i].append(evaluate(model, test)[0])
        distances.append(distance_of_rules(settings.penalty, seed))
    names = ("none", f"lambda = {settings.penalty:g}")
    figure, (left, right) = panels(
        f"Weight decay, {settings.examples} training digits, {settings.wrong:.0%} given a random label"
    )
    draw_groups(left, dict(zip(names, sizes, strict=True)))
    finish(left, title="Size of the weights", ylabel="Euclidean norm", xlabel="penalty, a point a seed")
    draw_groups(right, dict(zip(names, losses, strict=True)))
    finish(right, title="Test loss", ylabel="cross-entropy (nats)", xlabel="penalty, a point a seed")
    return Report(
        [
            Finding(
                "norm of the weights without decay over that with", np.divide(sizes[0], sizes[1]), "times", above=1
            ),
            Finding("test loss without decay minus that with", np.subtract(losses[0], losses[1]), "nats", above=0),
            # A few roundings of 2^-24 a step each, of weights some ten times what a step moves them.
            Finding("distance of weight_decay=2 lambda from the penalty in the loss", distances, "", below=1e-4),
        ],
        figure,
    )
