"""Data sets that ship with packages, and files in well-known formats."""

from fastnet.data.digits import digits
from fastnet.data.idx import read_idx
from fastnet.data.strokes import strokes
from fastnet.data.text import python_docs, read_text

__all__ = ["digits", "python_docs", "read_idx", "read_text", "strokes"]
