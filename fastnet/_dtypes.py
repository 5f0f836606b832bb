"""Element types, and PyTorch's rules for mixing them."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from fastnet.errors import KindError


class dtype:
    """An element type, as ``torch.dtype``. The ten that fastnet has are module attributes: ``fastnet.float32`` and so
    on."""

    __slots__ = ("category", "is_floating_point", "itemsize", "name", "numpy")

    def __init__(self, name: str, numpy: Any, category: int):
        self.name = name
        self.numpy = np.dtype(numpy)
        self.itemsize = self.numpy.itemsize
        self.category = category  # 0 bool, 1 integer, 2 floating point
        self.is_floating_point = category == 2

    @property
    def is_complex(self) -> bool:
        return False

    @property
    def is_signed(self) -> bool:
        """Whether it has negative numbers."""
        return self.category == 2 or self.numpy.kind == "i"

    def to_real(self) -> dtype:
        """Itself: fastnet has no complex dtypes."""
        return self

    def __repr__(self) -> str:
        return f"fastnet.{self.name}"

    def __copy__(self) -> dtype:
        return self

    def __deepcopy__(self, memo: dict) -> dtype:
        return self

    def __reduce__(self) -> str:
        return "bool_" if self.category == 0 else self.name


bool_ = dtype("bool", np.bool_, 0)
uint8 = dtype("uint8", np.uint8, 1)
int8 = dtype("int8", np.int8, 1)
int16 = dtype("int16", np.int16, 1)
int32 = dtype("int32", np.int32, 1)
int64 = dtype("int64", np.int64, 1)
float16 = dtype("float16", np.float16, 2)
bfloat16 = dtype("bfloat16", ml_dtypes.bfloat16, 2)
float32 = dtype("float32", np.float32, 2)
float64 = dtype("float64", np.float64, 2)

ALL = (bool_, uint8, int8, int16, int32, int64, float16, bfloat16, float32, float64)
FROM_NUMPY = {d.numpy: d for d in ALL}
# Wider absorbs narrower within a category; what has one rank holds each other only in the dtype of _ABOVE.
_RANK = {
    bool_: 0,
    uint8: 1,
    int8: 1,
    int16: 2,
    int32: 3,
    int64: 4,
    float16: 5,
    bfloat16: 5,
    float32: 6,
    float64: 7,
}
_ABOVE = {1: int16, 5: float32}

_default = float32


def get_default_dtype() -> dtype:
    """The dtype of tensors made from Python floats; float32 unless changed."""
    return _default


def set_default_dtype(d: dtype) -> None:
    """Make ``d``, a floating-point dtype, that of tensors made from Python floats."""
    global _default
    if not isinstance(d, dtype) or not d.is_floating_point:
        raise KindError(f"set_default_dtype: only floating-point types are supported as the default type, got {d}")
    _default = d


def as_dtype(d: Any) -> dtype:
    """A fastnet dtype from one, a NumPy dtype, or Python's bool, int or float."""
    if isinstance(d, dtype):
        return d
    if d is float:
        return _default
    if d is int:
        return int64
    if d is bool:
        return bool_
    try:
        found = FROM_NUMPY.get(np.dtype(d))
    except TypeError:
        found = None
    if found is None:
        raise KindError(f"expected a fastnet dtype ({', '.join(x.name for x in ALL)}), got {d!r}")
    return found


def of_array(x: Any) -> dtype:
    """The dtype of a NumPy or CuPy array; TypeError for one that fastnet has not."""
    try:
        return FROM_NUMPY[x.dtype]
    except KeyError:
        raise KindError(f"fastnet has no dtype {x.dtype}; it has {', '.join(d.name for d in ALL)}") from None


def promote_types(a: dtype, b: dtype) -> dtype:
    """The smallest dtype that both convert to, as ``torch.promote_types``."""
    a, b = as_dtype(a), as_dtype(b)
    if a is b:
        return a
    if _RANK[a] == _RANK[b]:
        return _ABOVE[_RANK[a]]
    return a if _RANK[a] > _RANK[b] else b


def of_scalar(x: Any) -> dtype:
    """The dtype a Python number has when it meets tensors of a lower category."""
    if isinstance(x, (bool, np.bool_)):
        return bool_
    if isinstance(x, (int, np.integer)):
        return int64
    if isinstance(x, (float, np.floating)):
        return _default
    raise KindError(f"expected a number or a tensor, got {type(x).__name__}")


def result_type_of(operands: list[tuple[dtype, int]]) -> dtype:
    """PyTorch's promotion of (dtype, priority) pairs: priority 2 for tensors with dimensions, 1 for those without, 0
    for Python numbers. An operand of lower priority counts only if its category (bool < integer < float) is higher."""
    result: dtype | None = None
    for priority in (2, 1, 0):
        group: dtype | None = None
        for d, p in operands:
            if p == priority:
                group = d if group is None else promote_types(group, d)
        if group is not None:
            if result is None:
                result = group
            elif group.category > result.category:
                result = _default if priority == 0 and group.is_floating_point else group
    assert result is not None
    return result


class finfo:
    """The limits of a floating-point dtype, as ``torch.finfo``.

    >>> finfo(float32).eps
    1.1920928955078125e-07
    """

    def __init__(self, type: dtype | None = None):
        type = _default if type is None else as_dtype(type)
        if not type.is_floating_point:
            raise KindError(f"fastnet.finfo() requires a floating point input type. Use iinfo to handle '{type}'")
        info = ml_dtypes.finfo(type.numpy)
        self.bits = 8 * type.itemsize
        self.dtype = type.name
        self.eps, self.max, self.min = float(info.eps), float(info.max), float(info.min)
        self.tiny = self.smallest_normal = float(info.smallest_normal)
        self.resolution = float(info.resolution)

    def __repr__(self) -> str:
        return (
            f"finfo(resolution={self.resolution:g}, min={self.min:g}, max={self.max:g}, eps={self.eps:g}, "
            f"smallest_normal={self.smallest_normal:g}, tiny={self.tiny:g}, dtype={self.dtype})"
        )


class iinfo:
    """The limits of an integer dtype, as ``torch.iinfo``.

    >>> iinfo(int32).max
    2147483647
    """

    def __init__(self, type: dtype):
        type = as_dtype(type)
        if type.category != 1:
            raise KindError(f"fastnet.iinfo() requires an integer input type. Use finfo to handle '{type}'")
        info = np.iinfo(type.numpy)
        self.bits, self.max, self.min, self.dtype = info.bits, int(info.max), int(info.min), type.name

    def __repr__(self) -> str:
        return f"iinfo(min={self.min:g}, max={self.max:g}, dtype={self.dtype})"


def can_cast(from_: dtype, to: dtype) -> bool:
    """Whether an operation in place may convert: not from a higher category (bool < integer < float)."""
    from_, to = as_dtype(from_), as_dtype(to)
    return not (from_.category > to.category or (from_.category != 0 and to.category == 0))
