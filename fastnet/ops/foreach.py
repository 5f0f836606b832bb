"""Operations on lists of tensors, one after the other: ``torch._foreach_add`` and its kin, which code of optimizers
uses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fastnet._tensor import Tensor
from fastnet.errors import InputError, KindError

UNARY = (
    "abs acos asin atan ceil cos cosh erf erfc exp expm1 floor frac lgamma log log10 log1p log2 neg reciprocal round "
    "rsqrt sigmoid sign sin sinh sqrt tan tanh trunc"
).split()
BINARY = "add clamp_max clamp_min div mul pow sub".split()
TERNARY = "addcdiv addcmul".split()


def _tensors(name: str, self: Any) -> list[Tensor]:
    if not isinstance(self, (list, tuple)) or not all(isinstance(t, Tensor) for t in self):
        raise KindError(f"{name}(): argument 'self' must be tuple of Tensors, not {type(self).__name__}")
    if not self:
        raise InputError(f"{name}: tensor list must have at least one tensor")
    return list(self)


def _each(name: str, value: Any, count: int) -> list:
    """One operand for every tensor: an entry of a list, or the same number or tensor."""
    if not isinstance(value, (list, tuple)):
        return [value] * count
    if len(value) != count:
        raise InputError(f"{name}: tensor lists must have the same number of tensors, got {count} and {len(value)}")
    return list(value)


def _unary(name: str) -> Callable:
    def operation(self: Sequence[Tensor]) -> list[Tensor]:
        return [getattr(t, name)() for t in _tensors(f"_foreach_{name}", self)]

    return operation


def _binary(name: str) -> Callable:
    def operation(self: Sequence[Tensor], other: Any, **options: Any) -> list[Tensor]:
        tensors = _tensors(f"_foreach_{name}", self)
        others = _each(f"_foreach_{name}", other, len(tensors))
        return [getattr(t, name)(o, **options) for t, o in zip(tensors, others, strict=True)]

    return operation


def _ternary(name: str) -> Callable:
    def operation(self: Sequence[Tensor], tensor1: Any, tensor2: Any, value: Any = 1) -> list[Tensor]:
        tensors = _tensors(f"_foreach_{name}", self)
        lists = [_each(f"_foreach_{name}", x, len(tensors)) for x in (tensor1, tensor2)]
        values = value.tolist() if isinstance(value, Tensor) else value
        scales = _each(f"_foreach_{name}", values, len(tensors))
        return [getattr(t, name)(a, b, value=v) for t, a, b, v in zip(tensors, *lists, scales, strict=True)]

    return operation


def lerp(self: Sequence[Tensor], tensors1: Sequence[Tensor], weight: Any) -> list[Tensor]:
    """``lerp`` of every tensor."""
    tensors = _tensors("_foreach_lerp", self)
    ends, weights = (_each("_foreach_lerp", x, len(tensors)) for x in (tensors1, weight))
    return [t.lerp(e, w) for t, e, w in zip(tensors, ends, weights, strict=True)]


def norm(self: Sequence[Tensor], ord: Any = 2, dtype: Any = None) -> list[Tensor]:
    """The norm of every tensor."""
    return [t.norm(ord, dtype=dtype) for t in _tensors("_foreach_norm", self)]


def zero_(self: Sequence[Tensor]) -> list[Tensor]:
    """Set every tensor to zero."""
    return [t.zero_() for t in _tensors("_foreach_zero_", self)]


def copy_(self: Sequence[Tensor], src: Sequence[Tensor], non_blocking: bool = False) -> list[Tensor]:
    """Copy every tensor of ``src`` into its partner."""
    tensors = _tensors("_foreach_copy_", self)
    return [t.copy_(s) for t, s in zip(tensors, _each("_foreach_copy_", src, len(tensors)), strict=True)]


def _in_place(name: str) -> Callable:
    """The form that changes the tensors themselves."""

    def operation(self: Sequence[Tensor], *args: Any, **options: Any) -> list[Tensor]:
        tensors = _tensors(f"_foreach_{name}_", self)
        new = FUNCTIONS[f"_foreach_{name}"](tensors, *args, **options)
        return [t.copy_(n) for t, n in zip(tensors, new, strict=True)]

    return operation


FUNCTIONS: dict[str, Callable] = {
    **{f"_foreach_{n}": _unary(n) for n in UNARY},
    **{f"_foreach_{n}": _binary(n) for n in BINARY},
    **{f"_foreach_{n}": _ternary(n) for n in TERNARY},
    "_foreach_lerp": lerp,
    "_foreach_norm": norm,
    "_foreach_zero_": zero_,
    "_foreach_copy_": copy_,
}
for _name in (*UNARY, *BINARY, *TERNARY, "lerp"):
    FUNCTIONS[f"_foreach_{_name}_"] = _in_place(_name)
for _name, _function in FUNCTIONS.items():
    _function.__name__ = _function.__qualname__ = _name
FUNCTIONS["_foreach_maximum"], FUNCTIONS["_foreach_minimum"] = (
    FUNCTIONS["_foreach_clamp_min"],
    FUNCTIONS["_foreach_clamp_max"],
)
