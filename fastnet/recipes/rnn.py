"""A recurrent network tells shapes apart by pen strokes of differing lengths (made on the spot): ``fastnet train rnn``.

Batches are packed: no step is computed for padding. The data are ``fastnet.data.strokes``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import fastnet
from fastnet._tensor import Tensor
from fastnet.data import strokes
from fastnet.data.strokes import SHAPES
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
    count: int = 2400


def packed(items: list[tuple[Tensor, Tensor]]) -> tuple[PackedSequence, Tensor]:
    """A batch: the series packed, the labels (N,)."""
    series, labels = zip(*items, strict=True)
    return pack_sequence(list(series), enforce_sorted=False), fastnet.stack(list(labels))


def run(options: Options) -> tuple[Trainer, dict[str, Any]]:
    """Train, then test the best checkpoint; the trainer and a summary."""
    fastnet.manual_seed(options.seed)
    train, validation, test = strokes(count=options.count)
    model = RNNClassifier(4, len(SHAPES), options.hidden, options.layers).to(options.device)
    optimizer = fastnet.optim.Adam(model.parameters(), lr=options.lr)
    scheduler = fastnet.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=options.epochs)
    trainer = Trainer(model, optimizer, scheduler=scheduler, units="series", **options.for_trainer())
    loaders = [DataLoader(part, 256, collate_fn=packed) for part in (validation, test)]
    loader = DataLoader(train, options.batch_size, shuffle=True, collate_fn=packed)
    trainer.fit(loader, loaders[0], options.epochs)
    trainer.load_best()
    loss, accuracy = trainer.evaluate(loaders[1])
    return trainer, {"test_loss": loss, "test_accuracy": accuracy}
