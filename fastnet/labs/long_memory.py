"""An LSTM remembers over spans at which a plain recurrent network forgets: ``fastnet lab long-memory``.

The first symbol of a sequence is asked for at its end, after others that do not matter. Both networks have the same
width, optimizer and sequences; the LSTM's gates let the gradient through (Hochreiter and Schmidhuber 1997; a forget
gate that begins open: Jozefowicz, Zaremba and Sutskever 2015).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import fastnet
from fastnet import nn
from fastnet.labs._experiment import Finding, Report, draw_band, draw_groups, finish, panels
from fastnet.nn import functional as F

SYMBOLS = 4


@dataclass(frozen=True)
class Settings:
    seeds: int = 10
    span: int = 40  # other symbols between it and the question
    hidden: int = 32
    steps: int = 120  # in which the LSTM learns; plain networks may, too, in more
    batch_size: int = 64


QUICK = Settings(seeds=4)


def recall(kind: Any, settings: Settings, seed: int) -> list[float]:
    """Train; the share of right answers at every tenth of the training, on new sequences always."""
    fastnet.manual_seed(seed)
    layer = kind(2 * SYMBOLS, settings.hidden, batch_first=True)
    if kind is nn.LSTM:  # the gates lie in the order input, forget, cell, output
        with fastnet.no_grad():
            layer.bias_ih_l0[settings.hidden : 2 * settings.hidden] = 4.0
    answer = nn.Linear(settings.hidden, SYMBOLS)
    parameters = [*layer.parameters(), *answer.parameters()]
    optimizer = fastnet.optim.Adam(parameters, lr=1e-2)
    right = []
    for _ in range(settings.steps):
        y = fastnet.randint(0, SYMBOLS, (settings.batch_size,))
        others = fastnet.randint(SYMBOLS, 2 * SYMBOLS, (settings.batch_size, settings.span))
        x = F.one_hot(fastnet.cat([y.unsqueeze(1), others], 1), 2 * SYMBOLS).float()
        optimizer.zero_grad()
        logits = answer(layer(x)[0][:, -1])
        F.cross_entropy(logits, y).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        right.append((logits.argmax(1) == y).float().mean().item())
    return [float(np.mean(part)) for part in np.array_split(right, 10)]


def run(settings: Settings) -> Report:
    seeds = range(settings.seeds)
    lstm, rnn = (100 * np.array([recall(kind, settings, seed) for seed in seeds]) for kind in (nn.LSTM, nn.RNN))
    figure, (left, right) = panels(f"Recalling the first of {SYMBOLS} symbols after {settings.span} others")
    steps = (np.arange(10) + 0.5) * settings.steps / 10
    for name, values in (("LSTM", lstm), ("RNN", rnn)):
        draw_band(left, steps, values, name)
    left.axhline(100 / SYMBOLS, color="k", linestyle=":", label="guessing")
    finish(
        left, title="While learning (band: range over seeds)", xlabel="training step", ylabel="right (%)", ylim=(0, 103)
    )
    draw_groups(right, {"LSTM": lstm[:, -1].tolist(), "RNN": rnn[:, -1].tolist()})
    finish(right, title="In the last tenth of training", xlabel="a point a seed", ylabel="right (%)", ylim=(0, 103))
    return Report(
        [Finding("accuracy of the LSTM minus that of the RNN", lstm[:, -1] - rnn[:, -1], "points", above=10)], figure
    )
