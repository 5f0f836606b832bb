"""IDX files (MNIST, Fashion-MNIST): a header of type and sizes, then the values, gzipped or not."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from typing import Any

import numpy as np

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: Any) -> np.ndarray:
    """The array in an IDX file.

    Raises:
        ValueError: not an IDX file, or a truncated one; the message says what was found.
    """
    path = os.fspath(path)
    try:
        with open(path, "rb") as f:
            raw = f.read()
        if raw[:2] == b"\x1f\x8b":
            raw = gzip.decompress(raw)
    except (EOFError, OSError, zlib.error) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"read_idx: {path} cannot be read: {error}") from None
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] not in _TYPES:
        raise ValueError(f"read_idx: {path} is not an IDX file: it starts with {raw[:4].hex(' ')}")
    ndim = raw[3]
    header = 4 + 4 * ndim
    if len(raw) < header:
        raise ValueError(f"read_idx: {path} ends within its header")
    shape = tuple(int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(ndim))
    dtype = np.dtype(_TYPES[raw[2]])
    wanted = math.prod(shape) * dtype.itemsize
    if len(raw) - header != wanted:
        raise ValueError(
            f"read_idx: {path} has {len(raw) - header} bytes of values, expected {wanted} for shape {shape}"
        )
    return np.frombuffer(raw, dtype, offset=header).reshape(shape).astype(dtype.newbyteorder("="))
