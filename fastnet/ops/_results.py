"""Named tuples that operations with several results give, as ``torch.return_types``."""

from __future__ import annotations

from collections import namedtuple
from functools import cache
from typing import Any


@cache
def result(name: str, fields: str) -> Any:
    """The class of the named tuple that the operation ``name`` gives."""
    base = namedtuple(name, fields.split())

    def text(self: Any) -> str:
        inner = ",\n".join(f"{f}={v!r}" for f, v in zip(self._fields, self, strict=True))
        return f"fastnet.return_types.{name}(\n{inner})"

    return type(name, (base,), {"__slots__": (), "__repr__": text, "__module__": "fastnet.return_types"})
