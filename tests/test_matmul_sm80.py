"""The sm80 family of matmul (mma.sync, cp.async, ldmatrix), emulated, against float64: every tile, layout, alignment
and division of k, in every schedule, posing as an A100 and as an H200."""

import numpy as np
import pytest
from matmul_problems import adversaries, draw, expected, extension, lay_out, name
from support import SCHEDULES, assert_close, bfloat16, epsilon, schedule

from fastnet import kernels, reference

DTYPES = [np.float32, np.float16, bfloat16]
TILES = {
    (128, 256): [np.float16, bfloat16],
    (128, 128): [np.float16, bfloat16],
    (128, 64): [np.float32],
    (64, 64): DTYPES,
    (16, 128): DTYPES,
    (128, 16): DTYPES,
}
CASES = [(tile, dtype) for tile, dtypes in TILES.items() for dtype in dtypes]
IDS = [f"{r}x{c}-{name(d)}" for (r, c), d in CASES]
DEVICES = ("A100", "H200")
STEP = 32  # k of a stage


def config(tile, **how):
    return extension().MatmulConfig("sm80", *tile, **how)


def run(a, b, how, device="A100", **arguments):
    with kernels.use("emulated", device=device, **how), kernels.trace() as ran:
        got = kernels.matmul(a, b, **arguments)
    assert "sm80" in ran.launches[0].config
    return got


def magnitude(a, b):
    return np.abs(a.astype(np.float64)) @ np.abs(b.astype(np.float64))


def bound(a, b, more=0.0, out_dtype=None, tf32=False):
    """`more`: sum of the magnitudes of what is added to the product.

    Tensor cores cut off each of a run's terms below 2^-24 of the largest, and then the sum below 2^-23 of it: 11 or 7
    units of 2^-24 for a run of 8 (16-bit) or 4 (TF32). 16-bit types are summed so from end to end. float32 loses, per
    term, 2^-22 for the product of the small halves and 2^-23 for the last bit of each; then it is promoted every 32
    terms, where 8 runs of big products and a thousandth of 16 small ones were cut off, by an addition that keeps what
    it lost. Then come at most 8 roundings to float32, and one to the result's dtype."""
    size, k = magnitude(a, b), a.shape[-1]
    if a.dtype == np.float32:
        relative = (2.0**-9 if tf32 else 2.0**-21) + 8.2 * 7 * 2.0**-24
    else:
        relative = -(-k // 8) * 11 * 2.0**-24
    tiny = {"float16": 2.0**-25, "bfloat16": 2.0**-134, "float32": 2.0**-149}[name(out_dtype or a.dtype)]
    return (size + more) * (relative + 8.1 * 2.0**-24 + epsilon(out_dtype or a.dtype)) + tiny


def operands(rng, m, n, k, dtype, transpose_a, transpose_b):
    a = draw(rng, (k, m), dtype).T if transpose_a else draw(rng, (m, k), dtype)
    b = draw(rng, (n, k), dtype).T if transpose_b else draw(rng, (k, n), dtype)
    return a, b


@pytest.mark.parametrize("dtype", DTYPES, ids=name)
def test_random_problems(dtype, full):
    """Sizes around the tiles' edges, any layout, everything that may follow, any division of k."""
    rng = np.random.default_rng(1)
    sizes = [1, 2, 3, 5, 8, 15, 16, 17, 31, 33, 63, 64, 65, 100, 127, 128, 129, 136, 150, 200, 257]
    tiles = [t for t in TILES if dtype in TILES[t]]
    for i in range(300 if full else 24):
        tile = tiles[rng.integers(len(tiles))]
        m, n = int(rng.choice(sizes)), int(rng.choice(sizes))
        k = int(rng.choice([0, 1, 7, 31, 32, 33, 64, 96, 129, 161, 200, 250]))
        batch = [(), (), (), (2,), (2, 2)][rng.integers(5)]
        if batch:
            m, n, k = min(m, 140), min(n, 140), min(k, 100)
        a, a_layout = lay_out(rng, draw(rng, (*batch[: rng.integers(len(batch) + 1)], m, k), dtype))
        b, b_layout = lay_out(rng, draw(rng, (*batch, k, n), dtype))
        how = {"stages": int(rng.integers(2, 6))}
        division = rng.integers(3)
        if division == 1:
            how["split"] = int(rng.integers(2, 5))
        elif division == 2:
            how |= {"stream_k": True, "max_blocks": int(rng.integers(1, 9))}
        elif rng.random() < 0.3:
            how["max_blocks"] = 2
        out_dtype = np.float32 if rng.random() < 0.3 else dtype
        follows, want, more = {}, expected(a, b), 0.0
        if rng.random() < 0.5:
            follows["bias"] = draw(rng, n, dtype)
            want, more = want + follows["bias"].astype(np.float64), more + abs(follows["bias"].astype(np.float64))
        if rng.random() < 0.4:
            shape = want.shape if rng.random() < 0.7 else want.shape[-1:]
            c = follows["c"] = lay_out(rng, draw(rng, shape, dtype))[0] if len(shape) > 1 else draw(rng, shape, dtype)
            follows |= {"alpha": -0.5, "beta": 1.5}
            product = expected(a, b)
            want = want - 1.5 * product + 1.5 * c.astype(np.float64)
            more = more + 1.5 * abs(c.astype(np.float64))
        if rng.random() < 0.3:
            residual = follows["residual"] = draw(rng, want.shape, out_dtype)
            want, more = want + residual.astype(np.float64), more + abs(residual.astype(np.float64))
        what = f"{name(dtype)} {a.shape} {a_layout} @ {b.shape} {b_layout} {tile} {how} {sorted(follows)} {schedule(i)}"
        got = run(a, b, schedule(i), DEVICES[i % 2], config=config(tile, **how), out_dtype=out_dtype, **follows)
        assert got.dtype == out_dtype, what
        assert_close(got, want, bound(a, b, more, out_dtype), what)


@pytest.mark.parametrize(("tile", "dtype"), CASES, ids=IDS)
def test_every_tile_in_every_schedule(tile, dtype):
    """All four transposes, more steps than there are stages, edges in every dimension, blocks that take several tiles;
    results are the same bits in every schedule."""
    rng = np.random.default_rng(2)
    rows, columns = tile
    for transpose_a, transpose_b in [(False, False), (True, False), (False, True), (True, True)]:
        for stages, m, n, k in [(2, rows + 8, 24, 4 * STEP), (3, rows - 3, columns + 5, 4 * STEP + 7)]:
            a, b = operands(rng, m, n, k, dtype, transpose_a, transpose_b)
            results = []
            for i, how in enumerate(SCHEDULES):
                if (i + transpose_a + 2 * transpose_b) % 2 and rows * columns > 8192:
                    continue  # large tiles: three schedules, the others with the next transpose
                got = run(a, b, how, config=config(tile, stages=stages, max_blocks=3))
                assert_close(got, expected(a, b), bound(a, b), f"{m}x{n}x{k} {transpose_a} {transpose_b} {how}")
                results.append(got.tobytes())
            assert len(set(results)) == 1


@pytest.mark.parametrize("dtype", DTYPES, ids=name)
def test_alignment(dtype):
    """Every width of copies: rows that start at multiples of 16, 8, 4 and 2 bytes, strides everywhere, stride zero."""
    rng = np.random.default_rng(3)
    ext, size = extension(), np.dtype(dtype).itemsize
    tile = (64, 64)

    def place(x, start, extra):
        """x in rows of a multiple of 8 elements and `extra`, from `start` elements behind a multiple of 256 bytes."""
        pitch = -(-x.shape[1] // 8) * 8 + extra
        raw = np.full((x.shape[0] * pitch + start) * size + 256, 0xFF, np.uint8)  # NaN all around
        begin = -raw.ctypes.data % 256 + start * size
        y = raw[begin : begin + x.shape[0] * pitch * size].view(dtype).reshape(x.shape[0], pitch)[:, : x.shape[1]]
        y[...] = x
        return y

    seen = set()
    for i, (start, extra) in enumerate(
        [(0, 0), (0, 8 // size), (8 // size, 0), (0, 4 // size), (1, 0), (0, 1), (3, 2)]
    ):
        for transpose_a, transpose_b in [(False, True), (True, False)]:
            m, n, k = (72, 80, 136) if i % 2 else (67, 77, 133)  # the last copies of a row: whole, or cut
            a, b = draw(rng, (m, k), dtype), draw(rng, (k, n), dtype)
            left = place(a.T, start, extra).T if transpose_a else place(a, start, extra)
            right = place(b.T, start, extra).T if transpose_b else place(b, start, extra)
            problem = ext.matmul_problem(np.empty((m, n), dtype), left, right)
            seen |= {problem.a_alignment, problem.b_alignment}
            got = run(left, right, schedule(i), config=config(tile))
            assert_close(got, expected(a, b), bound(a, b), f"{start} {extra} {transpose_a} {transpose_b}")
            # The same values as copied otherwise.
            assert (got == run(a, b, schedule(0), config=config(tile))).all()
    assert seen == {16, 8, 4, size}
    strided = draw(rng, (70, 3, 50, 2), dtype)[:, 1, :, 0]
    repeated = np.broadcast_to(draw(rng, (50, 1), dtype), (50, 65))
    constant = np.broadcast_to(draw(rng, (), dtype), (66, 50))
    for i, (a, b) in enumerate([(strided, repeated), (constant, strided.T), (constant[:, ::-1], repeated[::-1])]):
        assert_close(run(a, b, schedule(i), config=config(tile)), expected(a, b), bound(a, b))


@pytest.mark.parametrize("dtype", DTYPES, ids=name)
def test_extreme_shapes(dtype):
    rng = np.random.default_rng(4)
    for i, (m, n, k) in enumerate([(1, 1, 500), (1, 300, 9), (300, 1, 9), (5, 7, 0), (1, 1, 1), (2, 1, 33)]):
        a, b, bias = draw(rng, (m, k), dtype), draw(rng, (k, n), dtype), draw(rng, n, dtype)
        for tile in (t for t in TILES if dtype in TILES[t]):
            for how in ({}, {"split": 3}, {"stream_k": True, "max_blocks": 3}):
                got = run(a, b, schedule(i), bias=bias, config=config(tile, **how))
                want = expected(a, b) + bias.astype(np.float64)
                assert_close(got, want, bound(a, b, abs(bias.astype(np.float64))), f"{m}x{n}x{k} {tile} {how}")
                if k == 0:
                    assert (got == bias).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=name)
def test_division_of_k(dtype):
    """split-K and stream-K: as many parts as there are steps, more, fewer, tiles cut at any place; the same bits in
    every schedule, and a workspace of the stated size, whatever was in it."""
    rng = np.random.default_rng(5)
    ext, tile = extension(), (64, 64)
    for m, n, k in [(70, 130, 5 * STEP + 3), (64, 64, 7 * STEP)]:
        a, b = draw(rng, (2, m, k), dtype), draw(rng, (2, k, n), dtype)
        problem = ext.MatmulProblem(m, n, k, name(dtype), batch=2)
        tiles = 2 * -(-m // 64) * -(-n // 64)
        for how, slots in [
            ({"split": 2}, 2 * tiles),
            ({"split": 8 if k > 6 * STEP else 6}, (7 if k > 6 * STEP else 6) * tiles),
            ({"split": 50}, -(-k // STEP) * tiles),  # no more parts than steps
            *(({"stream_k": True, "max_blocks": blocks}, 2 * blocks) for blocks in (1, 2, 3, 5, 8, 13)),
        ]:
            assert ext.matmul_workspace_bytes(config(tile, **how), problem) == slots * 64 * 64 * 4, how
            results = set()
            for s in SCHEDULES if how.get("max_blocks", 3) == 3 else SCHEDULES[slots % 2 :: 3]:
                got = run(a, b, s, config=config(tile, **how))
                results.add(got.tobytes())
            assert len(results) == 1
            assert_close(got, expected(a, b), bound(a, b), f"{m}x{n}x{k} {how}")


@pytest.mark.parametrize("dtype", DTYPES, ids=name)
def test_nan_and_infinity(dtype):
    """As IEEE says, element by element: float32 tiles with a NaN are computed again without splitting numbers."""
    rng = np.random.default_rng(6)
    m, n, k = 150, 140, 100
    a, b = np.abs(draw(rng, (m, k), dtype)) + np.ones((), dtype), np.abs(draw(rng, (k, n), dtype)) + np.ones((), dtype)
    clean_a, clean_b = a.copy(), b.copy()
    a[3, 4], a[9, 0], a[149, 99], b[99, 139], b[2, 7] = np.inf, np.nan, -np.inf, np.inf, -np.inf
    b[4, 2] = 0  # inf * 0
    want = expected(a, b)
    assert np.isnan(want).any()
    assert np.isinf(want).any()
    clean_a[3, 4] = clean_a[9, 0] = clean_a[149, 99] = clean_b[99, 139] = clean_b[2, 7] = clean_b[4, 2] = 0
    limit = np.where(np.isfinite(want), bound(clean_a, clean_b), 0)
    for i, tile in enumerate(t for t in TILES if dtype in TILES[t]):
        for transposed in (False, True):
            x, y = (np.asfortranarray(a), np.asfortranarray(b)) if transposed else (a, b)
            for how in ({}, {"split": 2}, {"stream_k": True, "max_blocks": 3}):
                got = run(x, y, schedule(i), config=config(tile, **how))
                assert_close(got, want, limit, f"{name(dtype)} {tile} {transposed} {how}")


def test_largest_numbers():
    """Numbers that round to an infinity as TF32."""
    a = np.full((3, 40), np.float32(3.4028235e38))
    b = np.full((40, 20), np.float32(2.0**-30))
    got = run(a, b, {}, config=config((64, 64)))
    assert_close(got, expected(a, b), bound(a, b))


@pytest.mark.parametrize("tile", [t for t in TILES if np.float32 in TILES[t]], ids=str)
def test_error_contract(tile):
    """float32: at most twice the reference's error, or 2^-21 sum|a b|, whichever is larger."""
    rng = np.random.default_rng(7)
    for k in (60, 700, 4096):
        for what, a, b in adversaries(rng, 9, 35, k):
            want, size = expected(a, b), magnitude(a, b)
            of_reference = np.abs(reference.matmul(a, b) - want)
            limit = np.maximum(2 * of_reference.max(), 2.0**-21 * size)
            for how in ({}, {"split": 4}):
                error = np.abs(run(a, b, {}, config=config(tile, **how)) - want)
                worst = (error / size * 2.0**21).max()
                assert (error <= limit).all(), f"{what}, k={k} {how}: error is {worst:.3g} times 2^-21 sum|a b|"


def test_sums_must_be_promoted():
    """The emulated tensor cores cut off as real ones do: where a sum stays in them, the error grows with k."""
    rng = np.random.default_rng(8)
    a, b = np.abs(draw(rng, (16, 4096), np.float32)), np.abs(draw(rng, (4096, 24), np.float32))
    size = magnitude(a, b)

    def worst(fold):
        got = run(a, b, {}, config=config((16, 128), fold=fold))
        return (np.abs(got - expected(a, b)) / size).max()

    assert worst(32) < 2.0**-21
    assert worst(4096) > 8 * 2.0**-21


def test_precision():
    """TF32 on request, by argument and by the setting; everything else takes no notice."""
    import fastnet

    rng = np.random.default_rng(9)
    a, b = draw(rng, (70, 100), np.float32), draw(rng, (100, 70), np.float32)
    how = {"config": config((64, 64))}
    highest, want = run(a, b, {}, **how), expected(a, b)
    assert_close(highest, want, bound(a, b))
    for precision in ("high", "medium"):
        got = run(a, b, {}, precision=precision, **how)
        assert_close(got, want, bound(a, b, tf32=True))
        assert (np.abs(got - want) > bound(a, b)).any()
        try:
            fastnet.set_float32_matmul_precision(precision)
            assert (run(a, b, {}, **how) == got).all()
            assert (run(a, b, {}, precision="highest", **how) == highest).all()
        finally:
            fastnet.set_float32_matmul_precision("highest")
    exact = a.astype(bfloat16).astype(np.float32)  # has no more bits than TF32
    assert_close(
        run(exact, b.astype(bfloat16).astype(np.float32), {}, precision="high", **how),
        expected(exact, b.astype(bfloat16).astype(np.float32)),
        bound(exact, b),
    )
    half = a.astype(np.float16), b.astype(np.float16)
    assert (run(*half, {}, precision="high", **how) == run(*half, {}, **how)).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=name)
def test_epilogue(dtype):
    """Every activation, the preactivation and both dtypes of results, by runs of columns and by single ones."""
    rng = np.random.default_rng(10)
    activations = "none relu leaky_relu elu gelu gelu_tanh silu mish softplus sigmoid tanh hardswish".split()
    for i, activation in enumerate(activations):
        n = 88 if i % 2 else 83
        a, b, bias = draw(rng, (70, 40), dtype), draw(rng, (40, n), dtype), draw(rng, n, dtype)
        residual = draw(rng, (70, n), dtype)
        for out_dtype in {np.dtype(dtype), np.dtype(np.float32)}:
            for how in ({}, {"split": 2}):
                got, pre = run(
                    a,
                    b,
                    schedule(i),
                    config=config((64, 64), **how),
                    bias=bias,
                    residual=residual,
                    activation=activation,
                    keep_preactivation=True,
                    out_dtype=out_dtype,
                )
                want, want_pre = reference.matmul(
                    *(x.astype(np.float64) for x in (a, b)),
                    bias=bias.astype(np.float64),
                    residual=residual.astype(np.float64),
                    activation=activation,
                    keep_preactivation=True,
                )
                more = abs(bias.astype(np.float64)) + abs(residual.astype(np.float64))
                limit = bound(a, b, more, out_dtype)
                assert_close(pre, want_pre, limit, f"{activation} preactivation {how}")
                # As in test_matmul: no activation is steeper than 1.5, its own rounding is a few ulp.
                steep = 1.5 * limit + 16 * 2.0**-24 * (np.abs(want_pre) + 2) + epsilon(out_dtype) * np.abs(want)
                assert_close(got, want, steep, f"{activation} {how}")


@pytest.mark.parametrize("dtype", DTYPES, ids=name)
def test_row_sums(dtype):
    """The gradient of a bias beside its weight's: sums of a's rows, in the same launch."""
    rng = np.random.default_rng(11)
    for i, (tile, k) in enumerate((t, k) for t in TILES if dtype in TILES[t] for k in (0, 5, 150)):
        m, n = 150, 140
        for transposed in (True, False):
            a, b = operands(rng, m, n, k, dtype, transposed, False)
            for how in ({}, {"split": 3}, {"stream_k": True, "max_blocks": 3}):
                got, sums = run(a, b, schedule(i), config=config(tile, **how), row_sums=True)
                assert (got == run(a, b, schedule(0), config=config(tile, **how))).all()
                wide = a.astype(np.float64)
                # Terms of a stage one after the other, stages with compensation, then the parts.
                limit = (40 * 2.0**-24 + epsilon(dtype)) * np.abs(wide).sum(1) + 2.0**-25 * (dtype == np.float16)
                assert sums.dtype == dtype
                assert_close(sums, wide.sum(1), limit, f"{tile} {k} {transposed} {how}")


def test_bad_configs():
    ext = extension()
    for arguments, keywords, message in [
        ((100, 100), {}, "no such tile"),
        ((64, 64), {"stages": 1}, "stages outside of 2 to 6"),
        ((64, 64), {"stages": 7}, "stages outside of 2 to 6"),
        ((64, 64), {"k_step": 64}, "k_step=32"),
        ((64, 64), {"fold": 48}, "multiple of 32"),
        ((64, 64), {"split": 0}, "split below 1"),
        ((64, 64), {"cluster": 2}, "cluster"),
        ((64, 64), {"warps": (2, 2)}, "warps"),
        ((64, 64), {"stream_k": True}, "stream_k without max_blocks"),
        ((64, 64), {"stream_k": True, "max_blocks": 3, "split": 2}, "both a split and stream_k"),
    ]:
        with pytest.raises(ValueError, match=message):
            ext.MatmulConfig("sm80", *arguments, **keywords)
    single, double = np.ones((4, 4), np.float32), np.ones((4, 4))
    with kernels.trace() as ran:
        for x, how, device, message in [
            (double, config((64, 64)), "A100", "float32, float16 and bfloat16"),
            (single, config((128, 128)), "A100", "a tile that float32"),
            (single.astype(np.float16), config((128, 64)), "A100", "a tile that float32"),
            (single, config((128, 64), stages=5), "RTX 4090", "bytes of shared memory"),
        ]:
            with kernels.use("emulated", device=device), pytest.raises(ValueError, match=message):
                kernels.matmul(x, x, config=how)
    assert not len(ran)


def test_gradient_of_a_linear_layer():
    """The weight's gradient and the bias's come from one launch, and are what the reference gives."""
    import fastnet

    rng = np.random.default_rng(12)
    arrays = [rng.standard_normal(shape).astype(np.float16) for shape in [(300, 96), (64, 96), (64,)]]
    upstream = rng.standard_normal((300, 64)).astype(np.float16)
    gradients = []
    for mode in ("emulated", "reference"):
        tensors = [fastnet.tensor(x.tolist(), dtype=fastnet.float16).requires_grad_() for x in arrays]
        with kernels.use(mode):
            out = fastnet.nn.functional.linear(*tensors)
            with kernels.trace() as ran:
                out.backward(fastnet.tensor(upstream.tolist(), dtype=fastnet.float16))
        if mode == "emulated":
            assert ran.names == ["matmul", "matmul"]
            assert all("sm80" in launch.config for launch in ran)
        gradients.append([t.grad.numpy().astype(np.float64) for t in tensors])
    for got, want in zip(*gradients, strict=True):
        # Both are rounded to 16 bits once, after sums of at most 300 terms of size 4 at most.
        assert_close(got, want, 2 * 2.0**-11 * np.abs(want) + 300 * 16 * 11 * 2.0**-24)


def test_configs_are_offered():
    """Tensor cores where they are faster: 16-bit types everywhere, float32 where three TF32 products beat one; k is
    divided where tiles are few."""
    ext = extension()

    def chosen(m, n, k, dtype, device, **how):
        return ext.matmul_config(ext.MatmulProblem(m, n, k, dtype, **how), device)

    for device in ("A100", "RTX 3090", "RTX 4090", "RTX 5090"):
        assert chosen(4096, 4096, 4096, "bfloat16", device).family == "sm80"
        assert chosen(4096, 4096, 4096, "float64", device).family == "general"
    assert chosen(4096, 4096, 4096, "float32", "A100").family == "sm80"
    assert chosen(4096, 4096, 4096, "float32", "A100", tf32=True).family == "sm80"
    assert chosen(4096, 4096, 4096, "float32", "RTX 4090").family == "general"
    few = chosen(128, 128, 65536, "bfloat16", "A100")
    assert few.split > 1 or few.stream_k
