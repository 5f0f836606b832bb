"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from fastnet._tensor import Tensor
from fastnet.kernels._runtime import implementation
from fastnet.optim.optimizer import Optimizer


class SGD(Optimizer):
    """Stochastic gradient descent with momentum, as ``torch.optim.SGD``.

    ``g = grad + weight_decay p`` (-grad with maximize); ``buf = g`` on a parameter's first step, else
    ``momentum buf + (1 - dampening) g``; ``p -= lr (g + momentum buf if nesterov else buf)``.

    All parameters of a dtype are updated by one kernel. Each state is as large as the parameter: its momentum, in the
    same dtype and memory order.

    Args:
        params: parameters or groups of them.
        lr: learning rate: a number, or a float32 tensor of one element beside the parameters, read by the kernel.
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
        if not isinstance(lr, Tensor) and not lr >= 0.0:
            raise ValueError(f"Invalid learning rate: {lr}")
        if not momentum >= 0.0:
            raise ValueError(f"Invalid momentum value: {momentum}")
        if not float(weight_decay) >= 0.0:
            raise ValueError(f"Invalid weight_decay value: {weight_decay}")
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        if differentiable:
            raise ValueError("SGD: differentiable is True, expected False: an optimizer step is not recorded")
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

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient; returns what closure, called first, returns."""
        loss = self._loss_of(closure)
        for group in self.param_groups:
            momentum = group["momentum"]
            first: list[Tensor] = []
            later: list[Tensor] = []
            for p in group["params"]:
                if p.grad is None:
                    continue
                if momentum != 0 and self.state[p].get("momentum_buffer") is None:
                    first.append(p)
                else:
                    later.append(p)
            self._update(group, first, True)
            self._update(group, later, False)
        return loss

    def _update(self, group: dict[str, Any], params: list[Tensor], first_step: bool) -> None:
        by_device: dict[Any, list[Tensor]] = {}
        for p in params:
            by_device.setdefault(None if isinstance(p._data, np.ndarray) else p._data.device.id, []).append(p)
        for together in by_device.values():
            arrays = [p._data for p in together]
            buffers = None
            if group["momentum"] != 0:
                if first_step:
                    for p in together:
                        self.state[p]["momentum_buffer"] = Tensor._wrap(_empty_like(p._data))
                buffers = [self.state[p]["momentum_buffer"]._data for p in together]
            lr = group["lr"]
            implementation(arrays[0]).sgd_step(
                arrays,
                [p.grad._data for p in together],
                buffers,
                lr=lr._data if isinstance(lr, Tensor) else lr,
                momentum=group["momentum"],
                dampening=group["dampening"],
                weight_decay=float(group["weight_decay"]),
                nesterov=group["nesterov"],
                maximize=group["maximize"],
                first_step=first_step,
            )
            for p in together:
                p._version_counter[0] += 1


def _empty_like(x: Any) -> Any:
    """In the memory order of x."""
    if isinstance(x, np.ndarray):
        return np.empty_like(x, subok=False)
    import cupy

    return cupy.empty_like(x)
