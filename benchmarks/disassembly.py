"""Registers and local memory of every kernel in ``fastnet._cuda``, read from the file: no GPU is needed, but
``cuobjdump`` (of the CUDA toolkit, or the package nvidia-cuda-cuobjdump) is."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Usage:
    """What one instantiation of a kernel needs: ``local`` are the bytes of stack and local memory of a thread; in these
    kernels, which have no local arrays, they are spills."""

    kernel: str  # its function's name
    symbol: str
    architecture: str  # sm_80, sm_90a, ...
    registers: int
    local: int


def find_tool() -> Path | None:
    """cuobjdump: on PATH, or where the package puts it."""
    found = shutil.which("cuobjdump")
    if found:
        return Path(found)
    spec = importlib.util.find_spec("nvidia")
    for root in spec.submodule_search_locations or [] if spec else []:
        for path in Path(root).glob("cu*/bin/cuobjdump"):
            return path
    return None


def find_extension() -> Path | None:
    """The file of fastnet._cuda."""
    spec = importlib.util.find_spec("fastnet._cuda")
    return Path(spec.origin) if spec and spec.origin else None


def kernel_name(symbol: str) -> str:
    """The function's own name in a mangled one: the last of its nested names.

    >>> kernel_name("_ZN12_GLOBAL__N_113matmul_kernelIfLi1EEEvT_")
    'matmul_kernel'
    """
    names, at = [], 3 if symbol.startswith("_ZN") else 2 if symbol.startswith("_Z") else len(symbol)
    while length := re.match(r"\d+", symbol[at:]):
        start = at + length.end()
        at = start + int(length.group())
        names.append(symbol[start:at])
    return names[-1] if names else symbol


def parse(text: str) -> list[Usage]:
    """The output of ``cuobjdump -res-usage``."""
    found, architecture, symbol = [], "", ""
    for line in text.splitlines():
        if m := re.match(r"\s*arch = (\S+)", line):
            architecture = m.group(1)
        elif m := re.match(r"\s*Function (\S+?):?\s*$", line):
            symbol = m.group(1)
        elif symbol and (m := re.search(r"REG:(\d+)\s+STACK:(\d+).*?LOCAL:(\d+)", line)):
            registers, stack, local = map(int, m.groups())
            found.append(Usage(kernel_name(symbol), symbol, architecture, registers, stack + local))
            symbol = ""
    return found


@cache
def usage() -> list[Usage] | str:
    """Every kernel's, or the reason why they are not known."""
    tool, extension = find_tool(), find_extension()
    if extension is None:
        return "fastnet._cuda is not built here"
    if tool is None:
        return "cuobjdump is not installed: pip install nvidia-cuda-cuobjdump"
    done = subprocess.run([str(tool), "-res-usage", str(extension)], capture_output=True, text=True)
    if done.returncode:
        return f"cuobjdump failed: {(done.stderr or done.stdout).strip().splitlines()[-1]}"
    return parse(done.stdout)


def serving(found: Iterable[Usage], architecture: str, prefixes: Iterable[str]) -> list[Usage]:
    """The instantiations for one architecture of kernels whose names start so."""
    prefixes = tuple(prefixes)
    return [
        u for u in found if u.architecture.rstrip("a") == architecture.rstrip("a") and u.kernel.startswith(prefixes)
    ]


def architecture_of(major: int, minor: int, built: Iterable[str]) -> str:
    """Which of the architectures that were built for a device runs: the newest of its generation that it can run."""
    numbers = {a: int(re.sub(r"\D", "", a)) for a in built}
    mine = [a for a, n in numbers.items() if n // 10 == major and n % 10 <= minor]
    return max(mine, key=lambda a: (numbers[a], a.endswith("a")), default="")


def summary(found: Iterable[Usage], nbytes: int) -> str:
    """How many instantiations of each kernel there are for each architecture, their registers and local memory, and the
    size of the binary, as a table."""
    found = list(found)
    built = sorted({u.architecture for u in found}, key=lambda a: int(re.sub(r"\D", "", a)))
    lines = [f"{'kernel':34}{''.join(f'{a:>9}' for a in built)}{'registers':>11}{'local':>7}"]
    for kernel in sorted({u.kernel for u in found}):
        mine = [u for u in found if u.kernel == kernel]
        counts = "".join(f"{sum(u.architecture == a for u in mine):9}" for a in built)
        lines.append(f"{kernel:34}{counts}{max(u.registers for u in mine):11}{max(u.local for u in mine):7}")
    counts = "".join(f"{sum(u.architecture == a for u in found):9}" for a in built)
    return "\n".join([*lines, f"{'all':34}{counts}", f"{len(found)} instantiations, {nbytes / 2**20:.1f} MiB"])


if __name__ == "__main__":
    known, built = usage(), find_extension()
    print(known if isinstance(known, str) or built is None else summary(known, built.stat().st_size))
