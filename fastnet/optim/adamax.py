"""Adamax."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastnet._device import namespace
from fastnet._tensor import Tensor
from fastnet.optim.array_code import ArrayOptimizer, average, check_options, decayed, wide
from fastnet.optim.optimizer import check_implementation, zeros_like


class Adamax(ArrayOptimizer):
    """Adam by the infinity norm, as ``torch.optim.Adamax``.

    ``m = beta1 m + (1 - beta1) g``; ``u = max(beta2 u, |g| + eps)``; ``p -= lr / (1 - beta1^t) m / u``, where g is the
    gradient (its negative with maximize) plus ``weight_decay p``. The states "exp_avg" (m) and "exp_inf" (u) are each
    as large as the parameter.

    Args:
        params: parameters or groups of them.
        lr: learning rate: a number or a tensor of one element.
        betas: beta1 and beta2.
        eps, weight_decay, maximize: as in the formula.
        foreach, differentiable, capturable: as ``Adadelta``'s.

    Raises:
        ValueError: a negative lr, eps or weight_decay; betas outside [0, 1).

    Source: Kingma and Ba 2015, section 7.1, as PyTorch has it.

    >>> import fastnet
    >>> p = fastnet.tensor([1.0], requires_grad=True)
    >>> optimizer = Adamax([p], lr=0.25)
    >>> (p * p).sum().backward()
    >>> optimizer.step()
    >>> p.detach()
    tensor([0.7500])
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ):
        check_options(lr, betas, eps=eps, weight_decay=weight_decay)
        check_implementation("Adamax", foreach, None, differentiable)
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
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

    def _start(self, state: dict[str, Any], p: Tensor, lr: float, group: dict[str, Any]) -> None:
        state["step"] = self._new_step(p, group["capturable"])
        state["exp_avg"], state["exp_inf"] = zeros_like(p), zeros_like(p)

    def _update(self, p: Any, grad: Any, state: dict[str, Any], lr: float, group: dict[str, Any]) -> Any:
        xp, (beta1, beta2) = namespace(p), group["betas"]
        t = self._count(state)
        p, g = decayed(p, grad, lr, group)
        mean = average(state["exp_avg"], g, beta1)
        largest = xp.maximum(beta2 * wide(state["exp_inf"]._data), abs(g) + group["eps"])
        state["exp_inf"]._data[...] = largest
        return p - lr / (1 - beta1**t) * (mean / largest)
