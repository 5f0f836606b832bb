"""`fastnet bench [OP ...]`: measure operations here and print, and with --out write, the rows."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from fastnet import cuda, kernels

from .harness import Row, measure, show, write
from .operations import OPERATIONS
from .shapes import MATMUL, ROWS


def configs() -> str:
    """Without a GPU: which config each GPU would run with, from the pure functions that choose them."""
    import numpy as np

    if kernels.available()["emulated"] is not True:
        return f"configs: not known without the emulated extension: {kernels.available()['emulated']}"
    lines = []
    for device in ("H200", "A100", "RTX 4090"):
        for m, n, _k in MATMUL["square"][:1] + MATMUL["skinny"][:1]:
            with kernels.use("emulated", device=device), kernels.trace() as ran:
                kernels.matmul(np.ones((m, 32), np.float32), np.ones((32, n), np.float32))
            lines.append(f"  {device:9} matmul {m}x{n}x32: {ran.launches[0].config}")
    return "configs chosen for:\n" + "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run benchmarks; the exit status."""
    sets = sorted({*MATMUL, *ROWS})
    parser = argparse.ArgumentParser(prog="fastnet bench", description="Measure operations on this machine.")
    parser.add_argument("operations", nargs="*", metavar="OP", help=f"which: {', '.join(OPERATIONS)}; default all")
    parser.add_argument(
        "--shapes",
        default=None,
        help=f"sets of problem sizes, by commas: {', '.join(sets)}; default small on a CPU, all on a GPU",
    )
    parser.add_argument("--out", type=Path, help="write the rows to this CSV file")
    parser.add_argument("--samples", type=int, default=9, help="interleaved samples of each implementation")
    given = parser.parse_args(arguments)
    unknown = [o for o in given.operations if o not in OPERATIONS]
    chosen = given.shapes.split(",") if given.shapes else sets if cuda.is_available() else ["small"]
    unknown += [s for s in chosen if s not in sets]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}")
    rows: list[Row] = []
    for name in given.operations or OPERATIONS:
        for case in OPERATIONS[name](chosen):
            rows += measure(case, samples=given.samples)
    show(rows)
    if not cuda.is_available():
        print("No GPU: these are the CPU references, not the kernels.")
        print(configs())
    if given.out:
        write(rows, given.out)
        print(f"wrote {given.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
