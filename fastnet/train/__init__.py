"""Training: the loop, what it writes, and its curves."""

from fastnet.train.trainer import History, Trainer

__all__ = ["History", "Trainer"]
