"""Labelled series of differing lengths in files: the text format of the UEA and UCR archives (``.ts``), and the
Japanese Vowels as UCI ships them (Kudo, Toyama and Shimbo 1999).

Nothing is downloaded and nothing is guessed: a file that is truncated, mislabelled or of another format raises
``ValueError`` with its name and line.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastnet._tensor import Tensor
from fastnet.data.strokes import SHAPES, strokes
from fastnet.ops.creation import from_numpy

Labelled = tuple[list[np.ndarray], list[int]]  # series (T, channels) float32, indices of classes


@dataclass(frozen=True)
class SeriesSets:
    """Training, validation and test sets; items are a series (T, channels) float32 and its label int64, an index of
    classes."""

    train: list[tuple[Tensor, Tensor]]
    validation: list[tuple[Tensor, Tensor]]
    test: list[tuple[Tensor, Tensor]]
    classes: tuple[str, ...]

    @property
    def channels(self) -> int:
        """Numbers at each step of a series."""
        return self.train[0][0].shape[1]


def load_series(path: Any = None, seed: int = 0, count: int = 2400) -> SeriesSets:
    """The series at a path, divided: None for ``count`` pen strokes, made on the spot; a folder with UCI's
    ``ae.train``, ``ae.test`` and ``size_ae`` of both (Japanese Vowels), or with a ``NAME_TRAIN.ts`` and a
    ``NAME_TEST.ts``; or the first of those two files.

    Of the training series a tenth, drawn by ``seed``, is for validation.

    Raises:
        OSError: it cannot be read.
        ValueError: it is none of these, or a file is truncated, mislabelled or of another format.
    """
    if path is None:
        train, validation, test = strokes(seed, count)
        return SeriesSets(train, validation, test, SHAPES)
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"load_series: there is no {path}")
    (series, labels), (others, other_labels), classes = _read(path)
    channels = {x.shape[1] for x in [*series, *others]}
    if len(channels) != 1:
        raise ValueError(f"load_series: {path}: series have {sorted(channels)} channels, expected as many in all")
    if len(series) < 2:
        raise ValueError(f"load_series: {path} has {len(series)} training series, expected at least 2")
    items, order = _tensors(series, labels), np.random.default_rng(seed).permutation(len(series))
    held = max(len(items) // 10, 1)
    return SeriesSets(
        [items[i] for i in order[held:]],
        [items[i] for i in order[:held]],
        _tensors(others, other_labels),
        classes,
    )


def _tensors(series: list[np.ndarray], labels: list[int]) -> list[tuple[Tensor, Tensor]]:
    return [(from_numpy(x), from_numpy(np.array(y))) for x, y in zip(series, labels, strict=True)]


def _read(path: Path) -> tuple[Labelled, Labelled, tuple[str, ...]]:
    """Training set, test set, names of the classes."""
    if path.is_file():
        first = [path] if path.name.endswith("_TRAIN.ts") else []
    elif (path / "ae.train").exists():
        train, test = (read_vowels(path / f"ae.{part}", path / f"size_ae.{part}") for part in ("train", "test"))
        return train, test, tuple(str(i + 1) for i in range(9))
    else:
        first = sorted(path.glob("*_TRAIN.ts"))
    if len(first) != 1:
        found = first or ([] if path.is_file() else sorted(path.iterdir()))
        raise ValueError(
            f"load_series: {path} has {', '.join(p.name for p in found[:5]) or 'no series'}; expected ae.train and its "
            "companions (Japanese Vowels), or one file that ends in _TRAIN.ts"
        )
    series, labels, classes = read_ts(first[0])
    others, other_labels, other_classes = read_ts(first[0].with_name(first[0].name.replace("_TRAIN.ts", "_TEST.ts")))
    if other_classes != classes:
        raise ValueError(f"load_series: {path}: the test set has classes {other_classes}, the training set {classes}")
    return (series, labels), (others, other_labels), classes


def read_vowels(data: Any, sizes: Any) -> Labelled:
    """One of UCI's files of Japanese Vowels, and the one that says how many utterances each of the nine speakers has:
    series (T, 12) float32, speakers from 0.

    A line has the 12 cepstrum coefficients of a frame; empty lines end series.

    Raises:
        OSError: it cannot be read.
        ValueError: a line is no 12 numbers, or the sizes are not those of the series.
    """
    series: list[np.ndarray] = []
    frames: list[list[float]] = []
    for number, line in enumerate([*_lines(data), ""], 1):
        if line.strip():
            frames.append(_numbers(data, number, line.split(), 12))
        elif frames:
            series.append(np.array(frames, np.float32))
            frames = []
    words = " ".join(_lines(sizes)).split()
    if len(words) != 9 or not all(w.isdecimal() for w in words):
        raise ValueError(f"read_vowels: {sizes} has {' '.join(words)[:80]!r}, expected nine numbers of utterances")
    counts = [int(w) for w in words]
    if sum(counts) != len(series):
        raise ValueError(
            f"read_vowels: {data} has {len(series)} series, expected the {sum(counts)} of {Path(sizes).name}: one of "
            "them is truncated"
        )
    return series, [speaker for speaker, n in enumerate(counts) for _ in range(n)]


def read_ts(path: Any) -> tuple[list[np.ndarray], list[int], tuple[str, ...]]:
    """A classification file of the UEA and UCR archives: series (T, channels) float32, labels, and the classes' names.

    A line of data has the channels, parted by colons, and the class; a channel its numbers, parted by commas.

    Raises:
        OSError: it cannot be read.
        ValueError: the header names no classes, or there are time stamps; a line has a channel of another length, a
            value that is missing or no number, or a class that the header lacks.
    """
    series, labels = [], []
    classes: tuple[str, ...] = ()
    in_data = False
    channels = None
    for number, line in enumerate(_lines(path), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if not in_data:
            key = words[0].lower()
            if key == "@timestamps" and words[1:] != ["false"]:
                raise ValueError(f"read_ts: {path}, line {number}: series with time stamps, expected none")
            if key == "@classlabel":
                classes = tuple(words[2:]) if words[1:2] == ["true"] else ()
            if key == "@data":
                in_data = True
                if not classes:
                    raise ValueError(
                        f"read_ts: {path}, line {number}: the header names no classes (@classLabel true ...)"
                    )
            elif not key.startswith("@"):
                raise ValueError(f"read_ts: {path}, line {number}: {line[:40]!r}, expected a header that begins with @")
            continue
        *parts, label = line.strip().split(":")
        if label not in classes:
            raise ValueError(
                f"read_ts: {path}, line {number}: class {label[:40]!r}, expected one of {', '.join(classes)}"
            )
        values = [_numbers(path, number, part.split(","), None) for part in parts]
        lengths = {len(v) for v in values}
        if len(lengths) != 1 or channels not in (None, len(values)):
            raise ValueError(
                f"read_ts: {path}, line {number}: {len(values)} channels of {sorted(lengths)} numbers, expected "
                f"{channels or 'channels'} of one length"
            )
        channels = len(values)
        series.append(np.ascontiguousarray(np.array(values, np.float32).T))
        labels.append(classes.index(label))
    if not series:
        raise ValueError(f"read_ts: {path} has no series{'' if in_data else ' (no line @data)'}")
    return series, labels, classes


def _lines(path: Any) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"load_series: {path} is no text file") from None


def _numbers(path: Any, number: int, words: list[str], expected: int | None) -> list[float]:
    try:
        values = [float(w) for w in words]
    except ValueError:
        wrong = next(w for w in words if not _is_number(w))
        raise ValueError(f"load_series: {path}, line {number}: {wrong[:40]!r} is no number") from None
    if expected is not None and len(values) != expected:
        raise ValueError(f"load_series: {path}, line {number} has {len(values)} numbers, expected {expected}")
    if not np.isfinite(values).all():
        raise ValueError(f"load_series: {path}, line {number} has a number that is not finite")
    return values


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
