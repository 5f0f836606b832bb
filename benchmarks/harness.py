"""Measuring a case.

Implementations are timed interleaved in one process on the same inputs: A, B, A, B, ..., so that a machine that slows
down slows all of them. Inputs rotate over copies that together exceed twice the L2 cache, so that they come from
memory, as in a training step. What an implementation computes is compared before it is timed, and what the timed calls
wrote is compared again: a wrong result has no row.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .cases import OURS, Case, Implementation, Source, from_torch, to_torch
from .clocks import Clock, CudaClock, flat
from .rows import Row, commit, device_name, today


class WrongResultError(AssertionError):
    """An implementation's result is not its peer's."""


@dataclass
class Report:
    """What a run gave: rows, why peers were absent, and what was wrong with implementations that have no row."""

    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def _copy(inputs: tuple) -> tuple:
    def one(x: Any) -> Any:
        if isinstance(x, (list, tuple)):
            return type(x)(one(y) for y in x)
        return x.copy() if hasattr(x, "copy") else x

    return tuple(one(x) for x in inputs)


def _for(implementation: Implementation, inputs: tuple) -> tuple:
    """The same memory as the library takes it."""

    def one(x: Any) -> Any:
        if isinstance(x, (list, tuple)):
            return type(x)(one(y) for y in x)
        return to_torch(x)

    return tuple(one(x) for x in inputs) if implementation.is_torch else inputs


def _arrays(outputs: Any) -> list[Any]:
    return [from_torch(x) if hasattr(x, "detach") else x for x in flat(outputs)]


def compare(got: Sequence[Any], want: Sequence[Any], absolute: float, relative: float) -> None:
    """Raise WrongResultError unless |got - want| <= absolute + relative * |want|, element by element; NaN never is."""
    if len(got) != len(want):
        raise WrongResultError(f"{len(got)} results, expected {len(want)}")
    for number, (g, w) in enumerate(zip(got, want, strict=True)):
        where = f"result {number}: " if len(want) > 1 else ""
        if g.shape != w.shape:
            raise WrongResultError(f"{where}shape {tuple(g.shape)}, expected {tuple(w.shape)}")
        g, w = g.reshape(-1), w.reshape(-1)
        wide = np.float64 if w.dtype == np.float64 else np.float32
        for start in range(0, max(1, w.size), 1 << 26):  # in parts: the largest results have gigabytes
            a, b = g[start : start + (1 << 26)].astype(wide), w[start : start + (1 << 26)].astype(wide)
            bad = ~(abs(a - b) <= absolute + relative * abs(b))
            count = int(bad.sum())
            if count:
                i = int(bad.argmax())
                raise WrongResultError(
                    f"{where}{count} of {a.size} elements differ, the first at {start + i}: {float(a[i])!r}, expected "
                    f"{float(b[i])!r} within {absolute:.3g} + {relative:.3g} |x|"
                )


def _outputs(case: Case, implementation: Implementation, inputs: tuple) -> list[Any]:
    """What one call gives, on a copy of the inputs: results, or the inputs that it updates."""
    fresh = _copy(inputs)
    outputs = implementation.run(*_for(implementation, fresh))
    return _arrays([fresh[i] for i in case.written] if case.written else outputs)


def verify(case: Case, implementation: Implementation, inputs: tuple, expected: Sequence[Any], got: Any = None) -> None:
    """Raise WrongResultError unless the implementation's results are right."""
    outputs = _outputs(case, implementation, inputs) if got is None else _arrays(got)
    if implementation.holds is not None:
        if not implementation.holds(inputs, outputs):
            raise WrongResultError("the result is not what it should be")
        return
    compare(outputs, expected, case.absolute, case.relative)


def judge(case: Case) -> Implementation:
    """Whose result the others are compared with: PyTorch's where it is there and its result is the same by definition,
    else the reference's."""
    for i in case.implementations:
        if i.library == "torch" and i.holds is None:
            return i
    assert case.spec is not None
    return Implementation("reference", case.spec, "reference")


def measure(
    case: Case, clock: Clock, source: Source, report: Report, *, samples: int = 11, extension: Any = None
) -> list[Row]:
    """Verify every implementation of a case, then time those that are right, interleaved. Rows go to ``report`` too."""
    label = f"{case.operation} {case.shape} {case.dtype}"
    for note in case.notes:
        report.notes.append(f"{label}: {note}")
    inputs = [case.make(source) for _ in range(1 if case.host else clock.copies(case.bytes))]
    ready: list[tuple[Implementation, Any]] = []
    first = _copy(inputs[0]) if case.written else inputs[0]  # timing changes what is updated in place
    right = [] if case.host else _outputs(case, judge(case), first)
    for implementation in case.implementations:
        who = f"{label}, {implementation.name}"
        try:
            if not case.host:
                verify(case, implementation, first, right)
            prepared = clock.prepare(implementation, [_for(implementation, x) for x in inputs])
            if not case.host and not case.written:
                for number, outputs in prepared.results():
                    if number == 0:
                        verify(case, implementation, first, right, outputs)
        except WrongResultError as error:
            report.failures.append(f"{who}: {error}")
        except Exception as error:  # of any library: what it lacks is said, and is a failure where it is ours
            kept = report.failures if implementation.name == OURS else report.notes
            kept.append(f"{who}: {type(error).__name__}: {error}".splitlines()[0])
        else:
            ready.append((implementation, prepared))
    times: dict[str, list[float]] = {i.name: [] for i, _ in ready}
    for _ in range(samples):
        for implementation, prepared in ready:
            times[implementation.name].append(prepared.sample())
    rows = [_row(case, i, p, times[i.name], clock, extension) for i, p in ready]
    _ratios(rows)
    report.rows += rows
    return rows


def _row(
    case: Case, implementation: Implementation, prepared: Any, times: Sequence[float], clock: Clock, extension: Any
) -> Row:
    median = statistics.median(times)
    low, _, high = statistics.quantiles(times, n=4) if len(times) > 1 else (median, median, median)
    row = Row(
        case.operation,
        case.shape,
        case.dtype,
        implementation.name,
        device_name(),
        commit(),
        today(),
        round(median, 3),
        round((high - low) / median, 4),
        tflops=round(case.flops / median / 1e6, 4),
        gbytes_per_s=round(case.bytes / median / 1e3, 3),
        ceiling=case.ceiling,
        flop_per_byte=round(case.flops / case.bytes, 3) if case.bytes else 0.0,
        timing=prepared.mode,
    )
    if isinstance(clock, CudaClock):
        row.l2 = "cold" if clock.is_cold(case.bytes) else "warm"
    if implementation.library == "fastnet" and extension is not None:
        if case.config is not None:
            row.config = str(case.config(extension))
        if case.estimate is not None:
            row.predicted_us = round(float(case.estimate(extension, "").get("microseconds", 0.0)), 3)
    return row


def _ratios(rows: Sequence[Row]) -> None:
    """Of every implementation to the fastest other that is not ours."""
    for row in rows:
        others = [r for r in rows if r is not row and r.implementation != OURS]
        if others:
            best = min(others, key=lambda r: r.median_us)
            row.ratio_to_best_peer, row.best_peer = round(best.median_us / row.median_us, 4), best.implementation


def finish(rows: Iterable[Row], ceilings: dict[str, float]) -> None:
    """Each row's share of the ceiling that bounds it.

    Args:
        ceilings: GB/s by ``"copy"``, TFLOP/s by ``"matmul <dtype>"``, as measured in this run. A peer's product that
            was faster than the one measured for the ceiling is the ceiling.
    """
    rows = list(rows)
    best = dict(ceilings)
    for row in rows:
        key = f"matmul {row.dtype}"
        if row.ceiling == "matmul" and row.implementation != OURS and key in best:
            best[key] = max(best[key], row.tflops)
    for row in rows:
        key = f"matmul {row.dtype}" if row.ceiling == "matmul" else row.ceiling
        value = row.tflops if row.ceiling == "matmul" else row.gbytes_per_s
        if best.get(key):
            row.percent_of_ceiling = round(100 * value / best[key], 2)


def measure_ceilings(clock: CudaClock, source: Source, dtypes: Sequence[str], samples: int = 11) -> dict[str, float]:
    """What this GPU reaches now: GB/s of a copy (bytes read + written), TFLOP/s of the vendor's best square product."""
    import cupy

    from . import bench_matmul
    from .shapes import Product

    def best(calls: dict[str, Callable[[], None]], work: float) -> float:
        found = 0.0
        for call in calls.values():
            call()
            found = max(found, work / statistics.median(clock.elapsed(call) for _ in range(samples)))
        return found

    size = 1 << 29
    pair = cupy.zeros((2, size), np.uint8)
    result = {"copy": best({"memcpy": lambda: cupy.copyto(pair[1], pair[0])}, 2 * size) / 1e9}
    for dtype in dtypes:
        for side in (4096, 8192):
            case = bench_matmul.product_case(Product(side, side, side, "NT"), dtype, ("cupy", "torch"))
            inputs = case.make(source)
            calls = {}
            for i in case.implementations:
                if i.library in ("cupy", "torch"):
                    given = _for(i, inputs)
                    try:
                        i.run(*given)
                    except Exception:  # CuPy has no product of this dtype; the rows' notes say so
                        continue
                    calls[i.name] = lambda run=i.run, given=given: run(*given)
            key = f"matmul {dtype}"
            result[key] = max(result.get(key, 0.0), best(calls, case.flops) / 1e12)
    return result
