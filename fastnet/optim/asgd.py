"""Averaged stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from fastnet._device import namespace
from fastnet._tensor import Tensor
from fastnet.optim.array_code import ArrayOptimizer, check_options, decayed, wide
from fastnet.optim.optimizer import check_implementation, zeros_like


class ASGD(ArrayOptimizer):
    """Averaged stochastic gradient descent, as ``torch.optim.ASGD``.

    ``p = (1 - lambd eta_t) p - eta_t g``, where g is the gradient (its negative with maximize) plus ``weight_decay p``;
    the state "ax" is the average of p from step t0 on: ``ax += mu_t (p - ax)``. Then
    ``eta_(t+1) = lr / (1 + lambd lr t)^alpha`` and ``mu_(t+1) = 1 / max(1, t - t0)``. The states "step", "eta" and "mu"
    are one number each, beside the parameter.

    Args:
        params: parameters or groups of them.
        lr: learning rate: a number or a tensor of one element.
        lambd, alpha, t0, weight_decay, maximize: as in the formula.
        foreach, differentiable, capturable: kept for PyTorch's state_dict; differentiable=True is not supported, the
            others change nothing.

    Raises:
        ValueError: a negative lr or weight_decay.

    Source: Polyak and Juditsky 1992; Bottou 2010, section 4; as PyTorch has it.

    >>> import fastnet
    >>> p = fastnet.tensor([1.0], requires_grad=True)
    >>> optimizer = ASGD([p], lr=0.25, lambd=0.0)
    >>> (p * p).sum().backward()
    >>> optimizer.step()
    >>> p.detach()
    tensor([0.5000])
    """

    _numbers = ("step", "eta", "mu")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ):
        check_options(lr, weight_decay=weight_decay)
        check_implementation("ASGD", foreach, None, differentiable)
        super().__init__(
            params,
            {
                "lr": lr,
                "lambd": lambd,
                "alpha": alpha,
                "t0": t0,
                "weight_decay": weight_decay,
                "foreach": foreach,
                "maximize": maximize,
                "differentiable": differentiable,
                "capturable": capturable,
            },
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._complete(foreach=None, maximize=False, differentiable=False, capturable=False)

    def _step_beside(self, group: dict[str, Any]) -> bool:
        return True

    def _start(self, state: dict[str, Any], p: Tensor, lr: float, group: dict[str, Any]) -> None:
        state["step"], state["eta"], state["mu"] = (self._new_step(p, True) for _ in range(3))
        state["eta"]._data[...], state["mu"]._data[...] = lr, 1
        state["ax"] = zeros_like(p)

    def _update(self, p: Any, grad: Any, state: dict[str, Any], lr: float, group: dict[str, Any]) -> Any:
        xp, lambd = namespace(p), group["lambd"]
        step, eta, mu, average = (state[name]._data for name in ("step", "eta", "mu", "ax"))
        step[...] = step + 1
        p, g = decayed(p, grad, lr, group)
        rate, weight = eta.astype(np.float64), mu.astype(p.dtype)
        p = p * (1 - lambd * rate).astype(p.dtype) - rate.astype(p.dtype) * g
        before = wide(average)
        average[...] = xp.where(weight == 1, p, before + (p - before) * weight)
        t = step.astype(np.float64)
        eta[...] = lr / (1 + lambd * lr * t) ** group["alpha"]
        mu[...] = 1 / xp.maximum(1, t - group["t0"])
        return p
