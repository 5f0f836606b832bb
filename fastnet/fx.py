"""torch.fx's mark, for model files that carry it: nothing is traced symbolically here, so there is nothing to mark."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

F = TypeVar("F", bound="str | Callable")

__all__ = ["wrap"]


def wrap(fn_or_name: F) -> F:
    """The function, or its name, itself."""
    if not (callable(fn_or_name) or isinstance(fn_or_name, str)):
        raise RuntimeError("Unsupported type for global function! Must be either a callable or string name")
    return fn_or_name
