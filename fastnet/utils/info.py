"""What this machine and this installation have: ``fastnet info``."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import sys
from typing import Any

import fastnet
from fastnet import kernels
from fastnet._device import why_no_cuda

# Which kernel families have been confirmed on which hardware: the rows under benchmarks/results say by which run.
CONFIRMED: dict[str, str] = {}


def _version(module: str) -> str:
    try:
        return importlib.import_module(module).__version__
    except ImportError:
        return "not installed"


def _build() -> Any:
    try:
        return importlib.import_module("fastnet._build_info")
    except ImportError:
        return None


def _gpu() -> str:
    why = why_no_cuda()
    if why:
        return f"none: {why}"
    import cupy

    runtime = cupy.cuda.runtime
    properties = runtime.getDeviceProperties(0)
    return (
        f"{properties['name'].decode()}, compute capability {properties['major']}.{properties['minor']}, "
        f"{properties['multiProcessorCount']} multiprocessors, {properties['totalGlobalMem'] / 2**30:.0f} GiB, "
        f"driver for CUDA {runtime.driverGetVersion() // 1000}.{runtime.driverGetVersion() % 1000 // 10}"
    )


def facts() -> dict[str, str]:
    """Everything ``fastnet info`` tells, by heading."""
    build = _build()
    found = {
        "fastnet": fastnet.__version__,
        "Python": f"{platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
        "NumPy": _version("numpy"),
        "CuPy": _version("cupy") if "cupy" in sys.modules or importlib.util.find_spec("cupy") else "not installed",
        "GPU": _gpu(),
    }
    for mode, why in kernels.available().items():
        found[f"{mode} kernels"] = "available" if why is True else f"absent: {why}"
    if build is None:
        found["built"] = "by hand: no record of the build"
    else:
        found["built"] = (
            f"nvcc {build.nvcc} for {build.architectures}" if build.nvcc else f"without GPU code: {build.without_cuda}"
        )
        if build.without_emulated:
            found["built"] += f"; without emulated kernels: {build.without_emulated}"
    found["confirmed on hardware"] = (
        ", ".join(f"{family} on {gpu}" for family, gpu in CONFIRMED.items()) or "no kernel family yet"
    )
    return found


def report() -> str:
    """The facts as lines of text."""
    found = facts()
    width = max(map(len, found))
    return "\n".join(f"{heading:<{width}}  {text}" for heading, text in found.items())
