"""Exchange of memory with other libraries, as ``torch.utils.dlpack``."""

from __future__ import annotations

from typing import Any

from fastnet._tensor import Tensor
from fastnet.ops.creation import from_dlpack

__all__ = ["from_dlpack", "to_dlpack"]


def to_dlpack(tensor: Tensor) -> Any:
    """A capsule that another library's ``from_dlpack`` takes, once."""
    return tensor.__dlpack__()
