"""torch.nn.modules' paths, for files that use them: fastnet.nn's modules under PyTorch's names."""

import sys
from typing import Any

from fastnet import nn
from fastnet.nn import (
    activation,
    adaptive_softmax,
    containers,
    conv,
    distance,
    dropout,
    embedding,
    lazy,
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
    "adaptive": adaptive_softmax,
    "batchnorm": norm,
    "container": containers,
    "conv": conv,
    "distance": distance,
    "dropout": dropout,
    "flatten": linear,
    "fold": unfold,
    "instancenorm": norm,
    "lazy": lazy,
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

# PyTorch has layers of volumes beside those of images, and lazy ones beside what they become.
for _path, _names in {
    "batchnorm": "LazyBatchNorm1d LazyBatchNorm2d LazyBatchNorm3d",
    "conv": (
        "Conv3d ConvTranspose3d LazyConv1d LazyConv2d LazyConv3d LazyConvTranspose1d LazyConvTranspose2d "
        "LazyConvTranspose3d"
    ),
    "linear": "LazyLinear",
    "loss": "CTCLoss LinearCrossEntropyLoss",
    "normalization": "LocalResponseNorm",
    "pooling": (
        "AdaptiveAvgPool3d AdaptiveMaxPool3d AvgPool3d FractionalMaxPool2d FractionalMaxPool3d LPPool1d LPPool2d "
        "LPPool3d MaxPool3d MaxUnpool1d MaxUnpool2d MaxUnpool3d"
    ),
}.items():
    for _name in _names.split():
        setattr(sys.modules[f"{__name__}.{_path}"], _name, getattr(nn, _name))


def __getattr__(name: str) -> Any:
    return getattr(nn, name)  # torch.nn.modules.Linear is torch.nn.Linear
