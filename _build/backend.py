"""The build backend: scikit-build-core, which is given nvcc from wheels on a machine that has no CUDA toolkit.

The five wheels (about 104 MB) hold a whole compiler. They are asked for only where no toolkit is found, so that a machine
with one builds with its own. FASTNET_TOOLKIT=wheels ignores a toolkit that is there; FASTNET_TOOLKIT=none builds without
nvcc (the emulated kernels and the reference).
"""

from __future__ import annotations

import os
import platform
import shutil
from typing import Any

from scikit_build_core import build as backend
from scikit_build_core.build import *  # noqa: F403  (every hook that is not wrapped below)

# All five pinned: nvcc's own requirements are not, and parts of different releases do not fit together. 13.0 because
# drivers of the 580 series run what it builds.
COMPILER_WHEELS = [
    "nvidia-cuda-nvcc==13.0.88",
    "nvidia-cuda-crt==13.0.88",
    "nvidia-nvvm==13.0.88",
    "nvidia-cuda-runtime==13.0.96",
    "nvidia-cuda-cccl==13.0.85",
]
HEADER_WHEELS = [w for w in COMPILER_WHEELS if "nvcc" not in w and "nvvm" not in w]


def toolkit_present() -> bool:
    """Whether CMake will find an nvcc without the wheels (cmake/FindCudaCompiler.cmake looks in the same places)."""
    variables = ("CUDACXX", "CUDAToolkit_ROOT", "CUDA_PATH", "CUDA_HOME")
    return (
        any(os.environ.get(v) for v in variables)
        or shutil.which("nvcc") is not None
        or os.path.exists("/usr/local/cuda/bin/nvcc")
    )


def compiler_requirements() -> list[str]:
    wanted = os.environ.get("FASTNET_TOOLKIT", "auto")
    if wanted not in ("auto", "wheels", "none"):
        raise ValueError(f"FASTNET_TOOLKIT is {wanted!r}, expected auto, wheels or none")
    if platform.system() not in ("Linux", "Windows"):
        return []                        # NVIDIA publishes no wheels there: the reference alone
    if wanted == "none":
        return HEADER_WHEELS
    if platform.machine() not in ("x86_64", "AMD64", "aarch64"):
        return []
    return [] if wanted == "auto" and toolkit_present() else COMPILER_WHEELS


def get_requires_for_build_wheel(config_settings: dict[str, Any] | None = None) -> list[str]:
    return [*backend.get_requires_for_build_wheel(config_settings), *compiler_requirements()]


def get_requires_for_build_editable(config_settings: dict[str, Any] | None = None) -> list[str]:
    return [*backend.get_requires_for_build_editable(config_settings), *compiler_requirements()]
