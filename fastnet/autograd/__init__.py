"""Automatic differentiation, as ``torch.autograd``: the engine, ``Function``, the modes, ``gradcheck``."""

from __future__ import annotations

from typing import Any

from fastnet.autograd import differences, engine, function, functional
from fastnet.autograd.differences import gradcheck
from fastnet.autograd.engine import backward, detect_anomaly, grad, set_detect_anomaly
from fastnet.autograd.function import ArrayFunction, Function
from fastnet.autograd.grad_mode import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)

__all__ = [
    "ArrayFunction",
    "Function",
    "Variable",
    "backward",
    "detect_anomaly",
    "enable_grad",
    "function",
    "functional",
    "grad",
    "gradcheck",
    "inference_mode",
    "is_grad_enabled",
    "is_inference_mode_enabled",
    "no_grad",
    "set_detect_anomaly",
    "set_grad_enabled",
]


def Variable(data: Any, requires_grad: bool = False, volatile: bool = False) -> Any:
    """The tensor itself: what older code wraps tensors in."""
    if requires_grad:
        data = data.detach().requires_grad_()
    return data


def _set_tensor_class(cls: type) -> None:
    modules: tuple[Any, ...] = (function, engine, differences)
    for module in modules:
        module._Tensor = cls
