"""Rotary position embedding as a layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnet import _dtypes
from fastnet._tensor import Tensor
from fastnet.errors import InputError
from fastnet.nn import functional as F
from fastnet.nn.module import Module
from fastnet.ops.creation import tensor


class RotaryEmbedding(Module):
    """Turns places into queries and keys by rotation (Su et al. 2021), before attention.

    Args:
        dim: elements of a row that are turned, even, at most the head dimension; the rest stay as they are.
        max_seq_len: places there are.
        base: pair p turns by place * base^(-2 p / dim).
        interleaved: whether pair p is elements 2 p and 2 p + 1 (the paper, GPT-J) rather than p and dim / 2 + p
            (GPT-NeoX, Llama).

    Shape: (B, H, T, D), (H, T, D) or (T, D) to the same. There are no parameters and no buffers: the tables of cosines
    and sines are computed in float64 and rounded to float32 (float64 for float64), also in a 16-bit model.

    >>> import fastnet
    >>> rotary = fastnet.nn.RotaryEmbedding(8, max_seq_len=16)
    >>> q = fastnet.ones(2, 4, 5, 8)
    >>> rotary(q).shape
    fastnet.Size([2, 4, 5, 8])
    >>> bool((rotary(q)[:, :, 3:] == rotary(q[:, :, 3:], offset=3)).all())
    True
    """

    def __init__(self, dim: int, max_seq_len: int = 2048, base: float = 10000.0, *, interleaved: bool = False):
        super().__init__()
        if dim < 2 or dim % 2:
            raise InputError(f"RotaryEmbedding: dim is {dim}, expected an even number")
        if max_seq_len < 1:
            raise InputError(f"RotaryEmbedding: max_seq_len is {max_seq_len}, expected at least 1")
        if not base > 0:
            raise InputError(f"RotaryEmbedding: base is {base}, expected a positive number")
        self.dim, self.max_seq_len, self.base, self.interleaved = dim, max_seq_len, float(base), interleaved
        self._tables: dict[tuple, tuple[Tensor, Tensor]] = {}  # by dtype and device, where they are asked for

    def _tables_for(self, x: Tensor) -> tuple[Tensor, Tensor]:
        dtype = _dtypes.float64 if x.dtype is _dtypes.float64 else _dtypes.float32
        key = (dtype.name, str(x.device))
        if key not in self._tables:
            frequency = self.base ** (-np.arange(0, self.dim, 2) / self.dim)
            angles = np.arange(self.max_seq_len)[:, None] * frequency
            made: Any = {"dtype": dtype, "device": x.device}
            self._tables[key] = tensor(np.cos(angles), **made), tensor(np.sin(angles), **made)
        return self._tables[key]

    def forward(self, x: Tensor, *, offset: int | Tensor = 0, positions: Tensor | None = None) -> Tensor:
        """x's rows from place ``offset`` on (an int, or one a sequence), or at ``positions`` (T,) or (B, T)."""
        cos, sin = self._tables_for(x)
        return F.rotary_embedding(x, cos, sin, offset=offset, positions=positions, interleaved=self.interleaved)

    def extra_repr(self) -> str:
        text = f"{self.dim}, max_seq_len={self.max_seq_len}, base={self.base:g}"
        return text + ", interleaved=True" * self.interleaved

    def __getstate__(self) -> dict[str, Any]:
        """Without the tables, which are computed again."""
        return {**self.__dict__, "_tables": {}}
