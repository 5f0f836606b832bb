"""The history of a tensor one of whose views was changed in place."""

from __future__ import annotations

from typing import Any

from fastnet.autograd.function import ArrayFunction
from fastnet.autograd.views import walk


class CopySlices(ArrayFunction):
    """The base, in which the part that the steps lead to has another history. Its memory is written already."""

    node_name = "CopySlices"

    @staticmethod
    def forward(ctx: Any, base: Any, steps: tuple, part: Any) -> Any:
        ctx.steps = steps
        return base

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        of_base = of_part = None
        if ctx.needs_input_grad[2]:
            of_part = walk(ctx.steps, grad).copy()
        if ctx.needs_input_grad[0]:
            of_base = grad.copy(order="C")
            part = walk(ctx.steps, of_base)
            if part.size and _shares(part, of_base):
                part[...] = 0
            elif part.size:  # a shape of another memory order: by index
                from fastnet._device import namespace

                where = walk(ctx.steps, namespace(grad).arange(grad.size).reshape(grad.shape))
                of_base.reshape(-1)[where.reshape(-1)] = 0
        return of_base, None, of_part


def _shares(a: Any, b: Any) -> bool:
    import numpy as np

    return bool(np.may_share_memory(a, b)) if isinstance(a, np.ndarray) else a.data.mem is b.data.mem
