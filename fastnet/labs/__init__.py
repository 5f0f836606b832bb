"""Labs: each puts one claim to the test by a small controlled experiment over several seeds, ``fastnet lab CLAIM``.

A lab is a module with ``Settings`` (a frozen dataclass: the experiment at its full size), ``QUICK`` (a smaller one) and
``run(settings)``, which gives a ``Report``: findings with confidence intervals, and a figure.
"""

from __future__ import annotations

import time

from fastnet.labs import (
    augmentation,
    batch_size,
    dropout,
    initialisation,
    learning_rate,
    long_memory,
    overfitting,
    residual,
    sgd,
    vanishing_gradient,
    weight_decay,
)
from fastnet.labs._experiment import Report

LABS = {
    "long-memory": long_memory,
    "residual": residual,
    "sgd": sgd,
    "batch-size": batch_size,
    "learning-rate": learning_rate,
    "initialisation": initialisation,
    "weight-decay": weight_decay,
    "dropout": dropout,
    "augmentation": augmentation,
    "overfitting": overfitting,
    "vanishing-gradient": vanishing_gradient,
}


def claim(name: str) -> str:
    """A lab's claim, in a sentence."""
    return (LABS[name].__doc__ or "").split(": ``")[0].replace("\n", " ")


def run(name: str, quick: bool = False) -> tuple[Report, float]:
    """Run a lab; its report, and the seconds it took."""
    lab, start = LABS[name], time.perf_counter()
    report = lab.run(lab.QUICK if quick else lab.Settings())
    return report, time.perf_counter() - start
