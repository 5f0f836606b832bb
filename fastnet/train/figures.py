"""Figures of runs, as PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np


def new_figure(width: float, height: float) -> Any:
    """An empty figure, in inches, that needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def draw_lines(axes: Any, x: Sequence[float], lines: Mapping[str, Sequence[float]], **labels: Any) -> None:
    """Lines by name over whole numbers x; labels are the axes' properties (title, xlabel, ylabel, yscale)."""
    for name, y in lines.items():
        axes.plot(x, y, marker="o", markersize=3, label=name)
    axes.set(**labels)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.legend()


def draw_gradients(
    norms: Sequence[float], steps: Sequence[int], by_layer: np.ndarray, names: Sequence[str], path: Path, title: str
) -> None:
    """Gradient norms by step: of all parameters, and of each layer's weights.

    Args:
        norms: one a step.
        steps: those that by_layer has.
        by_layer: (len(steps), len(names)).
        names: the layers, the first first.
        path: the PNG file.
        title: above it.
    """
    import matplotlib

    figure = new_figure(10, 4)
    figure.suptitle(title)
    left, right = figure.subplots(1, 2)
    all_steps = np.arange(1, len(norms) + 1)
    left.plot(all_steps, norms, linewidth=0.8)
    left.set(title="All gradients, before clipping", xlabel="step", ylabel="Euclidean norm", yscale="log")
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.95, max(len(names), 2)))
    few = len(names) <= 8  # a legend of more hides the lines: the first and the last then
    for i, name in enumerate(names):
        label = name if few or i in (0, len(names) - 1) else None
        right.plot(steps, by_layer[:, i], color=colours[i], linewidth=0.8, label=label)
    shades = "" if few else f" ({len(names)} layers, dark to light)"
    right.set(title=f"By layer{shades}", xlabel="step", ylabel="Euclidean norm", yscale="log")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    if names:
        right.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    figure.savefig(path, dpi=120)


def draw_attention(maps: Sequence[np.ndarray], text: str, path: Path, title: str) -> None:
    """Attention probabilities, a row of panels a layer and a panel a head.

    Args:
        maps: (heads, T, T) a layer; rows are queries.
        text: T characters, written along both axes.
        path: the PNG file.
        title: above it.
    """
    heads = maps[0].shape[0]
    figure = new_figure(4.2 * heads, 4.4 * len(maps) + 0.5)
    figure.suptitle(title)
    names = [{"\n": "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}", " ": "\N{OPEN BOX}"}.get(c, c) for c in text]
    for i, row in enumerate(figure.subplots(len(maps), heads, squeeze=False)):
        for j, axes in enumerate(row):
            # Probabilities near 0 and near 1 both show under a square root.
            axes.imshow(np.sqrt(maps[i][j]), cmap="magma", vmin=0, vmax=1)
            axes.set_title(f"layer {i + 1}, head {j + 1}", fontsize=10)
            axes.set_xticks(range(len(text)), names, fontsize=9, family="DejaVu Sans Mono")
            axes.set_yticks(range(len(text)), names, fontsize=9, family="DejaVu Sans Mono")
            axes.tick_params(length=0, pad=1)
            if j == 0:
                axes.set_ylabel("attends from")
            if i == len(maps) - 1:
                axes.set_xlabel("attends to")
    figure.savefig(path, dpi=110)


def draw_images(images: np.ndarray, path: Path, title: str, columns: int = 8) -> None:
    """A grid of images (N, H, W) or (N, C, H, W), values from 0 (black) to 1 (white); of other than three channels the
    first is drawn, in grey."""
    if images.ndim == 4:
        images = images.transpose(0, 2, 3, 1) if images.shape[1] == 3 else images[:, 0]
    n, height, width = images.shape[:3]
    rows = -(-n // columns)
    grid = np.ones(
        (rows * (height + 1) - 1, columns * (width + 1) - 1, *images.shape[3:])
    )  # a white line between images
    for i, image in enumerate(images):
        top, left = i // columns * (height + 1), i % columns * (width + 1)
        grid[top : top + height, left : left + width] = image
    figure = new_figure(0.8 * columns, 0.8 * rows + 0.4)
    figure.suptitle(title)
    axes = figure.subplots()
    axes.set_axis_off()
    axes.imshow(grid, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    figure.savefig(path, dpi=100)
