"""An LSTM learns the characters of a text, by default Python's documentation: ``fastnet train lstm``.

The text is read in strips side by side; the state is carried from chunk to chunk and gradients stop between them
(truncated backpropagation through time, Williams and Peng 1990). Each epoch prints what the model writes (samples.txt
keeps it).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import fastnet
from fastnet._tensor import Tensor
from fastnet.data.text import Streams
from fastnet.models import CharLSTM
from fastnet.recipes.options import TextOptions
from fastnet.recipes.transformer import divided, show_sample
from fastnet.train import Trainer


@dataclass
class Options(TextOptions):
    """What the command line sets."""

    epochs: int = 8
    batch_size: int = 32
    lr: float = 4e-3
    max_norm: float | None = 1.0
    length: int = 48
    embedding: int = 48
    hidden: int = 192
    layers: int = 1
    dropout: float = 0.0
    characters: int = 300_000


class CarryingTrainer(Trainer):
    """A trainer whose model takes a state and gives the next: (logits, state)."""

    def logits(self, x: Tensor) -> Tensor:
        logits, state = self.model(x, self.carried)
        self.carried = tuple(s.detach() for s in state)
        return logits


def run(options: Options) -> tuple[Trainer, dict[str, Any]]:
    """Train, then test the best checkpoint; the trainer and a summary."""
    fastnet.manual_seed(options.seed)
    # Validation and test, 5 % each, are read in eight strips.
    vocabulary, parts = divided(options, (options.length + 1) * max(160, 2 * options.batch_size))
    train = Streams(parts[0], options.batch_size, options.length)
    validation, test = (Streams(part, 8, options.length) for part in parts[1:])
    model = CharLSTM(len(vocabulary), options.embedding, options.hidden, options.layers, options.dropout).to(
        options.device
    )
    optimizer = fastnet.optim.Adam(model.parameters(), lr=options.lr)
    steps = options.epochs * -(-len(train) // options.accumulate)
    scheduler = fastnet.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    prompt = train.x[:1, :1].to(options.device)

    def after_epoch(number: int) -> None:
        written = model.generate(prompt, options.sampled, temperature=0.8)
        show_sample(trainer, number, vocabulary.decode(written[0].tolist()))

    trainer = CarryingTrainer(
        model,
        optimizer,
        scheduler=scheduler,
        schedule_by="step",
        units="characters",
        best_by="loss",
        after_epoch=after_epoch,
        **options.for_trainer(),
    )
    trainer.fit(train, validation, options.epochs)
    trainer.load_best()
    loss, accuracy = trainer.evaluate(test)
    return trainer, {
        "test_loss": loss,
        "test_bits_per_character": loss / math.log(2),
        "test_accuracy": accuracy,
        "vocabulary": vocabulary.characters,
    }
