"""Labelled images in files: IDX (MNIST, Fashion-MNIST), CIFAR-10's binary files, folders of image files.

Nothing is downloaded (``fastnet.data.download`` does, when asked) and nothing is guessed: a file that is truncated,
mislabelled or of another format raises ``ValueError`` with its name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastnet.data.digits import digits
from fastnet.data.idx import read_idx
from fastnet.ops.creation import from_numpy
from fastnet.utils.data import TensorDataset

CIFAR_RECORD = 1 + 3 * 32 * 32  # a label, then red, green and blue, each row by row
CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

Labelled = tuple[np.ndarray, np.ndarray]  # images (N, C, H, W) uint8, labels (N,) int64


@dataclass(frozen=True)
class ImageSets:
    """Training, validation and test sets; items are x (C, H, W) float32 from 0 to 1, y int64, an index of classes."""

    train: TensorDataset
    validation: TensorDataset
    test: TensorDataset
    classes: tuple[str, ...]

    @property
    def channels(self) -> int:
        return self.train.tensors[0].shape[1]

    @property
    def image_size(self) -> int:
        """The side of the images.

        Raises:
            ValueError: they are not square.
        """
        height, width = self.train.tensors[0].shape[2:]
        if height != width:
            raise ValueError(f"load_images: images are {height} x {width}, expected square ones")
        return height


def load_images(path: Any = None, seed: int = 0) -> ImageSets:
    """The images at a path, divided: None for scikit-learn's digits (8 x 8, grey); a folder with IDX files named as
    MNIST's, with CIFAR-10's binary files, or with a folder a class (in ``train`` and ``test`` folders or not); or one
    of CIFAR-10's binary files.

    What comes with a test set gives a tenth of its training set, drawn by ``seed``, for validation; what comes without
    is divided into 70 %, 10 % and 20 %.

    Raises:
        OSError: it cannot be read.
        ValueError: it is none of these, or a file is truncated, mislabelled or of another format.
    """
    if path is None:
        train, validation, test = (TensorDataset(p.tensors[0].unsqueeze(1), p.tensors[1]) for p in digits(seed))
        return ImageSets(train, validation, test, tuple("0123456789"))
    return _divided(Path(path), seed)


def _divided(path: Path, seed: int) -> ImageSets:
    if not path.exists():
        raise FileNotFoundError(f"load_images: there is no {path}")
    train, test, classes = _read(path)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(train[1]))
    count = len(order)
    ends = [count - count // 10] if test is not None else [count * 7 // 10, count * 8 // 10]
    pieces = [(train[0][part], train[1][part]) for part in np.split(order, ends)]
    if test is not None:
        if test[0].shape[1:] != train[0].shape[1:]:
            raise ValueError(
                f"load_images: {path}: test images have shape {test[0].shape[1:]}, training images {train[0].shape[1:]}"
            )
        pieces.append(test)
    for name, (images, labels) in zip(("training", "validation", "test"), pieces, strict=True):
        if not len(images):
            raise ValueError(f"load_images: {path} has too few images ({count}): none is left for the {name} set")
        if labels.max() >= len(classes):
            raise ValueError(
                f"load_images: {path}: a label of the {name} set is {labels.max()}, expected below {len(classes)}"
            )
    sets = [TensorDataset(from_numpy(x.astype(np.float32) / np.float32(255)), from_numpy(y)) for x, y in pieces]
    return ImageSets(sets[0], sets[1], sets[2], classes)


def _read(path: Path) -> tuple[Labelled, Labelled | None, tuple[str, ...]]:
    """Training set, test set where there is one, names of the classes."""
    if path.is_file():
        return read_cifar10(path), None, CIFAR_CLASSES
    names = sorted(p.name for p in path.iterdir())
    if any(n.startswith("train-images") for n in names):
        train, test = _idx_pair(path, names, ("train",)), _idx_pair(path, names, ("t10k", "test"))
        return train, test, tuple(str(i) for i in range(int(train[1].max()) + 1))
    if any(n.startswith("data_batch_") for n in names):
        batches = [read_cifar10(path / n) for n in names if n.startswith("data_batch_")]
        train = np.concatenate([b[0] for b in batches]), np.concatenate([b[1] for b in batches])
        return train, read_cifar10(path / "test_batch.bin"), CIFAR_CLASSES
    if {"train", "test"} <= set(names):
        images, labels, classes = read_image_folder(path / "train")
        more, more_labels, others = read_image_folder(path / "test")
        if others != classes:
            raise ValueError(f"load_images: {path}/test has classes {others}, train has {classes}")
        return (images, labels), (more, more_labels), classes
    if any(p.is_dir() for p in path.iterdir()):
        images, labels, classes = read_image_folder(path)
        return (images, labels), None, classes
    raise ValueError(
        f"load_images: {path} has {', '.join(names[:5]) or 'nothing'}; expected train-images-idx3-ubyte and its "
        "companions (IDX), data_batch_1.bin and its (CIFAR-10), or a folder a class"
    )


def _idx_pair(path: Path, names: list[str], prefixes: tuple[str, ...]) -> Labelled:
    """The images and labels of IDX files that begin with one of these prefixes."""
    found = []
    for kind, ndim in (("images", 3), ("labels", 1)):
        fitting = [n for n in names if any(n.startswith(f"{p}-{kind}") for p in prefixes)]
        if len(fitting) != 1:
            raise ValueError(f"load_images: {path} has {fitting or 'no file'}, expected one {prefixes[0]}-{kind} file")
        array = read_idx(path / fitting[0])
        if array.ndim != ndim or array.dtype != np.uint8:
            raise ValueError(
                f"load_images: {path / fitting[0]} has {array.ndim} dimensions of {array.dtype}, expected {ndim} of "
                f"uint8: these are no {kind}"
            )
        found.append(array)
    images, labels = found
    if len(images) != len(labels):
        raise ValueError(f"load_images: {path} has {len(images)} {prefixes[0]} images but {len(labels)} labels")
    if not images.size:
        raise ValueError(f"load_images: {path} has no {prefixes[0]} images")
    return images[:, None], labels.astype(np.int64)


def read_cifar10(path: Any) -> Labelled:
    """The images (N, 3, 32, 32) uint8 and labels (N,) int64 of one of CIFAR-10's binary files (Krizhevsky 2009).

    Raises:
        OSError: it cannot be read.
        ValueError: it is truncated or not such a file.
    """
    raw = np.fromfile(path, np.uint8)
    if not raw.size or raw.size % CIFAR_RECORD:
        raise ValueError(
            f"read_cifar10: {path} has {raw.size} bytes, expected a multiple of {CIFAR_RECORD} (a label and 3 x 32 x "
            "32 values each): it is truncated or no CIFAR-10 binary file"
        )
    records = raw.reshape(-1, CIFAR_RECORD)
    labels = records[:, 0].astype(np.int64)
    if labels.max() > 9:
        wrong = int(np.flatnonzero(labels > 9)[0])
        raise ValueError(f"read_cifar10: {path}: image {wrong} has label {labels[wrong]}, expected 0 to 9")
    return records[:, 1:].reshape(-1, 3, 32, 32).copy(), labels


def read_image_folder(path: Any) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Images (N, C, H, W) uint8, labels (N,) int64, and the classes: the names of the folders, sorted, whose files
    they are. Read by Pillow; grey where the first image is, else red, green and blue. Hidden files are left out.

    Raises:
        OSError: it cannot be read.
        ValueError: Pillow is not installed, a file is no image, truncated or of another size, a class has no images.
    """
    path = Path(path)
    classes = tuple(sorted(p.name for p in path.iterdir() if p.is_dir() and not p.name.startswith(".")))
    if not classes:
        raise ValueError(f"read_image_folder: {path} has no folders, expected one a class")
    images: list[np.ndarray] = []
    labels = []
    mode = None
    for label, name in enumerate(classes):
        before = len(images)
        for file in _files(path / name):
            pixels, mode = _read_image(file, mode)
            if images and pixels.shape != images[0].shape:
                size, first = ("{1} x {2}".format(*p.shape) for p in (pixels, images[0]))
                raise ValueError(f"read_image_folder: {file} is {size}, the first image {first}: expected one size")
            images.append(pixels)
            labels.append(label)
        if len(images) == before:
            raise ValueError(f"read_image_folder: {path / name} has no images")
    return np.stack(images), np.array(labels, np.int64), classes


def _files(folder: Path) -> Iterator[Path]:
    for file in sorted(folder.iterdir()):
        if file.name.startswith("."):
            continue
        if not file.is_file():
            raise ValueError(f"read_image_folder: {file} is no file, expected images in a class's folder")
        yield file


def _read_image(file: Path, mode: str | None) -> tuple[np.ndarray, str]:
    """(C, H, W) uint8, and the mode that all images are read in."""
    try:
        from PIL import Image
    except ImportError:
        raise ValueError("read_image_folder: reading image files needs Pillow: pip install pillow") from None
    try:
        with Image.open(file) as image:
            if image.mode.startswith(("I", "F")):
                raise ValueError(f"its pixels are {image.mode}, expected 8 bits a channel")
            mode = mode or ("L" if image.mode in ("1", "L", "LA") else "RGB")
            pixels = np.asarray(image.convert(mode))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"read_image_folder: {file} is no image that Pillow can read: {error}") from None
    return (pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))), mode
