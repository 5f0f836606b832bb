"""matmul: the emulated kernel against float64 in every schedule, dtype, layout and tile; its configs; the operations."""

import numpy as np
import pytest
from support import SCHEDULES, assert_close, bfloat16, epsilon, schedule

from fastnet import kernels, reference
from fastnet.kernels import _runtime

FLOATS = [np.float32, np.float64, np.float16, bfloat16]
INTEGERS = [np.int32, np.int64, np.uint8]
SIZES = [0, 1, 2, 3, 4, 7, 8, 9, 16, 31, 33, 64, 65, 100, 129]
TILES = {"small": [*FLOATS, *INTEGERS], "medium": [*FLOATS, *INTEGERS], "large": [np.float32, np.float16, bfloat16]}


def name(dtype):
    return np.dtype(dtype).name


def extension():
    return _runtime.extension_for(np.empty(0))


def accumulator(dtype):
    return np.float64 if dtype == np.float64 else np.float32


def draw(rng, shape, dtype):
    if np.dtype(dtype).kind in "iu":
        info = np.iinfo(dtype)
        return rng.integers(info.min, info.max, shape, dtype, endpoint=True)
    return rng.standard_normal(shape).astype(dtype)


def lay_out(rng, x):
    """x with the same values in a memory layout drawn at random: (the array, what it is called)."""
    kind = rng.choice(["plain", "transposed", "stepped", "reversed", "padded", "misaligned"])
    if kind == "transposed":
        y = np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2)
    elif kind == "stepped":
        y = np.zeros((*x.shape[:-2], 2 * x.shape[-2], 3 * x.shape[-1]), x.dtype)[..., ::2, ::3]
        y[...] = x
    elif kind == "reversed":
        y = np.ascontiguousarray(x[..., ::-1, ::-1])[..., ::-1, ::-1]
    elif kind == "padded":
        y = np.zeros((*x.shape[:-2], x.shape[-2], x.shape[-1] + 5), x.dtype)[..., 1 : x.shape[-1] + 1]
        y[...] = x
    elif kind == "misaligned":
        y = np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
        y[...] = x
    else:
        y = x
    return y, str(kind)


def expected(a, b, bias=None):
    """In float64, or exactly, wrapped, for integers."""
    if a.dtype.kind in "iu":
        product = np.matmul(a.astype(np.uint64), b.astype(np.uint64))
        return (product if bias is None else product + bias.astype(np.uint64)).astype(a.dtype)
    with np.errstate(all="ignore"):
        product = np.matmul(a.astype(np.float64), b.astype(np.float64))
        return product if bias is None else product + bias.astype(np.float64)


def bound(a, b, bias=None, fold=16, out_dtype=None):
    """Rounding of a compensated sum of groups. A product passes its own rounding and those of at most `fold` additions
    within its group, the compensated addition of groups adds two (and K eps^2), then come the group in progress and the bias:
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
    return bound(a, b, bias, fold=max(1, a.shape[-1]))       # any order of summation


def problem(rng, dtype, sizes=SIZES):
    m, n, k = (int(rng.choice(sizes)) for _ in range(3))
    batch_a, batch_b = [((), ()), ((), ()), ((2,), ()), ((), (3,)), ((2, 1), (3,)), ((2, 3), (2, 3)), ((0,), ())][rng.integers(7)]
    if batch_a or batch_b:
        m, n, k = min(m, 40), min(n, 40), min(k, 40)
    a, a_layout = lay_out(rng, draw(rng, (*batch_a, m, k), dtype))
    b, b_layout = lay_out(rng, draw(rng, (*batch_b, k, n), dtype))
    bias = draw(rng, n, dtype) if rng.random() < 0.5 else None
    return a, b, bias, f"{name(dtype)} {a.shape} {a_layout} @ {b.shape} {b_layout}{'' if bias is None else ' + bias'}"


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS], ids=name)
def test_random_problems(dtype, full):
    rng = np.random.default_rng(1)
    for i in range(400 if full else 24):
        a, b, bias, what = problem(rng, dtype)
        want = expected(a, b, bias)
        with kernels.use("emulated", **schedule(i)), kernels.trace() as ran:
            got = kernels.matmul(a, b, bias=bias)
        assert ran.names == (["matmul"] if want.size else [])
        assert got.dtype == dtype
        assert_close(got, want, bound(a, b, bias), f"{what} {schedule(i)}")
        assert_close(reference.matmul(a, b, bias=bias), want, reference_bound(a, b, bias), f"reference {what}")


@pytest.mark.parametrize("how", SCHEDULES, ids=lambda s: "-".join(map(str, s.values())))
@pytest.mark.parametrize(("tile", "dtype"), [(t, d) for t, ds in TILES.items() for d in ds], ids=lambda x: x if isinstance(x, str) else name(x))
def test_every_tile_in_every_schedule(tile, dtype, how):
    """More than one block each way, more steps than both stages hold, several folds, both ways of loading each operand."""
    rng = np.random.default_rng(2)
    config = extension().MatmulConfig(tile=tile, fold=8)
    rows, columns = config.shape
    for m, n, k in [(rows + 5, columns + 3, 41), (3, 2 * columns, 64), (rows, columns, 8)]:
        for transpose_a, transpose_b in [(False, False), (True, False), (False, True), (True, True)]:
            a = draw(rng, (k, m), dtype).T if transpose_a else draw(rng, (m, k), dtype)
            b = draw(rng, (n, k), dtype).T if transpose_b else draw(rng, (k, n), dtype)
            bias = draw(rng, n, dtype)
            with kernels.use("emulated", **how), kernels.trace() as ran:
                got = kernels.matmul(a, b, bias=bias, config=config)
            assert tile in ran.launches[0].config
            what = f"{tile} {m}x{n}x{k} {transpose_a} {transpose_b}"
            assert_close(got, expected(a, b, bias), bound(a, b, bias, fold=8), what)


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS], ids=name)
def test_extreme_shapes(dtype):
    rng = np.random.default_rng(3)
    for i, (m, n, k) in enumerate([(1, 1, 3000), (1, 1200, 9), (1200, 1, 9), (0, 5, 3), (5, 0, 3), (0, 0, 0), (4, 6, 0), (1, 1, 1)]):
        a, b, bias = draw(rng, (m, k), dtype), draw(rng, (k, n), dtype), draw(rng, n, dtype)
        with kernels.use("emulated", **schedule(i)):
            got = kernels.matmul(a, b, bias=bias)
        assert got.shape == (m, n)
        assert_close(got, expected(a, b, bias), bound(a, b, bias), f"{m}x{n}x{k}")
        if k == 0 and got.size:
            assert (got == bias).all()


@pytest.mark.parametrize("dtype", [np.float32, bfloat16, np.int64], ids=name)
def test_vectors_and_batches(dtype):
    """Ranks as NumPy's matmul; leading dimensions that broadcast, repeat at stride zero, or cannot be walked as one."""
    rng = np.random.default_rng(4)
    many = draw(rng, (2,) * 9 + (3, 4), dtype)
    tangled = many.transpose(8, 6, 4, 2, 0, 1, 3, 5, 7, 9, 10)          # nine leading dimensions, none of them mergeable
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
            got = kernels.matmul(a, b)
        assert_close(got, expected(a, b), bound(a, b), f"{a.shape} @ {b.shape}")
        assert_close(reference.matmul(a, b), expected(a, b), reference_bound(a, b), f"reference {a.shape} @ {b.shape}")


@pytest.mark.parametrize("dtype", FLOATS, ids=name)
def test_nan_and_infinity(dtype):
    """As IEEE says, and only where the product is concerned: nothing leaks from a tile's padding."""
    rng = np.random.default_rng(5)
    one = np.ones((), dtype)
    a, b = np.abs(draw(rng, (37, 21), dtype)) + one, np.abs(draw(rng, (21, 35), dtype)) + one
    a[3, 4], a[9, 0], a[36, 20], b[20, 34], b[2, 7] = np.inf, np.nan, -np.inf, np.inf, -np.inf
    b[4, 2] = 0                                                        # inf * 0
    with np.errstate(all="ignore"):
        want = expected(a, b)
        for i, tile in enumerate(t for t in TILES if dtype in TILES[t]):
            with kernels.use("emulated", **schedule(i)):
                got = kernels.matmul(a, b, config=extension().MatmulConfig(tile=tile))
            assert np.isnan(want).any()
            assert np.isinf(want).any()
            limit = np.where(np.isfinite(want), bound(np.nan_to_num(a.astype(np.float64), posinf=0, neginf=0).astype(dtype),
                                                      np.nan_to_num(b.astype(np.float64), posinf=0, neginf=0).astype(dtype)), 0)
            assert_close(got, want, limit, f"{name(dtype)} {tile}")


def adversaries(rng, m, n, k):
    """Float32 operands that are hard to sum: what they are called, a, b."""
    normal = draw(rng, (m, k), np.float32), draw(rng, (k, n), np.float32)
    yield "normal", *normal
    yield "positive", np.abs(normal[0]), np.abs(normal[1])
    yield "constant", np.full((m, k), 0.1, np.float32), np.full((k, n), 0.3, np.float32)
    scale = np.exp2(rng.integers(-40, 40, k)).astype(np.float32)
    yield "wide range", normal[0] * scale, normal[1]
    half = k // 2
    cancel = normal[0].copy()
    cancel[:, half : 2 * half] = -cancel[:, :half] * np.float32(1 + 2.0**-20)
    b = normal[1].copy()
    b[half : 2 * half] = b[:half]
    yield "cancelling", cancel, b
    growing = np.abs(normal[0])
    growing[:, 0] = 2.0**24
    yield "large first", growing, np.ones((k, n), np.float32)


def test_error_contract():
    """At most twice the reference's error, or 2^-21 sum|a b|, whichever is larger."""
    rng = np.random.default_rng(6)
    for k in (60, 700, 4096):
        for what, a, b in adversaries(rng, 9, 35, k):
            want, magnitude = expected(a, b), np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64)
            with kernels.use("emulated"):
                error = np.abs(kernels.matmul(a, b) - want)
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
    for i, activation in enumerate(["none", "relu", "leaky_relu", "elu", "gelu", "gelu_tanh", "silu", "mish", "softplus",
                                    "sigmoid", "tanh", "hardswish"]):
        for out_dtype in {np.dtype(dtype), np.dtype(wide)}:
            with kernels.use("emulated", **schedule(i)):
                got, pre = kernels.matmul(a, b, bias=bias, activation=activation, keep_preactivation=True, out_dtype=out_dtype)
            want, want_pre = reference.matmul(a.astype(np.float64), b.astype(np.float64), bias=bias.astype(np.float64),
                                              activation=activation, keep_preactivation=True)
            limit = bound(a, b, bias, out_dtype=out_dtype)
            assert got.dtype == pre.dtype == out_dtype
            assert_close(pre, want_pre, limit, f"{activation} preactivation")
            # No activation is steeper than 1.5 (hardswish at 3); its own rounding: a few ulp of the sum's type, of values
            # up to |x| + 2, and that of the result.
            steep = 1.5 * limit + 16 * epsilon(wide) * (np.abs(want_pre) + 2) + epsilon(out_dtype) * np.abs(want)
            assert_close(got, want, steep, activation)
            short = reference.matmul(a, b, bias=bias, activation=activation, out_dtype=out_dtype)
            assert_close(short, want, steep, f"reference {activation}")


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
                results.append(kernels.matmul(left, right).tobytes())
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
            config = ext.matmul_config(batch, m, n, k, dtype, device)
            assert config.shared_bytes(8 if dtype in ("float64", "int64") else 4) <= shared
            assert config.tile != "large" or dtype in ("float32", "float16", "bfloat16")
            assert config.fold % 8 == 0
            assert str(config) == str(ext.matmul_config(batch, m, n, k, dtype, device))
            assert str(config).startswith(f"matmul(tile={config.tile} ")
            seen.add((config.tile, dtype))
    assert seen == {(tile, name(d)) for tile, ds in TILES.items() for d in ds}


def test_prints_its_config(tmp_path):
    import os
    import subprocess
    import sys

    code = "import numpy as np; from fastnet import kernels; kernels.use('emulated'); kernels.matmul(np.ones((2, 3)), np.ones((3, 2)))"
    environment = {**os.environ, "FASTNET_PRINT_CONFIG": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "matmul 2x3, 3x2 float64 matmul(tile=small 32x32, fold=16)" in done.stderr


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
    (lambda m: m(np.ones((2, 2), F), np.ones((2, 2), F), bias=np.ones(3, F)), ValueError, "bias has 3 elements, expected 2"),
    (lambda m: m(np.ones((2, 2), F), np.ones((2, 2), F), bias=np.ones(2)), TypeError, "bias has dtype float64"),
    (lambda m: m(np.ones((2, 2), F), np.ones((2, 2), F), bias=np.ones((1, 2), F)), ValueError, "bias has 2 dimensions"),
    (lambda m: m(np.ones((2, 2), F), np.ones((2, 2), F), activation="swish"), ValueError, "activation is 'swish'"),
    (lambda m: m(np.ones((2, 2), F), np.ones((2, 2), F), activation=None), ValueError, "activation is None"),
    (lambda m: m(np.ones((2, 2), F), np.ones((2, 2), F), parameter="x"), TypeError, "parameter is a str"),
    (lambda m: m(np.ones((2, 2), int), np.ones((2, 2), int), activation="relu"), TypeError, "needs floating-point"),
    (lambda m: m(np.ones((2, 2), F), np.ones((2, 2), F), out_dtype=np.float64), TypeError, "out_dtype is float64"),
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
    with pytest.raises(ValueError, match="tile"):
        ext.MatmulConfig(tile="huge")
    with pytest.raises(ValueError, match="fold"):
        ext.MatmulConfig(tile="small", fold=12)
    with kernels.use("emulated"):
        with pytest.raises(TypeError, match="config is a str"):
            kernels.matmul(x, x, config="large")
        with pytest.raises(ValueError, match="float64 does not have"):
            kernels.matmul(x, x, config=ext.MatmulConfig(tile="large"))
