"""Handwritten digits: 1,797 images of 8 x 8 (Alpaydin and Kaynak 1998), as scikit-learn ships them."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnet.ops.creation import from_numpy
from fastnet.utils.data import TensorDataset


def digits(seed: int = 0) -> tuple[TensorDataset, TensorDataset, TensorDataset]:
    """Training, validation and test sets of 1,257, 180 and 360 images, divided by a seed of its own.

    Items are (x, y): x (8, 8) float32 from 0 to 1, y int64 from 0 to 9.
    """
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    order = np.random.default_rng(seed).permutation(len(bunch.target))
    x, y = (bunch.images[order] / 16).astype(np.float32), bunch.target[order].astype(np.int64)
    ends = np.cumsum([1257, 180])
    parts = zip(np.split(x, ends), np.split(y, ends), strict=True)
    train, validation, test = (
        TensorDataset(from_numpy(np.ascontiguousarray(a)), from_numpy(np.ascontiguousarray(b))) for a, b in parts
    )
    return train, validation, test
