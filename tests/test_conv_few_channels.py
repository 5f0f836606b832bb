"""The few_channels family of convolutions (first layers), emulated, against float64: tiles of every form, copies of
every width, chunks of filters and of places, parts of a weight's gradient, in every schedule."""

import numpy as np
import pytest
from conv_problems import Problem, draw, extension, images, name, products
from support import SCHEDULES, assert_close, bfloat16, epsilon, schedule
from test_conv import bound as multiply_adds_bound
from test_conv_tensor_cores import bound as mma_bound

from fastnet import kernels, reference

DTYPES = [np.float32, np.float64, np.float16, bfloat16]
DIRECTIONS = ("forward", "weight_grad")


def config(rows, columns, **how):
    return extension().ConvConfig("few_channels", rows, columns, **how)


def run(operation, arguments, how, **options):
    with kernels.use("emulated", **how), kernels.trace() as ran:
        got = getattr(kernels, operation)(*arguments, **options)
    assert "few_channels" in ran.launches[0].config
    return got


def bound(magnitude, terms, dtype):
    """As the general family's, or for 16-bit types as the sm80 family's."""
    if np.dtype(dtype).itemsize == 2:
        return mma_bound(magnitude, terms, dtype)
    return multiply_adds_bound(magnitude, terms, dtype, dtype)


def draw_few_channels(rng):
    """One group of 1 to 4 channels; filters that fill 16 bytes, a chunk of 64, and others."""
    problem = draw(rng)
    problem.groups, problem.channels = 1, int(rng.integers(1, 5))
    problem.filters = int(rng.choice([1, 3, 8, 20, 64, 72]))
    return problem


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("dtype", DTYPES, ids=name)
def test_random_problems(dtype, direction, full):
    rng = np.random.default_rng(1)
    for i in range(300 if full else 12):
        problem = draw_few_channels(rng)
        rows = int(rng.integers(1, 12))
        how = {"splits": int(rng.integers(1, 5))} if direction == "weight_grad" else {}
        if rng.random() < 0.4:
            how["max_blocks"] = int(rng.integers(1, 4))
        operation, arguments, want, magnitude, terms = products(problem, rng, dtype)[direction]
        chosen = {} if rng.random() < 0.3 else {"config": config(rows, int(rng.integers(1, 12)), **how)}
        for s in SCHEDULES if full else [schedule(i)]:
            got = run(operation, arguments, s, **problem.options, **chosen)
            assert got.dtype == dtype
            what = f"{operation} {name(dtype)} {problem} {chosen} {s}"
            assert_close(got, want, bound(magnitude, terms, dtype), what)


@pytest.mark.parametrize("dtype", DTYPES, ids=name)
def test_every_schedule_gives_the_same_bits(dtype):
    """Blocks that take several tiles and chunks of filters, so that stages and weights are overwritten; more places
    than a block of multiply-adds has at once, and so few that warps share out the results."""
    rng = np.random.default_rng(2)
    for problem in (
        Problem(2, 3, (17, 19), 72, (7, 7), (2, 2), (3, 3), (1, 1), 1),
        Problem(3, 1, (9, 11), 24, (3, 3), (1, 1), (1, 1), (1, 1), 1),
        Problem(2, 4, (12, 10), 8, (2, 3), (3, 1), (1, (1, 2)), (2, 1), 1),
    ):
        of = products(problem, rng, dtype)
        for direction in DIRECTIONS:
            operation, arguments, want, magnitude, terms = of[direction]
            how = {"max_blocks": 2} | ({"splits": 3} if direction == "weight_grad" else {})
            results = set()
            for s in SCHEDULES:
                got = run(operation, arguments, s, config=config(4, 10, **how), **problem.options)
                assert_close(got, want, bound(magnitude, terms, dtype), f"{operation} {problem} {s}")
                results.add(got.tobytes())
            assert len(results) == 1


@pytest.mark.parametrize("dtype", DTYPES, ids=name)
def test_alignment(dtype):
    """Rows of images and addresses of every alignment: the same bits, whatever the width of copies."""
    rng = np.random.default_rng(3)
    size = np.dtype(dtype).itemsize
    for width in (16, 12, 10, 9):  # with one channel, elements of a row
        problem = Problem(2, 1, (7, width), 16, (3, 3), (1, 1), (1, 1), (1, 1), 1)
        of = products(problem, rng, dtype)
        for direction in DIRECTIONS:
            operation, arguments, want, magnitude, terms = of[direction]
            results = set()
            for shift in (0, 8, 4, 2):
                if shift % size:
                    continue
                moved = []
                for a in arguments:
                    if isinstance(a, tuple):
                        moved.append(a)
                        continue
                    a = np.ascontiguousarray(a.transpose(0, 2, 3, 1))
                    buffer = np.zeros(a.nbytes + 32, np.uint8)
                    at = -buffer.ctypes.data % 16 + shift
                    here = buffer[at : at + a.nbytes].view(dtype).reshape(a.shape)
                    here[...] = a
                    moved.append(here.transpose(0, 3, 1, 2))
                got = run(operation, moved, {}, **problem.options)
                assert_close(got, want, bound(magnitude, terms, dtype), f"{operation} {problem} {shift}")
                results.add(got.tobytes())
            assert len(results) == 1


@pytest.mark.parametrize("dtype", DTYPES, ids=name)
def test_epilogue(dtype):
    """Bias, residual, activation and what it is applied to, stored in runs and one by one."""
    rng = np.random.default_rng(4)
    for i, filters in enumerate((16, 5, 70)):
        problem = Problem(2, 3, (6, 7), filters, (3, 3), (1, 2), (1, 1), (1, 1), 1)
        operation, arguments, want, magnitude, terms = products(problem, rng, dtype)["forward"]
        bias, residual = rng.standard_normal(filters).astype(dtype), images(rng, problem.out_shape, dtype)
        want = want + bias.astype(np.float64)[:, None, None] + residual.astype(np.float64)
        magnitude = magnitude + abs(bias.astype(np.float64))[:, None, None] + abs(residual.astype(np.float64))
        how = {"activation": "leaky_relu", "parameter": 0.5, "keep_preactivation": True}
        out, before = run(operation, arguments, schedule(i), bias=bias, residual=residual, **how, **problem.options)
        limit = bound(magnitude, terms + 2, dtype)
        assert_close(before, want, limit, f"{problem}")
        assert_close(out, np.where(want < 0, 0.5, 1) * want, limit, f"{problem}")


def test_error_contract():
    """float32: at most twice the reference's error, or 2^-21 sum|a b|: sums that all round to one side."""
    problem = Problem(2, 4, (40, 40), 4, (7, 7), (1, 1), (0, 0), (1, 1), 1)
    x, weight = np.full(problem.x_shape, 0.1, np.float32), np.full(problem.weight_shape, 0.1, np.float32)
    grad = np.full(problem.out_shape, 0.1, np.float32)
    for operation, arguments, want in [
        ("conv2d", (x, weight), problem.forward(x, weight)),
        ("conv2d_weight_grad", (grad, x, 7), problem.weight_grad(grad, x)),
    ]:
        error = abs(run(operation, arguments, {}) - want)
        allowed = 2 * abs(getattr(reference, operation)(*arguments) - want).max()
        assert (error <= np.maximum(allowed, 2.0**-21 * want)).all(), operation  # all terms are positive


def test_long_sums_of_16_bit_types():
    """Weight gradients over many pixels are cut into parts before the tensor cores have lost a rounding's worth."""
    ext = extension()
    axis = (224, 112, 7, 2, 3, 1)
    for device in ext.known_devices():
        chosen = ext.conv_config("weight_grad", "float16", (256, 3, 64, 1), axis, axis, device)
        assert chosen.family == "few_channels"
        tiles = 256 * -(-112 // chosen.rows) * -(-112 // chosen.columns)
        assert -(-tiles // chosen.splits) * chosen.rows * chosen.columns <= 16384 + 128
    grad, x = np.full((1, 8, 128, 128), 0.1, np.float16), np.full((1, 1, 128, 128), 0.1, np.float16)
    got = run("conv2d_weight_grad", (grad, x, 1), {}, config=config(8, 16))
    want = float(np.float16(0.1)) ** 2 * 128 * 128
    assert (abs(got.astype(np.float64) / want - 1) <= 2 * epsilon(np.float16)).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=name)
def test_nan_and_infinity(dtype):
    """They reach the results whose windows see them, and no others: neither what fills up a fragment nor results beyond
    the edge multiply what lies beside the window."""
    problem = Problem(1, 3, (9, 9), 8, (3, 3), (1, 1), (1, 1), (1, 1), 1)
    x, weight = np.ones(problem.x_shape, dtype), np.ones(problem.weight_shape, dtype)
    x[0, 0, 0, 0], x[0, 1, 5, 5], x[0, 2, 8, 8] = np.nan, np.inf, -np.inf
    got = run("conv2d", (x, weight), {}, config=config(4, 5), **problem.options)
    assert_close(got, problem.forward(x, weight), 0)
    # Fewer results than windows fit: the gradient sees nothing of the last row and column.
    x = np.ones(problem.x_shape, dtype)
    x[0, :, 8, :] = x[0, :, :, 8] = np.inf
    grad = np.ones((1, 8, 6, 6), dtype)
    want = np.full((8, 3, 3, 3), 36.0)
    got = run("conv2d_weight_grad", (grad, x, 3), {}, config=config(4, 5))
    assert_close(got, want, 0)


def test_configs():
    ext = extension()
    # Channels, filters, side of the image, window, stride: MNIST, CIFAR, ResNet, AlexNet, ConvNeXt, a tiny one.
    layers = [
        (1, 32, 28, 3, 1),
        (3, 64, 32, 3, 1),
        (3, 64, 224, 7, 2),
        (1, 64, 224, 11, 4),
        (3, 96, 224, 4, 4),
        (4, 1, 3, 3, 1),
    ]
    for device in ext.known_devices():
        for dtype in ("float32", "float64", "float16", "bfloat16"):
            for channels, filters, side, window, stride in layers:
                pad = window // 2 if stride < 4 else 0
                axis = (side, (side + 2 * pad - window) // stride + 1, window, stride, pad, 1)
                for direction in DIRECTIONS:
                    chosen = ext.conv_config(direction, dtype, (64, channels, filters, 1), axis, axis, device)
                    assert chosen.family == "few_channels"
                    assert chosen.rows * chosen.columns <= 256
                    assert chosen.splits == 1 or direction == "weight_grad"
                    with kernels.use("emulated", device=device):
                        ext.conv_check(chosen, direction, dtype, (64, channels, filters, 1), axis, axis)
                assert ext.conv_config("input_grad", dtype, (64, channels, filters, 1), axis, axis, device).family in (
                    "general",
                    "sm80",
                    "sm90",
                )
    assert str(config(8, 16, splits=2)) == "conv(few_channels 8x16, fold=16, splits=2)"
    # What the family refuses goes elsewhere: more channels, groups, long sums, patches that no block can hold.
    for channels, groups, window, dilation in [(5, 1, 3, 1), (4, 2, 3, 1), (3, 1, 11, 1), (1, 1, 16, 60)]:
        axis = (1000, 1000 - dilation * (window - 1), window, 1, 0, dilation)
        family = ext.conv_config("forward", "float32", (1, channels, 8, groups), axis, axis, "RTX 3090").family
        assert family != "few_channels", (channels, groups, window)
    for tile, options in [
        ((0, 8), {}),
        ((257, 1), {}),
        ((16, 17), {}),
        ((8, 8), {"stages": 2}),
        ((8, 8), {"fold": 12}),
    ]:
        with pytest.raises(ValueError, match="ConvConfig"):
            ext.ConvConfig("few_channels", *tile, **options)
    x, weight = np.ones((1, 5, 2, 2), np.float32), np.ones((4, 5, 1, 1), np.float32)
    with kernels.use("emulated"), pytest.raises(ValueError, match=r"^conv2d: config .*1 to 4 channels in one group"):
        kernels.conv2d(x, weight, config=config(8, 8))
    x, weight = np.ones((1, 3, 400, 400), np.float32), np.ones((4, 3, 2, 2), np.float32)
    with kernels.use("emulated", device="RTX 3090"), pytest.raises(ValueError, match="bytes of shared memory"):
        kernels.conv2d(x, weight, dilation=390, config=config(8, 8))
