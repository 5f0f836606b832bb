"""Figures of runs, as PNG files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

MEDIANS = 40  # running medians of gradients' norms take this fraction of a run's steps
MAPS_DRAWN = 64  # feature maps of a layer, at most


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
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    figure = new_figure(10, 4)
    figure.suptitle(title)
    left, right = figure.subplots(1, 2)
    width = len(norms) // MEDIANS | 1  # odd: as many before a step as after it
    median, all_steps = f"running median of {width} steps", range(1, len(norms) + 1)
    left.plot(all_steps, norms, linewidth=0.5, alpha=0.4, label="a step")
    left.plot(*_running_median(all_steps, np.array(norms), width), color="C0", label=median)
    left.set(title="All gradients, before clipping", xlabel="step", ylabel="Euclidean norm", yscale="log")
    left.legend(fontsize=8)
    every = steps[1] - steps[0] if len(steps) > 1 else 1
    scale = Normalize(1, max(len(names), 2))
    colours = colormaps["viridis"]
    few = len(names) <= 8  # a legend of more hides the lines: a scale of colours then
    for i, name in enumerate(names):
        smooth = _running_median(steps, by_layer[:, i], max(1, width // every))
        right.plot(*smooth, color=colours(scale(i + 1)), linewidth=1.0, label=name if few else None)
    heading = "By layer" if width == 1 else f"By layer, {median}"
    right.set(title=heading, xlabel="step", ylabel="Euclidean norm", yscale="log")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    if few and names:
        right.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    elif names:
        bar = figure.colorbar(ScalarMappable(scale, colours), ax=right, label=f"layer, {names[0]} to {names[-1]}")
        bar.ax.yaxis.get_major_locator().set_params(integer=True)
    figure.savefig(path, dpi=120)


def _running_median(steps: Sequence[int], values: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Steps, a thousand at most, and the medians of the values there and so many about them, fewer at the ends: single
    steps do not show in it."""
    half = width // 2
    at = np.unique(np.linspace(0, len(values) - 1, min(len(values), 1000)).astype(int))
    medians = [np.median(values[max(0, i - half) : i + half + 1]) for i in at]
    return np.array(steps)[at], np.array(medians)


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
    figure = new_figure(0.8 * columns, 0.8 * -(-len(images) // columns) + 0.4)
    figure.suptitle(title)
    axes = figure.subplots()
    axes.set_axis_off()
    axes.imshow(_grid(images, columns, 1.0), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    figure.savefig(path, dpi=100)


def _grid(images: np.ndarray, columns: int, between: float) -> np.ndarray:
    """Images (N, H, W) or (N, H, W, 3) as one, so many a row, with lines of one pixel of a value between them."""
    n, height, width = images.shape[:3]
    rows = -(-n // columns)
    grid = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1, *images.shape[3:]), between)
    for i, image in enumerate(images):
        top, left = i // columns * (height + 1), i % columns * (width + 1)
        grid[top : top + height, left : left + width] = image
    return grid


def draw_features(
    image: np.ndarray, name: str, filters: np.ndarray, maps: Mapping[str, np.ndarray], path: Path, title: str
) -> None:
    """What a convolutional network sees: an image, the filters of its first convolution, what convolutions make of the
    image.

    Args:
        image: (C, H, W), in any range.
        name: of the first convolution.
        filters: (F, C, height, width), its weights; those of three channels are drawn in colour.
        maps: (channels, height, width) by the convolution's name.
        path: the PNG file.
        title: above it.
    """
    rows = -(-len(maps) // 2)
    figure = new_figure(10, 3.2 + 3.8 * rows)
    figure.suptitle(title)
    above, below = figure.subfigures(2, 1, height_ratios=[3.0, 3.8 * rows])
    left, right = above.subplots(1, 2, width_ratios=[1, 2.5])
    low, high = float(image.min()), float(image.max())
    shown = ((image - low) / ((high - low) or 1.0)).transpose(1, 2, 0)
    left.imshow(shown if len(image) == 3 else shown[..., 0], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    left.set_title(f"The image: {image.shape[2]} x {image.shape[1]} pixels", fontsize=10)
    n, channels, height, width = filters.shape
    heading = f"{n} filters of {name}, {width} x {height} weights"
    if channels == 3:
        most = float(np.abs(filters).max()) or 1.0
        colours = 0.5 + filters.transpose(0, 2, 3, 1) / (2 * most)
        right.imshow(_grid(colours, _columns(n, 2.5), 1.0), interpolation="nearest")
        right.set_title(f"{heading}, in the image's colours (grey: 0)", fontsize=10)
    else:
        heading += "" if channels == 1 else " of the first channel"
        _draw_signed(right, filters[:, 0], 2.5, heading, "weight")
    panels = below.subplots(rows, 2, squeeze=False).ravel()
    for axes, (layer, values) in zip(panels, maps.items(), strict=False):
        of_all = "" if len(values) <= MAPS_DRAWN else f"{MAPS_DRAWN} of "
        heading = f"{of_all}{len(values)} maps after {layer}, {values.shape[2]} x {values.shape[1]} pixels"
        _draw_signed(axes, values[:MAPS_DRAWN], 1.3, heading, "value")
    for axes in (left, right, *panels):
        axes.set_axis_off()
    figure.savefig(path, dpi=120)


def _columns(n: int, aspect: float) -> int:
    """Of n images, how many a row for a grid about so many times as wide as high: without gaps where there is such a
    number."""
    wanted = math.sqrt(aspect * n)
    whole = min((c for c in range(1, n + 1) if n % c == 0), key=lambda c: abs(math.log(c / wanted)))
    return whole if wanted / 2 < whole < wanted * 2 else math.ceil(wanted)


def _draw_signed(axes: Any, images: np.ndarray, aspect: float, heading: str, unit: str) -> None:
    """A grid of maps (N, H, W) of positive and negative values, with a scale."""
    most = float(np.abs(images).max()) or 1.0
    grid = _grid(images, _columns(len(images), aspect), math.nan)
    drawn = axes.imshow(grid, cmap="RdBu_r", vmin=-most, vmax=most, interpolation="nearest")
    axes.set_title(heading, fontsize=10)
    bar = axes.figure.colorbar(drawn, ax=axes, shrink=0.8, pad=0.02)
    bar.set_label(unit, fontsize=9)
    bar.ax.tick_params(labelsize=8)


def draw_gradients_by_time(norms: Sequence[Sequence[float]], path: Path, title: str) -> None:
    """The gradient of the last step's loss by the input of the steps before it.

    Args:
        norms: for each epoch, the norm at 0, 1, 2, ... steps before the last.
        path: the PNG file.
        title: above it.
    """
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    figure = new_figure(7, 4.5)
    figure.suptitle(title)
    axes = figure.subplots()
    colours = colormaps["viridis"]
    scale = Normalize(1, max(len(norms), 2))
    for epoch, values in enumerate(norms, 1):
        axes.plot(range(len(values)), values, color=colours(scale(epoch)), linewidth=1.0)
    axes.set(
        title="Gradient of the last step's loss by the input of earlier steps",
        xlabel="distance from the last step (time steps)",
        ylabel="Euclidean norm, mean over series",
        yscale="log",
    )
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    bar = figure.colorbar(ScalarMappable(scale, colours), ax=axes, label="after epoch")
    bar.ax.yaxis.get_major_locator().set_params(integer=True)
    figure.savefig(path, dpi=120)
