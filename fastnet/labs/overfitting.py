"""Training accuracy rises while validation turns: stop when it does: ``fastnet lab overfitting``.

A network with more weights than its few, partly mislabelled digits need learns them by heart. The epoch with the best
validation loss is chosen by the validation set and judged by the test set, which had no say (Prechelt 1998).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import fastnet
from fastnet.labs._experiment import Finding, Report, digits_with, draw_band, evaluate, finish, mlp, panels, train


@dataclass(frozen=True)
class Settings:
    seeds: int = 10
    examples: int = 200
    wrong: float = 0.2
    hidden: int = 128
    epochs: int = 120
    batch_size: int = 20


QUICK = Settings(seeds=5, epochs=50)


def run(settings: Settings) -> Report:
    histories = []  # (seeds, epochs, [train, validation, test], [loss, accuracy])
    for seed in range(settings.seeds):
        parts = digits_with(settings.examples, seed, settings.wrong)
        fastnet.manual_seed(seed)
        model = mlp(64, settings.hidden, settings.hidden, 10)
        optimizer = fastnet.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        per_epoch = settings.examples // settings.batch_size
        history: list[list[tuple[float, float]]] = []

        def after_step(step: int, model=model, parts=parts, history=history, per_epoch=per_epoch) -> None:
            if step % per_epoch == 0:
                history.append([evaluate(model, part) for part in parts])

        steps = settings.epochs * per_epoch
        train(model, optimizer, parts[0], steps=steps, batch_size=settings.batch_size, seed=seed, after_step=after_step)
        histories.append(history)
    values = np.array(histories)
    epochs = range(1, settings.epochs + 1)
    figure, (left, right) = panels(
        f"Overfitting: {settings.examples} digits, {settings.wrong:.0%} given a random label (bands: range over seeds)"
    )
    for i, name in enumerate(("training", "validation")):
        draw_band(left, epochs, 100 * values[:, :, i, 1], name)
        draw_band(right, epochs, values[:, :, i, 0], name)
    finish(left, title="Accuracy", xlabel="epoch", ylabel="right (%)")
    finish(right, title="Loss", xlabel="epoch", ylabel="cross-entropy (nats)")
    best = values[:, :, 1, 0].argmin(1)
    stopped = values[np.arange(len(values)), best, 2, 0]
    gap = 100 * (values[:, -1, 0, 1] - values[:, -1, 1, 1])
    return Report(
        [
            Finding("training minus validation accuracy at the end", gap, "points", above=5),
            Finding("best epoch by validation, as a share of all", (best + 1) / settings.epochs, "", below=0.8),
            Finding("test loss at the end minus that at this epoch", values[:, -1, 2, 0] - stopped, "nats", above=0),
        ],
        figure,
    )
