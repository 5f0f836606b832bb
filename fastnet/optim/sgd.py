"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from fastnet._tensor import Tensor
from fastnet.kernels._runtime import implementation
from fastnet.optim.optimizer import Optimizer, check_implementation, empty_like, rate_beside, zeros_like


class SGD(Optimizer):
    """Stochastic gradient descent with momentum, as ``torch.optim.SGD``.

    ``g = grad + weight_decay p`` (-grad with maximize); ``buf = g`` on a parameter's first step, else
    ``momentum buf + (1 - dampening) g``; ``p -= lr (g + momentum buf if nesterov else buf)``.

    All parameters of a dtype are updated by one kernel. Each state is as large as the parameter: its momentum, in the
    same dtype and memory order.

    Args:
        params: parameters or groups of them.
        lr: learning rate: a number, or a float32 or float64 tensor of one element, read by the kernel if it lies beside
            the parameters.
        momentum, dampening, weight_decay, nesterov, maximize: as in the formula.
        foreach, differentiable, fused: kept for PyTorch's state_dict; differentiable=True is not supported, the others
            change nothing, for the step is always fused.

    Raises:
        ValueError: a negative lr, momentum or weight_decay; nesterov without momentum or with dampening.

    Source: Sutskever et al. 2013, as PyTorch has it.

    >>> import fastnet
    >>> p = fastnet.tensor([1.0], requires_grad=True)
    >>> optimizer = SGD([p], lr=0.1)
    >>> (p * p).sum().backward()
    >>> optimizer.step()
    >>> p.detach()
    tensor([0.8000])
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float | Tensor = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ):
        if isinstance(lr, Tensor) and lr.numel() != 1:
            raise ValueError("Tensor lr must be 1-element")
        if not lr >= 0.0:
            raise ValueError(f"Invalid learning rate: {lr}")
        if not momentum >= 0.0:
            raise ValueError(f"Invalid momentum value: {momentum}")
        if not float(weight_decay) >= 0.0:
            raise ValueError(f"Invalid weight_decay value: {weight_decay}")
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        check_implementation("SGD", foreach, fused, differentiable)
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
                "maximize": maximize,
                "foreach": foreach,
                "differentiable": differentiable,
                "fused": fused,
            },
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._complete(nesterov=False, maximize=False, foreach=None, differentiable=False, fused=False)

    _step_supports_amp_scaling = True

    def step(self, closure: Callable[[], Any] | None = None, *, max_norm: float | None = None) -> Any:
        """Update every parameter that has a gradient; returns what closure, called first, returns.

        With ``max_norm`` the gradients count as if ``clip_grad_norm_`` had scaled all of this optimizer's to that norm;
        they are not changed, and ``grad_norm`` holds their norm, on their device.
        """
        loss = self._loss_of(closure)
        gradients = self._gradient_state(max_norm)
        for group in self.param_groups:
            momentum = group["momentum"]
            first: list[Tensor] = []
            later: list[Tensor] = []
            for p in self._with_gradient(group):
                new = momentum != 0 and self.state[p].get("momentum_buffer") is None
                (first if new else later).append(p)
            self._update(group, first, True, gradients)
            self._update(group, later, False, gradients)
        return loss

    def _update(self, group: dict[str, Any], params: list[Tensor], first_step: bool, gradients: Any) -> None:
        if first_step and self._may_skip and group["momentum"] != 0:
            # The device may leave this step out, and the next one is the first then. With buffers of 0 it makes no
            # difference which is, unless dampening does: then this waits for the answer.
            if group["dampening"] == 0:
                first_step = False
                for p in params:
                    self.state[p]["momentum_buffer"] = zeros_like(self._updated(p))
            elif gradients is not None and bool(gradients[2] != 0):
                return
        for together in self._together(params):
            buffers = None
            if group["momentum"] != 0:
                if first_step:
                    for p in together:
                        self.state[p]["momentum_buffer"] = empty_like(self._updated(p))
                buffers = self._states(together, "momentum_buffer")
            implementation(together[0]._data).sgd_step(
                [p._data for p in together],
                [p.grad._data for p in together],
                buffers,
                lr=rate_beside(group, together[0]),
                momentum=group["momentum"],
                dampening=group["dampening"],
                weight_decay=float(group["weight_decay"]),
                nesterov=group["nesterov"],
                maximize=group["maximize"],
                first_step=first_step,
                masters=self._masters(together),
                gradients=gradients,
            )
