"""Builds the sanitizer and counter variants of the emulated extension, and the programs of planted mistakes.

Builds are kept under build/variants of the checkout, so that a second run is incremental.
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
BUILD = REPOSITORY / "build" / "variants"
HERE = Path(__file__).parent
FLAGS = {
    "address": ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"],
    "thread": ["-g", "-O1"],
    "counters": ["-g", "-O2"],
}
KERNEL_FLAGS = {
    "address": [],
    "thread": ["-fsanitize=thread"],
    "counters": ["-fsanitize=thread", "-fno-tree-sra", "-fno-tree-vectorize"],
}
EMULATOR_FLAGS = {"address": [], "thread": ["-DEMU_TSAN"], "counters": ["-DEMU_COUNT"]}


def run(command: list, **kwargs) -> str:
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, **kwargs)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    return done.stdout


@cache
def extension(variant: str) -> Path:
    """The variant of fastnet._emulated, built by the project's own CMake files."""
    import pybind11

    folder = BUILD / variant
    ccache = [] if not _which("ccache") else ["-DCMAKE_CXX_COMPILER_LAUNCHER=ccache"]
    run(
        [
            "cmake",
            "-S",
            REPOSITORY,
            "-B",
            folder,
            "-G",
            "Ninja",
            "-DFASTNET_CUDA=off",
            f"-DFASTNET_SANITIZE={variant}",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            *ccache,
        ]
    )
    run(["cmake", "--build", folder])
    (built,) = folder.glob("csrc/emulator/_emulated*.so")
    return built


def cuda_include() -> Path:
    """Where the project's build found the CUDA headers."""
    extension("counters")
    for line in (BUILD / "counters" / "CMakeCache.txt").read_text().splitlines():
        if line.startswith("FASTNET_CUDA_INCLUDE:"):
            return Path(line.split("=", 1)[1])
    raise RuntimeError("CMakeCache.txt has no FASTNET_CUDA_INCLUDE")


@cache
def cases(variant: str) -> Path:
    """The program of planted mistakes (cases.cu), linked with the emulator."""
    folder = BUILD / f"cases-{variant}"
    folder.mkdir(parents=True, exist_ok=True)
    common = [
        "g++",
        "-std=c++20",
        "-ffp-contract=off",
        *FLAGS[variant],
        *EMULATOR_FLAGS[variant],
        "-isystem",
        cuda_include(),
        "-I",
        REPOSITORY / "csrc",
        "-Wno-attributes",
    ]
    kernels = folder / "cases.o"
    run([*common, *KERNEL_FLAGS[variant], "-x", "c++", "-c", HERE / "cases.cu", "-o", kernels])
    objects = [kernels]
    for source in sorted((REPOSITORY / "csrc" / "emulator").glob("*.cc")):
        if source.name != "counters.cc" or variant == "counters":
            objects.append(folder / f"{source.stem}.o")
            run([*common, "-c", source, "-o", objects[-1]])
    program = folder / "cases"
    # ThreadSanitizer is linked but sees the kernels alone: the emulator tells it what it must know.
    run([*common, *(["-fsanitize=thread"] if variant == "thread" else []), *objects, "-o", program])
    return program


def _which(program: str) -> str | None:
    import shutil

    return shutil.which(program)


def sanitizer_environment(variant: str) -> dict[str, str]:
    """What a Python process needs to load the sanitised extension: the sanitizer's runtime must come first."""
    libraries = {"address": ["libasan.so", "libubsan.so", "libstdc++.so.6"], "thread": ["libtsan.so"], "counters": []}
    found = [run(["g++", f"-print-file-name={name}"]).strip() for name in libraries[variant]]
    environment = dict(os.environ)
    environment.pop("LD_PRELOAD", None)
    if found:
        environment["LD_PRELOAD"] = ":".join(found)
    environment |= {
        "FASTNET_EMULATED": str(extension(variant)),
        "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent), *[p for p in sys.path if p]]),
        "OPENBLAS_NUM_THREADS": "1",
        # Python itself frees little at exit; UBSan's reports must name the line.
        "ASAN_OPTIONS": "detect_leaks=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "TSAN_OPTIONS": "halt_on_error=0 exitcode=66",
    }
    return environment


def run_python(variant: str, script: str, *arguments: str) -> subprocess.CompletedProcess:
    """A script of this folder under a variant. The real interpreter, since a shell shim cannot be preloaded."""
    return subprocess.run(
        [os.path.realpath(sys.executable), str(HERE / script), *arguments],
        capture_output=True,
        text=True,
        env=sanitizer_environment(variant),
        timeout=1200,
    )
