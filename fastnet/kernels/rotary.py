"""Rotary position embedding by a handwritten kernel."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnet._device import namespace
from fastnet._faults import check_faults
from fastnet.errors import KindError
from fastnet.kernels._arrays import addressable, empty, fault_flag, is_numpy, packed, stream_of
from fastnet.kernels._runtime import extension_for, record
from fastnet.reference.rotary import BAD_PLACE, check_rotary


def _config(function: str, ext: Any, config: Any, x: Any, half: int) -> Any:
    if config is None:
        return ext.rotary_config(*x.shape[:3], half)
    if not isinstance(config, ext.RotaryConfig):
        raise KindError(f"{function}: config is a {type(config).__name__}, expected a RotaryConfig of {ext.__name__}")
    return config


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
    """Pairs (a, b) of elements of each row become (a cos - b sin, b cos + a sin), by the angles of the row's place
    (rotary position embedding, Su et al. 2021).

    Args:
        x: (B, H, T, D) float32, float64, float16 or bfloat16, any strides: queries or keys.
        cos, sin: (places, R / 2), R at most D, float32, or float64 for float64: of the angle of each place and pair.
        positions: int64 or int32, broadcasts to (B, T): added to the place of row t of sequence b; or None.
        offset: added to every place: how many tokens stand before the first.
        count: whether t is added to the place of row t.
        interleaved: pair p is (2 p, 2 p + 1), as the paper has it; else (p, R / 2 + p), as GPT-NeoX and Llama have it.
            Elements from R on are copied.
        inverse: turn back: the gradient.
        config: a ``RotaryConfig`` to use in place of the one chosen for the problem.

    Returns:
        (B, H, T, D) of x's dtype, computed in float32 (float64 for float64) and rounded once.

    Raises:
        TypeError, ValueError: arguments that do not fit.
        IndexError: a place outside the table; on the GPU at the next synchronising call (zeros stand there until then).

    >>> import numpy as np, fastnet
    >>> cos, sin = np.zeros((2, 1), np.float32), np.ones((2, 1), np.float32)  # a quarter turn
    >>> with fastnet.kernels.use("emulated"):
    ...     fastnet.kernels.rotary_embedding(np.array([[[[3.0, 4.0]]]], np.float32), cos, sin).ravel()
    array([-4.,  3.], dtype=float32)
    """
    name = "rotary_embedding"
    offset = check_rotary(name, x, cos, sin, positions, offset)
    ext = extension_for(x)
    xp = namespace(x)
    config = _config(name, ext, config, x, cos.shape[1])
    out = empty(x, x.shape)
    if out.size:
        if positions is not None:
            positions = xp.broadcast_to(xp.asarray(addressable(positions), np.int64), (x.shape[0], x.shape[2]))
        cos, sin = (addressable(t) for t in (cos, sin))
        record(name, x, cos, sin, positions, config=config)
        ext.rotary_embedding(
            out,
            addressable(x),
            *(t if t.flags.c_contiguous else packed(t) for t in (cos, sin)),
            positions,
            offset,
            bool(count),
            bool(interleaved),
            bool(inverse),
            fault_flag(x, name, BAD_PLACE),
            config,
            stream_of(x),
        )
        if is_numpy(x):
            check_faults(name)
    return out
