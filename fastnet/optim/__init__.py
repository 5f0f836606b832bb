"""Optimizers and learning-rate schedules, as ``torch.optim``."""

from fastnet.optim import lr_scheduler
from fastnet.optim.optimizer import Optimizer
from fastnet.optim.sgd import SGD

__all__ = ["SGD", "Optimizer", "lr_scheduler"]
