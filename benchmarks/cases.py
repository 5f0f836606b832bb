"""What is measured: a case is one problem, its implementations the same work by fastnet and by its peers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastnet import cuda
from fastnet.kernels._arrays import empty

DTYPES = ("float32", "float16", "bfloat16")
PEERS = ("reference", "cupy", "torch", "compile", "triton")


def dtype_of(name: str) -> np.dtype:
    """A NumPy dtype from its name, bfloat16 too."""
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


def load_torch() -> Any:
    """The module torch, or the reason why it cannot be imported."""
    try:
        import torch
    except ImportError as error:
        return str(error)
    return torch


def to_torch(x: Any) -> Any:
    """The same memory as a torch tensor. bfloat16 travels as integers: DLPack of NumPy has no word for it."""
    import torch

    if not hasattr(x, "dtype") or isinstance(x, np.generic):
        return x
    if x.dtype.name == "bfloat16":
        return torch.from_dlpack(x.view(np.int16)).view(torch.bfloat16)
    return torch.from_dlpack(x)


def from_torch(x: Any) -> Any:
    """The same memory as a NumPy or CuPy array."""
    import torch

    x = x.detach()
    xp: Any = np
    if x.is_cuda:
        import cupy as xp
    if x.dtype == torch.bfloat16:
        return xp.from_dlpack(x.view(torch.int16)).view(dtype_of("bfloat16"))
    return xp.from_dlpack(x)


class Source:
    """Where inputs come from: arrays of this machine's device, the same for the same seed.

    Values are N(0, 1): constants and zeros run faster on a GPU (less power) and prove nothing. They are drawn once,
    into a pool, and every array takes a run of it from a place of its own, so that gigabytes of inputs cost no minutes.
    """

    def __init__(self, seed: int = 0, pool: int | None = None):
        if cuda.is_available():
            import cupy

            self.xp: Any = cupy
        else:
            self.xp = np
        self._rng = np.random.default_rng(seed)
        # Primes: a pool that is a multiple of a row would fill an array with the same rows again and again.
        self._size = pool or (2**24 - 3 if self.xp is not np else 2**20 - 3)
        self._pools: dict[str, Any] = {}

    def normal(self, shape: tuple[int, ...], dtype: str = "float32", scale: float = 1.0) -> Any:
        """N(0, scale^2); scale a power of two, so that every dtype holds the same values."""
        key = f"{dtype} {scale}"
        if key not in self._pools:
            drawn = (scale * np.random.default_rng(1).standard_normal(self._size, np.float32)).astype(dtype_of(dtype))
            self._pools[key] = self.xp.asarray(drawn)
        pool, size = self._pools[key], math.prod(shape)
        out = empty(pool, (size,))  # aligned as a GPU's allocations are, on the CPU too
        start, done = int(self._rng.integers(self._size)), 0
        while done < size:
            part = min(size - done, self._size - start)
            out[done : done + part] = pool[start : start + part]
            start, done = 0, done + part
        return out.reshape(shape)

    def integers(self, high: int, shape: tuple[int, ...]) -> Any:
        """int64, uniform in [0, high)."""
        return self.xp.asarray(self._rng.integers(0, high, shape))

    def state(self) -> Any:
        """(2,) uint64: a generator's seed and offset."""
        return self.xp.asarray(np.array([1, 0], np.uint64))

    def zeros(self, shape: tuple[int, ...], dtype: str = "float32") -> Any:
        return self.xp.zeros(shape, dtype_of(dtype))


@dataclass(frozen=True)
class Implementation:
    """One way to do the work: ``run(*inputs)``. ``library`` says whose arrays it takes and whose capture records it."""

    name: str
    run: Callable[..., Any]
    library: str = "fastnet"  # fastnet, cupy, reference, torch, compile, triton or host
    # Random results differ between libraries: what holds for this one's, given inputs and outputs.
    holds: Callable[[tuple, list[Any]], bool] | None = None

    @property
    def is_torch(self) -> bool:
        return self.library in ("torch", "compile", "triton")


@dataclass
class Case:
    """One problem.

    ``absolute`` and ``relative`` bound how far two right implementations lie apart, element by element; where they come
    from stands beside each. ``written`` are the inputs that implementations update in place: the result is these.
    """

    operation: str
    shape: str
    dtype: str
    make: Callable[[Source], tuple]
    implementations: list[Implementation]  # ours first
    spec: Callable[..., Any] | None = None  # the definition, on arrays; None where what is timed is the host
    flops: float = 0.0
    bytes: float = 0.0  # of memory that any implementation must move: every operand and result once
    absolute: float = 0.0
    relative: float = 0.0
    ceiling: str = "copy"  # what bounds it: "copy" (bandwidth), "matmul", or "" where neither does
    written: tuple[int, ...] = ()
    host: bool = False  # what is measured is the time of the host, not of kernels
    config: Callable[[Any], Any] | None = None  # extension -> the config it chooses on the device it poses as
    estimate: Callable[[Any, str], dict[str, Any]] | None = None  # extension, device -> what the cost model says
    kernels: tuple[str, ...] = ()  # names of the device code that serves it, as the disassembler shows them
    counted: str = ""  # the function of fastnet.kernels whose counters stand for it
    blocks: Callable[[Any], int] | None = None  # config -> blocks, where the config alone says so
    notes: list[str] = field(default_factory=list)


# One rounding to nearest of a value: half a unit in the last place of 1.
EPSILON = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}


def peers(
    spec: Callable[..., Any] | None,
    theirs: Callable[..., Any] | None,
    wanted: tuple[str, ...],
    notes: list[str],
    *,
    in_cupy: Callable[..., Any] | None = None,
    triton: bool = False,
    holds: Callable[[tuple, list[Any]], bool] | None = None,
) -> list[Implementation]:
    """The peers of a case that are wanted and can be had; why others are absent goes to ``notes``.

    Args:
        spec: the function of ``fastnet.reference`` on arrays: NumPy's time on a CPU, CuPy's on a GPU.
        theirs: the same in PyTorch, on tensors.
        wanted: names from ``PEERS``.
        in_cupy: what CuPy itself has, in place of spec on a GPU.
        triton: whether the compiler may be asked for a Triton template, which it then searches for.
        holds: what holds of a random result.
    """
    found = []
    on_gpu = cuda.is_available()
    if spec is not None and "reference" in wanted and not (on_gpu and in_cupy):
        found.append(Implementation("CuPy reference" if on_gpu else "NumPy reference", spec, "reference"))
    if on_gpu and in_cupy is not None and "cupy" in wanted:
        found.append(Implementation("CuPy", in_cupy, "cupy"))
    torch = load_torch()
    if theirs is None or not {"torch", "compile", "triton"} & set(wanted):
        return found
    if isinstance(torch, str):
        notes.append(f"PyTorch: {torch}")
        return found
    if "torch" in wanted:
        found.append(Implementation("PyTorch", theirs, "torch", holds))
    if on_gpu and "compile" in wanted:
        found.append(Implementation("torch.compile", torch.compile(theirs, dynamic=False), "compile", holds))
    if on_gpu and triton and "triton" in wanted:
        options = {"max_autotune_gemm": True, "max_autotune_gemm_backends": "TRITON"}
        found.append(Implementation("Triton", torch.compile(theirs, dynamic=False, options=options), "triton", holds))
    return found


OURS = "fastnet"


def ours(run: Callable[..., Any]) -> list[Implementation]:
    """fastnet's kernels."""
    return [Implementation(OURS, run)]


Builder = Callable[[list[str], list[str], tuple[str, ...]], Iterator[Case]]
