"""torch.distributed's first question, for files that ask it: fastnet is for one GPU, so there are no process groups."""

from __future__ import annotations

from typing import Any


def is_available() -> bool:
    """False: the names of process groups are not here, as in a PyTorch that was built without them."""
    return False


def is_initialized() -> bool:
    return False


def __getattr__(name: str) -> Any:
    raise AttributeError(f"fastnet.distributed has no {name!r}: fastnet is for one GPU (is_available() is False)")
