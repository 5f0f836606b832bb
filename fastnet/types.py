"""Types in signatures of functions; torch.types."""

from __future__ import annotations

import os
from typing import IO, Union

from fastnet._device import device
from fastnet._dtypes import dtype as dtype
from fastnet._tensor import Size as Size
from fastnet._tensor import Tensor as Tensor

__all__ = ["Device", "FileLike", "Number"]

Number = Union[int, float, bool]  # noqa: UP007  (usable in isinstance and in older annotations alike)
Device = Union[device, str, int, None]  # noqa: UP007
FileLike = Union[str, os.PathLike, IO[bytes]]  # noqa: UP007
