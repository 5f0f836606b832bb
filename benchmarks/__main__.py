"""`fastnet bench [OP ...]`: measure operations on this machine's GPU; without one, say what can be known."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fastnet import cuda, kernels

from . import harness, known, plots, rows, shapes
from .cases import DTYPES, PEERS, Builder, Case, Source
from .clocks import CudaClock, HostClock


def operations() -> dict[str, Builder]:
    """Every family that has benchmarks: ``bench_<op>.py`` beside this file, its function ``cases``."""
    names = sorted(m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)]) if m.name.startswith("bench_"))
    return {n.removeprefix("bench_"): importlib.import_module(f"{__package__}.{n}").cases for n in names}


def in_turn(streams: Sequence[Iterator[Case]]) -> Iterator[Case]:
    """One case of each operation after the other: a run that ends early has rows of all of them."""
    streams = list(streams)
    while streams:
        for stream in tuple(streams):
            try:
                yield next(stream)
            except StopIteration:
                streams.remove(stream)


def _parser(available: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fastnet bench",
        description="Measure operations against their peers on this machine's GPU. Without one, or with --device, say "
        "what can be known: configs, predicted time, counters, registers.",
    )
    parser.add_argument("operations", nargs="*", metavar="OP", help=f"which: {', '.join(available)}; default all")
    parser.add_argument(
        "--shapes",
        help=f"sets of problem sizes, by commas: {', '.join(shapes.SETS)}; default all on a GPU, else small",
    )
    parser.add_argument(
        "--dtypes", help=f"by commas: {', '.join(DTYPES)}; default bfloat16,float32, with --cpu float32"
    )
    parser.add_argument("--peers", help=f"by commas: {', '.join(PEERS)}; default all but triton, which searches first")
    parser.add_argument("--device", help="say what can be known for this GPU: H200, A100, RTX 4090, ...")
    parser.add_argument("--cpu", action="store_true", help="time what runs on the CPU: references, and the host's part")
    parser.add_argument("--samples", type=int, default=11, help="interleaved samples of each implementation")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start no further case after this long")
    parser.add_argument("--out", type=Path, help="write the rows to this CSV file")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="write plots (PNG) to this folder")
    return parser


def _list(
    parser: argparse.ArgumentParser, text: str | None, allowed: Sequence[str], default: Sequence[str]
) -> list[str]:
    chosen = text.split(",") if text else list(default)
    unknown = [c for c in chosen if c not in allowed]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; there is {', '.join(allowed)}")
    return chosen


def main(arguments: Sequence[str] | None = None) -> int:
    """Run benchmarks. 0; 1 if an implementation of ours gave a wrong result or none."""
    available = operations()
    parser = _parser(list(available))
    given = parser.parse_args(arguments)
    if given.samples < 1:
        parser.error(f"--samples is {given.samples}, expected at least 1")
    if given.cpu and given.device:
        parser.error("--cpu measures and --device predicts: give one of them")
    measuring = not given.device and (given.cpu or cuda.is_available())
    if given.cpu and cuda.is_available():
        parser.error("--cpu is for machines without a GPU: this one measures its GPU")
    names = _list(parser, ",".join(given.operations), list(available), list(available))
    chosen = _list(parser, given.shapes, shapes.SETS, shapes.SETS if cuda.is_available() else ["small"])
    dtypes = _list(parser, given.dtypes, DTYPES, ["float32"] if given.cpu else ["bfloat16", "float32"])
    wanted = _list(parser, given.peers, PEERS, [p for p in PEERS if p != "triton"])
    streams = [available[n](chosen, dtypes, tuple(wanted)) for n in names]
    if measuring:
        return _measure(given, in_turn(streams), dtypes)
    cases = [case for stream in streams for case in stream]
    if given.operations and any(case.host for case in cases):
        only = sorted({case.operation for case in cases if case.host})
        parser.error(f"{', '.join(only)}: can only be measured: give --cpu")
    return _predict(parser, given, [case for case in cases if not case.host])


def _predict(parser: argparse.ArgumentParser, given: argparse.Namespace, cases: list[Case]) -> int:
    why = kernels.available()["emulated"]
    if why is not True:
        parser.error(f"configs are not known without the emulated extension: {why}")
    if given.device and given.device not in known.devices():
        parser.error(f"--device is {given.device}; known are {', '.join(known.devices())}")
    device = given.device or "H200"
    found = [known.know(case, device) for case in cases]
    known.show(found)
    if not given.device:
        print(f"No GPU here: the figures are for {device} (--device chooses; --cpu times what runs on this CPU).")
    for note in known.notes(cases):
        print(note)
    _write(given, found, known.ceilings(device) if given.plots else {}, "predicted")
    return 0


def _measure(given: argparse.Namespace, cases: Iterator[Case], dtypes: list[str]) -> int:
    on_gpu = cuda.is_available()
    clock: Any = CudaClock() if on_gpu else HostClock()
    host, source, report = HostClock(), Source(), harness.Report()
    extension = None
    if on_gpu:
        from fastnet.kernels._runtime import extension_for

        extension = extension_for(source.zeros((1,)))
    began = time.monotonic()
    ceilings = harness.measure_ceilings(clock, source, dtypes) if on_gpu else {}
    left_out = 0
    for case in cases:
        if time.monotonic() - began > given.seconds:
            left_out += 1
            continue
        if not on_gpu:  # our kernels would be the emulator's, whose time says nothing
            case.implementations = [i for i in case.implementations if i.library != "fastnet"]
        try:
            harness.measure(
                case, host if case.host else clock, source, report, samples=given.samples, extension=extension
            )
        except MemoryError as error:  # CuPy's is one too
            report.notes.append(f"{case.operation} {case.shape} {case.dtype}: does not fit: {error}")
        if on_gpu:
            _free()
    report.rows.sort(key=lambda r: (r.operation, r.dtype))
    harness.finish(report.rows, ceilings)
    rows.show(report.rows)
    for key, value in ceilings.items():
        print(f"ceiling, measured: {key} {value:,.1f} {'GB/s' if key == 'copy' else 'TFLOP/s'}")
    if not on_gpu:
        print("No GPU: these are the CPU's references, not the kernels.")
    for name, why in getattr(clock, "failures", {}).items():
        print(f"not captured into a graph, timed call by call: {name}: {why}")
    for note in dict.fromkeys(report.notes):
        print(f"absent: {note}")
    if left_out:
        print(f"out of time (--seconds {given.seconds:g}): {left_out} cases were left out")
    for failure in report.failures:
        print(f"WRONG: {failure}", file=sys.stderr)
    _write(given, report.rows, ceilings, "measured")
    return 1 if report.failures else 0


def _free() -> None:
    """Give memory back before the next case: CuPy's pool and PyTorch's share the GPU."""
    cuda.empty_cache()
    if "torch" in sys.modules:
        import torch

        torch.cuda.empty_cache()
        torch._dynamo.reset()  # or the compiler, asked for ever more shapes of one function, gives up


def _write(given: argparse.Namespace, found: Sequence[Any], ceilings: dict[str, float], what: str) -> None:
    if given.out:
        rows.write(found, given.out)
        print(f"wrote {given.out}")
    if given.plots:
        drawn = plots.draw(found, ceilings, given.plots, what=what)
        print("\n".join(f"wrote {path}" for path in drawn) or "no plots: no row has operations and bytes, or a peer")


if __name__ == "__main__":
    raise SystemExit(main())
