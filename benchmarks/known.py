"""What can be known of a case without a GPU: the config that dispatch chooses for a device, what the cost model says of
it (blocks, waves, bytes, time), the emulator's counters, registers and spills from the disassembly."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnet import cuda, kernels

from . import counters, disassembly, rows
from .cases import Case, Source

MOST_BYTES_COUNTED = 1 << 21  # the emulator takes seconds for a megabyte


@dataclass
class Known:
    """One case on one device; nothing in it was measured. Times are the cost model's, whose constants are published
    figures and estimates: they rank configs, and claim nothing about speed."""

    operation: str
    shape: str
    dtype: str
    gpu: str
    commit: str
    date: str
    config: str
    blocks: int = 0
    waves: float = 0.0
    mbytes: float = 0.0  # of device memory that are moved, as the model expects
    predicted_us: float = 0.0
    bound: str = ""  # what takes the time
    tflops: float = 0.0  # at the predicted time
    gbytes_per_s: float = 0.0
    percent_of_peak: float = 0.0  # of the datasheet's bandwidth or operations, whichever bounds the case
    counters: str = ""  # transactions over the fewest possible, read/write
    registers: int = 0  # of a thread, the most of the kernel's instantiations for this device
    spilled: int = 0  # bytes of local memory of a thread
    flop_per_byte: float = 0.0
    implementation: str = "fastnet"


def _extension() -> Any:
    from fastnet.kernels._runtime import extension_for

    return extension_for(np.empty(0))


def properties(device: str) -> dict[str, Any]:
    """What is published of a device: {"major", "minor", "sm_count", "memory_bandwidth", "peaks", ...}."""
    return _extension().device_properties(device)


def devices() -> list[str]:
    """Names of the devices that can be posed as."""
    return list(_extension().known_devices())


def know(case: Case, device: str) -> Known:
    """What is known of a case on a device, by its published properties."""
    extension = _extension()
    given = properties(device)
    found = Known(case.operation, case.shape, case.dtype, device, rows.commit(), rows.today(), "")
    found.mbytes = round(case.bytes / 1e6, 3)
    found.flop_per_byte = round(case.flops / case.bytes, 3) if case.bytes else 0.0
    with kernels.use("emulated", device=device):
        if case.config is not None:
            chosen = case.config(extension)
            found.config = str(chosen)
            if case.blocks is not None:
                found.blocks = case.blocks(chosen)
        if case.estimate is not None:
            estimate = case.estimate(extension, device)
            found.blocks, found.waves = int(estimate["blocks"]), round(estimate["waves"], 3)
            found.mbytes = round(estimate["memory_bytes"] / 1e6, 3)
            found.predicted_us, found.bound = round(estimate["microseconds"], 3), estimate["bound"]
        elif (
            case.ceiling == "copy"
        ):  # a pass over memory, at the share of the bandwidth that copies are seen to reach, and a launch
            seconds = case.bytes / given["copy_bandwidth"] + given["launch_seconds"]
            found.predicted_us, found.bound = round(seconds * 1e6, 3), "memory"
    if found.predicted_us:
        found.tflops = round(case.flops / found.predicted_us / 1e6, 3)
        found.gbytes_per_s = round(case.bytes / found.predicted_us / 1e3, 2)
        peak = given["peaks"].get(case.dtype, 0.0) if case.ceiling == "matmul" else given["memory_bandwidth"]
        reached = found.tflops * 1e12 if case.ceiling == "matmul" else found.gbytes_per_s * 1e9
        found.percent_of_peak = round(100 * reached / peak, 1) if peak else 0.0
    found.counters = counters.readable(_counted(case, device) or counters.stored(case.counted, case.dtype))
    used = disassembly.usage()
    if not isinstance(used, str):
        built = {u.architecture for u in used}
        architecture = disassembly.architecture_of(given["major"], given["minor"], built)
        mine = disassembly.serving(used, architecture, case.kernels)
        found.registers = max((u.registers for u in mine), default=0)
        found.spilled = max((u.local for u in mine), default=0)
    return found


def _counted(case: Case, device: str) -> dict[str, float] | None:
    """What the emulator counts of the case itself, if it counts and the case is small."""
    mine = [i for i in case.implementations if i.library == "fastnet"]
    if case.bytes > MOST_BYTES_COUNTED or not mine or cuda.is_available():
        return None
    inputs = case.make(Source())
    return counters.counted(lambda: mine[0].run(*inputs), device)


def ceilings(device: str) -> dict[str, float]:
    """The datasheet's, in the form of the harness's measured ones."""
    given = properties(device)
    return {"copy": given["memory_bandwidth"] / 1e9, **{f"matmul {d}": p / 1e12 for d, p in given["peaks"].items()}}


def show(found: Sequence[Known]) -> None:
    """A table in the terminal."""
    columns = [
        *((h, "left") for h in ("operation", "shape", "dtype", "config")),
        *((h, "right") for h in ("blocks", "waves", "MB", "predicted us", "TFLOP/s", "GB/s", "of peak")),
        ("bound", "left"),
        ("counters", "left"),
        ("registers", "right"),
    ]
    lines = []
    for k in found:
        registers = f"{k.registers}{f', {k.spilled} B spilled' if k.spilled else ''}" if k.registers else ""
        lines.append(
            (
                k.operation,
                k.shape,
                k.dtype,
                k.config,
                f"{k.blocks:,}" if k.blocks else "",
                f"{k.waves:.2f}" if k.waves else "",
                f"{k.mbytes:,.1f}",
                f"{k.predicted_us:,.1f}" if k.predicted_us else "",
                f"{k.tflops:,.3g}" if k.tflops else "",
                f"{k.gbytes_per_s:,.4g}" if k.gbytes_per_s else "",
                f"{k.percent_of_peak:.0f} %" if k.percent_of_peak else "",
                k.bound,
                k.counters,
                registers,
            )
        )
    title = f"{found[0].gpu}: predicted from published figures, nothing here was measured" if found else ""
    rows.table(columns, lines, title)


def notes(cases: Iterable[Case]) -> list[str]:
    """What of it could not be known, and where the counters come from."""
    said = []
    if isinstance(why := disassembly.usage(), str):
        said.append(f"registers and spills: not known: {why}")
    without = sorted({c.counted for c in cases if c.counted and not counters.stored(c.counted, c.dtype)})
    if without:
        said.append(f"counters: none are stored for {', '.join(without)} at these dtypes")
    said.append(
        "counters: transactions over the fewest possible (read/write), of the golden aligned problem of each kernel"
        " unless a counters build is in force"
    )
    return said
