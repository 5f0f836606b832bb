"""What the tests of optimizer steps share: dtypes, shapes, options, draws."""

import itertools

import numpy as np
import pytest
from support import bfloat16

DTYPES = [np.float32, np.float64, np.float16, bfloat16]
by_name = pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
SHAPES = [(), (0,), (1,), (3, 5), (17,), (1030,), (2, 0), (9, 300)]
OPTIONS = [
    o
    for o in itertools.product((0.0, 0.9), (0.0, 0.3), (0.0, 0.1), (False, True), (False, True), (False, True))
    if not (o[3] and (o[0] == 0 or o[1])) and not (o[0] == 0 and (o[1] or o[5]))
]


def draw(shapes, dtype, seed):
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.standard_normal(s)).astype(dtype) for s in shapes]


def options(o):
    return dict(zip(("momentum", "dampening", "weight_decay", "nesterov", "maximize", "first_step"), o, strict=True))


def combine(**choices):
    return [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]
