"""Hooks that compute a parameter before each forward: finding them, and taking them away."""

from __future__ import annotations

from typing import Any

from fastnet.errors import InputError
from fastnet.nn.module import Module


def refuse_second(module: Module, kind: type, name: str, what: str) -> None:
    """Raise if ``module.<name>`` has a hook of this kind."""
    if _keys(module, kind, name):
        raise RuntimeError(f"Cannot register two {what} hooks on the same parameter {name}")


def remove(module: Module, kind: Any, name: str, what: str) -> Module:
    """Take the hook of ``module.<name>`` away; it makes the present value a parameter."""
    for key in _keys(module, kind, name):
        hook, _ = module._forward_pre_hooks.pop(key)
        hook.remove(module)
        return module
    raise InputError(f"{what} of '{name}' not found in {module}")


def _keys(module: Module, kind: type, name: str) -> list[int]:
    return [k for k, (h, _) in module._forward_pre_hooks.items() if isinstance(h, kind) and h.name == name]
