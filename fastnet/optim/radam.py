"""RAdam."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastnet._device import namespace
from fastnet._tensor import Tensor
from fastnet.optim.array_code import ArrayOptimizer, average, check_options, decayed
from fastnet.optim.optimizer import check_implementation, zeros_like


class RAdam(ArrayOptimizer):
    """Adam with its adaptive rate rectified, as ``torch.optim.RAdam``.

    m and v as Adam's; ``rho = 2 / (1 - beta2) - 1`` and ``rho_t = rho - 2 t beta2^t / (1 - beta2^t)``. Where rho_t is
    above 5, ``p -= lr r m / (1 - beta1^t) sqrt(1 - beta2^t) / (sqrt(v) + eps)`` with
    ``r^2 = (rho_t - 4) (rho_t - 2) rho / ((rho - 4) (rho - 2) rho_t)``, else ``p -= lr m / (1 - beta1^t)``. The
    gradient (its negative with maximize) has ``weight_decay p`` added; with decoupled_weight_decay instead
    ``p *= 1 - lr weight_decay`` before. The states "exp_avg" (m) and "exp_avg_sq" (v) are each as large as the
    parameter.

    Args:
        params: parameters or groups of them.
        lr: learning rate: a number or a tensor of one element.
        betas: beta1 and beta2.
        eps, weight_decay, decoupled_weight_decay, maximize: as in the formula.
        foreach, capturable, differentiable: as ``Adadelta``'s.

    Raises:
        ValueError: a negative lr, eps or weight_decay; betas outside [0, 1).

    Source: Liu et al. 2020, as PyTorch has it.

    >>> import fastnet
    >>> p = fastnet.tensor([1.0], requires_grad=True)
    >>> optimizer = RAdam([p], lr=0.25)
    >>> (p * p).sum().backward()
    >>> optimizer.step()
    >>> p.detach()
    tensor([0.5000])
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ):
        check_options(lr, betas, eps=eps, weight_decay=weight_decay)
        check_implementation("RAdam", foreach, None, differentiable)
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "maximize": maximize,
                "foreach": foreach,
                "capturable": capturable,
                "decoupled_weight_decay": decoupled_weight_decay,
                "differentiable": differentiable,
            },
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._complete(
            foreach=None, maximize=False, differentiable=False,
            decoupled_weight_decay=False, capturable=False,
        )  # fmt: skip

    def _start(self, state: dict[str, Any], p: Tensor, lr: float, group: dict[str, Any]) -> None:
        state["step"] = self._new_step(p, group["capturable"])
        state["exp_avg"], state["exp_avg_sq"] = zeros_like(p), zeros_like(p)

    def _update(self, p: Any, grad: Any, state: dict[str, Any], lr: float, group: dict[str, Any]) -> Any:
        xp, (beta1, beta2) = namespace(p), group["betas"]
        t = self._count(state)
        p, g = decayed(p, grad, lr, group)
        mean = average(state["exp_avg"], g, beta1)
        square = average(state["exp_avg_sq"], g * g, beta2)
        correction = 1 - beta2**t
        rho = 2 / (1 - beta2) - 1
        rho_t = rho - 2 * t * beta2**t / correction
        update = mean * (lr / (1 - beta1**t))
        if rho_t > 5.0:
            rectified = ((rho_t - 4) * (rho_t - 2) * rho / ((rho - 4) * (rho - 2) * rho_t)) ** 0.5
            update = update * (rectified * correction**0.5) / (xp.sqrt(square) + group["eps"])
        return p - update
