"""Optimizers whose steps are array code, one parameter after another: what they share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnet import _capture
from fastnet._tensor import Tensor
from fastnet.optim.optimizer import Optimizer


def check_options(lr: Any, betas: Any = None, **not_negative: Any) -> None:
    """Refuse, with PyTorch's words, a negative rate or option and betas outside [0, 1)."""
    if isinstance(lr, Tensor) and lr.numel() != 1:
        raise ValueError("Tensor lr must be 1-element")
    if not lr >= 0.0:
        raise ValueError(f"Invalid learning rate: {lr}")
    if "eps" in not_negative and not not_negative["eps"] >= 0.0:
        raise ValueError(f"Invalid epsilon value: {not_negative.pop('eps')}")
    if betas is not None:
        for i in (0, 1):
            if not 0.0 <= betas[i] < 1.0:
                raise ValueError(f"Invalid beta parameter at index {i}: {betas[i]}")
    for name, value in not_negative.items():
        if not value >= 0.0:
            raise ValueError(f"Invalid {name} value: {value}")


def wide(array: Any) -> Any:
    """An array for arithmetic: 16-bit numbers as float32, so that a step rounds its results alone."""
    return array.astype(np.float32) if array.dtype.itemsize == 2 else array


def average(kept: Tensor, new: Any, beta: float) -> Any:
    """``kept = beta kept + (1 - beta) new``; returned as it was before a 16-bit state rounds it."""
    value = beta * wide(kept._data) + (1 - beta) * new
    kept._data[...] = value
    return value


def decayed(p: Any, grad: Any, lr: float, group: dict[str, Any]) -> tuple[Any, Any]:
    """A parameter and its gradient after weight decay: into the gradient or, decoupled, into the parameter."""
    decay = group["weight_decay"]
    if group.get("decoupled_weight_decay"):
        return p * (1 - lr * decay), grad
    return p, grad + decay * p if decay else grad


class ArrayOptimizer(Optimizer):
    """Base of optimizers that update one parameter after another by array code. A subclass says what a state starts
    with (``_start``) and what a step makes of a parameter (``_update``).

    16-bit parameters and states are computed with in float32 and rounded once a step. A step cannot be captured, and
    one by GradScaler waits for the device.
    """

    def step(self, closure: Callable[[], Any] | None = None, *, max_norm: float | None = None) -> Any:
        """Update every parameter that has a gradient; returns what closure, called first, returns.

        With ``max_norm`` the gradients count as if ``clip_grad_norm_`` had scaled all of this optimizer's to that norm;
        they are not changed, and ``grad_norm`` holds their norm, on their device.
        """
        if _capture.current is not None:
            raise _capture.CaptureError(
                f"{type(self).__name__}.step takes its rate from the host and cannot be captured{_capture.where()}"
            )
        loss = self._loss_of(closure)
        gradients = self._gradient_state(max_norm)
        for group in self.param_groups:
            lr = float(group["lr"])
            for together in self._together(self._with_gradient(group)):
                for p in together:
                    state, updated = self.state[p], self._updated(p)
                    if not state.keys() - {"master"}:
                        self._start(state, updated, lr, group)
                    grad = wide(p.grad._data).astype(wide(updated._data).dtype, copy=False)  # type: ignore[union-attr]
                    with np.errstate(all="ignore"):  # infinities and NaN go their way, as on a device
                        if gradients is not None:
                            grad = grad * gradients[1].astype(grad.dtype)
                        grad = -grad if group.get("maximize") else grad
                        updated._data[...] = self._update(wide(updated._data), grad, state, lr, group)
                        if updated is not p:
                            p._data[...] = updated._data
        return loss

    def _start(self, state: dict[str, Any], p: Tensor, lr: float, group: dict[str, Any]) -> None:
        """Make the state of a parameter, or of its master weights, before its first step."""
        raise NotImplementedError

    def _update(self, p: Any, grad: Any, state: dict[str, Any], lr: float, group: dict[str, Any]) -> Any:
        """The array of a parameter after a step; the state is changed in place."""
        raise NotImplementedError

    @staticmethod
    def _count(state: dict[str, Any]) -> float:
        """One more step: which."""
        step = state["step"]._data
        step[...] = step + 1
        return float(step)
