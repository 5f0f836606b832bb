"""RMSprop."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from fastnet._tensor import Tensor
from fastnet.kernels._runtime import implementation
from fastnet.optim.optimizer import Optimizer, check_implementation, rate_beside, zeros_like


class RMSprop(Optimizer):
    """RMSprop, as ``torch.optim.RMSprop``.

    ``s = alpha s + (1 - alpha) g^2``; ``d = sqrt(s) + eps``, or centered ``a = alpha a + (1 - alpha) g`` and
    ``d = sqrt(s - a^2) + eps``; ``b = momentum b + g / d``; ``p -= lr b``, where g is the gradient (its negative with
    maximize) plus ``weight_decay p``.

    All parameters of a dtype and device are updated by one kernel. The states "square_avg" (s), with momentum
    "momentum_buffer" (b) and centered "grad_avg" (a) are each as large as the parameter, in its dtype and memory order.

    Args:
        params: parameters or groups of them.
        lr: learning rate: a number, or a float32 or float64 tensor of one element, read by the kernel if it lies beside
            the parameters.
        alpha, eps, weight_decay, momentum, centered, maximize: as in the formula.
        capturable: keep the count of steps beside the parameters, where the kernel counts it; otherwise on the CPU.
        foreach, differentiable: kept for PyTorch's state_dict; differentiable=True is not supported, foreach changes
            nothing, for the step is always fused.

    Raises:
        ValueError: a negative lr, eps, momentum, weight_decay or alpha.

    Source: Tieleman and Hinton 2012, lecture 6.5; centered: Graves 2013, section 4.2; as PyTorch has it.

    >>> import fastnet
    >>> p = fastnet.tensor([1.0], requires_grad=True)
    >>> optimizer = RMSprop([p], lr=0.25, alpha=0.75)
    >>> (p * p).sum().backward()
    >>> optimizer.step()
    >>> p.detach()
    tensor([0.5000])
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ):
        if isinstance(lr, Tensor) and lr.numel() != 1:
            raise ValueError("Tensor lr must be 1-element")
        if not lr >= 0.0:
            raise ValueError(f"Invalid learning rate: {lr}")
        if not eps >= 0.0:
            raise ValueError(f"Invalid epsilon value: {eps}")
        if not momentum >= 0.0:
            raise ValueError(f"Invalid momentum value: {momentum}")
        if not weight_decay >= 0.0:
            raise ValueError(f"Invalid weight_decay value: {weight_decay}")
        if not alpha >= 0.0:
            raise ValueError(f"Invalid alpha value: {alpha}")
        check_implementation("RMSprop", foreach, False, differentiable)
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "alpha": alpha,
                "eps": eps,
                "centered": centered,
                "weight_decay": weight_decay,
                "capturable": capturable,
                "foreach": foreach,
                "maximize": maximize,
                "differentiable": differentiable,
            },
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._complete(
            momentum=0,
            centered=False,
            foreach=None,
            maximize=False,
            differentiable=False,
            capturable=False,
        )

    _step_supports_amp_scaling = True

    def step(self, closure: Callable[[], Any] | None = None, *, max_norm: float | None = None) -> Any:
        """Update every parameter that has a gradient; returns what closure, called first, returns.

        With ``max_norm`` the gradients count as if ``clip_grad_norm_`` had scaled all of this optimizer's to that norm;
        they are not changed, and ``grad_norm`` holds their norm, on their device.
        """
        loss = self._loss_of(closure)
        gradients = self._gradient_state(max_norm)
        for group in self.param_groups:
            params, momentum, centered = self._with_gradient(group), group["momentum"], group["centered"]
            for p in params:
                state = self.state[p]
                if "step" not in state:
                    state["step"] = self._new_step(p, group["capturable"])
                    state["square_avg"] = zeros_like(self._updated(p))
                    if momentum > 0:
                        state["momentum_buffer"] = zeros_like(self._updated(p))
                    if centered:
                        state["grad_avg"] = zeros_like(self._updated(p))
            for together, steps in self._counted(params):
                implementation(together[0]._data).rmsprop_step(
                    [p._data for p in together],
                    [p.grad._data for p in together],
                    self._states(together, "square_avg"),
                    self._states(together, "momentum_buffer") if momentum > 0 else None,
                    self._states(together, "grad_avg") if centered else None,
                    steps,
                    lr=rate_beside(group, together[0]),
                    alpha=group["alpha"],
                    eps=group["eps"],
                    weight_decay=float(group["weight_decay"]),
                    momentum=momentum,
                    maximize=group["maximize"],
                    masters=self._masters(together),
                    gradients=gradients,
                )
        return loss
