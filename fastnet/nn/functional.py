"""The functions of layers, by PyTorch's names and arguments. Gathered here from fastnet.ops, where they live."""

from __future__ import annotations

from typing import Any

from fastnet._checks import checked
from fastnet._tensor import Tensor
from fastnet.ops.conv import conv1d, conv2d, conv2d_activation, conv_transpose1d, conv_transpose2d
from fastnet.ops.dropout import dropout, dropout2d
from fastnet.ops.embedding import embedding
from fastnet.ops.indexing import one_hot
from fastnet.ops.losses import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    kl_div,
    l1_loss,
    mse_loss,
    smooth_l1_loss,
)
from fastnet.ops.matmul import bilinear, linear, linear_activation
from fastnet.ops.pointwise import (
    bias_activation,
    elu,
    gelu,
    hardswish,
    leaky_relu,
    logsigmoid,
    mish,
    prelu,
    relu,
    sigmoid,
    silu,
    softplus,
    tanh,
)
from fastnet.ops.shape import pad
from fastnet.ops.softmax import cross_entropy, log_softmax, nll_loss, softmax
from fastnet.ops.unfold import fold, unfold

__all__ = [
    "bias_activation",
    "bilinear",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "conv1d",
    "conv2d",
    "conv2d_activation",
    "conv_transpose1d",
    "conv_transpose2d",
    "cosine_similarity",
    "cross_entropy",
    "dropout",
    "dropout2d",
    "elu",
    "embedding",
    "fold",
    "gelu",
    "hardswish",
    "kl_div",
    "l1_loss",
    "leaky_relu",
    "linear",
    "linear_activation",
    "log_softmax",
    "logsigmoid",
    "mish",
    "mse_loss",
    "nll_loss",
    "normalize",
    "one_hot",
    "pad",
    "prelu",
    "relu",
    "sigmoid",
    "silu",
    "smooth_l1_loss",
    "softmax",
    "softplus",
    "tanh",
    "unfold",
]


def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """input over its p-norm along ``dim``, which counts as at least eps."""
    return input / input.norm(p, dim, keepdim=True).clamp(min=eps).expand_as(input)


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """The cosine of the angle between vectors along ``dim``; norms count as at least eps."""
    norms: Any = x1.norm(2, dim).clamp(min=eps) * x2.norm(2, dim).clamp(min=eps)
    return (x1 * x2).sum(dim) / norms


for _name in __all__:
    globals()[_name] = checked(globals()[_name])
