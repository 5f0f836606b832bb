"""Data loading, activation recomputation, cost accounting, and what this machine has."""

import importlib
from typing import Any

_LAZY = {"checkpoint", "cost", "data", "dlpack", "info", "model_zoo"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return importlib.import_module(f"fastnet.utils.{name}")
    raise AttributeError(f"module 'fastnet.utils' has no attribute {name!r}")


def set_module(obj: Any, mod: str) -> None:
    """Set the module name that an object says it is from."""
    if not isinstance(mod, str):
        raise TypeError("The mod argument should be a string")
    obj.__module__ = mod
