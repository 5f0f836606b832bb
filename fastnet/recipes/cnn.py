"""A convolutional network learns handwritten digits: ``fastnet train cnn``.

Two blocks of convolution, ReLU and max pooling, a classifier with dropout, stochastic gradient descent with Nesterov
momentum, a learning rate that falls along a cosine.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastnet
from fastnet.data import load_images
from fastnet.models import ConvNet
from fastnet.recipes.options import ClassifierOptions
from fastnet.train import Trainer
from fastnet.utils.data import DataLoader


@dataclass
class Options(ClassifierOptions):
    """What the command line sets."""

    epochs: int = 30
    batch_size: int = 32
    lr: float = 0.05
    channels: tuple[int, ...] = (32, 64)
    hidden: int = 128
    dropout: float = 0.25
    data: Path | None = None  # IDX, CIFAR-10 or a folder of images; None for digits


def run(options: Options) -> tuple[Trainer, dict[str, Any]]:
    """Train, then test the best checkpoint; the trainer and a summary."""
    fastnet.manual_seed(options.seed)
    sets = load_images(options.data)
    model = ConvNet(
        sets.channels, len(sets.classes), sets.image_size, options.channels, options.hidden, options.dropout
    ).to(options.device)
    optimizer = fastnet.optim.SGD(model.parameters(), lr=options.lr, momentum=0.9, nesterov=True, weight_decay=1e-4)
    scheduler = fastnet.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=options.epochs)
    trainer = Trainer(model, optimizer, scheduler=scheduler, **options.for_trainer())
    trainer.fit(
        DataLoader(sets.train, options.batch_size, shuffle=True), DataLoader(sets.validation, 180), options.epochs
    )
    trainer.load_best()
    loss, accuracy = trainer.evaluate(DataLoader(sets.test, 360))
    return trainer, {"test_loss": loss, "test_accuracy": accuracy}
