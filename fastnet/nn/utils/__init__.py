"""Gradient clipping, and parameters as one vector."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from fastnet._tensor import Tensor
from fastnet.autograd import no_grad
from fastnet.ops.creation import tensor
from fastnet.ops.shape import cat


def _with_gradients(parameters: Any) -> list[Tensor]:
    return [p for p in ([parameters] if isinstance(parameters, Tensor) else list(parameters)) if p.grad is not None]


def clip_grad_norm_(
    parameters: Any,
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scale all gradients so that their norm, as one vector, is at most ``max_norm``; returns the norm before.

    The factor is max_norm / (norm + 1e-6), at most 1, as in PyTorch.
    """
    with no_grad():
        grads = [p.grad for p in _with_gradients(parameters)]
        if not grads:
            return tensor(0.0)
        norms = cat(
            [
                g.detach().float().norm(norm_type).reshape(1)
                if g.dtype.itemsize == 2
                else g.detach().norm(norm_type).reshape(1)
                for g in grads
            ]
        )
        total = norms.norm(norm_type)
        if error_if_nonfinite and not math.isfinite(total.item()):
            raise RuntimeError(
                f"The total norm of order {norm_type} for gradients from `parameters` is non-finite, so it cannot "
                "be clipped."
            )
        factor = (max_norm / (total + 1e-6)).clamp(max=1.0)
        for g in grads:
            g.mul_(factor.to(g.dtype))
        return total


def clip_grad_value_(parameters: Any, clip_value: float, foreach: bool | None = None) -> None:
    """Limit every element of every gradient to [-clip_value, clip_value]."""
    with no_grad():
        for p in _with_gradients(parameters):
            p.grad.clamp_(-float(clip_value), float(clip_value))


def get_total_norm(tensors: Iterable[Tensor], norm_type: float = 2.0) -> Tensor:
    """The norm of tensors as one vector."""
    with no_grad():
        return cat([t.norm(norm_type).reshape(1) for t in tensors]).norm(norm_type)


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All parameters one after another."""
    return cat([p.reshape(-1) for p in parameters])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Write a vector's parts into the parameters."""
    if not isinstance(vec, Tensor):
        raise TypeError(f"expected Tensor, but got: {type(vec).__name__}")
    start = 0
    for p in parameters:
        p.data = vec[start : start + p.numel()].reshape(p.shape).data
        start += p.numel()
