"""Optimizers and learning-rate schedules, as ``torch.optim``."""

from fastnet.optim import lr_scheduler, swa_utils
from fastnet.optim.adagrad import Adagrad
from fastnet.optim.adam import Adam, AdamW
from fastnet.optim.muon import Muon
from fastnet.optim.optimizer import Optimizer
from fastnet.optim.rmsprop import RMSprop
from fastnet.optim.sgd import SGD

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "Muon", "Optimizer", "RMSprop", "lr_scheduler", "swa_utils"]
