"""Turns what goes wrong inside an operation that was given something else than a tensor into a TypeError that says so.

Checks at the door of every operation would cost each call; an exception costs only the call that goes wrong.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

from fastnet import _autocast
from fastnet._tensor import Tensor

# NumPy's names of arguments, which PyTorch takes too.
_ALIASES = {"axis": "dim", "keepdims": "keepdim", "x": "input", "a": "input", "x1": "input", "x2": "other"}

# Sizes that stand one after another, or as a sequence under a name: zeros(2, 3), zeros(size=(2, 3)).
_SPREAD = {"size": ("size",), "shape": ("shape", "size"), "dims": ("dims",), "repeats": ("repeats",)}


def checked(function: Callable) -> Callable:
    """The function, with AttributeErrors from arguments that are no tensors explained; with ``out=``, a tensor that
    takes the result; with NumPy's names of arguments (``axis``, ``keepdims``) beside PyTorch's; with sizes by name; and
    with arguments in the dtype that autocast says."""
    code = getattr(function, "__code__", None)
    spread: tuple[str, ...] = ()
    positional = code.co_varnames[: code.co_argcount] if code else ()
    if code and code.co_flags & inspect.CO_VARARGS:
        spread = _SPREAD.get(code.co_varnames[code.co_argcount + code.co_kwonlyargcount], ())
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount] if code else ()
    aliases = {alias: name for alias, name in _ALIASES.items() if name in names and alias not in names}
    takes_out = "out" not in names
    name = getattr(function, "__name__", "")

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        out = None
        if _autocast.active:
            args, kwargs = _autocast.adapted(name, args, kwargs)
        if kwargs:
            for alias in aliases.keys() & kwargs.keys():
                if aliases[alias] not in kwargs:
                    kwargs[aliases[alias]] = kwargs.pop(alias)
            for key in spread:
                if key in kwargs and len(args) <= len(positional):
                    args = _with_sizes(name, positional, args, kwargs, key)
            if takes_out and "out" in kwargs:
                out = kwargs.pop("out")
        try:
            result = function(*args, **kwargs)
        except (AttributeError, AssertionError) as error:
            raise _explained(function, args, kwargs, error) from error
        return result if out is None else _into(out, result, function.__name__)

    return call


def _with_sizes(name: str, before: tuple, args: tuple, kwargs: dict, key: str) -> tuple:
    """Positional arguments with the sizes that ``kwargs`` has under a name, which is taken out of it."""
    if not isinstance(kwargs[key], (list, tuple)):
        raise TypeError(f"{name}(): argument '{key}' must be tuple of ints, not {type(kwargs[key]).__name__}")
    given = kwargs.pop(key)
    return (*args, *(kwargs.pop(n) for n in before[len(args) :] if n in kwargs), given)


def _into(out: Any, result: Any, name: str) -> Any:
    """Write results into the tensors given as ``out=``, which take the results' shapes."""
    if isinstance(result, tuple):
        if not isinstance(out, (tuple, list)) or len(out) != len(result):
            raise TypeError(f"{name}(): argument 'out' must be tuple of {len(result)} Tensors")
        for o, r in zip(out, result, strict=True):
            _into(o, r, name)
        return type(result)(*out) if hasattr(result, "_fields") else tuple(out)
    if not isinstance(out, Tensor):
        raise TypeError(f"{name}(): argument 'out' must be Tensor, not {type(out).__name__}")
    if not isinstance(result, Tensor):
        raise TypeError(f"{name}(): takes no argument 'out'")
    from fastnet.autograd import is_grad_enabled

    if is_grad_enabled() and (out.requires_grad or result.requires_grad):
        raise RuntimeError(
            f"{name}(): functions with out=... arguments don't support automatic differentiation, but one of the "
            "arguments requires grad."
        )
    if result.dtype.category > out.dtype.category:
        raise RuntimeError(f"result type {result.dtype.name} can't be cast to the desired output type {out.dtype.name}")
    if out._data.shape != result._data.shape:
        from fastnet.ops.rearrange import resize_

        resize_(out, *result._data.shape)
    from fastnet.ops.in_place import writeable

    writeable(out)[...] = result._data.astype(out._data.dtype, copy=False)
    out._version_counter[0] += 1
    return out


def _explained(function: Callable, args: tuple, kwargs: dict, error: Exception) -> TypeError:
    name = function.__name__
    try:
        bound = inspect.signature(function).bind(*args, **kwargs)
    except TypeError:
        return TypeError(f"{name}(): {error}")
    for parameter, value in bound.arguments.items():
        wanted = str(bound.signature.parameters[parameter].annotation)
        if "Tensor" in wanted and not isinstance(value, Tensor) and not (value is None and "None" in wanted):
            return TypeError(f"{name}(): argument '{parameter}' must be Tensor, not {type(value).__name__}")
    kinds = ", ".join(f"{k}: {type(v).__name__}" for k, v in bound.arguments.items())
    return TypeError(f"{name}(): cannot be called with ({kinds}): {error}")
