"""Data sets that ship with packages, and files in well-known formats; ``fastnet.data.augment``."""

from fastnet.data import augment
from fastnet.data.digits import digits
from fastnet.data.download import download
from fastnet.data.idx import read_idx
from fastnet.data.images import ImageSets, load_images, read_cifar10, read_image_folder
from fastnet.data.series import SeriesSets, load_series, read_ts, read_vowels
from fastnet.data.strokes import strokes
from fastnet.data.text import python_docs, read_text

__all__ = [
    "ImageSets",
    "SeriesSets",
    "augment",
    "digits",
    "download",
    "load_images",
    "load_series",
    "python_docs",
    "read_cifar10",
    "read_idx",
    "read_image_folder",
    "read_text",
    "read_ts",
    "read_vowels",
    "strokes",
]
