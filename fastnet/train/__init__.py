"""Training: the loop, what it writes, its checkpoints, and its curves."""

from fastnet.train.checkpoints import CheckpointError
from fastnet.train.interrupts import Interrupted
from fastnet.train.rate_finder import RateRange, find_learning_rate
from fastnet.train.run import Run
from fastnet.train.trainer import History, Trainer

__all__ = ["CheckpointError", "History", "Interrupted", "RateRange", "Run", "Trainer", "find_learning_rate"]
