"""Muon: steps of orthogonalised momentum, for matrices."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from fastnet import _dtypes
from fastnet._device import namespace
from fastnet._tensor import Tensor
from fastnet.kernels._runtime import implementation
from fastnet.optim.array_code import ArrayOptimizer, average
from fastnet.optim.optimizer import zeros_like


def orthogonalised(x: Any, coefficients: tuple[float, float, float], steps: int, eps: float) -> Any:
    """A matrix (M, N) near ``U V^T`` where ``x = U S V^T``, in bfloat16: what ``steps`` of
    ``X <- a X + (b X X^T + c (X X^T)^2) X`` make of x / |x|, by the matmul kernels. Singular values end near 1, within
    about 0.3.

    Source: Jordan et al. 2024 (Muon), after Bernstein and Newhouse 2024.
    """
    if steps >= 100:
        raise ValueError("Number of steps must be less than 100 for computational efficiency")
    if len(coefficients) != 3:
        raise ValueError("Coefficients must be a tuple of exactly 3 values")
    a, b, c = coefficients
    product = implementation(x).matmul
    tall = x.shape[0] > x.shape[1]
    narrow = _dtypes.bfloat16.numpy
    xp = namespace(x)
    x = (x.T if tall else x).astype(narrow)
    wide = x.astype(np.float32)
    # The norm and the quotient are rounded to bfloat16 each, as PyTorch has it.
    norm = xp.maximum(xp.sqrt(xp.square(wide).sum()).astype(narrow).astype(np.float32), np.float32(eps))
    x = (wide / norm).astype(narrow)
    for _ in range(steps):
        gram = product(x, x.T)
        gram = product(gram, gram, c=gram, alpha=c, beta=b)
        x = product(gram, x, c=x, beta=a)
    return x.T if tall else x


class Muon(ArrayOptimizer):
    """Momentum made orthogonal, for the matrices inside a network, as ``torch.optim.Muon``.

    ``buf = momentum buf + (1 - momentum) grad``;  ``u = momentum buf + (1 - momentum) grad`` again if nesterov, else
    buf;  ``p *= 1 - lr weight_decay``;  ``p -= r lr O(u)``, where ``O`` orthogonalises in bfloat16 on the matmul
    kernels and r is ``sqrt(max(1, rows / columns))``, or ``0.2 sqrt(max(rows, columns))`` with "match_rms_adamw".

    Embeddings, biases and the last layer are for another optimizer.

    Args:
        params: parameters of two dimensions, or groups of them.
        lr, weight_decay, momentum, nesterov: as in the formula.
        ns_coefficients, ns_steps, eps: of the orthogonalisation: a, b, c; how many iterations; the least norm.
        adjust_lr_fn: r: "original" (also None) or "match_rms_adamw".

    Raises:
        ValueError: a negative lr, momentum or weight_decay, another adjust_lr_fn, or a parameter that is no matrix.

    Source: Jordan et al. 2024; Liu et al. 2025 ("match_rms_adamw"); as PyTorch has it.

    >>> import fastnet
    >>> p = fastnet.eye(2).requires_grad_()
    >>> optimizer = Muon([p], lr=0.5, weight_decay=0.0)
    >>> (3 * p).diagonal().sum().backward()
    >>> optimizer.step()
    >>> bool((p.detach() - 0.5 * fastnet.eye(2)).abs().max() < 0.2)
    True
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.775, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
    ):
        if isinstance(lr, Tensor) and lr.numel() != 1:
            raise ValueError("Tensor lr must be 1-element")
        for what, value in (("Learning rate", lr), ("momentum", momentum), ("weight decay", weight_decay)):
            if not value >= 0.0:
                raise ValueError(f"{what} should be >= 0 but is: {value}")
        if adjust_lr_fn not in (None, "original", "match_rms_adamw"):
            raise ValueError(f"Adjust learning rate function {adjust_lr_fn} is not supported")
        super().__init__(
            params,
            {
                "lr": lr,
                "weight_decay": weight_decay,
                "momentum": momentum,
                "nesterov": nesterov,
                "ns_coefficients": ns_coefficients,
                "eps": eps,
                "ns_steps": ns_steps,
                "adjust_lr_fn": adjust_lr_fn,
            },
        )
        for group in self.param_groups:
            for p in group["params"]:
                if p.dim() != 2:
                    raise ValueError(
                        f"Muon only supports 2D parameters whereas we found a parameter with size: {tuple(p.shape)}"
                    )

    def _start(self, state: dict[str, Any], p: Tensor, lr: float, group: dict[str, Any]) -> None:
        state["momentum_buffer"] = zeros_like(p)

    def _update(self, p: Any, grad: Any, state: dict[str, Any], lr: float, group: dict[str, Any]) -> Any:
        momentum, (rows, columns) = group["momentum"], p.shape
        averaged = average(state["momentum_buffer"], grad, momentum)
        update = grad + momentum * (averaged - grad) if group["nesterov"] else averaged
        update = orthogonalised(update, group["ns_coefficients"], group["ns_steps"], group["eps"])
        ratio = math.sqrt(max(1, rows / columns))
        if group["adjust_lr_fn"] == "match_rms_adamw":
            ratio = 0.2 * math.sqrt(max(rows, columns))
        return p * (1 - lr * group["weight_decay"]) - lr * ratio * update.astype(p.dtype)
