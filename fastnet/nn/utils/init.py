"""Modules made for weights that are loaded next; torch.nn.utils.init."""

from __future__ import annotations

import inspect
from typing import Any, TypeVar

from fastnet.errors import InputError, KindError

M = TypeVar("M")


def skip_init(module_cls: type[M], *args: Any, **kwargs: Any) -> M:
    """A module whose parameters count as uninitialised: any values, to be overwritten. Here they are initialised.

    Args:
        module_cls: its class; it takes ``device``.
        args, kwargs: for it.

    Raises:
        RuntimeError: the class is no module, or takes no ``device``.
    """
    from fastnet.nn.module import Module

    if not issubclass(module_cls, Module):
        raise InputError(f"Expected a Module; got {module_cls}")
    if "device" not in inspect.signature(module_cls).parameters:
        raise KindError("Module must support a 'device' arg to skip initialization")
    return module_cls(*args, **kwargs)
