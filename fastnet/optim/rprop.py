"""Rprop."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastnet._device import namespace
from fastnet._tensor import Tensor
from fastnet.optim.array_code import ArrayOptimizer, check_options, wide
from fastnet.optim.optimizer import check_implementation, zeros_like


class Rprop(ArrayOptimizer):
    """Resilient propagation, for gradients of whole data sets, as ``torch.optim.Rprop``.

    Every element has a step size of its own, lr at first. Where the gradient has the sign of the previous one, the size
    grows by etaplus; where it has changed, it shrinks by etaminus and the gradient counts as 0; it stays within
    step_sizes. Then ``p -= size sign(g)``. The states "prev" and "step_size" are each as large as the parameter.

    Args:
        params: parameters or groups of them.
        lr: the first step size: a number or a tensor of one element.
        etas: etaminus and etaplus.
        step_sizes: the least and the largest step size.
        maximize: go up.
        capturable, foreach, differentiable: as ``Adadelta``'s.

    Raises:
        ValueError: a negative lr; etas not around 1.

    Source: Riedmiller and Braun 1993, as PyTorch has it.

    >>> import fastnet
    >>> p = fastnet.tensor([1.0], requires_grad=True)
    >>> optimizer = Rprop([p], lr=0.25)
    >>> (p * p).sum().backward()
    >>> optimizer.step(), optimizer.step()
    (None, None)
    >>> p.detach()
    tensor([0.4500])
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50),
        *,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ):
        check_options(lr)
        if not 0.0 < etas[0] < 1.0 < etas[1]:
            raise ValueError(f"Invalid eta values: {etas[0]}, {etas[1]}")
        check_implementation("Rprop", foreach, None, differentiable)
        super().__init__(
            params,
            {
                "lr": lr,
                "etas": etas,
                "step_sizes": step_sizes,
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
        state["prev"], state["step_size"] = zeros_like(p), zeros_like(p, lr)

    def _update(self, p: Any, grad: Any, state: dict[str, Any], lr: float, group: dict[str, Any]) -> Any:
        xp, (shrink, grow), (least, most) = namespace(p), group["etas"], group["step_sizes"]
        previous, size = state["prev"]._data, state["step_size"]._data
        self._count(state)
        agreement = grad * wide(previous)
        sizes = wide(size) * xp.where(agreement > 0, grow, xp.where(agreement < 0, shrink, 1.0)).astype(grad.dtype)
        sizes = xp.clip(sizes, least, most)
        grad = xp.where(agreement < 0, xp.zeros_like(grad), grad)
        size[...], previous[...] = sizes, grad
        return p - sizes * xp.sign(grad)
