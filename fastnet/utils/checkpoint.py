"""Activation recomputation: memory for time (Chen et al.: Training deep nets with sublinear memory cost, 2016)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastnet import autograd
from fastnet._random import get_rng_state, set_rng_state
from fastnet._tensor import Tensor

__all__ = ["checkpoint", "checkpoint_sequential"]


class Checkpoint(autograd.Function):
    """function(*args), whose inner results are computed again in backward, with the same random numbers."""

    @staticmethod
    def forward(ctx: Any, function: Callable, preserve: bool, *args: Any) -> Any:
        ctx.function, ctx.args = function, args
        ctx.random = get_rng_state() if preserve else None
        ctx.save_for_backward(*(a for a in args if isinstance(a, Tensor)))
        with autograd.no_grad():
            return function(*args)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        saved = iter(ctx.saved_tensors)  # which also says if one was changed in place
        inputs = []
        for a in ctx.args:
            if isinstance(a, Tensor):
                kept = next(saved)
                a = kept.detach().requires_grad_(kept.requires_grad)
            inputs.append(a)
        now = get_rng_state()
        if ctx.random is not None:
            set_rng_state(ctx.random)
        try:
            with autograd.enable_grad():
                outputs = ctx.function(*inputs)
        finally:
            set_rng_state(now)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        pairs = [(o, g) for o, g in zip(outputs, grads, strict=True) if isinstance(o, Tensor) and o.requires_grad]
        if not pairs:
            raise RuntimeError("none of output has requires_grad=True, this checkpoint() is not necessary")
        autograd.backward([o for o, _ in pairs], [g for _, g in pairs])
        return None, None, *(x.grad if isinstance(x, Tensor) else None for x in inputs)


def checkpoint(
    function: Callable,
    *args: Any,
    use_reentrant: bool | None = None,
    preserve_rng_state: bool = True,
    **kwargs: Any,
) -> Any:
    """``function(*args)`` that keeps its arguments in the place of all that it computes on the way; backward computes
    that again.

    Args:
        function: of tensors, to a tensor or a tuple of tensors. Parameters that it uses get their gradients too.
        args: its arguments.
        use_reentrant: accepted for compatibility; there is one implementation.
        preserve_rng_state: whether dropout draws the same masks again.
        kwargs: more arguments of the function; tensors among them get no gradients.

    >>> import fastnet
    >>> x = fastnet.ones(2, requires_grad=True)
    >>> checkpoint(lambda y: (y * 3).exp().sum(), x).backward()
    """

    def run(*given: Any) -> Any:
        return function(*given, **kwargs)

    if not autograd.is_grad_enabled():
        return run(*args)
    # A leaf that requires a gradient makes the step recorded even where only parameters do.
    anchor = Tensor._wrap(np.zeros(0, np.float32)).requires_grad_()
    return Checkpoint.apply(lambda _, *given: run(*given), preserve_rng_state, anchor, *args)


def checkpoint_sequential(
    functions: Any, segments: int, input: Any, use_reentrant: bool | None = None, preserve_rng_state: bool = True
) -> Any:
    """A Sequential, or a list of functions, in ``segments`` checkpointed parts; the last one is not."""
    parts: Sequence[Callable] = list(functions.children()) if hasattr(functions, "children") else list(functions)
    size = max(len(parts) // segments, 1)

    def segment(start: int, end: int) -> Callable:
        def forward(x: Any) -> Any:
            for part in parts[start:end]:
                x = part(x)
            return x

        return forward

    start = 0
    for _ in range(segments - 1):
        if start + size >= len(parts):
            break
        input = checkpoint(segment(start, start + size), input, preserve_rng_state=preserve_rng_state)
        start += size
    return segment(start, len(parts))(input)
