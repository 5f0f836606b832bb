"""What kernel tests share: the six schedules, bfloat16, comparison with a bound that says where it comes from."""

from __future__ import annotations

import itertools

import ml_dtypes
import numpy as np

bfloat16 = np.dtype(ml_dtypes.bfloat16)
SCHEDULES = [
    {"order": order, "seed": seed, "copies": copies}
    for (order, seed), copies in itertools.product([("forward", 1), ("reverse", 1), ("random", 7)], ["early", "late"])
]


def schedule(index: int) -> dict:
    """The index-th schedule, in rotation: for tests that draw many problems."""
    return SCHEDULES[index % len(SCHEDULES)]


def epsilon(dtype) -> float:
    """Half a unit in the last place of 1: the relative error of one rounding to nearest."""
    return {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}[np.dtype(dtype).name]


def assert_close(got, want, bound, what: str = "") -> None:
    """|got - want| <= bound elementwise (bound broadcasts); NaN and infinities must agree. Prints the first
    mismatches."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape, f"{what}: shape {got.shape}, expected {want.shape}"
    g, w = got.astype(np.float64), want.astype(np.float64)
    bound = np.broadcast_to(np.asarray(bound, np.float64), w.shape)
    with np.errstate(invalid="ignore"):
        same = (g == w) | (np.isnan(g) & np.isnan(w)) | (np.abs(g - w) <= bound)
    if not same.all():
        bad = np.argwhere(~same)
        lines = [
            f"  at {tuple(int(j) for j in i)}: got {g[tuple(i)]!r}, expected {w[tuple(i)]!r}, bound "
            f"{bound[tuple(i)]:.3g}"
            for i in bad[:5]
        ]
        raise AssertionError(f"{what}: {len(bad)} of {w.size} elements differ\n" + "\n".join(lines))
