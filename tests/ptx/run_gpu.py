"""Builds the micro-tests of csrc/ptx with the local nvcc and runs them on this machine's GPU.

    python tests/ptx/run_gpu.py [ARCHITECTURE]

The architecture is 90a by default. Prints one JSON row a case; exits with 1 if one disagrees.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
CSRC = HERE.parents[1] / "csrc"


def compile_file(nvcc: str, source: Path, architecture: str, folder: Path) -> Path:
    """One object file for `architecture` ("80", "90a")."""
    result = folder / f"{source.stem}_{architecture}.o"
    target = f"arch=compute_{architecture},code=sm_{architecture}"
    command = [nvcc, "-std=c++20", "-O1", f"-I{CSRC}", "-gencode", target]
    done = subprocess.run([*command, "-c", str(source), "-o", str(result)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{source.name} for sm_{architecture}:\n{done.stdout}{done.stderr}")
    return result


def run(architecture: str = "90a") -> list[dict]:
    """A row {"wrapper", "agrees", "detail"} for each case."""
    nvcc = shutil.which("nvcc")
    if not nvcc:
        raise RuntimeError("nvcc is not on PATH")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sources = sorted(HERE.glob("*.cu"))
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(lambda s: str(compile_file(nvcc, s, architecture, folder)), sources))
        program = folder / "ptx_tests"
        subprocess.run([nvcc, *objects, "-o", str(program)], check=True)
        lines = subprocess.run([str(program)], capture_output=True, text=True).stdout.splitlines()
    return [row(line) for line in lines]


def row(line: str) -> dict:
    """`wrong NAME: why` as a row."""
    result, _, rest = line.partition(" ")
    name, _, detail = rest.partition(": ")
    return {"wrapper": name, "agrees": result == "ok", "detail": detail}


if __name__ == "__main__":
    results = run(*sys.argv[1:2])
    for result in results:
        print(json.dumps(result))
    sys.exit(not results or not all(r["agrees"] for r in results))
