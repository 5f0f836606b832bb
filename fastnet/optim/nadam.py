"""NAdam."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastnet._device import namespace
from fastnet._tensor import Tensor
from fastnet.optim.array_code import ArrayOptimizer, average, check_options, decayed
from fastnet.optim.optimizer import check_implementation, zeros_like


class NAdam(ArrayOptimizer):
    """Adam with Nesterov's momentum, as ``torch.optim.NAdam``.

    ``mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2)`` and the product ``M_t`` of all up to it; m and v as Adam's;
    ``p -= lr ((1 - mu_t) / (1 - M_t) g + mu_(t+1) / (1 - M_(t+1)) m) / (sqrt(v / (1 - beta2^t)) + eps)``, where g is
    the gradient (its negative with maximize) plus ``weight_decay p``; with decoupled_weight_decay instead
    ``p *= 1 - lr weight_decay`` before. The states "exp_avg" (m) and "exp_avg_sq" (v) are each as large as the
    parameter, "mu_product" is one number.

    Args:
        params: parameters or groups of them.
        lr: learning rate: a number or a tensor of one element.
        betas: beta1 and beta2.
        eps, weight_decay, momentum_decay, decoupled_weight_decay, maximize: as in the formula.
        foreach, capturable, differentiable: as ``Adadelta``'s.

    Raises:
        ValueError: a negative lr, eps, weight_decay or momentum_decay; betas outside [0, 1).

    Source: Dozat 2016, as PyTorch has it.

    >>> import fastnet
    >>> p = fastnet.tensor([1.0], requires_grad=True)
    >>> optimizer = NAdam([p], lr=0.25)
    >>> (p * p).sum().backward()
    >>> optimizer.step()
    >>> p.detach()
    tensor([0.7359])
    """

    _numbers = ("step", "mu_product")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ):
        check_options(lr, betas, eps=eps, weight_decay=weight_decay, momentum_decay=momentum_decay)
        check_implementation("NAdam", foreach, None, differentiable)
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "momentum_decay": momentum_decay,
                "decoupled_weight_decay": decoupled_weight_decay,
                "maximize": maximize,
                "foreach": foreach,
                "capturable": capturable,
                "differentiable": differentiable,
            },
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._complete(
            maximize=False, foreach=None, capturable=False, differentiable=False,
            decoupled_weight_decay=False,
        )  # fmt: skip

    def _start(self, state: dict[str, Any], p: Tensor, lr: float, group: dict[str, Any]) -> None:
        state["step"], state["mu_product"] = (self._new_step(p, group["capturable"]) for _ in range(2))
        state["mu_product"]._data[...] = 1
        state["exp_avg"], state["exp_avg_sq"] = zeros_like(p), zeros_like(p)

    def _update(self, p: Any, grad: Any, state: dict[str, Any], lr: float, group: dict[str, Any]) -> Any:
        xp, (beta1, beta2), product = namespace(p), group["betas"], state["mu_product"]._data
        t = self._count(state)
        mu, mu_next = (beta1 * (1 - 0.5 * 0.96 ** (s * group["momentum_decay"])) for s in (t, t + 1))
        product[...] = product * mu
        now, following = float(product), float(product) * mu_next
        p, g = decayed(p, grad, lr, group)
        mean = average(state["exp_avg"], g, beta1)
        square = average(state["exp_avg_sq"], g * g, beta2)
        root = xp.sqrt(square / (1 - beta2**t)) + group["eps"]
        return p - (lr * (1 - mu) / (1 - now)) * (g / root) - (lr * mu_next / (1 - following)) * (mean / root)
