"""Whether operations are recorded: ``no_grad``, ``enable_grad``, ``set_grad_enabled``, ``inference_mode``."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

_enabled = True
_inference = False


def is_grad_enabled() -> bool:
    """Whether operations are being recorded."""
    return _enabled


def is_inference_mode_enabled() -> bool:
    """Whether an ``inference_mode`` block is open."""
    return _inference


class _GradMode:
    """A context manager and decorator that sets whether operations are recorded."""

    _mode = True

    def __init__(self, function: Callable | None = None):
        self._function = function  # `@no_grad` without parentheses

    def __new__(cls, function: Callable | None = None) -> Any:
        instance = super().__new__(cls)
        return instance(function) if callable(function) else instance

    def __enter__(self) -> None:
        global _enabled
        self._before = _enabled
        _enabled = self._mode

    def __exit__(self, *exception: object) -> None:
        global _enabled
        _enabled = self._before

    def clone(self) -> Any:
        """Another of the same mode."""
        return type(self)()

    def __call__(self, function: Callable) -> Callable:
        @wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with self.clone():
                return function(*args, **kwargs)

        return wrapped


class no_grad(_GradMode):
    """Record nothing inside: ``with no_grad(): ...`` or ``@no_grad()``."""

    _mode = False


class enable_grad(_GradMode):
    """Record operations inside, even within ``no_grad``."""

    _mode = True


class set_grad_enabled(_GradMode):
    """Set whether operations are recorded, from here on or, as a context manager or decorator, for a block."""

    def __new__(cls, mode: bool) -> Any:
        return object.__new__(cls)

    def __init__(self, mode: bool):
        global _enabled
        self._before = _enabled
        self._mode = bool(mode)
        _enabled = self._mode

    def __enter__(self) -> None:
        global _enabled
        _enabled = self._mode

    def clone(self) -> Any:
        return type(self)(self._mode)

    def __call__(self, function: Callable) -> Callable:
        global _enabled
        _enabled = self._before  # as a decorator it sets nothing outside the function
        return super().__call__(function)


class inference_mode(_GradMode):
    """As ``no_grad``; with ``mode=False`` as ``enable_grad``. fastnet's tensors keep nothing that could be saved beyond
    that."""

    def __new__(cls, mode: Any = True) -> Any:
        instance = object.__new__(cls)
        if callable(mode) and not isinstance(mode, bool):
            instance.__init__()
            return instance(mode)
        return instance

    def __init__(self, mode: Any = True):
        self._mode, self._inference = not mode, bool(mode)

    def __enter__(self) -> None:
        global _inference
        super().__enter__()
        self._inference_before = _inference
        _inference = self._inference

    def __exit__(self, *exception: object) -> None:
        global _inference
        super().__exit__(*exception)
        _inference = self._inference_before

    def clone(self) -> Any:
        return type(self)(self._inference)
