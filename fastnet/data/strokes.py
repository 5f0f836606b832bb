"""Pen strokes: series of differing lengths, drawn from a few shapes; made here, so that nothing is downloaded."""

from __future__ import annotations

import itertools

import numpy as np

from fastnet._tensor import Tensor
from fastnet.ops.creation import from_numpy

SHAPES = ("circle", "ellipse", "spiral", "eight", "wave", "zigzag", "square", "triangle")


def _shape(label: int, t: np.ndarray) -> np.ndarray:
    """Points (T, 2) of a shape at times t from 0 to 1."""
    turn = 2 * np.pi * t
    if label < 3:  # circle, ellipse, spiral
        radius = 1 - 0.8 * t if label == 2 else 1.0
        turns = 2 if label == 2 else 1
        return np.stack([radius * np.cos(turns * turn), radius * np.sin(turns * turn) * (0.4 if label == 1 else 1)], 1)
    if label == 3:
        return np.stack([np.sin(turn), np.sin(2 * turn) / 1.5], 1)
    if label == 4:
        return np.stack([2 * t - 1, 0.5 * np.sin(2 * turn)], 1)
    if label == 5:
        return np.stack([2 * t - 1, np.abs(4 * t % 2 - 1) - 0.5], 1)
    corners = 4 if label == 6 else 3
    at = 2 * np.pi * np.arange(corners + 1) / corners
    return np.stack([np.interp(corners * t, np.arange(corners + 1), f(at)) for f in (np.cos, np.sin)], 1)


def strokes(seed: int = 0, count: int = 2400) -> list[list[tuple[Tensor, Tensor]]]:
    """Training, validation and test sets, 70 %, 10 % and 20 % of ``count`` series.

    Items are (series, label): series (T, 4) float32, at each step where the pen is, seen from where it began, and five
    times how far it has moved; T from 12 to 40; label int64, an index of ``SHAPES``. Strokes are turned by up to 30
    degrees, scaled, begun anywhere on closed shapes, drawn at an uneven pace with a trembling hand.
    """
    rng = np.random.default_rng(seed)
    items = []
    for i in range(count):
        label, steps = i % len(SHAPES), int(rng.integers(12, 41))
        pace = np.cumsum(rng.uniform(0.5, 1.5, steps + 1))
        t = (pace - pace[0]) / (pace[-1] - pace[0])
        if label not in (2, 4, 5):
            t = (t + rng.random()) % 1
        angle = rng.uniform(-np.pi / 6, np.pi / 6)
        turned = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        points = rng.uniform(0.7, 1.3) * _shape(label, t) @ turned + rng.normal(0, 0.02, (steps + 1, 2))
        series = np.concatenate([points[1:] - points[0], 5 * np.diff(points, axis=0)], 1).astype(np.float32)
        items.append((from_numpy(series), from_numpy(np.array(label))))
    order = rng.permutation(count)
    ends = [0, count * 7 // 10, count * 8 // 10, count]
    return [[items[j] for j in order[a:b]] for a, b in itertools.pairwise(ends)]
