"""A recurrent network tells series of differing lengths apart: ``fastnet train rnn``.

Pen strokes made on the spot, or other series by ``--data`` (``fastnet.data.load_series``): the Japanese Vowels, which
nine speakers said. Batches are packed: no step is computed for padding.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastnet
from fastnet._tensor import Tensor
from fastnet.data import load_series
from fastnet.models import RNNClassifier
from fastnet.nn.utils.rnn import PackedSequence, pack_sequence
from fastnet.recipes.options import ClassifierOptions
from fastnet.train import Trainer
from fastnet.utils.data import DataLoader


@dataclass
class Options(ClassifierOptions):
    """What the command line sets."""

    epochs: int = 30
    batch_size: int = 16
    lr: float = 2e-3
    max_norm: float | None = 1.0
    hidden: int = 64
    layers: int = 1
    count: int = 2400  # pen strokes
    data: Path | None = None  # a folder of series; None for pen strokes


def packed(items: list[tuple[Tensor, Tensor]]) -> tuple[PackedSequence, Tensor]:
    """A batch: the series packed, the labels (N,)."""
    series, labels = zip(*items, strict=True)
    return pack_sequence(list(series), enforce_sorted=False), fastnet.stack(list(labels))


def run(options: Options) -> tuple[Trainer, dict[str, Any]]:
    """Train, then test the best checkpoint; the trainer and a summary."""
    fastnet.manual_seed(options.seed)
    sets = load_series(options.data, count=options.count)
    model = RNNClassifier(sets.channels, len(sets.classes), options.hidden, options.layers).to(options.device)
    optimizer = fastnet.optim.Adam(model.parameters(), lr=options.lr)
    scheduler = fastnet.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=options.epochs)
    trainer = Trainer(model, optimizer, scheduler=scheduler, units="series", **options.for_trainer())
    loaders = [DataLoader(part, 256, collate_fn=packed) for part in (sets.validation, sets.test)]
    loader = DataLoader(sets.train, options.batch_size, shuffle=True, collate_fn=packed)
    trainer.fit(loader, loaders[0], options.epochs)
    trainer.load_best()
    loss, accuracy = trainer.evaluate(loaders[1])
    return trainer, {"test_loss": loss, "test_accuracy": accuracy}
