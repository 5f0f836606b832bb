"""The norm of many tensors as one vector, and clipping by it; torch.nn.utils.clip_grad."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastnet._tensor import Tensor
from fastnet.autograd import no_grad
from fastnet.ops.creation import tensor
from fastnet.ops.shape import stack


def _gradients(parameters: Any) -> list[Tensor]:
    listed = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    return [p.grad for p in listed if p.grad is not None]


def get_total_norm(
    tensors: Iterable[Tensor], norm_type: float = 2.0, error_if_nonfinite: bool = False, foreach: bool | None = None
) -> Tensor:
    """The norm of order ``norm_type`` of all tensors as one vector; 16-bit types add up in float32.

    Raises:
        RuntimeError: it is infinite or NaN, and ``error_if_nonfinite``.
    """
    tensors = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    norm_type = float(norm_type)
    if not tensors:
        return tensor(0.0)
    with no_grad():
        # float32 for 16-bit types until the end; the result has their dtype, as in PyTorch.
        norms = [t.detach().to(_wide(t)).norm(norm_type) for t in tensors]
        dtype = norms[0].dtype
        total = stack([n.to(dtype).to(norms[0].device) for n in norms]).norm(norm_type)
        if all(t.dtype.itemsize == 2 for t in tensors):
            total = total.to(tensors[0].dtype)
        if error_if_nonfinite and not bool(total.isfinite()):
            raise RuntimeError(
                f"The total norm of order {norm_type} for gradients from `parameters` is non-finite, so it cannot be "
                "clipped. To disable this error and scale the gradients by the non-finite norm anyway, set "
                "`error_if_nonfinite=False`"
            )
        return total


def _wide(t: Tensor) -> Any:
    from fastnet._dtypes import float32

    return float32 if t.dtype.itemsize == 2 else t.dtype


def clip_grads_with_norm_(parameters: Any, max_norm: float, total_norm: Tensor, foreach: bool | None = None) -> None:
    """Multiply all gradients by max_norm / (total_norm + 1e-6), at most 1."""
    with no_grad():
        factor = (float(max_norm) / (total_norm + 1e-6)).clamp(max=1.0)
        for g in _gradients(parameters):
            g.mul_(factor.to(g.device).to(g.dtype))


def clip_grad_norm_(
    parameters: Any,
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scale all gradients so that their norm, as one vector, is at most ``max_norm``; returns the norm before.

    The factor is max_norm / (norm + 1e-6), at most 1. ``foreach`` is accepted and changes nothing.
    """
    parameters = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    total = get_total_norm(_gradients(parameters), norm_type, error_if_nonfinite, foreach)
    clip_grads_with_norm_(parameters, max_norm, total, foreach)
    return total


def clip_grad_norm(
    parameters: Any, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> Tensor:
    """PyTorch's deprecated name of ``clip_grad_norm_``."""
    return clip_grad_norm_(parameters, max_norm, norm_type, error_if_nonfinite)


def clip_grad_value_(parameters: Any, clip_value: float, foreach: bool | None = None) -> None:
    """Limit every element of every gradient to [-clip_value, clip_value]."""
    with no_grad():
        for g in _gradients(parameters):
            g.clamp_(-float(clip_value), float(clip_value))
