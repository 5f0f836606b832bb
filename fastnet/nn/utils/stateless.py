"""A module called with other tensors in place of its parameters and buffers; torch.nn.utils.stateless."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastnet._tensor import Tensor
from fastnet.errors import InputError, KindError
from fastnet.nn.module import Module

__all__ = ["functional_call"]

_ABSENT = object()


def _all_tensors(module: Module) -> dict[str, Tensor]:
    """Every parameter and buffer under all of its names."""
    found: dict[str, Tensor] = dict(module.named_parameters(remove_duplicate=False))
    found.update(module.named_buffers(remove_duplicate=False))
    return found


def _with_tied_names(module: Module, given: dict[str, Tensor]) -> dict[str, Tensor]:
    """What is given under one name of a tensor stands for its other names, too."""
    names: dict[int, list[str]] = {}
    for name, tensor in _all_tensors(module).items():
        names.setdefault(id(tensor), []).append(name)
    result = dict(given)
    for tied in names.values():
        present = [n for n in tied if n in given]
        if len({id(given[n]) for n in present}) > 1:
            raise InputError(
                f"functional_call got multiple values for keys {sorted(tied)}, which are tied. "
                "Consider using tie_weights=False"
            )
        if present:
            result.update((n, given[present[0]]) for n in tied)
    return result


def _swap(module: Module, name: str, value: Any) -> Any:
    """Put a tensor in place of ``module.<name>``, and return what stood there."""
    path, _, last = name.rpartition(".")
    owner = module.get_submodule(path)
    for place in (owner._parameters, owner._buffers):
        if last in place:
            before, place[last] = place[last], value
            return before
    before = getattr(owner, last, _ABSENT)
    if value is _ABSENT:
        delattr(owner, last)
    else:
        setattr(owner, last, value)
    return before


@contextmanager
def _reparametrize(module: Module, given: dict[str, Tensor], tie_weights: bool, strict: bool) -> Iterator[None]:
    tensors = _with_tied_names(module, given) if tie_weights else given
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise KindError(f"functional_call: {name} is a {type(tensor).__name__}, expected a Tensor")
    if strict:
        own = _all_tensors(module)
        unexpected, missing = [n for n in tensors if n not in own], [n for n in own if n not in tensors]
        if unexpected or missing:
            raise RuntimeError(
                f"Error(s) in reparametrizing for {type(module).__name__}: unexpected {unexpected}, missing {missing}"
            )
    before: dict[str, Any] = {}
    try:
        for name, tensor in tensors.items():
            before[name] = _swap(module, name, tensor)
        yield
    finally:
        for name, value in before.items():
            left = _swap(module, name, value)
            if name in given:
                given[name] = left  # a buffer that forward replaced


def call(
    module: Module,
    parameters_and_buffers: dict[str, Tensor],
    args: Any = None,
    kwargs: dict[str, Any] | None = None,
    *,
    tie_weights: bool = True,
    strict: bool = False,
) -> Any:
    """``fastnet.func.functional_call``, of one dictionary."""
    args = () if args is None else args if isinstance(args, tuple) else (args,)
    with _reparametrize(module, parameters_and_buffers, tie_weights, strict):
        return module(*args, **kwargs or {})


def functional_call(
    module: Module,
    parameters_and_buffers: dict[str, Tensor],
    args: Any = None,
    kwargs: dict[str, Any] | None = None,
    *,
    tie_weights: bool = True,
    strict: bool = False,
) -> Any:
    """The older name of ``fastnet.func.functional_call``."""
    warnings.warn(
        "nn.utils.stateless.functional_call is deprecated in favor of func.functional_call.",
        FutureWarning,
        stacklevel=2,
    )
    return call(module, parameters_and_buffers, args, kwargs, tie_weights=tie_weights, strict=strict)
