"""Faults that only the data on a device shows: kernels set a flag there, the next synchronising call raises.

A kernel that meets an index out of range skips the element and sets its flag; nothing waits for the device then.
``check_faults`` reads every flag, which does wait, so it belongs in calls that wait anyway. It raises once for a fault.
"""

from __future__ import annotations

from typing import Any

import numpy as np

# What is wrong, by the function whose flag is set; the key's second part is the device, None for the CPU.
_flags: dict[tuple[str, int | None], Any] = {}
_texts: dict[str, str] = {}
_errors: dict[str, type[Exception]] = {}  # what functions raise, where that is no IndexError


def fault_flag(like: Any, function: str, text: str) -> Any:
    """The int32 array of one element, beside ``like``, that ``function``'s kernel sets when ``text`` has come about."""
    on_cpu = isinstance(like, np.ndarray)
    key = (function, None if on_cpu else like.device.id)
    flag = _flags.get(key)
    if flag is None:
        if on_cpu:
            flag = np.zeros(1, np.int32)
        else:
            import cupy

            flag = cupy.zeros(1, np.int32)
        _flags[key] = flag
    _texts[function] = text
    return flag


def note(function: str, text: str, bad: Any, error: type[Exception] = IndexError) -> None:
    """Set ``function``'s flag where ``bad``, an array on a GPU, holds anywhere: what array code on the CPU raises at
    once."""
    flag = fault_flag(bad, function, text)
    flag |= bad.any()
    _errors[function] = error


def check_faults(function: str | None = None) -> None:
    """Raise, naming the function, if it met what it refuses since the last check: IndexError for an index out of range.

    Args:
        function: look at this function's flags only, those on the CPU, as its own call does there.
    """
    for (name, device), flag in _flags.items():
        if function is not None and (name != function or device is not None):
            continue
        if device is None:
            found = flag[0] != 0
        else:
            import cupy

            with cupy.cuda.Device(device):
                found = bool(flag[0] != 0)
        if found:
            flag[...] = 0
            raise _errors.get(name, IndexError)(f"{name}: {_texts[name]}")
