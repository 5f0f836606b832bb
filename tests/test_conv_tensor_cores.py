"""The convolutions on tensor cores (sm80: mma.sync, sm90: wgmma; gathers by cp.async), emulated, against float64: every
tile, width of copies, phase and division of pixels, in every schedule, posing as an A100 and as an H200."""

from dataclasses import dataclass

import numpy as np
import pytest
from conv_problems import DIRECTIONS, Problem, draw, extension, images, name, products
from support import SCHEDULES, assert_close, bfloat16, epsilon, schedule

from fastnet import kernels, reference

DTYPES = [np.float32, np.float16, bfloat16]
TYPES = [np.float16, bfloat16]
GATHER = DIRECTIONS[:2]


@dataclass(frozen=True)
class Family:
    name: str
    devices: tuple  # to pose as
    tiles: dict  # (rows, columns): (dtypes, directions)
    stages: tuple  # that every tile may have, the fewest first

    def __str__(self):
        return self.name

    def tiles_of(self, dtype, direction):
        return [t for t, (dtypes, directions) in self.tiles.items() if dtype in dtypes and direction in directions]

    def config(self, tile, **how):
        return extension().ConvConfig(self.name, *tile, **how)

    def smallest(self, direction, dtype=np.float16):
        return self.config(self.tiles_of(dtype, direction)[-1])

    def run(self, operation, arguments, how, number=0, **options):
        with kernels.use("emulated", device=self.devices[number % len(self.devices)], **how), kernels.trace() as ran:
            got = getattr(kernels, operation)(*arguments, **options)
        assert ran.names == [operation]
        assert self.name in ran.launches[0].config
        return got


SM80 = Family(
    "sm80",
    ("A100", "H200"),
    {(128, 128): (TYPES, DIRECTIONS), (128, 64): (DTYPES, DIRECTIONS), (64, 64): (DTYPES, DIRECTIONS)},
    (2, 3, 4),
)
SM90 = Family(
    "sm90",
    ("H200",),
    {
        (128, 256): (TYPES, DIRECTIONS),
        (128, 128): (TYPES, DIRECTIONS),
        (128, 64): (TYPES, GATHER),
        (64, 128): (TYPES, ("weight_grad",)),
        (64, 64): (TYPES, DIRECTIONS),
    },
    (3, 4),
)
# A family and a type that it has; a tile, too.
WITH_TYPE = [(family, dtype) for family in (SM80, SM90) for dtype in (DTYPES if family is SM80 else TYPES)]
TYPE_IDS = [f"{f}-{name(d)}" for f, d in WITH_TYPE]
CASES = [(f, tile, dtype) for f in (SM80, SM90) for tile, (dtypes, _) in f.tiles.items() for dtype in dtypes]
IDS = [f"{f}-{r}x{c}-{name(d)}" for f, (r, c), d in CASES]


def bound(magnitude, terms, dtype, more=0.0):
    """As matmul's sm80 family: 11 units of 2^-24 for a run of 8 terms of 16-bit types; float32 loses 2^-22 and two of
    2^-23 by its small halves, and 8.2 runs of 7 units before its sums are promoted. Then come at most 8 roundings to
    float32 and one to the result's dtype. ``more``: the magnitude of what is added."""
    relative = 2.0**-21 + 8.2 * 7 * 2.0**-24 if dtype == np.float32 else -(-terms // 8) * 11 * 2.0**-24
    tiny = {"float16": 2.0**-25, "bfloat16": 2.0**-134, "float32": 2.0**-149}[name(dtype)]
    return (magnitude + more) * (relative + 8.1 * 2.0**-24 + epsilon(dtype)) + tiny


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(("family", "dtype"), WITH_TYPE, ids=TYPE_IDS)
def test_random_problems(family, dtype, direction, full):
    """Strides and dilations 1 to 3, groups, odd sizes, channels that allow every width of copies. In full: each problem
    in every schedule."""
    rng = np.random.default_rng(1)
    tiles = family.tiles_of(dtype, direction)
    for i in range(300 if full else 12):
        problem, tile = draw(rng), tiles[rng.integers(len(tiles))]
        how = {"stages": int(rng.choice(family.stages))}
        if direction == "weight_grad":
            how["splits"] = int(rng.integers(1, 4))
        if rng.random() < 0.3:
            how["max_blocks"] = 2
        operation, arguments, want, magnitude, terms = products(problem, rng, dtype)[direction]
        for s in SCHEDULES if full else [schedule(i)]:
            got = family.run(operation, arguments, s, i, config=family.config(tile, **how), **problem.options)
            assert got.dtype == dtype
            what = f"{operation} {name(dtype)} {problem} {tile} {how} {s}"
            assert_close(got, want, bound(magnitude, terms, dtype), what)


@pytest.mark.parametrize(("family", "tile", "dtype"), CASES, ids=IDS)
def test_every_tile_in_every_schedule(family, tile, dtype):
    """More steps than there are stages, edges in every dimension, blocks that take several tiles, a phase that no place
    of the window meets, parts of unequal length: the same bits in every schedule."""
    rng = np.random.default_rng(2)
    wide, deep = (tile[0], tile[1]) if tile[1] > 64 else (72, 40)
    few, more = family.stages[:2]
    for problem, stages in [
        (Problem(2, deep, (8, 9), wide + 8, (3, 3), (1, 1), (1, 1), (1, 1), 1), more),
        (Problem(3, 16, (9, 7), 24, (2, 3), (3, 2), (1, (1, 2)), (2, 1), 2), few),
    ]:
        for direction, (operation, arguments, want, magnitude, terms) in products(problem, rng, dtype).items():
            if direction not in family.tiles[tile][1]:
                continue
            how = {"stages": stages, "max_blocks": 2} | ({"splits": 3} if direction == "weight_grad" else {})
            results = set()
            for i, s in enumerate(SCHEDULES):
                if tile[1] > 64 and problem.groups == 1 and i % 2 != DIRECTIONS.index(direction) % 2:
                    continue  # large: three schedules a direction
                got = family.run(operation, arguments, s, config=family.config(tile, **how), **problem.options)
                assert_close(got, want, bound(magnitude, terms, dtype), f"{operation} {problem} {s}")
                results.add(got.tobytes())
            assert len(results) == 1


@pytest.mark.parametrize(("family", "dtype"), WITH_TYPE, ids=TYPE_IDS)
def test_alignment(family, dtype):
    """Channels and addresses of every alignment: the same bits, whatever the width of copies."""
    rng = np.random.default_rng(3)
    size = np.dtype(dtype).itemsize

    def place(x, start):
        """The same images, channels-last, `start` elements behind a multiple of 256 bytes."""
        raw = np.full((x.size + start) * size + 256, 0xFF, np.uint8)
        begin = -raw.ctypes.data % 256 + start * size
        n, c, h, w = x.shape
        y = raw[begin : begin + x.size * size].view(dtype).reshape(n, h, w, c)
        y[...] = x.transpose(0, 2, 3, 1)
        return y.transpose(0, 3, 1, 2)

    for channels, filters in [(16, 24), (4, 12), (6, 10), (2, 8), (3, 5)]:
        problem = Problem(2, channels, (6, 7), filters, (3, 2), (1, 2), (1, 1), (1, 1), 1)
        for direction, (operation, arguments, want, magnitude, terms) in products(problem, rng, dtype).items():
            results = set()
            for start in (0, 1, 2, 4):
                moved = [place(a, start) if isinstance(a, np.ndarray) else a for a in arguments]
                how = family.smallest(direction, dtype)
                got = family.run(operation, moved, schedule(start), config=how, **problem.options)
                assert_close(got, want, bound(magnitude, terms, dtype), f"{operation} {problem} {start}")
                results.add(got.tobytes())
            assert len(results) == 1


@pytest.mark.parametrize(("family", "dtype"), WITH_TYPE, ids=TYPE_IDS)
def test_epilogue(family, dtype):
    """Bias, residual, activation and what it is applied to, in runs of filters and one by one, in both directions."""
    rng = np.random.default_rng(4)
    for i, (channels, filters, groups) in enumerate([(16, 32, 2), (16, 72, 1), (5, 3, 1)]):
        problem = Problem(2, channels, (6, 7), filters, (3, 3), (1, 2), (1, 1), (1, 1), groups)
        of = products(problem, rng, dtype)
        for direction, shape in (("forward", problem.out_shape), ("input_grad", problem.x_shape)):
            operation, arguments, want, magnitude, terms = of[direction]
            bias, residual = rng.standard_normal(shape[1]).astype(dtype), images(rng, shape, dtype)
            added = bias.astype(np.float64)[:, None, None] + residual.astype(np.float64)
            more = abs(bias.astype(np.float64))[:, None, None] + abs(residual.astype(np.float64))
            for tile in family.tiles_of(dtype, direction):
                out, before = family.run(
                    operation,
                    arguments,
                    schedule(i),
                    config=family.config(tile),
                    bias=bias,
                    residual=residual,
                    activation="leaky_relu",
                    parameter=0.5,
                    keep_preactivation=True,
                    **problem.options,
                )
                limit = bound(magnitude, terms, dtype, more)
                assert_close(before, want + added, limit, f"{operation} {problem} {tile}")
                assert_close(out, np.where(want + added < 0, 0.5, 1) * (want + added), limit, f"{operation} {problem}")


@pytest.mark.parametrize(("family", "dtype"), WITH_TYPE, ids=TYPE_IDS)
def test_nan_and_infinity(family, dtype):
    """They reach the results whose windows see them, and no others, as IEEE says."""
    problem = Problem(1, 8, (9, 9), 8, (3, 3), (1, 1), (1, 1), (1, 1), 1)
    x, weight = np.ones(problem.x_shape, dtype), np.ones(problem.weight_shape, dtype)
    x[0, 0, 0, 0], x[0, 1, 5, 5], x[0, 2, 8, 8] = np.nan, np.inf, -np.inf
    want = problem.forward(x, weight)
    assert np.isnan(want).any()
    assert np.isinf(want).any()
    for tile in family.tiles_of(dtype, "forward"):
        got = family.run("conv2d", (x, weight), {}, config=family.config(tile), **problem.options)
        assert_close(got, want, 0, f"{name(dtype)} {tile}")  # sums of up to 72 ones are exact


def test_error_contract():
    """float32: at most twice the reference's error, or 2^-21 sum|a b|, whichever is larger."""
    rng = np.random.default_rng(5)
    problem = Problem(1, 64, (20, 20), 8, (3, 3), (1, 1), (0, 0), (1, 1), 1)
    x, weight = (rng.standard_normal(s).astype(np.float32) for s in (problem.x_shape, problem.weight_shape))
    cancelling = x.copy()
    cancelling[:, 1::2] = -cancelling[:, ::2] * np.float32(1 + 1e-4)
    for what, a, w in (
        ("constant", np.full_like(x, 0.1), np.full_like(weight, 0.1)),
        ("positive", abs(x), abs(weight)),
        ("cancelling", cancelling, np.repeat(weight[:, ::2], 2, axis=1)),
    ):
        grad = np.ones(problem.out_shape, np.float32) * a[:, :8, :18, :18]
        for operation, arguments, want, magnitude in [
            ("conv2d", (a, w), problem.forward(a, w), problem.forward(abs(a), abs(w))),
            ("conv2d_weight_grad", (grad, a, 3), problem.weight_grad(grad, a), problem.weight_grad(abs(grad), abs(a))),
        ]:
            error = abs(SM80.run(operation, arguments, {}, config=SM80.config((64, 64))) - want)
            allowed = 2 * abs(getattr(reference, operation)(*arguments) - want).max()
            assert (error <= np.maximum(allowed, 2.0**-21 * magnitude)).all(), f"{what} {operation}"


def test_long_sums_of_16_bit_types():
    """Weight gradients over many pixels are cut into parts before the tensor cores have lost a rounding's worth."""
    ext = extension()
    axis = (256, 256, 3, 1, 1, 1)
    for device in ext.known_devices():
        chosen = ext.conv_config("weight_grad", "float16", (64, 64, 64, 1), axis, axis, device)
        assert chosen.family in ("sm80", "sm90")
        assert 64 * 256 * 256 / chosen.splits <= 16384
    grad, x = np.full((1, 8, 128, 128), 0.1, np.float16), np.full((1, 8, 128, 128), 0.1, np.float16)
    want = float(np.float16(0.1)) ** 2 * 128 * 128
    for family in (SM80, SM90):
        got = family.run("conv2d_weight_grad", (grad, x, 1), {}, config=family.config((64, 64)))
        assert (abs(got.astype(np.float64) / want - 1) <= 2 * epsilon(np.float16)).all()


@pytest.mark.parametrize("family", [SM80, SM90], ids=str)
def test_largest_windows(family):
    """32 places are all the bits of a mask; a window with more is refused here and goes to the general family."""
    rng = np.random.default_rng(6)
    problem = Problem(1, 8, (20, 3), 8, (32, 1), (1, 1), (12, 0), (1, 1), 1)
    for direction, (operation, arguments, want, magnitude, terms) in products(problem, rng, np.float16).items():
        got = family.run(operation, arguments, {}, config=family.smallest(direction), **problem.options)
        assert_close(got, want, bound(magnitude, terms, np.float16), operation)
    x, weight = np.ones((1, 8, 33, 2), np.float16), np.ones((8, 8, 33, 1), np.float16)
    with (
        kernels.use("emulated", device="H200"),
        pytest.raises(ValueError, match=r"^conv2d: config .* windows of up to 32 x 32"),
    ):
        kernels.conv2d(x, weight, config=family.smallest("forward"))
    with kernels.use("emulated", device="H200"), kernels.trace() as ran:
        assert (kernels.conv2d(x, weight) == 8 * 33).all()
    assert "general" in ran.launches[0].config


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_sm90_copies_what_a_product_must(direction):
    """A 3x3 layer of stride 1: each tile copies its rows of both operands once, by cp.async and by TMA; no padding."""
    problem = Problem(2, 128, (16, 16), 128, (3, 3), (1, 1), (1, 1), (1, 1), 1)
    operation, arguments, *_ = products(problem, np.random.default_rng(8), np.float16)[direction]
    pixels, places = 2 * 16 * 16, 9
    m, n, k = (128, places * 128, pixels) if direction == "weight_grad" else (pixels, 128, places * 128)
    extension().reset_stats()
    SM90.run(operation, arguments, {}, config=SM90.config((128, 128)), **problem.options)
    stats = extension().stats()
    least = (m * -(-n // 128) + n * -(-m // 128)) * k * 2
    assert stats["tma_bytes"] > 0
    assert 0.85 * least < stats["cp_async_bytes"] + stats["tma_bytes"] < 1.15 * least


@pytest.mark.parametrize("family", [SM80, SM90], ids=str)
def test_no_channels(family):
    """Sums without terms: the epilogue alone."""
    x, weight, bias = np.ones((1, 0, 4, 4), np.float16), np.ones((3, 0, 3, 3), np.float16), np.arange(3, dtype="e")
    got = family.run("conv2d", (x, weight), {}, config=family.smallest("forward"), bias=bias)
    assert (got == bias[:, None, None]).all()


def test_configs():
    """Whatever is chosen serves the problem; what cannot be is refused with what was wrong."""
    ext = extension()
    rng = np.random.default_rng(7)
    families = set()
    for device in ext.known_devices():
        for _ in range(150):
            problem = draw(rng)
            dtype = ["float32", "float64", "float16", "bfloat16"][rng.integers(4)]
            scale = int(2 ** rng.integers(0, 5))
            axes = [
                (n * scale, (n * scale + 2 * 3 - d * (k - 1) - 1) // s + 1, k, s, 3, d)
                for n, k, s, d in zip(problem.image, problem.kernel, problem.stride, problem.dilation, strict=True)
            ]
            sizes = (problem.batch * scale, problem.channels, problem.filters, problem.groups)
            for direction in DIRECTIONS:
                chosen = ext.conv_config(direction, dtype, sizes, *axes, device)
                families.add((chosen.family, dtype))
                with kernels.use("emulated", device=device):
                    ext.conv_check(chosen, direction, dtype, sizes, *axes)
                assert 1 <= chosen.splits <= 65535
                assert chosen.splits == 1 or direction == "weight_grad"
                if chosen.family != "few_channels":
                    assert chosen.max_blocks == (132 if chosen.family == "sm90" else 2**31 - 1)
    assert families >= {(f, d) for d in ("float16", "bfloat16") for f in ["sm80"]} | {("general", "float64")}
    assert families >= {("sm90", d) for d in ("float16", "bfloat16")}
    assert not families & {("sm80", "float64"), ("sm90", "float64"), ("sm90", "float32")}
    # The layers of ResNet-50, bfloat16, on data-centre GPUs: tensor cores, in every direction.
    for device in ("A100", "H200"):
        for channels, filters, size, window, stride in [(64, 64, 56, 3, 1), (256, 512, 56, 1, 2), (512, 512, 7, 3, 1)]:
            pad = window // 2
            axis = (size, (size + 2 * pad - window) // stride + 1, window, stride, pad, 1)
            for direction in DIRECTIONS:
                chosen = ext.conv_config(direction, "bfloat16", (256, channels, filters, 1), axis, axis, device)
                assert chosen.family == ("sm90" if device == "H200" else "sm80"), chosen
    assert str(ext.ConvConfig("sm80", 128, 64, splits=2)) == "conv(sm80 128x64, stages=3, fold=32, splits=2)"
    for arguments, options in [
        (("sm81", 64, 64), {}),
        (("sm80", 32, 32), {}),
        (("sm80", 64, 64), {"stages": 7}),
        (("sm80", 64, 64), {"fold": 16}),
        (("sm90", 128, 32), {}),
        (("sm90", 128, 64), {"stages": 2}),
        (("sm90", 128, 64), {"fold": 32}),
        (("general", 33, 33), {}),
        (("general", 32, 64), {}),
        (("general", 32, 32), {"stages": 2}),
        (("general", 32, 32), {"fold": 4}),
        (("general", 32, 32), {"splits": 0}),
        (("general", 32, 32), {"max_blocks": 0}),
    ]:
        with pytest.raises(ValueError, match="ConvConfig"):
            ext.ConvConfig(*arguments, **options)
    with kernels.use("emulated", device="A100"), pytest.raises(ValueError, match=r"^conv2d: config .*capability 9.0"):
        kernels.conv2d(np.ones((1, 1, 2, 2), "e"), np.ones((1, 1, 1, 1), "e"), config=SM90.smallest("forward"))
    with (
        kernels.use("emulated", device="H200"),
        pytest.raises(ValueError, match=r"^conv2d_weight_grad: config .*no such tile in this direction"),
    ):
        kernels.conv2d_weight_grad(*[np.ones((1, 1, 2, 2), "e")] * 2, 1, config=SM90.config((128, 64)))
    for dtype, tile, message in [(np.float64, (64, 64), "float32, float16"), (np.float32, (128, 128), "no such tile")]:
        with kernels.use("emulated"), pytest.raises(ValueError, match=f"^conv2d: config .*{message}"):
            kernels.conv2d(np.ones((1, 1, 2, 2), dtype), np.ones((1, 1, 1, 1), dtype), config=SM80.config(tile))
    with kernels.use("emulated", device="RTX 3090"), pytest.raises(ValueError, match="147456 bytes of shared memory"):
        kernels.conv2d(
            np.ones((1, 1, 2, 2), np.float32),
            np.ones((1, 1, 1, 1), np.float32),
            config=SM80.config((128, 64), stages=6),
        )


@pytest.mark.parametrize(("family", "dtype"), WITH_TYPE, ids=TYPE_IDS)
def test_large_weights_leave_through_the_workspace(family, dtype):
    """2^20 elements or more, with one part: transposed on the way, by a second kernel."""
    ext, rng = extension(), np.random.default_rng(4)
    problem = Problem(1, 240, (3, 2), 488, (3, 3), (1, 1), (1, 1), (1, 1), 1)
    config = family.smallest("weight_grad", dtype)
    sizes, axis = (1, 240, 488, 1), (3, 3, 3, 1, 1, 1)
    assert ext.conv_weight_grad_parts(config, sizes, axis, axis) == 1
    assert ext.conv_weight_grad_parts(config, (1, 240, 480, 1), axis, axis) == 0
    assert ext.conv_weight_grad_parts(config, (1, 2048, 2048, 1), *((3, 3, 1, 1, 0, 1),) * 2) == 0
    assert ext.conv_weight_grad_parts(family.config((64, 64), splits=3), (1, 8, 8, 1), axis, axis) == 3
    operation, arguments, want, magnitude, terms = products(problem, rng, dtype)["weight_grad"]
    results = set()
    for s in SCHEDULES[::5]:
        got = family.run(operation, arguments, s, config=config, **problem.options)
        assert_close(got, want, bound(magnitude, terms, dtype), f"{operation} {s}")
        results.add(got.tobytes())
    assert len(results) == 1
