"""Settings of the process that training scripts touch: threads, determinism, default types; ``compile``; assertions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastnet import _dtypes

_threads: Any = None
_deterministic = False


def set_num_threads(n: int) -> None:
    """How many threads NumPy's matrix products use on the CPU."""
    global _threads
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise RuntimeError(f"set_num_threads expects a positive integer, got {n!r}")
    from threadpoolctl import threadpool_limits

    _threads = threadpool_limits(limits=n)


def get_num_threads() -> int:
    """How many threads NumPy's matrix products use on the CPU."""
    from threadpoolctl import threadpool_info

    return max([pool["num_threads"] for pool in threadpool_info()] or [1])


def use_deterministic_algorithms(mode: bool, *, warn_only: bool = False) -> None:
    """fastnet is deterministic in any case; this only notes what was asked for."""
    global _deterministic
    _deterministic = bool(mode)


def are_deterministic_algorithms_enabled() -> bool:
    """What ``use_deterministic_algorithms`` was last told."""
    return _deterministic


def set_flush_denormal(mode: bool) -> bool:
    """False: the processor's treatment of denormal numbers is left as it is."""
    return False


def set_default_tensor_type(t: Any) -> None:
    """The default dtype by the older name of a type: "FloatTensor", "torch.DoubleTensor" or the class."""
    name = t if isinstance(t, str) else t.__name__
    found = {"FloatTensor": "float32", "DoubleTensor": "float64", "HalfTensor": "float16", "BFloat16Tensor": "bfloat16"}
    dtype = found.get(name.rpartition(".")[2])
    if dtype is None:
        raise TypeError(f"set_default_tensor_type: only floating-point types are supported, got {t!r}")
    _dtypes.set_default_dtype(getattr(_dtypes, dtype))


def typename(obj: Any) -> str:
    """The name of a tensor's type, or of an object's class with its module."""
    from fastnet._tensor import Tensor

    if isinstance(obj, Tensor):
        return obj.type()
    kind = type(obj)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def compile(model: Any = None, **options: Any) -> Any:
    """The model or function itself: fastnet's kernels are compiled already, and nothing is traced."""
    if model is None:
        decorate: Callable = lambda function: function  # noqa: E731  `@compile(...)`
        return decorate
    return model


def _assert(condition: Any, message: str) -> None:
    """torch._assert: raise AssertionError with the message unless the condition holds."""
    if not condition:
        raise AssertionError(message)


def _check(cond: bool, message: Callable[[], str] | None = None) -> None:
    """torch._check: raise RuntimeError, with what ``message()`` says, unless the condition holds."""
    if not cond:
        raise RuntimeError("Expected cond to be True, but got False." if message is None else str(message()))
