"""Problems of matmul and of sums of columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fastnet.kernels._runtime import extension_for

from .inputs import Call, misaligned, normal


def small_matmul(rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for m, n, k in [(1, 1, 1), (5, 7, 3), (33, 65, 17), (70, 130, 40), (3, 2, 0)]:
        a, b = normal(rng, (m, k), dtype), normal(rng, (k, n), dtype)
        yield (a, b), {}
        yield (misaligned(a), normal(rng, (n, k), dtype).T), {"bias": normal(rng, (n,), dtype), "activation": "gelu"}
    yield (normal(rng, (2, 1, 9, 11), dtype), normal(rng, (3, 11, 6), dtype)), {}
    config = extension_for(np.empty(0)).MatmulConfig
    a, b = normal(rng, (40, 70), dtype).T, normal(rng, (40, 36), dtype)
    yield (a, b), {"row_sums": True, "config": config("general", 32, 32)}
    if np.dtype(dtype) == np.float64:
        return
    for number, (tile, how) in enumerate(
        [
            ((64, 64), {"stages": 2, "max_blocks": 2}),
            ((64, 64), {"split": 2}),
            ((64, 64), {"stream_k": True, "max_blocks": 3}),
            ((16, 128), {"stages": 4}),
            ((128, 16), {}),
        ]
    ):
        a, b = normal(rng, (70, 100), dtype), normal(rng, (100, 72), dtype)
        bias = normal(rng, (72,), dtype)
        if number % 2:
            a, b = np.asfortranarray(a), misaligned(b)
        yield (a, b), {"bias": bias, "row_sums": True, "config": config("sm80", *tile, **how)}
    if np.dtype(dtype) == np.float32:
        return
    for number, (tile, how) in enumerate(
        [
            ((128, 64), {"stages": 3, "cluster": 2, "max_blocks": 2}),
            ((64, 128), {"stages": 3, "split": 2}),
            ((64, 64), {"cluster": 2, "stream_k": True, "max_blocks": 6}),
            ((128, 128), {}),
        ]
    ):
        a, b = normal(rng, (136, 328), dtype), normal(rng, (328, 72), dtype)
        if number % 2:
            a, b = np.asfortranarray(a), misaligned(b)
        yield (a, b), {"config": config("sm90", *tile, **how)}
        residual = normal(rng, (136, 72), dtype)
        yield (a, b), {"residual": residual, "row_sums": True, "config": config("sm90", *tile, **how)}


def aligned_matmul(rng: np.random.Generator, dtype: Any) -> Call:
    return (normal(rng, (256, 256), dtype), normal(rng, (256, 256), dtype)), {}


def aligned_products() -> dict[str, Callable[[np.random.Generator, Any], Call]]:
    """The large tiles of the sm80 and sm90 families and their second passes: beside the config that is chosen."""

    def product(transpose_a: bool, transpose_b: bool, split: int) -> Callable[[np.random.Generator, Any], Call]:
        def call(rng: np.random.Generator, dtype: Any) -> Call:
            a, b = normal(rng, (128, 128), dtype), normal(rng, (128, 128), dtype)
            columns = 64 if np.dtype(dtype) == np.float32 else 128
            config = extension_for(np.empty(0)).MatmulConfig("sm80", 128, columns, split=split)
            return (a.T if transpose_a else a, b.T if transpose_b else b), {"config": config}

        return call

    def hopper(
        columns: int, pad: int, row_sums: bool = False, **how: Any
    ) -> Callable[[np.random.Generator, Any], Call]:
        def call(rng: np.random.Generator, dtype: Any) -> Call:
            if np.dtype(dtype) == np.float32:  # which this family does not have
                dtype = np.float16
            a, b = normal(rng, (256, 192 + pad), dtype)[:, :192], normal(rng, (192, columns), dtype)
            residual = {"residual": normal(rng, (256, columns), dtype)} if how.get("split") or pad else {}
            if row_sums:  # the weight gradient's form: k's rows hold neighbours of m
                a, residual = normal(rng, (192, 256), dtype).T, {"row_sums": True}
            config = extension_for(np.empty(0)).MatmulConfig("sm90", 128, columns, cluster=2, **how)
            return (a, b), {"config": config, **residual}

        return call

    names = {"NN": (False, False), "TN": (True, False), "NT": (False, True), "TT": (True, True)}
    return {
        **{f"matmul: sm80 {name}": product(*which, 1) for name, which in names.items()},
        "matmul: sm80 split": product(False, False, 2),
        "matmul: sm90": hopper(256, 0),
        "matmul: sm90 split": hopper(128, 0, split=3),
        "matmul: sm90 row sums": hopper(256, 0, row_sums=True),
        "matmul: sm90 rows on 8 bytes": hopper(128, 4),
    }


def small_column_sum(rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for shape in [(1, 1), (300, 33), (1030, 5), (0, 4)]:
        yield (normal(rng, shape, dtype),), {}


def aligned_column_sum(rng: np.random.Generator, dtype: Any) -> Call:
    return (normal(rng, (512, 256), dtype),), {}


SMALL: dict[str, Callable[[np.random.Generator, Any], Iterator[Call]]] = {
    "column_sum": small_column_sum,
    "matmul": small_matmul,
}


ALIGNED: dict[str, Callable[[np.random.Generator, Any], Call]] = {
    **aligned_products(),
    "column_sum": aligned_column_sum,
    "matmul": aligned_matmul,
}
