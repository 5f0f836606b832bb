"""Training: the loop, what it writes, and its curves."""

from fastnet.train.run import Run
from fastnet.train.trainer import History, Trainer

__all__ = ["History", "Run", "Trainer"]
