"""Builds the planted kernels with the emulator into a shared library that ctypes loads."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
CSRC = HERE.parents[1] / "csrc"
ORDERS = {"forward": 0, "reverse": 1, "random": 2}
OUTCOMES = ["right", "wrong", "error", "signal handling changed", "no such case"]


def cuda_include() -> Path | None:
    """The folder with cuda_bf16.h: of a toolkit or of the compiler wheels, or None."""
    variables = ("CUDAToolkit_ROOT", "CUDA_PATH", "CUDA_HOME")
    folders = [Path(os.environ[v]) / "include" for v in variables if v in os.environ]
    nvcc = shutil.which("nvcc")
    if nvcc:
        folders.append(Path(nvcc).resolve().parents[1] / "include")
    folders.append(Path("/usr/local/cuda/include"))
    if importlib.util.find_spec("nvidia"):
        wheels = importlib.util.find_spec("nvidia.cu13")
        folders += [Path(p) / "include" for p in (wheels.submodule_search_locations or [] if wheels else [])]
    return next((f for f in folders if (f / "cuda_bf16.h").exists() and (f / "cuda_runtime.h").exists()), None)


def build(compiler: str, flags: list[str], include: Path, folder: Path) -> Path:
    """Compiles what the tests of the emulator's core need of it (no emulated instructions) and the planted kernels."""
    library = folder / "planted.so"
    sources = [
        CSRC / "emulator" / f"{name}.cc"
        for name in ("scheduler", "launch", "rendezvous", "faults", "shared_memory", "device")
    ]
    sources += [*sorted(HERE.glob("*.cc")), *sorted(HERE.glob("*.cu"))]
    common = [compiler, "-std=c++20", "-O1", "-fPIC", "-ffp-contract=off", "-DFASTNET_EMULATED", *flags]
    common += ["-Wall", "-Wextra", "-Werror", "-Wno-attributes", "-Wno-unknown-pragmas", "-Wno-infinite-recursion"]
    common += [f"-I{CSRC}", f"-I{HERE}", "-isystem", str(include)]

    def compiled(source: Path) -> str:
        result = folder / f"{source.stem}.o"
        run([*common, "-x", "c++", "-c", str(source), "-o", str(result)])
        return str(result)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        run([compiler, "-shared", "-o", str(library), *pool.map(compiled, sources)])
    return library


def run(command: list[str]) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout[-8000:]}")


class Planted:
    """The library: ``run(name)`` gives (outcome, message)."""

    def __init__(self, library: Path):
        self.path = library
        self._library = ctypes.CDLL(str(library))
        self._library.planted_run.argtypes = [
            ctypes.c_char_p, ctypes.c_int, ctypes.c_int, ctypes.c_uint, ctypes.c_int, ctypes.c_double, ctypes.c_char_p,
            ctypes.c_size_t,
        ]  # fmt: skip

    def run(
        self, name: str, *, planted: bool = False, order: str = "forward", seed: int = 1, copies: str = "early",
        watchdog: float = 20.0,
    ) -> tuple[str, str]:  # fmt: skip
        message = ctypes.create_string_buffer(4096)
        outcome = self._library.planted_run(
            name.encode(), planted, ORDERS[order], seed, copies == "late", watchdog, message, len(message)
        )
        return OUTCOMES[outcome], message.value.decode()

    def crash(self) -> None:
        """Ends the process, by a fault that is not a kernel's."""
        self._library.planted_crash()
