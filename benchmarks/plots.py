"""Plots of rows: the roofline, and the ratio to the best peer by shape."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # told apart in every colour vision
MARKERS = "osD^vP"


def _axes(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def roofline(rows: Sequence[Any], ceilings: dict[str, float], path: Path, *, what: str = "measured") -> bool:
    """Each row at its operations per byte and its TFLOP/s, under the roofs: bandwidth, and the best product of each
    dtype. False, and no file, where no row has both.

    Args:
        rows: with ``flop_per_byte``, ``tflops``, ``implementation``, ``dtype``, ``gpu``.
        ceilings: GB/s by ``"copy"``, TFLOP/s by ``"matmul <dtype>"``.
    """
    rows = [r for r in rows if r.flop_per_byte > 0 and r.tflops > 0]
    if not rows:
        return False
    figure, axes = _axes(9, 6)
    low, high = min(r.flop_per_byte for r in rows) / 2, max(r.flop_per_byte for r in rows) * 2
    slope = ceilings.get("copy", 0.0) / 1e3  # TFLOP/s at one operation a byte
    for i, dtype in enumerate(sorted({r.dtype for r in rows})):
        roof = ceilings.get(f"matmul {dtype}", 0.0)
        if roof:
            corner = max(low, min(high, roof / slope)) if slope else low
            points = (
                [(low, low * slope), (corner, corner * slope), (high, roof)] if slope else [(low, roof), (high, roof)]
            )
            label = f"roof, {dtype}: {roof:,.0f} TFLOP/s" + (f", {slope:,.2f} TB/s" if slope else "")
            style = ("-", "--", ":")[i % 3]
            axes.plot(*zip(*points, strict=True), color="0.35", linestyle=style, linewidth=1.2, label=label)
    kinds = list(dict.fromkeys((r.implementation, r.dtype) for r in rows))
    names = list(dict.fromkeys(n for n, _ in kinds))
    dtypes = sorted({d for _, d in kinds})
    for name, dtype in kinds:
        mine = [r for r in rows if (r.implementation, r.dtype) == (name, dtype)]
        axes.scatter(
            [r.flop_per_byte for r in mine],
            [r.tflops for r in mine],
            s=26,
            alpha=0.75,
            linewidths=0,
            color=COLOURS[(names.index(name) if len(names) > 1 else dtypes.index(dtype)) % len(COLOURS)],
            marker=MARKERS[dtypes.index(dtype) % len(MARKERS)],
            label=f"{name}, {dtype}",
        )
    axes.set(
        xscale="log",
        yscale="log",
        xlim=(low, high),
        ylim=(min(r.tflops for r in rows) / 3, None),
        xlabel="arithmetic intensity (FLOP per byte of operands and results)",
        ylabel="throughput (TFLOP/s)",
        title=f"Roofline, {what} on {rows[0].gpu}",
    )
    axes.grid(True, which="major", color="0.88")
    axes.set_axisbelow(True)
    axes.legend(fontsize=8, loc="lower right")
    figure.savefig(path)
    return True


def ratios(rows: Sequence[Any], path: Path) -> bool:
    """fastnet's ratio to the best peer, a bar a shape, sorted; above 1 is faster. False, and no file, without peers."""
    rows = sorted(
        (r for r in rows if r.implementation == "fastnet" and r.best_peer), key=lambda r: r.ratio_to_best_peer
    )
    if not rows:
        return False
    several = len({r.dtype for r in rows}) > 1
    figure, axes = _axes(9, max(3.0, 1.4 + 0.19 * len(rows)))
    places = range(len(rows))
    found = [r.ratio_to_best_peer for r in rows]
    most = min(3.0, max(1.0, *found))  # what is longer is cut: its number stands beside it
    colours = [COLOURS[2] if x >= 1 else COLOURS[4] if x >= 0.9 else COLOURS[1] for x in found]
    axes.barh(places, [min(most, x) for x in found], color=colours, height=0.75)
    axes.set_yticks(places, [f"{r.operation} {r.shape}{' ' + r.dtype if several else ''}" for r in rows], fontsize=7)
    axes.axvline(1.0, color="0.2", linewidth=1)
    axes.axvline(0.9, color="0.5", linewidth=0.8, linestyle=":")
    box = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
    for place, r, x in zip(places, rows, found, strict=True):
        text = f"{x:.2f} ({r.best_peer})"
        axes.text(min(most, x) + 0.015 * most, place, text, va="center", fontsize=6.5, bbox=box)
    axes.set(
        xlim=(0, 1.3 * most),
        ylim=(-0.7, len(rows) - 0.3),
        xlabel="time of the best peer / time of fastnet (above 1: fastnet is faster; dotted: 0.9)",
        title=f"Ratio to the best peer on {rows[0].gpu}" + ("" if several else f", {rows[0].dtype}"),
    )
    figure.savefig(path)
    return True


def draw(rows: Sequence[Any], ceilings: dict[str, float], folder: Path, *, what: str = "measured") -> list[Path]:
    """All plots that these rows allow: ``roofline.png`` and, of measured ones, ``ratio_<dtype>.png``; which were
    written."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    if roofline(rows, ceilings, folder / "roofline.png", what=what):
        written.append(folder / "roofline.png")
    for dtype in sorted({r.dtype for r in rows}) if what == "measured" else ():
        path = folder / f"ratio_{dtype}.png"
        if ratios([r for r in rows if r.dtype == dtype], path):
            written.append(path)
    return written
