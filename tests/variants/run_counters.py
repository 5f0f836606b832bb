"""Counts what every kernel does to memory on its aligned problem and prints it as JSON, by kind of access.

``ratio``: sectors of global memory or wavefronts of shared memory, over the fewest that hold the same bytes.
``conflicts``: bank conflicts of shared memory, wavefronts beyond one for each phase of an access. Where lanes read the
same words by 8 or 16 bytes the ratio is up to 2 or 4 without a conflict, for half and quarter warps take turns.
"""

from __future__ import annotations

import json

import numpy as np
from problems import ALIGNED
from support import bfloat16

from fastnet import kernels
from fastnet.kernels._runtime import extension_for

DTYPES = {"float32": np.float32, "bfloat16": bfloat16}


def count(name: str, dtype) -> dict[str, dict[str, float]]:
    args, kwargs = ALIGNED[name](np.random.default_rng(0), dtype)
    extension = extension_for(np.empty(0))
    extension.take_counts()
    with kernels.use("emulated"):
        getattr(kernels, name.split(":")[0])(*args, **kwargs)
    totals: dict[str, list[int]] = {}
    for c in extension.take_counts():
        kind = f"{'shared' if c['shared'] else 'global'} {'write' if c['write'] else 'read'}"
        cost = c["wavefronts"] if c["shared"] else c["sectors"]
        t = totals.setdefault(kind, [0, 0, 0, 0])
        t[0] += cost
        t[1] += c["ideal"]
        t[2] += c["bytes"]
        t[3] += c["conflicts"]
    return {
        kind: {"ratio": round(t[0] / t[1], 3), "bytes": t[2]} | ({"conflicts": t[3]} if "shared" in kind else {})
        for kind, t in sorted(totals.items())
    }


if __name__ == "__main__":
    print(json.dumps({f"{n} {d}": count(n, t) for n in sorted(ALIGNED) for d, t in DTYPES.items()}, indent=1))
