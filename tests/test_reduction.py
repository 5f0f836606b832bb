"""column_sum: emulated kernel against float64 in every schedule."""

import numpy as np
import pytest
from support import SCHEDULES, assert_close, bfloat16, epsilon, schedule

from fastnet import kernels, reference
from fastnet.kernels import _runtime

DTYPES = [np.float32, np.float64, np.float16, bfloat16]
SHAPES = [(1, 1), (0, 3), (3, 0), (7, 33), (300, 5), (1100, 40)]


def name(dtype):
    return np.dtype(dtype).name


def extension():
    return _runtime.extension_for(np.empty(0))


def bound(x, out_dtype):
    # Any order of summation: (rows - 1) roundings of the accumulator, each at most eps * sum|x|; then one of the
    # result, whose smallest numbers are a fixed distance apart.
    magnitude = np.abs(x.astype(np.float64)).sum(axis=0)
    accumulate = epsilon(np.float64 if x.dtype == np.float64 else np.float32)
    tiny = {"float16": 2.0**-25}.get(name(out_dtype), 0)
    return magnitude * (len(x) * accumulate + epsilon(out_dtype)) + tiny


def layouts(rng, shape, dtype):
    """Arrays of this shape in every kind of memory layout, by name."""
    rows, cols = shape
    yield "plain", rng.standard_normal(shape).astype(dtype)
    yield "padded rows", rng.standard_normal((rows, cols + 3)).astype(dtype)[:, :cols]
    yield "transposed", rng.standard_normal((cols, rows)).astype(dtype).T
    yield "padded columns", rng.standard_normal((cols, rows + 3)).astype(dtype)[:, :rows].T
    yield "stepped", rng.standard_normal((2 * rows, 3 * cols)).astype(dtype)[::2, ::3]
    yield "reversed", rng.standard_normal(shape).astype(dtype)[::-1, ::-1]
    yield "expanded", np.broadcast_to(rng.standard_normal((1, 1)).astype(dtype), shape)
    yield "one column repeated", np.broadcast_to(rng.standard_normal((rows, 1)).astype(dtype), shape)
    misaligned = np.zeros(rows * cols * np.dtype(dtype).itemsize + 1, np.uint8)[1:].view(dtype).reshape(shape)
    misaligned[...] = rng.standard_normal(shape).astype(dtype)
    yield "misaligned", misaligned


@pytest.mark.parametrize("how", SCHEDULES, ids=lambda s: "-".join(map(str, s.values())))
@pytest.mark.parametrize("dtype", DTYPES, ids=name)
def test_column_sum(dtype, how):
    rng = np.random.default_rng(0)
    for shape in SHAPES:
        for layout, x in layouts(rng, shape, dtype):
            want = x.astype(np.float64).sum(axis=0)
            assert_close(reference.column_sum(x), want, bound(x, dtype), f"reference {shape} {layout}")
            with kernels.use("emulated", **how), kernels.trace() as ran:
                got = kernels.column_sum(x)
            assert ran.names == (["column_sum"] if shape[1] else [])
            assert got.dtype == dtype
            assert_close(got, want, bound(x, dtype), f"emulated {shape} {layout}")


@pytest.mark.parametrize("dtype", DTYPES, ids=name)
def test_random_problems(dtype, full):
    rng = np.random.default_rng(1)
    for i in range(300 if full else 24):
        shape = tuple(int(2 ** rng.uniform(0, 10)) for _ in range(2))
        out_dtype = DTYPES[rng.integers(4)]
        layout, x = list(layouts(rng, shape, dtype))[rng.integers(9)]
        with kernels.use("emulated", **schedule(i)):
            got = kernels.column_sum(x, out_dtype=out_dtype)
        assert got.dtype == out_dtype
        assert_close(got, x.astype(np.float64).sum(axis=0), bound(x, out_dtype), f"{shape} {layout}")


@pytest.mark.parametrize("splits", [1, 2, 7, 40])
@pytest.mark.parametrize("columns", [8, 32])
def test_every_config_in_every_schedule(splits, columns):
    """More groups than rows too; the same bits in every schedule and on every run."""
    rng = np.random.default_rng(2)
    config = extension().ColumnSumConfig(splits=splits, columns=columns)
    for shape in [(30, 70), (513, 9)]:
        for x in (rng.standard_normal(shape).astype(np.float32), rng.standard_normal(shape[::-1]).astype(np.float32).T):
            results = []
            for how in SCHEDULES:
                with kernels.use("emulated", **how):
                    results.append(kernels.column_sum(x, config=config))
            assert_close(results[0], x.astype(np.float64).sum(axis=0), bound(x, np.float32), f"{shape} {config}")
            assert len({r.tobytes() for r in results}) == 1


def test_error_contract():
    """At most twice the reference's error, or 2^-21 sum|x|, on sums that all round to one side and on cancellation."""
    rng = np.random.default_rng(3)
    noise = rng.standard_normal((20000, 3)).astype(np.float32)
    cancelling = np.concatenate([noise * 1e6, -noise[::-1] * np.float32(1e6), noise])
    for what, x in (
        ("constant", np.full((50000, 3), 0.1, np.float32)),
        ("positive", np.abs(noise)),
        ("cancelling", cancelling),
    ):
        want, magnitude = x.astype(np.float64).sum(axis=0), np.abs(x.astype(np.float64)).sum(axis=0)
        with kernels.use("emulated"):
            error = np.abs(kernels.column_sum(x) - want)
        limit = np.maximum(2 * np.abs(reference.column_sum(x) - want).max(), 2.0**-21 * magnitude)
        assert (error <= limit).all(), f"{what}: {(error / magnitude * 2.0**21).max():.3g} times 2^-21 sum|x|"


def test_nan_and_infinity():
    x = np.ones((70, 40), np.float32)
    x[3, 4], x[69, 5], x[0, 6], x[33, 6] = np.nan, np.inf, np.inf, -np.inf
    want = np.full(40, 70.0)
    want[4:7] = np.nan, np.inf, np.nan
    with kernels.use("emulated"):
        assert_close(kernels.column_sum(x), want, 0)
    assert_close(reference.column_sum(x), want, 0)


def test_configs():
    ext = extension()
    rng = np.random.default_rng(4)
    for device in ext.known_devices():
        for _ in range(500):
            rows, cols = (int(2 ** rng.uniform(0, 33)) - 1 for _ in range(2))
            along = bool(rng.integers(2))
            config = ext.column_sum_config(rows, cols, along, device)
            assert 1 <= config.splits <= 1024
            assert config.columns == (8 if along else 32)
            assert str(config) == str(ext.column_sum_config(rows, cols, along, device))
            assert str(config) == f"column_sum(splits={config.splits}, columns={config.columns})"


@pytest.mark.parametrize("implementation", [kernels, reference], ids=["kernels", "reference"])
def test_bad_arguments(implementation):
    for x, arguments, error, message in [
        (None, {}, TypeError, "x is a NoneType"),
        (np.ones(3), {}, ValueError, "x has 1 dimensions"),
        (np.ones((2, 2), int), {}, TypeError, "x has dtype int64"),
        (np.ones((2, 2), ">f4"), {}, TypeError, "x has the other byte order"),
        (np.ones((2, 2)), {"out_dtype": np.int32}, TypeError, "out_dtype is int32"),
    ]:
        with kernels.use("emulated"), kernels.trace() as ran, pytest.raises(error, match=f"column_sum: {message}"):
            implementation.column_sum(x, **arguments)
        assert not len(ran)


def test_bad_configs():
    ext = extension()
    for arguments in ({"splits": 0}, {"splits": 70000}, {"splits": 1, "columns": 5}):
        with pytest.raises(ValueError, match="ColumnSumConfig"):
            ext.ColumnSumConfig(**arguments)
    with kernels.use("emulated"), pytest.raises(TypeError, match="config is a int"):
        kernels.column_sum(np.ones((2, 2)), config=3)
