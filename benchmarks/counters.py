"""What the emulator counts of a kernel's accesses: sectors of global memory and wavefronts of shared memory, over the
fewest that the same accesses could need. 1 is perfect; a GPU's speed on these kernels is decided by them.

The figures are the golden numbers of ``tests/test_counters.py``, of one aligned problem a kernel, unless
``FASTNET_EMULATED`` names a counters build (``FASTNET_SANITIZE=counters`` of CMake): then the kernels run on the case's
own inputs, where these are small, and are counted.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from fastnet import kernels

HERE = Path(__file__).resolve().parent


@cache
def golden() -> dict[str, dict[str, dict[str, float]]]:
    """ "function dtype" -> kind of access -> {"ratio", "bytes"}; empty where the file did not travel."""
    for path in (HERE / "golden" / "counters.json", HERE.parent / "tests" / "golden" / "counters.json"):
        if path.is_file():
            return json.loads(path.read_text())
    return {}


def ratios(counts: list[dict[str, Any]]) -> dict[str, float]:
    """``take_counts()`` of the emulator as ratios by kind of access."""
    totals: dict[str, tuple[int, int]] = {}
    for c in counts:
        kind = f"{'shared' if c['shared'] else 'global'} {'write' if c['write'] else 'read'}"
        cost, ideal = totals.get(kind, (0, 0))
        totals[kind] = cost + (c["wavefronts"] if c["shared"] else c["sectors"]), ideal + c["ideal"]
    return {k: round(cost / ideal, 3) for k, (cost, ideal) in sorted(totals.items()) if ideal}


def stored(function: str, dtype: str) -> dict[str, float]:
    """The golden ratios of a function, at another dtype of the same kind where there are none at this."""
    for name in (dtype, {"float16": "bfloat16"}.get(dtype, dtype)):
        if found := golden().get(f"{function} {name}"):
            return {kind: v["ratio"] for kind, v in found.items()}
    return {}


def counted(call: Callable[[], Any], device: str) -> dict[str, float] | None:
    """The ratios of a call on NumPy arrays, run by the emulator posing as a device; None where it does not count."""
    from fastnet.kernels._runtime import extension_for

    extension = extension_for(np.empty(0))
    if not hasattr(extension, "take_counts"):
        return None
    with kernels.use("emulated", device=device):
        extension.take_counts()
        call()
        return ratios(extension.take_counts())


def readable(found: dict[str, float]) -> str:
    """ "global 1.00/1.00 shared 1.00/1.14" (read/write), or nothing."""
    parts = []
    for where in ("global", "shared"):
        both = [found.get(f"{where} {way}") for way in ("read", "write")]
        if any(b is not None for b in both):
            parts.append(f"{where} " + "/".join("-" if b is None else f"{b:.2f}" for b in both))
    return " ".join(parts)
