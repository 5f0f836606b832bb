"""The depthwise family of convolutions, emulated, against float64: every number of threads along channels, phases,
multipliers and divisions of pixels, in every schedule."""

import numpy as np
import pytest
from conv_problems import DIRECTIONS, Problem, draw, extension, images, name, products
from support import SCHEDULES, assert_close, bfloat16, schedule
from test_conv import bound

from fastnet import kernels, reference

DTYPES = [np.float32, np.float64, np.float16, bfloat16]
THREADS = 128


def config(lanes, **how):
    return extension().ConvConfig("depthwise", THREADS // lanes, lanes, **how)


def run(operation, arguments, how, **options):
    with kernels.use("emulated", **how), kernels.trace() as ran:
        got = getattr(kernels, operation)(*arguments, **options)
    assert "depthwise" in ran.launches[0].config
    return got


def draw_depthwise(rng):
    """Channels that fill 16 bytes and others, one to three filters for each."""
    problem = draw(rng)
    problem.channels = problem.groups = int(rng.choice([2, 3, 8, 17, 64]))
    problem.filters = problem.channels * int(rng.choice([1, 1, 1, 2, 3]))
    return problem


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("dtype", DTYPES, ids=name)
def test_random_problems(dtype, direction, full):
    rng = np.random.default_rng(1)
    for i in range(300 if full else 12):
        problem, lanes = draw_depthwise(rng), 2 ** int(rng.integers(0, 6))
        how = {"splits": int(rng.integers(1, 5))} if direction == "weight_grad" else {}
        if rng.random() < 0.4:
            how["max_blocks"] = int(rng.integers(1, 4))
        operation, arguments, want, magnitude, terms = products(problem, rng, dtype)[direction]
        options = problem.options | ({} if rng.random() < 0.3 else {"config": config(lanes, **how)})
        for s in SCHEDULES if full else [schedule(i)]:
            got = run(operation, arguments, s, **options)
            assert got.dtype == dtype
            what = f"{operation} {name(dtype)} {problem} {lanes} {how} {s}"
            assert_close(got, want, bound(magnitude, terms, dtype, dtype), what)


@pytest.mark.parametrize("dtype", DTYPES, ids=name)
def test_every_schedule_gives_the_same_bits(dtype):
    """Blocks that take several tiles with weights of their own, more places than are summed at once, parts."""
    rng = np.random.default_rng(2)
    for problem in (
        Problem(2, 24, (9, 11), 24, (4, 3), (1, 2), (2, 1), (1, 2), 24),
        Problem(3, 6, (12, 10), 12, (3, 3), (3, 1), (1, 1), (2, 1), 6),
    ):
        for direction, (operation, arguments, want, magnitude, terms) in products(problem, rng, dtype).items():
            how = {"max_blocks": 2} | ({"splits": 3} if direction == "weight_grad" else {})
            results = set()
            for s in SCHEDULES:
                got = run(operation, arguments, s, config=config(2, **how), **problem.options)
                assert_close(got, want, bound(magnitude, terms, dtype, dtype), f"{operation} {problem} {s}")
                results.add(got.tobytes())
            assert len(results) == 1


@pytest.mark.parametrize("dtype", DTYPES, ids=name)
def test_epilogue(dtype):
    """Bias, residual, activation and what it is applied to, of 16 bytes of channels and one by one."""
    rng = np.random.default_rng(3)
    for i, (channels, filters) in enumerate([(16, 16), (5, 5), (6, 12)]):
        problem = Problem(2, channels, (6, 7), filters, (3, 3), (1, 2), (1, 1), (1, 1), channels)
        of = products(problem, rng, dtype)
        for direction, shape in (("forward", problem.out_shape), ("input_grad", problem.x_shape)):
            operation, arguments, want, magnitude, terms = of[direction]
            bias, residual = rng.standard_normal(shape[1]).astype(dtype), images(rng, shape, dtype)
            want = want + bias.astype(np.float64)[:, None, None] + residual.astype(np.float64)
            magnitude = magnitude + abs(bias.astype(np.float64))[:, None, None] + abs(residual.astype(np.float64))
            out, before = run(
                operation,
                arguments,
                schedule(i),
                bias=bias,
                residual=residual,
                activation="leaky_relu",
                parameter=0.5,
                keep_preactivation=True,
                **problem.options,
            )
            limit = bound(magnitude, terms + 2, dtype, dtype)
            assert_close(before, want, limit, f"{operation} {problem}")
            assert_close(out, np.where(want < 0, 0.5, 1) * want, limit, f"{operation} {problem}")


def test_error_contract():
    """float32: at most twice the reference's error, or 2^-21 sum|a b|: sums that all round to one side."""
    problem = Problem(2, 4, (40, 40), 4, (7, 7), (1, 1), (0, 0), (1, 1), 4)
    x, weight = np.full(problem.x_shape, 0.1, np.float32), np.full(problem.weight_shape, 0.1, np.float32)
    grad = np.full(problem.out_shape, 0.1, np.float32)
    for operation, arguments, want in [
        ("conv2d", (x, weight), problem.forward(x, weight)),
        ("conv2d_weight_grad", (grad, x, 7), problem.weight_grad(grad, x)),
    ]:
        error = abs(run(operation, arguments, {}, groups=4) - want)
        allowed = 2 * abs(getattr(reference, operation)(*arguments, groups=4) - want).max()
        assert (error <= np.maximum(allowed, 2.0**-21 * want)).all(), operation  # all terms are positive


def test_nan_and_infinity():
    """They reach the results whose windows see them, and no others; what lies outside is not multiplied at all."""
    problem = Problem(1, 8, (9, 9), 8, (3, 3), (1, 1), (1, 1), (1, 1), 8)
    x, weight = np.ones(problem.x_shape, np.float16), np.ones(problem.weight_shape, np.float16)
    x[0, 0, 0, 0], x[0, 1, 5, 5], x[0, 2, 8, 8] = np.nan, np.inf, -np.inf
    assert_close(run("conv2d", (x, weight), {}, **problem.options), problem.forward(x, weight), 0)
    sent = np.ones(problem.out_shape, np.float16)
    sent[0, 3, 4, 4] = np.inf
    want = problem.weight_grad(sent, np.ones(problem.x_shape))
    got = run("conv2d_weight_grad", (sent, np.ones(problem.x_shape, np.float16), 3), {}, **problem.options)
    assert_close(got, want, 0)


def test_configs():
    ext = extension()
    for device in ext.known_devices():
        for dtype in ("float32", "float64", "float16", "bfloat16"):
            for channels, each, window in [(2, 1, 3), (64, 1, 3), (960, 1, 5), (32, 3, 7), (512, 1, 31)]:
                axis = (56, 56, window, 1, window // 2, 1)
                sizes = (64, channels, channels * each, channels)
                for direction in DIRECTIONS:
                    chosen = ext.conv_config(direction, dtype, sizes, axis, axis, device)
                    assert chosen.family == "depthwise"
                    assert chosen.rows * chosen.columns == THREADS
                    assert chosen.splits == 1 or direction == "weight_grad"
                    with kernels.use("emulated", device=device):
                        ext.conv_check(chosen, direction, dtype, sizes, axis, axis)
    assert str(config(8, splits=2)) == "conv(depthwise 16x8, splits=2)"
    # Weights that no block can hold: the general family.
    axis = (300, 1, 300, 1, 0, 1)
    assert ext.conv_config("forward", "float32", (1, 2, 2, 2), axis, axis, "RTX 3090").family == "general"
    for tile, options in [
        ((64, 3), {}),
        ((64, 4), {}),
        ((2, 64), {}),
        ((16, 8), {"stages": 2}),
        ((16, 8), {"fold": 8}),
    ]:
        with pytest.raises(ValueError, match="ConvConfig"):
            ext.ConvConfig("depthwise", *tile, **options)
    x, weight = np.ones((1, 4, 2, 2), np.float32), np.ones((4, 2, 1, 1), np.float32)
    with kernels.use("emulated"), pytest.raises(ValueError, match=r"^conv2d: config .*as many groups as channels"):
        kernels.conv2d(x, weight, groups=2, config=config(8))
