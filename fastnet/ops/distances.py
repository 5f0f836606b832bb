"""Norms, distances and angles between vectors, composed of differentiable operations."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnet import _dtypes
from fastnet._checks import into
from fastnet._tensor import Tensor
from fastnet.errors import InputError, KindError
from fastnet.ops._numeric import axis_of
from fastnet.ops._operands import cast, check_tensor


def _pair(name: str, x1: Any, x2: Any) -> tuple[Tensor, Tensor]:
    """Both in one floating-point dtype; ValueError unless they broadcast."""
    check_tensor(name, x1, "x1")
    check_tensor(name, x2, "x2")
    dtype = _dtypes.promote_types(x1.dtype, x2.dtype)
    if not dtype.is_floating_point:
        raise KindError(f"{name}: expected floating-point tensors, got {x1.dtype.name} and {x2.dtype.name}")
    try:
        np.broadcast_shapes(tuple(x1.shape), tuple(x2.shape))
    except ValueError:
        raise InputError(f"{name}: shapes {tuple(x1.shape)} and {tuple(x2.shape)} do not broadcast") from None
    return cast(x1, dtype), cast(x2, dtype)


def normalize(input: Tensor, p: float = 2.0, dim: Any = 1, eps: float = 1e-12, out: Tensor | None = None) -> Tensor:
    """input over its p-norm along ``dim``, which counts as at least eps.

    >>> import fastnet
    >>> normalize(fastnet.tensor([[3.0, 4.0]]))
    tensor([[0.6000, 0.8000]])
    """
    check_tensor("normalize", input)
    result = input / input.norm(p, dim, keepdim=True).clamp(min=eps).expand_as(input)
    return result if out is None else into(out, result, "normalize")


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """The cosine of the angle between vectors along ``dim``, broadcast; norms count as at least eps.

    >>> import fastnet
    >>> cosine_similarity(fastnet.tensor([[1.0, 1.0]]), fastnet.tensor([[2.0, 0.0]]))
    tensor([0.7071])
    """
    x1, x2 = _pair("cosine_similarity", x1, x2)
    shape = np.broadcast_shapes(tuple(x1.shape), tuple(x2.shape))
    axis = axis_of(dim, len(shape), "cosine_similarity")
    if not shape:
        x1, x2 = x1.reshape(1), x2.reshape(1)
    x1, x2 = (x if tuple(x.shape) == (shape or (1,)) else x.expand(*shape) for x in (x1, x2))
    directions = []
    for x in (x1, x2):
        norm = x.norm(2, axis, keepdim=True)
        lift = (eps - norm.detach()).clamp(min=0)  # no part of the gradient, as in PyTorch
        directions.append(x / (norm + lift))
    return (directions[0] * directions[1]).sum(axis)


def pairwise_distance(x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Tensor:
    """The p-norm of ``x1 - x2 + eps`` along the last dimension, broadcast.

    >>> import fastnet
    >>> pairwise_distance(fastnet.tensor([[3.0, 0.0]]), fastnet.tensor([[0.0, 4.0]]))
    tensor([5.0000])
    """
    x1, x2 = _pair("pairwise_distance", x1, x2)
    return (x1 - x2 + eps).norm(p, -1, keepdim=keepdim)
