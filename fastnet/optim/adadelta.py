"""Adadelta."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastnet._device import namespace
from fastnet._tensor import Tensor
from fastnet.optim.array_code import ArrayOptimizer, average, check_options, decayed, wide
from fastnet.optim.optimizer import check_implementation, zeros_like


class Adadelta(ArrayOptimizer):
    """Adadelta, as ``torch.optim.Adadelta``.

    ``v = rho v + (1 - rho) g^2``; ``d = sqrt((u + eps) / (v + eps)) g``; ``u = rho u + (1 - rho) d^2``;
    ``p -= lr d``, where g is the gradient (its negative with maximize) plus ``weight_decay p``. The states
    "square_avg" (v) and "acc_delta" (u) are each as large as the parameter.

    Args:
        params: parameters or groups of them.
        lr: learning rate: a number or a tensor of one element.
        rho, eps, weight_decay, maximize: as in the formula.
        foreach, capturable, differentiable: kept for PyTorch's state_dict; differentiable=True is not supported,
            capturable keeps the count of steps beside the parameter, foreach changes nothing.

    Raises:
        ValueError: a negative lr, eps or weight_decay; rho outside [0, 1].

    Source: Zeiler 2012, as PyTorch has it.

    >>> import fastnet
    >>> p = fastnet.tensor([1.0], requires_grad=True)
    >>> optimizer = Adadelta([p], eps=1.0)
    >>> (p * p).sum().backward()
    >>> optimizer.step()
    >>> p.detach()
    tensor([-0.6903])
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
        maximize: bool = False,
        differentiable: bool = False,
    ):
        check_options(lr)
        if not 0.0 <= rho <= 1.0:
            raise ValueError(f"Invalid rho value: {rho}")
        check_options(lr, eps=eps, weight_decay=weight_decay)
        check_implementation("Adadelta", foreach, None, differentiable)
        super().__init__(
            params,
            {
                "lr": lr,
                "rho": rho,
                "eps": eps,
                "weight_decay": weight_decay,
                "maximize": maximize,
                "capturable": capturable,
                "foreach": foreach,
                "differentiable": differentiable,
            },
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._complete(foreach=None, maximize=False, differentiable=False, capturable=False)

    def _start(self, state: dict[str, Any], p: Tensor, lr: float, group: dict[str, Any]) -> None:
        state["step"] = self._new_step(p, group["capturable"])
        state["square_avg"], state["acc_delta"] = zeros_like(p), zeros_like(p)

    def _update(self, p: Any, grad: Any, state: dict[str, Any], lr: float, group: dict[str, Any]) -> Any:
        xp, rho, eps = namespace(p), group["rho"], group["eps"]
        self._count(state)
        p, g = decayed(p, grad, lr, group)
        square = average(state["square_avg"], g * g, rho)
        delta = xp.sqrt(wide(state["acc_delta"]._data) + eps) / xp.sqrt(square + eps) * g
        average(state["acc_delta"], delta * delta, rho)
        return p - lr * delta
