"""Gradient clipping, parameters as one vector, parametrizations, weight and spectral norm, folded batch norm."""

from __future__ import annotations

from collections.abc import Iterable

from fastnet._tensor import Tensor
from fastnet.errors import KindError
from fastnet.nn.utils import rnn as rnn
from fastnet.nn.utils.clip_grad import (
    clip_grad_norm,
    clip_grad_norm_,
    clip_grad_value_,
    clip_grads_with_norm_,
    get_total_norm,
)
from fastnet.ops.shape import cat


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All parameters one after another."""
    return cat([p.reshape(-1) for p in parameters])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Write a vector's parts into the parameters."""
    if not isinstance(vec, Tensor):
        raise KindError(f"expected fastnet.Tensor, but got: {type(vec).__name__}")
    start = 0
    for p in parameters:
        p.data = vec[start : start + p.numel()].reshape(p.shape).data
        start += p.numel()


__all__ = [
    "clip_grad_norm",
    "clip_grad_norm_",
    "clip_grad_value_",
    "clip_grads_with_norm_",
    "fuse_conv_bn_eval",
    "fuse_conv_bn_weights",
    "fuse_linear_bn_eval",
    "fuse_linear_bn_weights",
    "get_total_norm",
    "parameters_to_vector",
    "parametrizations",
    "parametrize",
    "remove_spectral_norm",
    "remove_weight_norm",
    "skip_init",
    "spectral_norm",
    "stateless",
    "vector_to_parameters",
    "weight_norm",
]

# They use the layers, which are defined now.
from fastnet.nn.utils import parametrizations, parametrize, stateless  # noqa: E402
from fastnet.nn.utils.fusion import (  # noqa: E402
    fuse_conv_bn_eval,
    fuse_conv_bn_weights,
    fuse_linear_bn_eval,
    fuse_linear_bn_weights,
)
from fastnet.nn.utils.init import skip_init  # noqa: E402
from fastnet.nn.utils.spectral_norm import remove_spectral_norm, spectral_norm  # noqa: E402
from fastnet.nn.utils.weight_norm import remove_weight_norm, weight_norm  # noqa: E402
