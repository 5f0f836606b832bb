"""Turns what goes wrong inside an operation that was given something else than a tensor into a TypeError that says so.

Checks at the door of every operation would cost each call; an exception costs only the call that goes wrong.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

from fastnet._tensor import Tensor


def checked(function: Callable) -> Callable:
    """The function, with AttributeErrors from arguments that are no tensors explained."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except (AttributeError, AssertionError) as error:
            raise _explained(function, args, kwargs, error) from error

    return call


def _explained(function: Callable, args: tuple, kwargs: dict, error: Exception) -> TypeError:
    name = function.__name__
    try:
        bound = inspect.signature(function).bind(*args, **kwargs)
    except TypeError:
        return TypeError(f"{name}(): {error}")
    for parameter, value in bound.arguments.items():
        wanted = str(bound.signature.parameters[parameter].annotation)
        if "Tensor" in wanted and not isinstance(value, Tensor) and not (value is None and "None" in wanted):
            return TypeError(f"{name}(): argument '{parameter}' must be Tensor, not {type(value).__name__}")
    kinds = ", ".join(f"{k}: {type(v).__name__}" for k, v in bound.arguments.items())
    return TypeError(f"{name}(): cannot be called with ({kinds}): {error}")
