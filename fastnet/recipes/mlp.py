"""A fully connected network learns handwritten digits: ``fastnet train mlp``.

Two hidden layers with dropout, stochastic gradient descent with Nesterov momentum, a learning rate that falls along a
cosine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import fastnet
from fastnet.data import digits
from fastnet.models import MLP
from fastnet.recipes.options import ClassifierOptions
from fastnet.train import Trainer
from fastnet.utils.data import DataLoader


@dataclass
class Options(ClassifierOptions):
    """What the command line sets."""

    epochs: int = 30
    batch_size: int = 32
    lr: float = 0.05
    hidden: tuple[int, ...] = (128, 64)
    dropout: float = 0.2


def run(options: Options) -> tuple[Trainer, dict[str, Any]]:
    """Train, then test the best checkpoint; the trainer and a summary."""
    fastnet.manual_seed(options.seed)
    train, validation, test = digits()
    model = MLP(64, 10, hidden=options.hidden, dropout=options.dropout).to(options.device)
    optimizer = fastnet.optim.SGD(model.parameters(), lr=options.lr, momentum=0.9, nesterov=True, weight_decay=1e-4)
    scheduler = fastnet.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=options.epochs)
    trainer = Trainer(model, optimizer, scheduler=scheduler, **options.for_trainer())
    trainer.fit(DataLoader(train, options.batch_size, shuffle=True), DataLoader(validation, 180), options.epochs)
    trainer.load_best()
    loss, accuracy = trainer.evaluate(DataLoader(test, 360))
    return trainer, {"test_loss": loss, "test_accuracy": accuracy}
