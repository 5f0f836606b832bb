"""torch.func's call of a module with given parameters. Its transforms of functions (grad, vmap, jvp) are not here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastnet._tensor import Tensor
from fastnet.nn.module import Module
from fastnet.nn.utils import stateless

__all__ = ["functional_call"]


def functional_call(
    module: Module,
    parameter_and_buffer_dicts: dict[str, Tensor] | Sequence[dict[str, Tensor]],
    args: Any = None,
    kwargs: dict[str, Any] | None = None,
    *,
    tie_weights: bool = True,
    strict: bool = False,
) -> Any:
    """``module(*args, **kwargs)`` with other tensors in place of parameters and buffers, whose gradients flow to them.

    Args:
        module: what is called; afterwards it is as it was.
        parameter_and_buffer_dicts: tensors by their names in ``named_parameters`` and ``named_buffers``, in one
            dictionary or several without a name in common.
        args: a tuple of arguments, or one argument.
        kwargs: keyword arguments.
        tie_weights: what is given under one name of a shared parameter stands for its other names, too.
        strict: every parameter and buffer must be given, and nothing else.

    Raises:
        ValueError: no dictionaries, a name in two of them, or two values for one tied parameter.
        RuntimeError: with strict, names that are missing or unexpected.
        TypeError: a value is no Tensor.

    >>> import fastnet
    >>> layer = fastnet.nn.Linear(2, 1)
    >>> weights = {"weight": fastnet.ones(1, 2), "bias": fastnet.zeros(1)}
    >>> functional_call(layer, weights, fastnet.tensor([3.0, 4.0])).tolist()
    [7.0]
    """
    if isinstance(parameter_and_buffer_dicts, dict):
        given = parameter_and_buffer_dicts
    elif isinstance(parameter_and_buffer_dicts, Sequence):
        if not all(isinstance(d, dict) for d in parameter_and_buffer_dicts):
            raise ValueError("Expected all elements of parameter_and_buffer_dicts to be dictionaries")
        given = {}
        for part in parameter_and_buffer_dicts:
            twice = sorted(given.keys() & part.keys())
            if twice:
                raise ValueError(f"{twice} appeared in multiple dictionaries; behavior of functional call is ambiguous")
            given.update(part)
    else:
        raise ValueError(
            "Expected parameter_and_buffer_dicts to be a dict, or a list/tuple of dicts, but got "
            f"{type(parameter_and_buffer_dicts).__name__}"
        )
    return stateless.call(module, given, args, kwargs, tie_weights=tie_weights, strict=strict)
