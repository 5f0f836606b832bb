"""Turns what goes wrong inside an operation that was given something else than a tensor into a TypeError that says so.

Checks at the door of every operation would cost each call; an exception costs only the call that goes wrong.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from fastnet import _autocast
from fastnet._tensor import Tensor
from fastnet.errors import InputError, KindError, LinAlgError

# NumPy's names of arguments, which PyTorch takes too.
_ALIASES = {"axis": "dim", "keepdims": "keepdim", "x": "input", "a": "input", "x1": "input", "x2": "other"}

# Further names that PyTorch takes for arguments of single functions.
_PIECES = {"indices": "indices_or_sections", "sections": "indices_or_sections"}
_OTHER_NAMES = {
    "tensor_split": _PIECES,
    "hsplit": _PIECES,
    "vsplit": _PIECES,
    "dsplit": _PIECES,
    "split": {"split_size": "split_size_or_sections"},
    "transpose": {"axis0": "dim0", "axis1": "dim1"},
    "copy_": {"other": "source", "src": "source"},
    "random_": {"from": "low", "to": "high"},
    "uniform_": {"from": "a", "to": "b"},
    "resize_as_": {"the_template": "other"},
    "cholesky_solve": {"input2": "L"},
    "lstsq": {"b": "B"},
    "broadcast_to": {"size": "shape"},
    "dropout": {"train": "training"},
    "alpha_dropout": {"train": "training"},
    "feature_alpha_dropout": {"train": "training"},
}

# Arguments of constructors that say what holds of every tensor here: it is strided, and pinned or not is all one.
_OF_STORAGE = ("layout", "pin_memory", "memory_format")

# Sizes that stand one after another, or as a sequence under a name: zeros(2, 3), zeros(size=(2, 3)).
_SPREAD = {"size": ("size",), "shape": ("shape", "size"), "dims": ("dims",), "repeats": ("repeats",)}


def checked(function: Callable) -> Callable:
    """The function, with AttributeErrors from arguments that are no tensors explained; with ``out=``, a tensor that
    takes the result; with NumPy's names of arguments (``axis``, ``keepdims``) beside PyTorch's; with sizes by name;
    with ``input=`` for a first argument of another name; and with arguments in the dtype that autocast says.
    Constructors take ``layout``, ``pin_memory`` and ``memory_format``."""
    code = getattr(function, "__code__", None)
    spread: tuple[str, ...] = ()
    positional = code.co_varnames[: code.co_argcount] if code else ()
    if code and code.co_flags & inspect.CO_VARARGS:
        spread = _SPREAD.get(code.co_varnames[code.co_argcount + code.co_kwonlyargcount], ())
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount] if code else ()
    aliases = {alias: name for alias, name in _ALIASES.items() if name in names and alias not in names}
    takes_out = "out" not in names
    name = getattr(function, "__name__", "")
    aliases |= {alias: own for alias, own in _OTHER_NAMES.get(name, {}).items() if own in names and alias not in names}
    first_unnamed = "input" not in names
    constructor = "dtype" in names and "device" in names
    needs_size = constructor and spread == ("size",) and not positional

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        out = None
        of_gradients = False
        if _autocast.active:
            args, kwargs = _autocast.adapted(name, args, kwargs)
        if kwargs:
            for alias in aliases.keys() & kwargs.keys():
                if aliases[alias] not in kwargs:
                    kwargs[aliases[alias]] = kwargs.pop(alias)
            for key in spread:
                if key in kwargs and len(args) <= len(positional):
                    args = _with_sizes(name, positional, args, kwargs, key)
            if first_unnamed and not args and "input" in kwargs:
                args = (kwargs.pop("input"),)
            if takes_out and "out" in kwargs:
                out = kwargs.pop("out")
                of_gradients = constructor and out is not None and bool(kwargs.pop("requires_grad", False))
            if constructor:
                _take_storage(name, names, kwargs)
        if needs_size and not args:
            raise KindError(f'{name}() missing 1 required positional arguments: "size"')
        try:
            result = function(*args, **kwargs)
        except np.linalg.LinAlgError as error:
            raise (error if isinstance(error, LinAlgError) else LinAlgError(f"{name}: {error}")) from None
        except (AttributeError, AssertionError, TypeError, ValueError) as error:
            where = _devices(args, kwargs)
            if where and "device" not in str(error):  # the array library has other words for it
                text = f"{name}: expected all tensors to be on the same device, got {where}"
                raise InputError(text) from error
            if isinstance(error, (AttributeError, AssertionError)):
                raise _explained(function, args, kwargs, error) from error
            raise
        if out is None:
            return result
        out = into(out, result, function.__name__)
        return out.requires_grad_() if of_gradients else out

    return call


def _devices(args: tuple, kwargs: dict) -> str:
    """The devices of tensors among arguments, where there are several."""
    flat = [t for x in (*args, *kwargs.values()) for t in (x if isinstance(x, (list, tuple)) else [x])]
    found = sorted({str(t.device) for t in flat if isinstance(t, Tensor)})
    return " and ".join(found) if len(found) > 1 else ""


def _take_storage(name: str, names: tuple, kwargs: dict) -> None:
    """Take the arguments that say how a tensor is stored from a constructor's; ValueError for another layout."""
    for key in _OF_STORAGE:
        if key in kwargs and key not in names:
            value = kwargs.pop(key)
            if key == "layout" and value not in (None, "strided"):
                raise InputError(f"{name}(): argument 'layout' is {value}, expected strided, the only one fastnet has")


def _with_sizes(name: str, before: tuple, args: tuple, kwargs: dict, key: str) -> tuple:
    """Positional arguments with the sizes that ``kwargs`` has under a name, which is taken out of it."""
    if not isinstance(kwargs[key], (list, tuple)):
        raise KindError(f"{name}(): argument '{key}' must be tuple of ints, not {type(kwargs[key]).__name__}")
    given = kwargs.pop(key)
    return (*args, *(kwargs.pop(n) for n in before[len(args) :] if n in kwargs), given)


def into(out: Any, result: Any, name: str) -> Any:
    """Write results into the tensors given as ``out=``, which take the results' shapes."""
    if isinstance(result, tuple):
        if not isinstance(out, (tuple, list)) or len(out) != len(result):
            raise KindError(f"{name}(): argument 'out' must be tuple of {len(result)} Tensors")
        for o, r in zip(out, result, strict=True):
            into(o, r, name)
        return type(result)(*out) if hasattr(result, "_fields") else tuple(out)
    if not isinstance(out, Tensor):
        raise KindError(f"{name}(): argument 'out' must be Tensor, not {type(out).__name__}")
    if not isinstance(result, Tensor):
        raise KindError(f"{name}(): takes no argument 'out'")
    from fastnet.autograd import is_grad_enabled

    if is_grad_enabled() and (out.requires_grad or result.requires_grad):
        raise RuntimeError(
            f"{name}(): functions with out=... arguments don't support automatic differentiation, but one of the "
            "arguments requires grad."
        )
    if result.dtype.category > out.dtype.category:
        raise KindError(f"result type {result.dtype.name} can't be cast to the desired output type {out.dtype.name}")
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
