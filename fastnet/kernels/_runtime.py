"""Which kernels are in force, the extension that holds them, and the record of what ran.

The one place where the choice between handwritten kernels and reference is made: operations ask
``implementation(array)`` and call what it returns; layers and operations never choose themselves.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType, TracebackType
from typing import Any

import numpy as np

from fastnet.errors import InputError, KernelsUnavailableError

MODES = ("native", "reference", "emulated")


@dataclass(frozen=True)
class Choice:
    """What ``use`` chose: for NumPy arrays and for CuPy arrays."""

    cpu: str = "reference"
    cuda: str = "native"
    device: str = "H200"
    order: str = "forward"
    seed: int = 1
    copies: str = "early"


_extensions: dict[str, ModuleType | str] = {}
_choice = Choice()


def _import(name: str) -> ModuleType:
    """The extension as installed or, for the tests' sanitizer and counter builds, the file FASTNET_EMULATED names."""
    variant = os.environ.get("FASTNET_EMULATED")
    if name != "_emulated" or not variant:
        return importlib.import_module(f"fastnet.{name}")
    spec = importlib.util.spec_from_file_location("fastnet._emulated", variant)
    if spec is None or spec.loader is None:
        raise ImportError(f"FASTNET_EMULATED names {variant}, which is no extension module")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _extension(name: str) -> ModuleType | str:
    """The extension module, or the reason why there is none."""
    if name not in _extensions:
        try:
            _extensions[name] = _import(name)
        except ImportError as error:
            _extensions[name] = f"fastnet.{name} cannot be imported: {error}"
    return _extensions[name]


def extension_for(array: Any) -> ModuleType:
    """The extension whose kernels run on this kind of array: ``_emulated`` for NumPy, ``_cuda`` for CuPy."""
    found = _extension("_emulated" if isinstance(array, np.ndarray) else "_cuda")
    if isinstance(found, str):
        raise KernelsUnavailableError(found)
    return found


def available() -> dict[str, bool | str]:
    """For each mode True, or the reason why this machine lacks it.

    >>> available()["reference"]
    True
    """
    result: dict[str, bool | str] = {"reference": True}
    for mode, name in (("emulated", "_emulated"), ("native", "_cuda")):
        found = _extension(name)
        result[mode] = found if isinstance(found, str) else True
    if result["native"] is True:
        from fastnet import _device

        reason = _device.why_no_cuda()
        if reason:
            result["native"] = reason
    return result


class use:
    """Choose the kernels, from here on or, as a context manager, for a block.

    Args:
        mode: ``"native"`` (handwritten kernels for arrays on the GPU, the default there), ``"reference"`` (CuPy and
            NumPy code) or ``"emulated"`` (the handwritten kernels run on the CPU by the emulator).
        device: the GPU that the emulator poses as: dispatch chooses configs for it.
        order: which thread goes first under the emulator: ``"forward"``, ``"reverse"`` or ``"random"``.
        seed: of the random order.
        copies: ``"early"`` or ``"late"``: when asynchronous copies and products happen.

    Raises:
        ValueError: an unknown mode, device, order or copies.
        KernelsUnavailableError: this machine lacks those kernels; the message says why.

    >>> with use("reference"):
    ...     pass
    """

    def __init__(
        self, mode: str, *, device: str = "H200", order: str = "forward", seed: int = 1, copies: str = "early"
    ):
        global _choice
        if mode not in MODES:
            raise InputError(f"use: mode is {mode!r}, expected one of {', '.join(MODES)}")
        if order not in ("forward", "reverse", "random"):
            raise InputError(f"use: order is {order!r}, expected forward, reverse or random")
        if copies not in ("early", "late"):
            raise InputError(f"use: copies is {copies!r}, expected early or late")
        why = available()[mode]
        if why is not True:
            raise KernelsUnavailableError(f"use: {mode} kernels are not available: {why}")
        self._before = _choice
        if mode == "native":
            _choice = Choice()
        elif mode == "reference":
            _choice = Choice(cuda="reference")
        else:
            _choice = Choice(cpu="emulated", device=device, order=order, seed=seed, copies=copies)
        try:
            _apply(_choice)
        except Exception:
            _choice = self._before
            raise

    def __enter__(self) -> use:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        global _choice
        _choice = self._before
        _apply(_choice)


def _apply(choice: Choice) -> None:
    found = _extension("_emulated") if choice.cpu == "emulated" else None
    if isinstance(found, ModuleType):
        found.set_schedule(order=choice.order, seed=choice.seed, copies=choice.copies)
        found.set_device(choice.device)


wrap_implementation: Callable[[ModuleType], Any] | None = None  # set by fastnet.utils.cost while it counts


def implementation(array: Any) -> ModuleType:
    """``fastnet.kernels`` or ``fastnet.reference``: what runs operations on this array now."""
    from fastnet import kernels, reference

    if not isinstance(array, np.ndarray) and hasattr(array, "recorded_module"):  # a backward that is recorded
        return reference
    mode = _choice.cpu if isinstance(array, np.ndarray) else _choice.cuda
    module = reference if mode == "reference" else kernels
    return module if wrap_implementation is None else wrap_implementation(module)


@dataclass
class Launch:
    """One kernel that ran."""

    name: str
    shapes: tuple[tuple[int, ...], ...]
    dtype: str
    config: str

    def __str__(self) -> str:
        shapes = ", ".join("x".join(map(str, s)) or "scalar" for s in self.shapes)
        return f"{self.name} {shapes} {self.dtype} {self.config}".rstrip()


@dataclass
class Trace:
    """What ``trace()`` gives: the launches so far, in order."""

    launches: list[Launch] = field(default_factory=list)

    def __iter__(self) -> Iterator[Launch]:
        return iter(self.launches)

    def __len__(self) -> int:
        return len(self.launches)

    @property
    def names(self) -> list[str]:
        return [launch.name for launch in self.launches]


_traces: list[Trace] = []
_print_configs = os.environ.get("FASTNET_PRINT_CONFIG") == "1"  # what every launch chose, on stderr


@contextmanager
def trace() -> Iterator[Trace]:
    """List the handwritten kernels that run in a block, with their shapes and configs.

    >>> with trace() as kernels_run:
    ...     pass
    >>> len(kernels_run)
    0
    """
    t = Trace()
    _traces.append(t)
    try:
        yield t
    finally:
        _traces.remove(t)


def record(name: str, *arrays: Any, config: Any = "") -> None:
    """Note that a kernel runs. Called by every function of fastnet.kernels just before its launch."""
    if _traces or _print_configs:
        present = [a for a in arrays if a is not None]
        launch = Launch(name, tuple(tuple(a.shape) for a in present), str(present[0].dtype), str(config))
        for t in _traces:
            t.launches.append(launch)
        if _print_configs:
            print(launch, file=sys.stderr)


def from_environment(environ: Callable[[str], str | None] = os.environ.get) -> None:
    """Obey FASTNET_KERNELS, once, at import."""
    mode = environ("FASTNET_KERNELS")
    if mode:
        use(mode)
