"""Runs every kernel's small problems in all six schedules. Meant for the sanitizer builds, as a program of its own: a
sanitizer reports by ending the process. Prints one line a kernel and, last, how many launches there were."""

from __future__ import annotations

import sys

import numpy as np
from problems import SMALL
from support import SCHEDULES, bfloat16

from fastnet import kernels

DTYPES = (np.float32, np.float64, np.float16, bfloat16)


def main(names: list[str]) -> None:
    launches = 0
    for name in names or sorted(SMALL):
        calls = 0
        for i, dtype in enumerate(DTYPES):
            # Every dtype is another instantiation of the same source: one schedule each, float32 all six.
            for how in SCHEDULES if i == 0 else (SCHEDULES[(i * 2 + 1) % 6],):
                with kernels.use("emulated", **how), kernels.trace() as ran:
                    for args, kwargs in SMALL[name](np.random.default_rng(0), dtype):
                        getattr(kernels, name)(*args, **kwargs)
                        calls += 1
                launches += len(ran)
        print(f"{name}: {calls} calls", flush=True)
    print(f"launches: {launches}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
