"""Layers, losses and the functions under them, by PyTorch's names."""

from fastnet.nn import functional, init, utils
from fastnet.nn.activation import (
    ELU,
    GELU,
    Hardswish,
    LeakyReLU,
    LogSigmoid,
    LogSoftmax,
    Mish,
    PReLU,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from fastnet.nn.containers import ModuleDict, ModuleList, ParameterDict, ParameterList, Sequential
from fastnet.nn.conv import Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d
from fastnet.nn.dropout import Dropout, Dropout2d
from fastnet.nn.embedding import Embedding
from fastnet.nn.linear import Bilinear, Flatten, Identity, Linear, Unflatten
from fastnet.nn.loss import (
    BCELoss,
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    KLDivLoss,
    L1Loss,
    MSELoss,
    NLLLoss,
    SmoothL1Loss,
)
from fastnet.nn.module import Module
from fastnet.nn.parameter import Buffer, Parameter
from fastnet.nn.unfold import Fold, Unfold

__all__ = [
    "ELU",
    "GELU",
    "BCELoss",
    "BCEWithLogitsLoss",
    "Bilinear",
    "Buffer",
    "Conv1d",
    "Conv2d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "CrossEntropyLoss",
    "Dropout",
    "Dropout2d",
    "Embedding",
    "Flatten",
    "Fold",
    "Hardswish",
    "Identity",
    "KLDivLoss",
    "L1Loss",
    "LeakyReLU",
    "Linear",
    "LogSigmoid",
    "LogSoftmax",
    "MSELoss",
    "Mish",
    "Module",
    "ModuleDict",
    "ModuleList",
    "NLLLoss",
    "PReLU",
    "Parameter",
    "ParameterDict",
    "ParameterList",
    "ReLU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "SmoothL1Loss",
    "Softmax",
    "Softplus",
    "Tanh",
    "Unflatten",
    "Unfold",
    "functional",
    "init",
    "utils",
]
