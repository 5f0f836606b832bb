"""Everything a GPU can settle, in one command: `python -m benchmarks.gpu --out DIR`.

Builds for the local architecture with what is installed (no network), then runs, in this order because nothing later
means anything before the earlier agrees: the instruction micro-tests, the suite on the device, compute-sanitizer on a
subset, the benchmarks. Each part writes its log, and benchmarks their rows, to DIR; a part that fails does not stop the
others. Ends within nine minutes.

On a machine without a GPU, `--dry-run` runs the same parts as far as they go there: it proves that the command works.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PARTS = ("build", "ptx", "suite", "sanitizer", "benchmarks")
# Seconds a part may take; together within nine minutes.
LIMITS = {"build": 150, "ptx": 80, "suite": 120, "sanitizer": 70, "benchmarks": 110}


def _command(part: str, out: Path, dry_run: bool) -> list[str]:
    python = sys.executable
    if part == "build":
        if dry_run:
            return [python, "-c", "import fastnet; print(fastnet.kernels.available())"]
        return [
            python,
            "-m",
            "pip",
            "install",
            "--no-build-isolation",
            "--no-deps",
            "-C",
            "cmake.define.FASTNET_CUDA_ARCHITECTURES=native",
            str(REPOSITORY),
        ]
    if part == "ptx":
        return (
            [
                python,
                "-m",
                "pytest",
                "-q",
                "--collect-only",
                "-c",
                str(REPOSITORY / "pyproject.toml"),
                str(REPOSITORY / "tests" / "ptx"),
            ]
            if dry_run
            else [python, str(REPOSITORY / "tests" / "ptx" / "run_gpu.py")]
        )
    if part == "suite":
        chosen = ["-k", "column_sum"] if dry_run else []
        return [
            python,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-c",
            str(REPOSITORY / "pyproject.toml"),
            str(REPOSITORY / "tests" / "device"),
            *chosen,
        ]
    if part == "sanitizer":
        program = shutil.which("compute-sanitizer")
        run = [
            python,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-c",
            str(REPOSITORY / "pyproject.toml"),
            str(REPOSITORY / "tests" / "device"),
            "-k",
            "float32",
        ]
        return run if dry_run or program is None else [program, "--tool", "memcheck", "--error-exitcode", "9", *run]
    # The benchmarks of the package just installed; where the extensions lie in a checkout on the path, those beside it.
    # Asked in the process that runs them: this one may have the checkout before the package on its path.
    start = (
        "import importlib.util, runpy; "
        "name = 'fastnet.benchmarks' if importlib.util.find_spec('fastnet.benchmarks') else 'benchmarks'; "
        "runpy.run_module(name, run_name='__main__', alter_sys=True)"
    )
    return [python, "-c", start, *(["reduction", "--samples", "3"] if dry_run else []), "--out", str(out / "rows.csv")]


def run(parts: Sequence[str], out: Path, dry_run: bool) -> dict[str, dict]:
    """Run parts; what each gave: exit status (124: out of time), seconds, the log's file."""
    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    results = {}
    for part in parts:
        log = out / f"{part}.log"
        began = time.monotonic()
        with open(log, "w") as f:
            try:
                # Not from the checkout's folder: Python would import its sources, which have no extensions, in place of
                # the package that the first part installed.
                status = subprocess.run(
                    _command(part, out, dry_run),
                    cwd=out,
                    stdout=f,
                    stderr=subprocess.STDOUT,
                    timeout=LIMITS[part],
                    env={**os.environ, "PYTHONUNBUFFERED": "1"},
                ).returncode
            except subprocess.TimeoutExpired:
                status = 124
        results[part] = {"status": status, "seconds": round(time.monotonic() - began, 1), "log": log.name}
        print(
            f"{part:10}  {'ok' if status == 0 else f'exit {status}'}  {results[part]['seconds']} s  {log}", flush=True
        )
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    return results


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts; 0 if all succeeded."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description="Everything a GPU can settle, in one command."
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for logs and rows")
    parser.add_argument("--only", choices=PARTS, action="append", help="one part; may be given again")
    parser.add_argument("--dry-run", action="store_true", help="without a GPU: run each part as far as it goes")
    given = parser.parse_args(arguments)
    from fastnet import cuda

    if not cuda.is_available() and not given.dry_run:
        from fastnet._device import why_no_cuda

        parser.error(f"{why_no_cuda()}; --dry-run runs what goes without a GPU")
    results = run(given.only or PARTS, given.out, given.dry_run)
    return 0 if all(r["status"] == 0 for r in results.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
