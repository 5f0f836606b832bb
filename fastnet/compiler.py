"""torch.compiler's names, for files that carry them: nothing is compiled at run time, functions are themselves."""

from __future__ import annotations

from typing import Any, TypeVar

from fastnet._settings import compile

F = TypeVar("F")

__all__ = [
    "allow_in_graph",
    "assume_constant_result",
    "compile",
    "cudagraph_mark_step_begin",
    "disable",
    "is_compiling",
    "is_dynamo_compiling",
    "is_exporting",
    "reset",
]


def is_compiling() -> bool:
    return False


is_dynamo_compiling = is_exporting = is_compiling


def disable(fn: Any = None, recursive: bool = True, **options: Any) -> Any:
    """The function itself, or a decorator that returns it."""
    return allow_in_graph if fn is None else fn


def allow_in_graph(fn: F) -> F:
    """The function itself."""
    return fn


assume_constant_result = allow_in_graph


def reset() -> None:
    """Nothing is kept that could be reset."""


def cudagraph_mark_step_begin() -> None:
    """Nothing: ``fastnet.cuda.graph`` captures a step only where it is asked to."""
