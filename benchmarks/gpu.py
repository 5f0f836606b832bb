"""Everything a GPU can settle, in one command: `python -m benchmarks.gpu --out DIR`.

Builds for the local architecture with what is installed (no network), then runs, in this order because nothing later
means anything before the earlier agrees: the instruction micro-tests, the suite on the device, compute-sanitizer on a
subset, the benchmarks. Each part writes its log, and benchmarks their rows and plots, to DIR; a part that fails does
not stop the others. Ends within nine minutes: a part that needs less leaves its time to those after it.

On a machine without a GPU, `--dry-run` runs the same parts as far as they go there: it proves that the command works.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
SECONDS = 530.0  # of all parts together
# What each part may take at least, whatever came before it; the last ones' share is what is left.
LIMITS = {"build": 180.0, "ptx": 70.0, "suite": 90.0, "sanitizer": 60.0, "benchmarks": 90.0, "compiled": 40.0}
PARTS = tuple(LIMITS)
WITHOUT_CHECKOUT = ("benchmarks", "compiled")  # the other parts need what an installed package does not carry
SANITIZER = ("memcheck", "racecheck", "synccheck", "initcheck")


def _pytest(*arguments: str) -> list[str]:
    options = ["-q", "-p", "no:cacheprovider", "-c", str(REPOSITORY / "pyproject.toml")]
    return [sys.executable, "-m", "pytest", *options, *arguments]


def _bench(out: Path, name: str, seconds: float, *arguments: str) -> list[str]:
    # The benchmarks of the package just installed; where the extensions lie in a checkout on the path, those beside it.
    # Asked in the process that runs them: this one may have the checkout before the package on its path.
    start = (
        "import importlib.util, runpy; "
        "name = 'fastnet.benchmarks' if importlib.util.find_spec('fastnet.benchmarks') else 'benchmarks'; "
        "runpy.run_module(name, run_name='__main__', alter_sys=True)"
    )
    files = ["--out", str(out / f"{name}.csv"), "--plots", str(out / name)]
    return [sys.executable, "-c", start, *arguments, "--seconds", f"{max(1.0, seconds - 15):.0f}", *files]


def commands(part: str, out: Path, dry_run: bool, seconds: float) -> list[list[str]]:
    """What a part runs, one after the other.

    Args:
        seconds: how long the part may take: benchmarks stop starting new cases in time.
    """
    device, instructions = str(REPOSITORY / "tests" / "device"), REPOSITORY / "tests" / "ptx"
    if part == "build":
        if dry_run:
            return [[sys.executable, "-c", "import fastnet; print(fastnet.kernels.available())"]]
        architecture = ["-C", "cmake.define.FASTNET_CUDA_ARCHITECTURES=native"]
        options = ["--no-build-isolation", "--no-deps", *architecture]
        return [[sys.executable, "-m", "pip", "install", *options, str(REPOSITORY)]]
    if part == "ptx":
        return (
            [_pytest("--collect-only", str(instructions))]
            if dry_run
            else [[sys.executable, str(instructions / "run_gpu.py")]]
        )
    if part == "suite":
        return [_pytest(device, *(["-k", "column_sum"] if dry_run else []))]
    if part == "sanitizer":
        subset = _pytest(device, "-k", "float32 and (column_sum or matmul or softmax)")
        if dry_run:
            return [subset]
        # Where it is not installed, the name is not found and the part fails: a run without it would prove nothing.
        program = shutil.which("compute-sanitizer") or "compute-sanitizer"
        return [[program, "--tool", tool, "--error-exitcode", "9", *subset] for tool in SANITIZER]
    if part == "benchmarks":
        if dry_run:
            return [_bench(out, "rows", seconds, "reduction", "--cpu", "--samples", "3")]
        return [_bench(out, "rows", seconds, "--peers", "reference,cupy,torch")]
    # Compilation costs seconds a shape, and a plain product compiles to the library's call: passes over memory only.
    passes = ["dropout", "norm", "pointwise", "reduction", "softmax"]
    if dry_run:
        return [_bench(out, "compiled", seconds, "reduction", "--cpu", "--samples", "3", "--peers", "torch,compile")]
    return [_bench(out, "compiled", seconds, *passes, "--shapes", "large", "--peers", "torch,compile")]


def _environment() -> dict[str, str]:
    """What commands run in: where the extensions lie in the checkout, built in place, its package comes first."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    if list((REPOSITORY / "fastnet").glob("_*.so")):
        environment["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY), *filter(None, [environment.get("PYTHONPATH")])])
    return environment


def execute(command: Sequence[str], out: Path, log: Path, seconds: float) -> int:
    """Run a command with its output added to a log; its exit status, 124 out of time, 127 not found."""
    with open(log, "a") as f:
        print("$", *command, file=f, flush=True)
        try:
            # Not from the checkout's folder: Python would import its sources, which have no extensions, in place of the
            # package that the first part installed. In a session of its own, so that all it started ends with it.
            process = subprocess.Popen(
                command,
                cwd=out,
                stdout=f,
                stderr=subprocess.STDOUT,
                env=_environment(),
                start_new_session=True,
            )
        except FileNotFoundError as error:
            print(error, file=f)
            return 127
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            print(f"out of time: {seconds:.0f} s", file=f)
            return 124


def run(
    parts: Sequence[str],
    out: Path,
    dry_run: bool,
    *,
    seconds: float = SECONDS,
    execute: Callable[[Sequence[str], Path, Path, float], int] = execute,
    now: Callable[[], float] = time.monotonic,
) -> dict[str, dict]:
    """Run parts; what each gave: the first exit status that is not 0, seconds, the log's file."""
    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    results = {}
    start = now()
    for number, part in enumerate(parts):
        log = out / f"{part}.log"
        log.unlink(missing_ok=True)
        began = now()
        # Its own share, and what those before it left.
        later = sum(LIMITS[p] for p in parts[number + 1 :])
        limit = max(1.0, min(seconds - (began - start) - later, seconds - (began - start)))
        chosen = commands(part, out, dry_run, limit)
        statuses = []
        for i, command in enumerate(chosen):
            left = limit - (now() - began)
            statuses.append(execute(command, out, log, max(1.0, left / (len(chosen) - i))))
        status = next((s for s in statuses if s), 0)
        results[part] = {"status": status, "seconds": round(now() - began, 1), "log": log.name}
        said = "ok" if status == 0 else {124: "out of time", 127: "not found"}.get(status, f"exit {status}")
        print(f"{part:10}  {said}  {results[part]['seconds']} s  {log}", flush=True)
        (out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    return results


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts; 0 if all succeeded."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description="Everything a GPU can settle, in one command."
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for logs, rows and plots")
    parser.add_argument("--only", choices=PARTS, action="append", help="one part; may be given again")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of all parts together")
    parser.add_argument("--dry-run", action="store_true", help="without a GPU: run each part as far as it goes")
    given = parser.parse_args(arguments)
    from fastnet import cuda

    if not cuda.is_available() and not given.dry_run:
        from fastnet._device import why_no_cuda

        parser.error(f"{why_no_cuda()}; --dry-run runs what goes without a GPU")
    there = PARTS if (REPOSITORY / "tests").is_dir() else WITHOUT_CHECKOUT
    if missing := [p for p in given.only or () if p not in there]:
        parser.error(f"{', '.join(missing)}: only a checkout has the sources and tests; installed: {', '.join(there)}")
    if there != PARTS:
        print(f"the installed package has {', '.join(there)}; the other parts run in a checkout", flush=True)
    chosen = [p for p in there if p in (given.only or there)]
    results = run(chosen, given.out, given.dry_run, seconds=given.seconds)
    return 0 if all(r["status"] == 0 for r in results.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
