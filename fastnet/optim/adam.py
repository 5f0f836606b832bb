"""Adam and AdamW."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from fastnet._tensor import Tensor
from fastnet.kernels._runtime import implementation
from fastnet.optim.optimizer import Optimizer, check_implementation, rate_beside, zeros_like


class Adam(Optimizer):
    """Adam, as ``torch.optim.Adam``; with amsgrad AMSGrad, with decoupled_weight_decay AdamW.

    ``m = beta1 m + (1 - beta1) g``; ``v = beta2 v + (1 - beta2) g^2``;
    ``p -= lr / (1 - beta1^t) m / (sqrt(v / (1 - beta2^t)) + eps)``, where g is the gradient (its negative with
    maximize) plus ``weight_decay p``; AMSGrad divides by the root of the largest v so far.

    All parameters of a dtype and device are updated by one kernel. The states "exp_avg", "exp_avg_sq" and with amsgrad
    "max_exp_avg_sq" are each as large as the parameter, in its dtype and memory order.

    Args:
        params: parameters or groups of them.
        lr: learning rate: a number, or a float32 or float64 tensor of one element, read by the kernel if it lies beside
            the parameters.
        betas: beta1 and beta2: floats or tensors of one element, of which the values at each step are used.
        eps, weight_decay, amsgrad, maximize, decoupled_weight_decay: as in the formula.
        capturable: keep the count of steps beside the parameters, where the kernel reads and counts it, so that a
            captured step can be replayed. Otherwise it is on the CPU, but for fused=True.
        foreach, differentiable, fused: kept for PyTorch's state_dict; differentiable=True is not supported, the others
            change nothing else, for the step is always fused.

    Raises:
        ValueError: a negative lr, eps or weight_decay; betas outside [0, 1).
        RuntimeError: fused with foreach or differentiable.

    Source: Kingma and Ba 2015; Reddi et al. 2018; as PyTorch has them.

    >>> import fastnet
    >>> p = fastnet.tensor([1.0], requires_grad=True)
    >>> optimizer = Adam([p], lr=0.25)
    >>> (p * p).sum().backward()
    >>> optimizer.step()
    >>> p.detach()
    tensor([0.7500])
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ):
        if isinstance(lr, Tensor):
            if foreach and not capturable:
                raise ValueError("lr as a Tensor is not supported for capturable=False and foreach=True")
            if lr.numel() != 1:
                raise ValueError("Tensor lr must be 1-element")
        if not lr >= 0.0:
            raise ValueError(f"Invalid learning rate: {lr}")
        if not eps >= 0.0:
            raise ValueError(f"Invalid epsilon value: {eps}")
        for i in (0, 1):
            if not (betas[i] >= 0.0 and betas[i] < 1.0):
                raise ValueError(f"Invalid beta parameter at index {i}: {betas[i]}")
        if not weight_decay >= 0.0:
            raise ValueError(f"Invalid weight_decay value: {weight_decay}")
        if not any(all(isinstance(beta, kind) for beta in betas[:2]) for kind in (float, Tensor)):
            raise ValueError("betas must be either both floats or both Tensors")
        for i, beta in enumerate(betas):
            if isinstance(beta, Tensor):
                if foreach and not capturable:
                    raise ValueError(f"betas[{i}] as a Tensor is not supported for capturable=False and foreach=True")
                if beta.numel() != 1:
                    raise ValueError(f"Tensor betas[{i}] must be 1-element")
        check_implementation(type(self).__name__, foreach, fused, differentiable)
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": tuple(b.squeeze() if isinstance(b, Tensor) and b.dim() else b for b in betas),
                "eps": eps,
                "weight_decay": weight_decay,
                "amsgrad": amsgrad,
                "maximize": maximize,
                "foreach": foreach,
                "capturable": capturable,
                "differentiable": differentiable,
                "fused": fused,
                "decoupled_weight_decay": decoupled_weight_decay,
            },
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._complete(
            amsgrad=False,
            maximize=False,
            foreach=None,
            capturable=False,
            differentiable=False,
            decoupled_weight_decay=False,
            fused=None,
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
            params = self._with_gradient(group)
            for p in params:
                state = self.state[p]
                if "step" not in state:
                    state["step"] = self._new_step(p, group["capturable"] or bool(group["fused"]))
                    state["exp_avg"] = zeros_like(self._updated(p))
                    state["exp_avg_sq"] = zeros_like(self._updated(p))
                    if group["amsgrad"]:
                        state["max_exp_avg_sq"] = zeros_like(self._updated(p))
            for together, steps in self._counted(params):
                implementation(together[0]._data).adam_step(
                    [p._data for p in together],
                    [p.grad._data for p in together],
                    self._states(together, "exp_avg"),
                    self._states(together, "exp_avg_sq"),
                    self._states(together, "max_exp_avg_sq") if group["amsgrad"] else None,
                    steps,
                    lr=rate_beside(group, together[0]),
                    beta1=float(group["betas"][0]),
                    beta2=float(group["betas"][1]),
                    weight_decay=float(group["weight_decay"]),
                    eps=group["eps"],
                    maximize=group["maximize"],
                    decoupled_weight_decay=group["decoupled_weight_decay"],
                    masters=self._masters(together),
                    gradients=gradients,
                )
        return loss


class AdamW(Adam):
    """Adam with decoupled weight decay, as ``torch.optim.AdamW``: every step first shrinks the parameters by
    ``p *= 1 - lr weight_decay``, and weight decay joins neither m nor v.

    Args:
        params, lr, betas, eps, amsgrad, maximize, foreach, capturable, differentiable, fused: as ``Adam``'s.
        weight_decay: as in the formula.

    Raises:
        ValueError: a negative lr, eps or weight_decay; betas outside [0, 1).
        RuntimeError: fused with foreach or differentiable.

    Source: Loshchilov and Hutter 2019, as PyTorch has it.

    >>> import fastnet
    >>> p = fastnet.tensor([1.0], requires_grad=True)
    >>> optimizer = AdamW([p], lr=0.25, weight_decay=1.0)
    >>> (p * p).sum().backward()
    >>> optimizer.step()
    >>> p.detach()
    tensor([0.5000])
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ):
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
            decoupled_weight_decay=True,
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.__dict__.get("param_groups", ()):
            group["decoupled_weight_decay"] = True
