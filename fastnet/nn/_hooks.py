"""What modules call around forward and backward: registers of hooks, and the boundary that shows gradients to them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from fastnet._device import namespace
from fastnet._tensor import RemovableHandle, Tensor
from fastnet.autograd import ArrayFunction


def register(hooks: dict, hook: Any, prepend: bool = False) -> RemovableHandle:
    """Put a hook into an OrderedDict of them, last or first."""
    handle = RemovableHandle(hooks)
    hooks[handle._key] = hook
    if prepend:
        hooks.move_to_end(handle._key, last=False)  # type: ignore[attr-defined]
    return handle


class Boundary(ArrayFunction):
    """The identity; on the way back ``see`` is given the gradients and may give others."""

    @staticmethod
    def forward(ctx: Any, see: Callable, *arrays: Any) -> Any:
        ctx.see = see
        return arrays

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return (None, *[None if g is None else g._data for g in ctx.see([Tensor._wrap(g) for g in grads])])


def _through(see: Callable, values: tuple, wanted: list[int]) -> tuple:
    """The values with those at ``wanted`` led through a boundary; they keep their memory and its version."""
    passed = Boundary.apply(see, *[values[i] for i in wanted])
    result = list(values)
    for i, t in zip(wanted, passed, strict=True):
        t._version_counter = values[i]._version_counter
        result[i] = t
    return tuple(result)


def _recorded(values: tuple) -> list[int]:
    return [i for i, v in enumerate(values) if isinstance(v, Tensor) and v.requires_grad]


def _spread(grads: list, wanted: list[int], n: int) -> tuple:
    full: list[Any] = [None] * n
    for i, g in zip(wanted, grads, strict=True):
        full[i] = g
    return tuple(full)


def _replaced(result: Any, before: tuple, what: str) -> tuple:
    """The gradients that a hook returned in place of those it was given, or those."""
    if result is None:
        return before
    result = result if isinstance(result, tuple) else (result,)
    if len(result) != len(before):
        raise RuntimeError(
            f"Backward hook returned an invalid number of {what}, got {len(result)}, but expected {len(before)}"
        )
    return result


class BackwardHooks:
    """The backward hooks of one call of a module: those before its backward see and may change the gradients of its
    outputs, those after it the gradients of its positional inputs."""

    def __init__(self, module: Any, pre_hooks: list[Callable], hooks: list[Callable]):
        self.module, self.pre_hooks, self.hooks = module, pre_hooks, hooks
        self.n_inputs = 0
        self.of_outputs: Any = None
        self.inputs_watched = False

    def inputs(self, args: tuple) -> tuple:
        """The arguments, those with gradients led through a boundary."""
        self.n_inputs = len(args)
        wanted = _recorded(args)
        if not wanted:
            return args
        self.inputs_watched = True

        def see(grads: list) -> list:
            if self.of_outputs is None:  # no output was on the way that this gradient took
                return grads
            full = _spread(grads, wanted, self.n_inputs)
            # Tensors that require no gradient appear with zeros, as PyTorch shows them.
            full = tuple(
                Tensor._wrap(namespace(a._data).zeros_like(a._data)) if g is None and isinstance(a, Tensor) else g
                for a, g in zip(args, full, strict=True)
            )
            for hook in self.hooks:
                full = _replaced(hook(self.module, full, self.of_outputs), full, "grad_input")
            self.of_outputs = None
            return [full[i] for i in wanted]

        return _through(see, args, wanted)

    def outputs(self, result: Any) -> Any:
        """The module's result, tensors with gradients led through a boundary."""
        if not isinstance(result, (Tensor, tuple)):
            warnings.warn(
                "For backward hooks to be called, module output should be a Tensor or a tuple of Tensors but "
                f"received {type(result)}",
                stacklevel=4,
            )
            return result
        values = result if isinstance(result, tuple) else (result,)
        wanted = _recorded(values)
        if not wanted:
            return result

        def see(grads: list) -> list:
            full = _spread(grads, wanted, len(values))
            for hook in self.pre_hooks:
                full = _replaced(hook(self.module, full), full, "grad_output")
            self.of_outputs = full
            if not self.inputs_watched:
                nothing = (None,) * self.n_inputs
                for hook in self.hooks:
                    given = hook(self.module, nothing, full)
                    if given is not None and any(g is not None for g in (given if isinstance(given, tuple) else [1])):
                        raise RuntimeError(
                            "Backward hook for Modules where no input requires gradient should always return None or "
                            "None for all gradients."
                        )
                self.of_outputs = None
            return [full[i] for i in wanted]

        passed = _through(see, values, wanted)
        return passed if isinstance(result, tuple) else passed[0]


def is_plain(module: Any, *types: type) -> bool:
    """Whether the module is of one of these classes exactly and a call of it is their ``forward`` and nothing else: no
    hooks, no parametrization, no forward of its own. Only then may a fused operation stand for it."""
    return type(module) in types and not (
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or "forward" in module.__dict__
    )
