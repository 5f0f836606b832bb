"""Rotary position embedding in array code: the specification."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnet._array_code import where
from fastnet._device import namespace
from fastnet._faults import check_faults, fault_flag
from fastnet.errors import InputError, KindError
from fastnet.kernels._arrays import check_array

BAD_PLACE = "a position is outside the table of cosines and sines"


def check_rotary(function: str, x: Any, cos: Any, sin: Any, positions: Any, offset: Any) -> int:
    """The offset; TypeError or ValueError for arguments that do not fit."""
    check_array(function, "x", x, ndim=4)
    wanted = "float64" if x.dtype == np.float64 else "float32"
    for argument, table in (("cos", cos), ("sin", sin)):
        check_array(function, argument, table, dtypes=(wanted,), ndim=2, like=x)
    if sin.shape != cos.shape:
        raise InputError(f"{function}: sin has shape {tuple(sin.shape)}, expected cos's {tuple(cos.shape)}")
    if 2 * cos.shape[1] > x.shape[3]:
        raise InputError(
            f"{function}: cos has shape {tuple(cos.shape)}, which turns {2 * cos.shape[1]} elements of a row, x has "
            f"{x.shape[3]}"
        )
    if isinstance(offset, bool) or not isinstance(offset, (int, np.integer)):
        raise KindError(f"{function}: offset is a {type(offset).__name__}, expected an int")
    if not 0 <= offset < 2**62:
        raise InputError(f"{function}: offset is {offset}, expected a number of positions")
    if positions is not None:
        check_array(function, "positions", positions, dtypes=("int64", "int32"), ndim=2, like=x)
        batch, length = x.shape[0], x.shape[2]
        if positions.shape[0] not in (1, batch) or positions.shape[1] not in (1, length):
            raise InputError(
                f"{function}: positions has shape {tuple(positions.shape)}, expected one that broadcasts to "
                f"{(batch, length)}"
            )
    return int(offset)


def places_of(x: Any, positions: Any, offset: int, count: bool) -> Any:
    """(B, T) int64: the place of every row."""
    xp = namespace(x)
    batch, length = x.shape[0], x.shape[2]
    places = xp.full((batch, length), offset, np.int64)
    if count:
        places += xp.arange(length)
    return places if positions is None else places + positions


def rotary_embedding(
    x: Any,
    cos: Any,
    sin: Any,
    *,
    positions: Any = None,
    offset: int = 0,
    count: bool = True,
    interleaved: bool = False,
    inverse: bool = False,
    config: Any = None,
) -> Any:
    """Pairs of elements of each row turned by the angles of its place. As ``fastnet.kernels.rotary_embedding``.

    >>> import numpy as np
    >>> cos, sin = np.zeros((2, 1), np.float32), np.ones((2, 1), np.float32)  # a quarter turn
    >>> rotary_embedding(np.array([[[[3.0, 4.0]]]], np.float32), cos, sin).ravel()
    array([-4.,  3.], dtype=float32)
    """
    name = "rotary_embedding"
    offset = check_rotary(name, x, cos, sin, positions, offset)
    xp = namespace(x)
    places = places_of(x, positions, offset, count)
    good = (places >= 0) & (places < cos.shape[0])
    flag = fault_flag(x, name, BAD_PLACE)
    flag |= ~good.all()
    if xp is np:
        check_faults(name)
    out = xp.zeros(x.shape, x.dtype)
    if not out.size or not cos.shape[0]:
        return out
    half = cos.shape[1]
    safe = xp.where(good, places, 0)
    c, s = cos[safe][:, None], sin[safe][:, None]  # (B, 1, T, half)
    if inverse:
        s = -s
    first = slice(0, 2 * half, 2) if interleaved else slice(0, half)
    second = slice(1, 2 * half, 2) if interleaved else slice(half, 2 * half)
    with np.errstate(all="ignore"):
        a, b = (x[..., part].astype(cos.dtype, copy=False) for part in (first, second))
        out[..., first] = (a * c - b * s).astype(x.dtype)
        out[..., second] = (b * c + a * s).astype(x.dtype)
    out[..., 2 * half :] = x[..., 2 * half :]
    return where(good[:, None, :, None], out, x.dtype.type(0))
