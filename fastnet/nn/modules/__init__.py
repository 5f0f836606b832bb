"""torch.nn.modules' paths, for files that use them: fastnet.nn's modules under PyTorch's names."""

import sys
from typing import Any

from fastnet import nn
from fastnet.nn import (
    activation,
    containers,
    conv,
    distance,
    dropout,
    embedding,
    linear,
    loss,
    module,
    norm,
    pool,
    resampling,
    rnn,
    transformer,
    unfold,
)
from fastnet.nn.modules import utils as utils

for _name, _module in {
    "activation": activation,
    "batchnorm": norm,
    "container": containers,
    "conv": conv,
    "distance": distance,
    "dropout": dropout,
    "flatten": linear,
    "fold": unfold,
    "instancenorm": norm,
    "linear": linear,
    "loss": loss,
    "module": module,
    "normalization": norm,
    "padding": resampling,
    "pixelshuffle": resampling,
    "pooling": pool,
    "rnn": rnn,
    "sparse": embedding,
    "transformer": transformer,
    "upsampling": resampling,
}.items():
    sys.modules[f"{__name__}.{_name}"] = _module
    globals()[_name] = _module


def __getattr__(name: str) -> Any:
    return getattr(nn, name)  # torch.nn.modules.Linear is torch.nn.Linear
