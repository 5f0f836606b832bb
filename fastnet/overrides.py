"""torch.overrides' questions, for model files that carry them: no class overrides fastnet's functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from fastnet._tensor import Tensor

__all__ = ["handle_torch_function", "has_torch_function", "is_tensor_like"]


def has_torch_function(relevant_args: Iterable[Any]) -> bool:
    """False: nothing is overridden."""
    return False


def has_torch_function_unary(argument: Any) -> bool:
    """False: nothing is overridden."""
    return False


def has_torch_function_variadic(*arguments: Any) -> bool:
    """False: nothing is overridden."""
    return False


def handle_torch_function(public_api: Callable, relevant_args: Iterable[Any], *args: Any, **kwargs: Any) -> Any:
    """What PyTorch calls where one of the arguments overrides a function; here none does.

    Raises:
        TypeError: always.
    """
    raise TypeError(f"no implementation found for '{public_api.__name__}': nothing overrides fastnet's functions")


def is_tensor_like(inp: Any) -> bool:
    """Whether it is a Tensor."""
    return isinstance(inp, Tensor)
