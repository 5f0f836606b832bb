"""torch.jit's names, for model files that carry them: nothing is scripted or traced, functions are themselves."""

from __future__ import annotations

import sys
import typing
from typing import Any, Final, TypeVar

F = TypeVar("F")

__all__ = [
    "Final",
    "annotate",
    "export",
    "freeze",
    "ignore",
    "interface",
    "is_scripting",
    "is_tracing",
    "optimize_for_inference",
    "script",
    "script_if_tracing",
    "script_method",
    "trace",
    "unused",
]


def is_scripting() -> bool:
    return False


def is_tracing() -> bool:
    return False


def script(obj: F, *args: Any, **options: Any) -> F:
    """The function or module itself."""
    return obj


def trace(func: F, *args: Any, **options: Any) -> F:
    """The function or module itself."""
    return func


def _same(function: F) -> F:
    return function


def ignore(drop: Any = False, **options: Any) -> Any:
    """The function itself, or a decorator that returns it."""
    if callable(drop):
        return drop
    return _same


def annotate(the_type: Any, the_value: F) -> F:
    """The value itself."""
    return the_value


export = unused = script_method = script_if_tracing = interface = _overload_method = script
freeze = optimize_for_inference = trace


def __getattr__(name: str) -> Any:
    if name == "ScriptModule":  # a base class of modules that were written to be scripted
        from fastnet.nn import Module

        return Module
    raise AttributeError(f"module 'fastnet.jit' has no attribute {name!r}")


annotations = sys.modules[f"{__name__}.annotations"] = typing  # `from torch.jit.annotations import List`
