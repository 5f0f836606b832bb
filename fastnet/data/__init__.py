"""Data sets that ship with packages, and files in well-known formats."""

from fastnet.data.digits import digits
from fastnet.data.idx import read_idx

__all__ = ["digits", "read_idx"]
