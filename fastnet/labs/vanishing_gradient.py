"""Gradients shrink layer by layer, and step by step in recurrent networks: ``fastnet lab vanishing-gradient``.

Each sigmoid multiplies them by at most 1/4; ReLU with weights of variance 2 / inputs keeps their size (He et al. 2015).
A recurrent network multiplies by the same matrix at every step (Bengio, Simard and Frasconi 1994).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import fastnet
from fastnet import nn
from fastnet.labs._experiment import Finding, Report, digits_with, draw_band, finish, mlp, panels
from fastnet.nn import functional as F


@dataclass(frozen=True)
class Settings:
    seeds: int = 20
    depth: int = 12
    width: int = 64
    steps: int = 40  # of the recurrent network
    shrinking: type[nn.Module] = nn.Sigmoid


QUICK = Settings(seeds=8)


def by_layer(activation: type[nn.Module], settings: Settings, seed: int) -> list[float]:
    """The Euclidean norm of each layer's gradient, the first first, before training."""
    (x, y), _, _ = digits_with(256, seed)
    fastnet.manual_seed(seed)
    model = mlp(64, *[settings.width] * (settings.depth - 1), 10, activation=activation)
    weights = [p for p in model.parameters() if p.dim() > 1]
    for weight in weights:
        if activation is nn.ReLU:
            nn.init.kaiming_normal_(weight, nonlinearity="relu")
        else:
            nn.init.xavier_normal_(weight)
    F.cross_entropy(model(x), y).backward()
    return [float(np.linalg.norm(w.grad.numpy())) for w in weights if w.grad is not None]


def by_time(settings: Settings, seed: int) -> list[float]:
    """The norm of the last output's gradient by the input of each step, the last step first."""
    fastnet.manual_seed(seed)
    rnn = nn.RNN(16, settings.width, batch_first=True)
    x = fastnet.randn(32, settings.steps, 16).requires_grad_()
    last = rnn(x)[0][:, -1]
    (gradient,) = fastnet.autograd.grad((last * fastnet.randn(*last.shape)).sum(), [x])
    return list(np.linalg.norm(gradient.numpy(), axis=(0, 2))[::-1].astype(float))


def run(settings: Settings) -> Report:
    seeds = range(settings.seeds)
    shrinking, kept = (
        np.array([by_layer(activation, settings, seed) for seed in seeds])
        for activation in (settings.shrinking, nn.ReLU)
    )
    recurrent = np.array([by_time(settings, seed) for seed in seeds])
    figure, (left, right) = panels("Vanishing gradients before training (bands: range over seeds)")
    layers = range(1, settings.depth + 1)
    draw_band(left, layers, shrinking, f"{settings.shrinking.__name__}, Xavier")
    draw_band(left, layers, kept, "ReLU, Kaiming")
    finish(
        left,
        title="Gradient of each layer's weights",
        xlabel="layer (1 is the input's)",
        ylabel="Euclidean norm",
        yscale="log",
    )
    draw_band(right, range(settings.steps), recurrent, "tanh RNN")
    finish(
        right,
        title="Gradient of the last output by inputs",
        xlabel="distance (time steps)",
        ylabel="Euclidean norm",
        yscale="log",
    )
    lost = np.log10(shrinking[:, -1] / shrinking[:, 0])
    return Report(
        [
            Finding("powers of ten lost from the last layer to the first, sigmoid", lost, "", above=2),
            Finding("the same, less those lost with ReLU", lost - np.log10(kept[:, -1] / kept[:, 0]), "", above=2),
            Finding(
                f"powers of ten lost over {settings.steps - 1} steps of a recurrent network",
                np.log10(recurrent[:, 0] / recurrent[:, -1]),
                "",
                above=2,
            ),
        ],
        figure,
    )
