"""matmul: the emulated kernel against float64 in every schedule, dtype, layout and tile; its configs; the
operations."""

import numpy as np
import pytest
from matmul_problems import FLOATS, INTEGERS, accumulator, adversaries, draw, expected, extension, lay_out, name
from support import SCHEDULES, assert_close, bfloat16, epsilon, schedule

import fastnet
from fastnet import autograd, kernels, reference
from fastnet.kernels import _runtime
from fastnet.ops import matmul as ops

SIZES = [0, 1, 2, 3, 4, 7, 8, 9, 16, 31, 33, 64, 65, 100, 129]
TILES = {32: [*FLOATS, *INTEGERS], 64: [*FLOATS, *INTEGERS], 128: [np.float32, np.float16, bfloat16]}


def general(tile, **how):
    """The config of the general family's square tile."""
    return extension().MatmulConfig("general", tile, tile, **how)


def any_general(dtype, i):
    """One of the general family's tiles that the dtype has, in rotation."""
    tiles = [tile for tile, dtypes in TILES.items() if dtype in dtypes]
    return general(tiles[i % len(tiles)])


def bound(a, b, bias=None, fold=16, out_dtype=None):
    """Rounding of a compensated sum of groups. A product passes its own rounding and those of at most `fold` additions
    within its group, the compensated addition of groups adds two (and K eps^2), then come the group in progress and the
    bias:
    each eps of at most sum|a b| + |bias|. Then the result is rounded once."""
    if a.dtype.kind in "iu":
        return 0
    k = a.shape[-1]
    magnitude = np.matmul(np.abs(a.astype(np.float64)), np.abs(b.astype(np.float64)))
    if bias is not None:
        magnitude = magnitude + np.abs(bias.astype(np.float64))
    eps = epsilon(accumulator(a.dtype))
    roundings = min(fold, k) + 5
    tiny = {"float16": 2.0**-25, "bfloat16": 2.0**-134, "float32": 2.0**-149}.get(name(out_dtype or a.dtype), 0)
    return magnitude * (roundings * eps * 1.01 + epsilon(out_dtype or a.dtype)) + tiny


def reference_bound(a, b, bias=None):
    return bound(a, b, bias, fold=max(1, a.shape[-1]))  # any order of summation


def problem(rng, dtype, sizes=SIZES):
    m, n, k = (int(rng.choice(sizes)) for _ in range(3))
    batch_a, batch_b = [((), ()), ((), ()), ((2,), ()), ((), (3,)), ((2, 1), (3,)), ((2, 3), (2, 3)), ((0,), ())][
        rng.integers(7)
    ]
    if batch_a or batch_b:
        m, n, k = min(m, 40), min(n, 40), min(k, 40)
    a, a_layout = lay_out(rng, draw(rng, (*batch_a, m, k), dtype))
    b, b_layout = lay_out(rng, draw(rng, (*batch_b, k, n), dtype))
    bias = draw(rng, n, dtype) if rng.random() < 0.5 else None
    return a, b, bias, f"{name(dtype)} {a.shape} {a_layout} @ {b.shape} {b_layout}{'' if bias is None else ' + bias'}"


@pytest.fixture(params=["reference", "emulated"])
def mode(request):
    with kernels.use(request.param):
        yield request.param


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS], ids=name)
def test_random_problems(dtype, full):
    rng = np.random.default_rng(1)
    for i in range(400 if full else 24):
        a, b, bias, what = problem(rng, dtype)
        want = expected(a, b, bias)
        with kernels.use("emulated", **schedule(i)), kernels.trace() as ran:
            got = kernels.matmul(a, b, bias=bias, config=any_general(dtype, i))
        assert ran.names == (["matmul"] if want.size else [])
        assert got.dtype == dtype
        assert_close(got, want, bound(a, b, bias), f"{what} {schedule(i)}")
        assert_close(reference.matmul(a, b, bias=bias), want, reference_bound(a, b, bias), f"reference {what}")


@pytest.mark.parametrize("how", SCHEDULES, ids=lambda s: "-".join(map(str, s.values())))
@pytest.mark.parametrize(
    ("tile", "dtype"),
    [(t, d) for t, ds in TILES.items() for d in ds],
    ids=lambda x: str(x) if isinstance(x, int) else name(x),
)
def test_every_tile_in_every_schedule(tile, dtype, how):
    """More than one block each way, more steps than both stages hold, several folds, both ways of loading each
    operand."""
    rng = np.random.default_rng(2)
    config = general(tile, fold=8)
    rows, columns = config.rows, config.columns
    for m, n, k in [(rows + 5, columns + 3, 41), (3, 2 * columns, 64), (rows, columns, 8)]:
        for transpose_a, transpose_b in [(False, False), (True, False), (False, True), (True, True)]:
            a = draw(rng, (k, m), dtype).T if transpose_a else draw(rng, (m, k), dtype)
            b = draw(rng, (n, k), dtype).T if transpose_b else draw(rng, (k, n), dtype)
            bias = draw(rng, n, dtype)
            with kernels.use("emulated", **how), kernels.trace() as ran:
                got = kernels.matmul(a, b, bias=bias, config=config)
            assert f"general {tile}x{tile}" in ran.launches[0].config
            what = f"{tile} {m}x{n}x{k} {transpose_a} {transpose_b}"
            assert_close(got, expected(a, b, bias), bound(a, b, bias, fold=8), what)


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS], ids=name)
def test_extreme_shapes(dtype):
    rng = np.random.default_rng(3)
    for i, (m, n, k) in enumerate(
        [(1, 1, 3000), (1, 1200, 9), (1200, 1, 9), (0, 5, 3), (5, 0, 3), (0, 0, 0), (4, 6, 0), (1, 1, 1)]
    ):
        a, b, bias = draw(rng, (m, k), dtype), draw(rng, (k, n), dtype), draw(rng, n, dtype)
        with kernels.use("emulated", **schedule(i)):
            got = kernels.matmul(a, b, bias=bias, config=any_general(dtype, i))
        assert got.shape == (m, n)
        assert_close(got, expected(a, b, bias), bound(a, b, bias), f"{m}x{n}x{k}")
        if k == 0 and got.size:
            assert (got == bias).all()


@pytest.mark.parametrize("dtype", [np.float32, bfloat16, np.int64], ids=name)
def test_vectors_and_batches(dtype):
    """Ranks as NumPy's matmul; leading dimensions that broadcast, repeat at stride zero, or cannot be walked as one."""
    rng = np.random.default_rng(4)
    many = draw(rng, (2,) * 9 + (3, 4), dtype)
    tangled = many.transpose(8, 6, 4, 2, 0, 1, 3, 5, 7, 9, 10)  # nine leading dimensions, none of them mergeable
    pairs = [
        (draw(rng, 7, dtype), draw(rng, 7, dtype)),
        (draw(rng, 7, dtype), draw(rng, (7, 5), dtype)),
        (draw(rng, (5, 7), dtype), draw(rng, 7, dtype)),
        (draw(rng, (2, 3, 5, 7), dtype), draw(rng, 7, dtype)),
        (draw(rng, 7, dtype), draw(rng, (2, 3, 7, 5), dtype)),
        (np.broadcast_to(draw(rng, (5, 7), dtype), (4, 5, 7)), draw(rng, (2, 1, 7, 6), dtype)),
        (np.broadcast_to(draw(rng, (1, 1), dtype), (5, 7)), np.broadcast_to(draw(rng, (7, 1), dtype), (7, 6))),
        (draw(rng, (3, 2, 5, 7), dtype).transpose(1, 0, 2, 3), draw(rng, (7, 6), dtype)),
        (draw(rng, (4, 5, 7), dtype)[::-2], draw(rng, (2, 7, 6), dtype)),
        (tangled, draw(rng, (4, 2), dtype)),
        (tangled, many.swapaxes(-1, -2)),
    ]
    for i, (a, b) in enumerate(pairs):
        with kernels.use("emulated", **schedule(i)):
            got = kernels.matmul(a, b, config=any_general(dtype, i))
        assert_close(got, expected(a, b), bound(a, b), f"{a.shape} @ {b.shape}")
        assert_close(reference.matmul(a, b), expected(a, b), reference_bound(a, b), f"reference {a.shape} @ {b.shape}")


@pytest.mark.parametrize("dtype", FLOATS, ids=name)
def test_row_sums(dtype):
    """The gradient of a bias beside its weight's: sums of a's rows, in the same launch."""
    rng = np.random.default_rng(11)
    for i, (tile, k) in enumerate((t, k) for t in TILES if dtype in TILES[t] for k in (0, 5, 150)):
        m, n, used = tile + 5, tile + 3, general(tile)
        for transposed in (True, False):
            a, b = draw(rng, (k, m) if transposed else (m, k), dtype), draw(rng, (k, n), dtype)
            a = a.T if transposed else a
            with kernels.use("emulated", **schedule(2 * i + transposed)), kernels.trace() as ran:
                got, sums = kernels.matmul(a, b, config=used, row_sums=True)
                assert (got == kernels.matmul(a, b, config=used)).all()
            assert ran.names == ["matmul", "matmul"]
            wide = a.astype(np.float64)
            # Eight terms one after the other, eights with compensation; then the result is rounded.
            eps, tiny = epsilon(accumulator(dtype)), 2.0**-25 * (dtype == np.float16)
            limit = (13 * 1.01 * eps + epsilon(dtype)) * np.abs(wide).sum(1) + tiny
            assert sums.dtype == dtype
            assert_close(sums, wide.sum(1), limit, f"{tile} {k} {transposed}")


@pytest.mark.parametrize("dtype", FLOATS, ids=name)
def test_nan_and_infinity(dtype):
    """As IEEE says, and only where the product is concerned: nothing leaks from a tile's padding."""
    rng = np.random.default_rng(5)
    one = np.ones((), dtype)
    a, b = np.abs(draw(rng, (37, 21), dtype)) + one, np.abs(draw(rng, (21, 35), dtype)) + one
    a[3, 4], a[9, 0], a[36, 20], b[20, 34], b[2, 7] = np.inf, np.nan, -np.inf, np.inf, -np.inf
    b[4, 2] = 0  # inf * 0
    with np.errstate(all="ignore"):
        want = expected(a, b)
        for i, tile in enumerate(t for t in TILES if dtype in TILES[t]):
            with kernels.use("emulated", **schedule(i)):
                got = kernels.matmul(a, b, config=general(tile))
            assert np.isnan(want).any()
            assert np.isinf(want).any()
            limit = np.where(
                np.isfinite(want),
                bound(
                    np.nan_to_num(a.astype(np.float64), posinf=0, neginf=0).astype(dtype),
                    np.nan_to_num(b.astype(np.float64), posinf=0, neginf=0).astype(dtype),
                ),
                0,
            )
            assert_close(got, want, limit, f"{name(dtype)} {tile}")


def test_error_contract():
    """At most twice the reference's error, or 2^-21 sum|a b|, whichever is larger."""
    rng = np.random.default_rng(6)
    for k in (60, 700, 4096):
        for what, a, b in adversaries(rng, 9, 35, k):
            want, magnitude = expected(a, b), np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64)
            with kernels.use("emulated"):
                error = np.abs(kernels.matmul(a, b, config=any_general(np.float32, k)) - want)
            of_reference = np.abs(reference.matmul(a, b) - want)
            limit = np.maximum(2 * of_reference.max(), 2.0**-21 * magnitude)
            worst = (error / magnitude * 2.0**21).max()
            assert (error <= limit).all(), f"{what}, k={k}: error is {worst:.3g} times 2^-21 sum|a b|"


@pytest.mark.parametrize("dtype", FLOATS, ids=name)
def test_epilogue(dtype):
    """Bias of any stride, every activation, the preactivation, a float32 result of 16-bit operands."""
    rng = np.random.default_rng(7)
    a, b = draw(rng, (70, 19), dtype), draw(rng, (19, 33), dtype)
    bias = draw(rng, 66, dtype)[::-2]
    wide = accumulator(dtype)
    for i, activation in enumerate(
        [
            "none",
            "relu",
            "leaky_relu",
            "elu",
            "gelu",
            "gelu_tanh",
            "silu",
            "mish",
            "softplus",
            "sigmoid",
            "tanh",
            "hardswish",
        ]
    ):
        for out_dtype in {np.dtype(dtype), np.dtype(wide)}:
            with kernels.use("emulated", **schedule(i)):
                got, pre = kernels.matmul(
                    a,
                    b,
                    bias=bias,
                    activation=activation,
                    keep_preactivation=True,
                    out_dtype=out_dtype,
                    config=any_general(dtype, i),
                )
            want, want_pre = reference.matmul(
                a.astype(np.float64),
                b.astype(np.float64),
                bias=bias.astype(np.float64),
                activation=activation,
                keep_preactivation=True,
            )
            limit = bound(a, b, bias, out_dtype=out_dtype)
            assert got.dtype == pre.dtype == out_dtype
            assert_close(pre, want_pre, limit, f"{activation} preactivation")
            # No activation is steeper than 1.5 (hardswish at 3); its own rounding: a few ulp of the sum's type, of
            # values up to |x| + 2, and that of the result.
            steep = 1.5 * limit + 16 * epsilon(wide) * (np.abs(want_pre) + 2) + epsilon(out_dtype) * np.abs(want)
            assert_close(got, want, steep, activation)
            short = reference.matmul(a, b, bias=bias, activation=activation, out_dtype=out_dtype)
            assert_close(short, want, steep, f"reference {activation}")


@pytest.mark.parametrize("dtype", [*FLOATS, np.int32, np.uint8], ids=name)
def test_everything_that_follows(dtype, mode):
    """alpha * a @ b + beta * c + bias + residual: c and residual broadcast, strided, transposed, in either dtype."""
    rng = np.random.default_rng(12)
    whole = np.dtype(dtype).kind != "f" and dtype != bfloat16
    shapes = [((5, 3), (3, 7)), ((2, 4, 5, 3), (3, 7)), ((4, 5, 3), (2, 1, 3, 7)), ((3,), (3, 7)), ((2, 5, 3), (3,))]
    shapes += [((5, 0), (0, 7)), ((3,), (3,)), ((1, 70, 3), (3, 1))]
    for i, (of_a, of_b) in enumerate(shapes):
        a, b = draw(rng, of_a, dtype), draw(rng, of_b, dtype)
        shape = np.matmul(np.zeros(of_a), np.zeros(of_b)).shape
        alpha, beta = (3, -2) if whole else (0.75, -1.5)
        for form in range(4):
            if form == 0:
                c, residual = draw(rng, shape, dtype), draw(rng, shape, dtype)
            elif form == 1:  # transposed; one row or column for all
                c = draw(rng, shape[::-1], dtype).transpose()
                residual = draw(rng, tuple(1 if d % 2 else n for d, n in enumerate(shape)), dtype)
            elif form == 2:
                c, residual = draw(rng, shape[-1:], dtype), draw(rng, (), dtype)
            else:
                c, residual = None, draw(rng, (*shape, 2), dtype)[..., 1]
            wide = np.float32 if np.dtype(dtype).itemsize == 2 else dtype
            if form == 1:
                residual = residual.astype(wide)
            for out_dtype in {np.dtype(dtype), np.dtype(wide)}:
                if residual.dtype not in (dtype, out_dtype):
                    continue
                follows = {"c": c, "alpha": alpha, "beta": beta, "residual": residual, "out_dtype": out_dtype}
                with kernels.use(mode, **(schedule(i) if mode == "emulated" else {})):
                    got, pre = _runtime.implementation(a).matmul(a, b, **follows, keep_preactivation=True)
                what = f"{of_a} @ {of_b}, form {form}, {out_dtype}"
                assert got.dtype == out_dtype, what
                if whole:
                    want = (
                        alpha * np.matmul(a.astype(np.int64), b.astype(np.int64))
                        + residual.astype(np.int64)
                        + (0 if c is None else beta * c.astype(np.int64))
                    ).astype(dtype)
                    assert_close(got, want, 0, what)
                    continue
                wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
                add = residual.astype(np.float64) + (0 if c is None else beta * c.astype(np.float64))
                size = (
                    alpha * np.matmul(abs(wide_a), abs(wide_b))
                    + abs(residual.astype(np.float64))
                    + (0 if c is None else abs(beta * c.astype(np.float64)))
                )
                # Three products, then four roundings more, each of at most the sum of magnitudes; then the result's.
                limit = size * (8 * 1.01 * epsilon(accumulator(dtype)) + epsilon(out_dtype)) + 2.0**-24 * (
                    dtype == np.float16
                )
                assert_close(got, alpha * np.matmul(wide_a, wide_b) + add, limit, what)
                assert_close(pre, got, 0, what)


def test_c_is_not_read_for_beta_zero(mode):
    a, b = np.ones((3, 4), np.float32), np.ones((4, 2), np.float32)
    got = _runtime.implementation(a).matmul(a, b, c=np.full((3, 2), np.nan, np.float32), beta=0, alpha=2)
    assert (got == 8).all()


def test_blocks_take_tiles_in_turn():
    """A grid smaller than the tiles: shared memory is used again by the next tile."""
    rng = np.random.default_rng(13)
    a, b = draw(rng, (3, 70, 41), np.float32), draw(rng, (41, 140), np.float32)
    for tile in TILES:
        for how in SCHEDULES:
            config = general(tile, max_blocks=2)
            with kernels.use("emulated", **how):
                got = kernels.matmul(a.transpose(1, 0, 2), b, config=config)
            assert_close(got, expected(a.transpose(1, 0, 2), b), bound(a.transpose(1, 0, 2), b), f"{tile} {how}")


def test_activation_parameter():
    a, b = np.float32([[-2, 1]]), np.eye(2, dtype=np.float32)
    with kernels.use("emulated"):
        assert kernels.matmul(a, b, activation="leaky_relu", parameter=0.25).tolist() == [[-0.5, 1]]
        assert kernels.matmul(a, b, activation="leaky_relu").tolist() == [[np.float32(-2) * np.float32(0.01), 1]]


def test_repeats_bit_for_bit():
    """The same bits in every schedule and for every layout of the same values."""
    rng = np.random.default_rng(8)
    a, b = draw(rng, (90, 333), np.float32), draw(rng, (333, 70), np.float32)
    results = []
    for how in SCHEDULES:
        for left, right in [(a, b), (np.asfortranarray(a), b[:, ::-1].copy()[:, ::-1])]:
            with kernels.use("emulated", **how):
                results.append(
                    (kernels.matmul(left, right).tobytes(), kernels.matmul(left, right, config=general(64)).tobytes())
                )
    assert len(set(results)) == 1


def test_configs():
    """Thousands of problems on every known device: a tile the dtype has, that fits, printed the same every time."""
    ext = extension()
    rng = np.random.default_rng(9)
    seen = set()
    devices = ext.known_devices()
    assert len(devices) >= 6
    for device, shared in devices.items():
        for _ in range(1000):
            batch, m, n, k = (int(2 ** rng.uniform(0, top)) - 1 for top in (12, 24, 24, 24))
            dtype = name(rng.choice([*FLOATS, *INTEGERS]))
            problem = ext.MatmulProblem(m, n, k, dtype, batch=batch)
            config = ext.matmul_config(problem, device)
            ext.matmul_check(config, problem, device)
            assert ext.matmul_shared_bytes(config, problem) <= shared
            assert str(config) == str(ext.matmul_config(problem, device))
            assert str(config).startswith(f"matmul({config.family} {config.rows}x{config.columns}x")
            seen.add((config.family, dtype))
    tensor_cores = {("sm80", name(d)) for d in (np.float32, np.float16, bfloat16)}
    tensor_cores |= {("sm90", name(d)) for d in (np.float16, bfloat16)}
    assert seen == {("general", name(d)) for d in [*FLOATS, *INTEGERS]} | tensor_cores


def test_prints_its_config(tmp_path):
    import os
    import subprocess
    import sys

    code = (
        "import numpy as np; from fastnet import kernels; kernels.use('emulated'); kernels.matmul(np.ones((2, 3)), "
        "np.ones((3, 2)))"
    )
    environment = {**os.environ, "FASTNET_PRINT_CONFIG": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert "matmul 2x3, 3x2 float64 matmul(general 32x32x8, stages=2, fold=16)" in done.stderr


F = np.float32
BAD = [
    (lambda m: m([[1.0]], F([[1]])), TypeError, "a is a list"),
    (lambda m: m(F([[1]]), None), TypeError, "b is a NoneType"),
    (lambda m: m(np.ones((2, 2)), F([[1, 2], [3, 4]])), TypeError, "same dtype"),
    (lambda m: m(np.ones((2, 2), bool), np.ones((2, 2), bool)), TypeError, "a has dtype bool"),
    (lambda m: m(np.ones((2, 2), ">f4"), np.ones((2, 2), ">f4")), TypeError, "byte order"),
    (lambda m: m(np.ones((2, 3), F), np.ones((2, 3), F)), ValueError, r"a has 3 columns and b has 2 rows.*\(2, 3\)"),
    (lambda m: m(F(1), F([[1]])), (TypeError, ValueError), "matmul: "),
    (lambda m: m(np.ones((), F), np.ones(1, F)), ValueError, "at least one dimension"),
    (lambda m: m(np.ones((2, 1, 1), F), np.ones((3, 1, 1), F)), ValueError, "do not broadcast"),
    (
        lambda m: m(np.ones((2, 2), F), np.ones((2, 2), F), bias=np.ones(3, F)),
        ValueError,
        "bias has 3 elements, expected 2",
    ),
    (lambda m: m(np.ones((2, 2), F), np.ones((2, 2), F), bias=np.ones(2)), TypeError, "bias has dtype float64"),
    (lambda m: m(np.ones((2, 2), F), np.ones((2, 2), F), bias=np.ones((1, 2), F)), ValueError, "bias has 2 dimensions"),
    (lambda m: m(np.ones((2, 2), F), np.ones((2, 2), F), activation="swish"), ValueError, "activation is 'swish'"),
    (lambda m: m(np.ones((2, 2), F), np.ones((2, 2), F), activation=None), ValueError, "activation is None"),
    (lambda m: m(np.ones((2, 2), F), np.ones((2, 2), F), parameter="x"), TypeError, "parameter is a str"),
    (lambda m: m(np.ones((2, 2), int), np.ones((2, 2), int), activation="relu"), TypeError, "needs floating-point"),
    (lambda m: m(np.ones((2, 2), F), np.ones((2, 2), F), out_dtype=np.float64), TypeError, "out_dtype is float64"),
    (lambda m: m(np.ones((2, 2), F), np.ones((2, 2), F), c=np.ones((3, 2), F)), ValueError, "c has shape"),
    (
        lambda m: m(np.ones((2, 2), F), np.ones((2, 2), F), residual=np.ones((1, 2, 2), F)),
        ValueError,
        "residual has shape",
    ),
    (lambda m: m(np.ones((2, 2), F), np.ones((2, 2), F), c=np.ones((2, 2))), TypeError, "c has dtype float64"),
    (lambda m: m(np.ones((2, 2), F), np.ones((2, 2), F), alpha="2"), TypeError, "alpha is a str"),
    (lambda m: m(np.ones((2, 2), F), np.ones((2, 2), F), beta=10**400), ValueError, "beta has 1329 bits"),
    (lambda m: m(np.ones((2, 2), F), np.ones((2, 2), F), precision="low"), ValueError, "precision is 'low', expected"),
    (lambda m: m(np.ones((2, 2), int), np.ones((2, 2), int), alpha=0.5), ValueError, "alpha is 0.5, expected a whole"),
]


@pytest.mark.parametrize("implementation", [kernels, reference], ids=["kernels", "reference"])
def test_bad_arguments(implementation):
    for call, error, message in BAD:
        with kernels.use("emulated"), kernels.trace() as ran, pytest.raises(error, match=message):
            call(implementation.matmul)
        assert not len(ran)


def test_bad_configs():
    ext = extension()
    x = np.ones((2, 2))
    for arguments, message in [
        (("huge", 32, 32), 'family is "huge"'),
        (("general", 32, 64), "no such tile"),
        (("general", 0, 0), "no such tile"),
        (("general", -32, -32), "no such tile"),
    ]:
        with pytest.raises(ValueError, match=message):
            ext.MatmulConfig(*arguments)
    for keyword, message in [
        ({"fold": 12}, "fold"),
        ({"fold": -8}, "fold"),
        ({"max_blocks": 0}, "max_blocks"),
        ({"split": 2}, "split"),
        ({"split": 0}, "split"),
        ({"stream_k": True}, "stream_k"),
        ({"cluster": 2}, "cluster"),
        ({"stages": 3}, "stages"),
        ({"k_step": 16}, "k_step"),
        ({"warps": (2, 2)}, "warps"),
    ]:
        with pytest.raises(ValueError, match=message):
            general(32, **keyword)
    with kernels.use("emulated"):
        with pytest.raises(TypeError, match="config is a str"):
            kernels.matmul(x, x, config="large")
        with kernels.trace() as ran, pytest.raises(ValueError, match="float32, float16 and bfloat16 alone"):
            kernels.matmul(x, x, config=general(128))
        assert not len(ran)


def test_precision():
    """The setting is PyTorch's, and reaches the kernels."""
    assert fastnet.get_float32_matmul_precision() == "highest"
    try:
        for precision in ("high", "medium", "highest"):
            fastnet.set_float32_matmul_precision(precision)
            assert fastnet.get_float32_matmul_precision() == precision
        for bad in ("low", None, 1):
            with pytest.raises(ValueError, match="set_float32_matmul_precision: precision is"):
                fastnet.set_float32_matmul_precision(bad)
    finally:
        fastnet.set_float32_matmul_precision("highest")


# ---- the operations ------------------------------------------------------------------------------------------------

MATMUL_SHAPES = [
    ((3,), (3,)),
    ((2, 3), (3,)),
    ((3,), (3, 4)),
    ((2, 3), (3, 4)),
    ((5, 2, 3), (3, 4)),
    ((5, 2, 3), (3,)),
    ((3,), (5, 3, 4)),
    ((2, 3), (5, 3, 4)),
    ((5, 2, 3), (5, 3, 4)),
    ((6, 1, 2, 3), (5, 3, 4)),
    ((1, 2, 3), (5, 3, 4)),
    ((0, 3), (3, 4)),
    ((2, 0), (0, 4)),
    ((5, 0, 3), (3, 4)),
]
CALLS = {
    "mm": (lambda f: f.mm, [(3, 4), (4, 2)], {}),
    "bmm": (lambda f: f.bmm, [(5, 3, 4), (5, 4, 2)], {}),
    "mv": (lambda f: f.mv, [(3, 4), (4,)], {}),
    "dot": (lambda f: f.dot, [(4,), (4,)], {}),
    "addmm of a row": (lambda f: f.addmm, [(2,), (3, 4), (4, 2)], {}),
    "addmm of a matrix": (lambda f: f.addmm, [(3, 2), (3, 4), (4, 2)], {"beta": 0.5, "alpha": -2.0}),
    "addmm of a column": (lambda f: f.addmm, [(3, 1), (3, 4), (4, 2)], {"beta": 2}),
    "addmm of one": (lambda f: f.addmm, [(), (3, 4), (4, 2)], {"alpha": 3}),
    "linear": (lambda f: functional(f).linear, [(3, 4), (5, 4), (5,)], {}),
    "linear, deep": (lambda f: functional(f).linear, [(2, 3, 4), (5, 4), (5,)], {}),
    "linear of a vector": (lambda f: functional(f).linear, [(4,), (5, 4), (5,)], {}),
    "linear, no bias": (lambda f: functional(f).linear, [(3, 4), (5, 4)], {}),
    "linear, one output": (lambda f: functional(f).linear, [(3, 4), (4,)], {}),
    "linear, no rows": (lambda f: functional(f).linear, [(0, 4), (5, 4), (5,)], {}),
    "bilinear": (lambda f: functional(f).bilinear, [(2, 3, 4), (2, 3, 2), (5, 4, 2), (5,)], {}),
}


def functional(framework):
    return ops if framework is fastnet else framework.nn.functional


def tensors(framework, shapes, dtype="float64", seed=10):
    rng = np.random.default_rng(seed)
    result = []
    for shape in shapes:
        t = framework.tensor(rng.standard_normal(shape).tolist(), dtype=getattr(framework, dtype)).reshape(shape)
        result.append(t.detach().requires_grad_())
    return result


@pytest.mark.parametrize("shapes", MATMUL_SHAPES, ids=str)
def test_matmul_gradients(shapes, mode):
    assert autograd.gradcheck(fastnet.matmul, tensors(fastnet, shapes))


@pytest.mark.parametrize("call", CALLS)
def test_gradients(call, mode):
    get, shapes, arguments = CALLS[call]
    assert autograd.gradcheck(lambda *t: get(fastnet)(*t, **arguments), tensors(fastnet, shapes))


@pytest.mark.parametrize(
    "activation",
    [
        "none",
        "relu",
        "leaky_relu",
        "elu",
        "gelu",
        "gelu_tanh",
        "silu",
        "mish",
        "softplus",
        "sigmoid",
        "tanh",
        "hardswish",
    ],
)
def test_linear_activation_gradients(activation, mode):
    x, weight, bias = tensors(fastnet, [(2, 3, 4), (5, 4), (5,)])
    with kernels.trace() as ran:
        ops.linear_activation(x, weight, bias, activation)
    assert ran.names == (["matmul"] if mode == "emulated" else [])  # fused: one launch
    assert autograd.gradcheck(lambda *t: ops.linear_activation(*t, activation), [x, weight, bias])
    assert autograd.gradcheck(lambda *t: ops.linear_activation(*t, activation=activation), [x, weight])


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_as_pytorch(dtype, mode):
    """Outputs and gradients, for a random upstream gradient: a few roundings of values of the size of their sums."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    rng = np.random.default_rng(11)
    calls = [(f"matmul {s}", (lambda f: f.matmul), list(s), {}) for s in MATMUL_SHAPES] + [
        (n, *c) for n, c in CALLS.items()
    ]
    for what, get, shapes, arguments in calls:
        ours, theirs = tensors(fastnet, shapes, dtype), tensors(torch, shapes, dtype)
        out, want = get(fastnet)(*ours, **arguments), get(torch)(*theirs, **arguments)
        assert tuple(out.shape) == tuple(want.shape), what
        assert str(out.dtype).split(".")[-1] == dtype
        upstream = rng.standard_normal(tuple(want.shape))
        out.backward(fastnet.tensor(upstream.tolist(), dtype=getattr(fastnet, dtype)).reshape(tuple(want.shape)))
        want.backward(torch.tensor(upstream.tolist(), dtype=getattr(torch, dtype)).reshape(tuple(want.shape)))
        for i, (a, b) in enumerate(
            [(out.detach(), want.detach()), *((o.grad, t.grad) for o, t in zip(ours, theirs, strict=True))]
        ):
            a, b = np.array(a.double().tolist()).reshape(tuple(b.shape)), b.double().numpy()
            # At most 30 products are summed for any of these; PyTorch rounds 16-bit intermediate results more often.
            limit = 64 * epsilon(dtype) * max(1.0, np.abs(b).max(initial=0))
            assert_close(a, b, limit, f"{what}, {'output' if i == 0 else f'gradient {i - 1}'}")


def test_methods_and_operators():
    a, b = tensors(fastnet, [(2, 3), (3, 2)])
    want = a.detach().numpy() @ b.detach().numpy()
    for got in (a @ b, a.matmul(b), a.mm(b), fastnet.mm(a, b)):
        assert_close(got.detach().numpy(), want, 0)
    with pytest.raises(TypeError):
        a @ 3


def test_addmm_ignores_input_for_beta_zero(mode):
    nan = fastnet.tensor([float("nan"), 1.0])
    out = fastnet.addmm(nan, fastnet.ones(3, 4), fastnet.ones(4, 2), beta=0)
    assert out.tolist() == [[4.0, 4.0]] * 3


def test_expanded_gradient(mode):
    """The gradient of a sum is one number at stride zero."""
    a, b = tensors(fastnet, [(40, 30), (30, 20)], "float32")
    fastnet.matmul(a, b).sum().backward()
    ones = np.ones((40, 20))
    assert_close(a.grad.numpy(), ones @ b.detach().numpy().T, bound(ones.astype(np.float32), b.detach().numpy().T))
    assert_close(
        b.grad.numpy(), a.detach().numpy().T @ ones, reference_bound(a.detach().numpy().T, ones.astype(np.float32))
    )


BAD_OPS = [
    (lambda t: fastnet.matmul(t(2, 3), np.ones((3, 2))), TypeError, "matmul.*'other' must be Tensor"),
    (lambda t: fastnet.matmul(t(2, 3), t(2, 3)), ValueError, "matmul: .*3 columns and 2 rows"),
    (lambda t: fastnet.matmul(t(2, 3), t(3, 2).double()), TypeError, "matmul: .*same dtype"),
    (lambda t: fastnet.matmul(t(2, 3), t()), ValueError, "at least one dimension"),
    (lambda t: fastnet.matmul(t(2, 2, 3), t(3, 3, 2)), ValueError, "do not broadcast"),
    (lambda t: fastnet.mm(t(2, 3), t(3)), ValueError, "mm: mat2 has 1 dimensions"),
    (lambda t: fastnet.mm(t(2, 3), None), TypeError, "mm"),
    (lambda t: fastnet.bmm(t(2, 2, 3), t(3, 3, 2)), ValueError, "bmm: .*batches of 2 and 3"),
    (lambda t: fastnet.mv(t(2, 3), t(2)), ValueError, "mv: "),
    (lambda t: fastnet.dot(t(2), t(3)), ValueError, "dot: "),
    (lambda t: fastnet.addmm(t(3), t(2, 3), t(3, 2)), ValueError, "addmm: input has shape"),
    (lambda t: fastnet.addmm(t(2), t(2, 3), t(3, 2), beta="x"), TypeError, "addmm: beta is a str"),
    (lambda t: ops.linear(t(2, 3), t(4, 2)), ValueError, "linear: input has 3 features, weight takes 2"),
    (lambda t: ops.linear(t(2, 3), t(4, 3), t(3)), ValueError, "linear: bias has shape"),
    (lambda t: ops.linear(t(2, 3), t(4, 3).half()), TypeError, "linear: .*same dtype"),
    (lambda t: ops.linear(t(), t(4, 3)), ValueError, "linear: input has no dimensions"),
    (lambda t: ops.linear(t(2, 3), t(1, 4, 3)), ValueError, "linear: weight has 3 dimensions"),
    (
        lambda t: ops.linear_activation(t(2, 3), t(4, 3), activation="swish"),
        ValueError,
        "linear_activation: activation is 'swish'",
    ),
    (lambda t: ops.linear_activation(t(2, 3).long(), t(4, 3).long()), TypeError, "linear_activation: input has dtype"),
    (lambda t: ops.bilinear(t(2, 3), t(2, 4), t(5, 3, 3)), ValueError, "bilinear: input1 and input2 have shapes"),
    (lambda t: fastnet.matmul(t(2, 3) > 0, t(3, 2) > 0), TypeError, "dtype bool"),
]


@pytest.mark.parametrize("number", range(len(BAD_OPS)))
def test_bad_operands(number, mode):
    call, error, message = BAD_OPS[number]
    with kernels.trace() as ran, pytest.raises(error, match=message):
        call(lambda *shape: fastnet.ones(shape))
    assert "matmul" not in ran.names
