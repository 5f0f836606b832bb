"""A small GPT learns the characters of a text, by default Python's documentation: ``fastnet train transformer``.

AdamW with weight decay on matrices only, a warmed-up learning rate that falls along a cosine, gradients clipped. Each
epoch prints what the model writes (samples.txt keeps it); in the end what its heads attend to is drawn (attention.png).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import fastnet
from fastnet.data.text import Characters, Chunks, python_docs, read_text
from fastnet.models import GPT, GPTConfig
from fastnet.recipes.options import TextOptions
from fastnet.train import Trainer
from fastnet.train.figures import draw_attention
from fastnet.utils.data import DataLoader


@dataclass
class Options(TextOptions):
    """What the command line sets."""

    epochs: int = 6
    batch_size: int = 16
    lr: float = 3e-3
    max_norm: float | None = 1.0
    length: int = 64
    width: int = 128
    layers: int = 2
    heads: int = 4
    dropout: float = 0.0


def divided(options: Any, least: int) -> tuple[Characters, list[Any]]:
    """The vocabulary, and the text's numbers: 90 % to train, 5 % to validate, 5 % to test, in this order.

    Raises:
        ValueError: the text has fewer than ``least`` characters.
    """
    text = python_docs(options.characters) if options.data is None else read_text(options.data)
    if len(text) < least:
        raise ValueError(f"the text has {len(text)} characters, expected at least {least}")
    vocabulary = Characters(text)
    numbers, n = vocabulary.encode(text), len(text)
    ends = [0, n * 90 // 100, n * 95 // 100, n]
    return vocabulary, [numbers[a:b] for a, b in itertools.pairwise(ends)]


def show_sample(trainer: Trainer, number: int, sample: str) -> None:
    """Print what a model writes after an epoch, and add it to samples.txt."""
    loss = trainer.history.epochs[-1].validation_loss
    text = f"--- epoch {number}, validation loss {loss:.3f} nats a character ---\n{sample}\n"
    trainer.say(text)
    if trainer.out is not None:
        path = trainer.out / "samples.txt"
        before = path.read_text(encoding="utf-8") if number > 1 and path.exists() else ""
        # A run that goes on from a checkpoint may have written this epoch's sample before.
        path.write_text(before.split(f"--- epoch {number},")[0] + text, encoding="utf-8")


def run(options: Options) -> tuple[Trainer, dict[str, Any]]:
    """Train, then test the best checkpoint; the trainer and a summary."""
    fastnet.manual_seed(options.seed)
    vocabulary, parts = divided(options, 40 * options.length)
    train, validation, test = (Chunks(part, options.length) for part in parts)
    config = GPTConfig(
        len(vocabulary), options.length, options.width, options.layers, options.heads, dropout=options.dropout
    )
    model = GPT(config).to(options.device)
    loader = DataLoader(train, options.batch_size, shuffle=True)
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    optimizer = fastnet.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
        lr=options.lr,
        betas=(0.9, 0.99),
    )
    steps = options.epochs * -(-len(loader) // options.accumulate)
    scheduler = fastnet.optim.lr_scheduler.OneCycleLR(
        optimizer, options.lr, total_steps=steps + 1, pct_start=0.1, cycle_momentum=False
    )
    prompt = train.x[:1, :1].to(options.device)

    def after_epoch(number: int) -> None:
        written = model.generate(prompt, options.sampled, temperature=0.8)
        show_sample(trainer, number, vocabulary.decode(written[0].tolist()))

    trainer = Trainer(
        model,
        optimizer,
        scheduler=scheduler,
        schedule_by="step",
        units="characters",
        best_by="loss",
        after_epoch=after_epoch,
        **options.for_trainer(),
    )
    trainer.fit(loader, DataLoader(validation, 4 * options.batch_size), options.epochs)
    trainer.load_best()
    if options.out is not None:
        shown = test.x[:1, :28].to(options.device)
        maps = [m[0].cpu().numpy() for m in model.eval().attention_maps(shown)]
        title = "What each character attends to (shade: square root of the probability)"
        draw_attention(maps, vocabulary.decode(shown[0].tolist()), options.out / "attention.png", title)
    loss, accuracy = trainer.evaluate(DataLoader(test, 4 * options.batch_size))
    return trainer, {
        "test_loss": loss,
        "test_bits_per_character": loss / math.log(2),
        "test_accuracy": accuracy,
        "vocabulary": vocabulary.characters,
    }
