"""What the command line sets: the options that all recipes share."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any


@dataclass
class Options:
    """Of every recipe. Each gives its own defaults, and adds what else it has."""

    epochs: int = 10
    batch_size: int = 32
    lr: float = 1e-3
    precision: str = "float32"
    max_norm: float | None = None
    seed: int = 0
    device: str = "cpu"
    out: Path | None = None
    progress: bool = True
    checkpoint_every: int | None = None
    graph: bool = False
    resume: Path | None = None

    # What does not decide the bits that a run gives: a resumed run may have others.
    FREE = ("device", "out", "progress", "checkpoint_every", "graph", "resume")

    def deciding(self) -> dict[str, Any]:
        """The others, as plain values: a checkpoint keeps them, and goes on with the same ones only."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in self.FREE}
        return {name: str(v) if isinstance(v, Path) else v for name, v in values.items()}

    def for_trainer(self) -> dict[str, Any]:
        """The arguments of a trainer that every recipe hands on."""
        return {
            "device": self.device,
            "out": self.out,
            "progress": self.progress,
            "precision": self.precision,
            "max_norm": self.max_norm,
            "checkpoint_every": self.checkpoint_every,
            "graph": self.graph,
            "resume": self.resume,
            "options": self.deciding(),
        }


@dataclass
class ClassifierOptions(Options):
    """Of the recipes that ``fastnet.train.Trainer`` trains."""

    accumulate: int = 1
    ema: float | None = None
    patience: int | None = None

    def for_trainer(self) -> dict[str, Any]:
        more = {"accumulate": self.accumulate, "ema": self.ema, "patience": self.patience}
        return {**super().for_trainer(), **more}


@dataclass
class TextOptions(ClassifierOptions):
    """Of the recipes that learn a text: ``data`` is a file, None for Python's documentation, of which so many
    ``characters`` are read; ``sampled`` are written after each epoch."""

    data: Path | None = None
    characters: int = 200_000
    sampled: int = 300
