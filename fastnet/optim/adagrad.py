"""Adagrad."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from fastnet._tensor import Tensor
from fastnet.kernels._runtime import implementation
from fastnet.optim.optimizer import Optimizer, check_implementation, rate_beside, zeros_like


class Adagrad(Optimizer):
    """Adagrad, as ``torch.optim.Adagrad``.

    ``sum += g^2``; ``p -= lr / (1 + (t - 1) lr_decay) g / (sqrt(sum) + eps)``, where g is the gradient (its negative
    with maximize) plus ``weight_decay p``.

    All parameters of a dtype and device are updated by one kernel. The state "sum" is as large as the parameter, in its
    dtype and memory order, and exists from the start.

    Args:
        params: parameters or groups of them.
        lr: learning rate: a number, or a float32 or float64 tensor of one element, read by the kernel if it lies beside
            the parameters.
        lr_decay, weight_decay, eps, maximize: as in the formula.
        initial_accumulator_value: what sum starts with.
        foreach, differentiable, fused: kept for PyTorch's state_dict; differentiable=True is not supported. fused=True
            keeps the count of steps beside the parameters, where the kernel reads and counts it; nothing else changes,
            for the step is always fused.

    Raises:
        ValueError: a negative lr, lr_decay, weight_decay, initial_accumulator_value or eps.
        RuntimeError: fused with foreach or differentiable.

    Source: Duchi et al. 2011, as PyTorch has it.

    >>> import fastnet
    >>> p = fastnet.tensor([1.0], requires_grad=True)
    >>> optimizer = Adagrad([p], lr=0.25)
    >>> (p * p).sum().backward()
    >>> optimizer.step()
    >>> p.detach()
    tensor([0.7500])
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ):
        if isinstance(lr, Tensor) and lr.numel() != 1:
            raise ValueError("Tensor lr must be 1-element")
        if not lr >= 0.0:
            raise ValueError(f"Invalid learning rate: {lr}")
        if not lr_decay >= 0.0:
            raise ValueError(f"Invalid lr_decay value: {lr_decay}")
        if not weight_decay >= 0.0:
            raise ValueError(f"Invalid weight_decay value: {weight_decay}")
        if not initial_accumulator_value >= 0.0:
            raise ValueError(f"Invalid initial_accumulator_value value: {initial_accumulator_value}")
        if not eps >= 0.0:
            raise ValueError(f"Invalid epsilon value: {eps}")
        check_implementation("Adagrad", foreach, fused, differentiable)
        super().__init__(
            params,
            {
                "lr": lr,
                "lr_decay": lr_decay,
                "eps": eps,
                "weight_decay": weight_decay,
                "initial_accumulator_value": initial_accumulator_value,
                "foreach": foreach,
                "maximize": maximize,
                "differentiable": differentiable,
                "fused": fused,
            },
        )
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p]["step"] = self._new_step(p, bool(group["fused"]))
                self.state[p]["sum"] = zeros_like(p, initial_accumulator_value)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._complete(foreach=None, maximize=False, differentiable=False, fused=None)

    _step_supports_amp_scaling = True

    def step(self, closure: Callable[[], Any] | None = None, *, max_norm: float | None = None) -> Any:
        """Update every parameter that has a gradient; returns what closure, called first, returns.

        With ``max_norm`` the gradients count as if ``clip_grad_norm_`` had scaled all of this optimizer's to that norm;
        they are not changed, and ``grad_norm`` holds their norm, on their device.
        """
        loss = self._loss_of(closure)
        gradients = self._gradient_state(max_norm)
        for group in self.param_groups:
            for together, steps in self._counted(self._with_gradient(group)):
                implementation(together[0]._data).adagrad_step(
                    [p._data for p in together],
                    [p.grad._data for p in together],
                    self._states(together, "sum"),
                    steps,
                    lr=rate_beside(group, together[0]),
                    lr_decay=group["lr_decay"],
                    weight_decay=float(group["weight_decay"]),
                    eps=group["eps"],
                    maximize=group["maximize"],
                    masters=self._masters(together),
                    gradients=gradients,
                )
        return loss
