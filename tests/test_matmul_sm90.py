"""The sm90 family of matmul, emulated as an H200: every tile, layout, division of k and way out, against float64."""

import numpy as np
import pytest
from support import SCHEDULES, assert_close, bfloat16, epsilon, schedule

from fastnet import kernels, reference
from fastnet.kernels import _runtime

TYPES = [np.float16, bfloat16]
TILES = [(128, 256), (128, 192), (128, 128), (128, 64), (64, 256), (64, 128), (64, 64)]
TINY = {"float16": 2.0**-25, "bfloat16": 2.0**-134, "float32": 2.0**-149}


def name(dtype):
    return np.dtype(dtype).name


def config(rows, columns, **how):
    return _runtime.extension_for(np.empty(0)).MatmulConfig("sm90", rows, columns, **how)


def lay_out(rng, x, kind):
    """x with the same values in another memory layout; rows begin at multiples of `kind` bytes or are apart."""
    if kind == "reversed":
        return np.ascontiguousarray(x[..., ::-1, ::-1])[..., ::-1, ::-1]
    if kind == "stepped":
        y = np.zeros((*x.shape[:-2], 2 * x.shape[-2], 3 * x.shape[-1]), x.dtype)[..., ::2, ::3]
    elif kind == "misaligned":
        y = np.zeros(x.nbytes + 2, np.uint8)[2:].view(x.dtype).reshape(x.shape)
    else:
        step = kind // x.itemsize
        row = (x.shape[-1] + step - 1) // step * step + (step if kind < 16 else 0)
        raw = np.zeros(x.nbytes // max(1, x.shape[-1]) * row + 64, np.uint8)
        start = -raw.ctypes.data % 16
        flat = raw[start:].view(x.dtype)[: int(np.prod(x.shape[:-1])) * row]
        y = flat.reshape(*x.shape[:-1], row)[..., : x.shape[-1]]
    y[...] = x
    return y


def draw(rng, shape, dtype, transposed=False, kind=16):
    x = rng.standard_normal(shape).astype(dtype)
    if transposed:
        return lay_out(rng, np.ascontiguousarray(x.swapaxes(-1, -2)), kind).swapaxes(-1, -2)
    return lay_out(rng, x, kind)


def wide(x):
    return np.asarray(x).astype(np.float64)


def check(got, a, b, want, what, more=0.0):
    """Rounding: every sum in float32, at most K and the parts of k, then what is added, then the result."""
    k = a.shape[-1]
    magnitude = np.matmul(np.abs(wide(a)), np.abs(wide(b))) + more
    assert_close(
        got,
        want,
        magnitude * ((k + 12) * epsilon(np.float32) + epsilon(got.dtype)) * 1.01 + TINY[name(got.dtype)],
        what,
    )


KINDS = [16, 16, 16, 8, 4, "misaligned", "stepped", "reversed"]
BATCHES = [
    ((), ()),
    ((), ()),
    ((), ()),
    ((3,), ()),
    ((), (2,)),
    ((2, 1), (3,)),
    ((2, 3), (2, 3)),
    ((2, 1, 2, 1), (2, 1, 2)),
]


def random_problem(rng, dtype):
    rows, columns = TILES[rng.integers(len(TILES))]
    how = {"cluster": int(rng.integers(1, 3))}
    if rng.random() < 0.3:
        how["split"] = int(rng.integers(2, 6))
    elif rng.random() < 0.4:
        how |= {"stream_k": True, "max_blocks": int(rng.integers(2, 8))}
    elif rng.random() < 0.5:
        how["max_blocks"] = int(rng.integers(1, 4))
    if rng.random() < 0.5:
        how["stages"] = 3
    m, n = (int(rng.choice([1, 8, 40, 63, 64, 65, 120, 128, 131, 200, 264])) for _ in range(2))
    k = int(rng.choice([1, 2, 8, 63, 64, 65, 128, 200, 256, 321, 456]))
    batch_a, batch_b = BATCHES[rng.integers(len(BATCHES))]
    if batch_a or batch_b:
        m, n, k = min(m, 72), min(n, 72), min(k, 200)
    kinds = [KINDS[rng.integers(len(KINDS))] for _ in range(2)]
    turned = rng.random(2) < 0.5
    a = draw(rng, (*batch_a, m, k), dtype, turned[0], kinds[0])
    b = draw(rng, (*batch_b, k, n), dtype, turned[1], kinds[1])
    what = f"{name(dtype)} {a.shape} {kinds[0]} {turned[0]} @ {b.shape} {kinds[1]} {turned[1]} {rows}x{columns} {how}"
    return a, b, config(rows, columns, **how), what


@pytest.mark.parametrize("dtype", TYPES, ids=name)
def test_random_problems(dtype, full):
    rng = np.random.default_rng(1)
    for i in range(300 if full else 24):
        a, b, how, what = random_problem(rng, dtype)
        want = np.matmul(wide(a), wide(b))
        more, arguments = 0.0, {}
        if rng.random() < 0.5:
            arguments["out_dtype"] = np.float32
        if rng.random() < 0.5:
            arguments["alpha"] = -0.5
            want = want * -0.5
        if rng.random() < 0.3:
            bias, residual = draw(rng, (1, want.shape[-1]), dtype)[0], draw(rng, want.shape, dtype)
            c = draw(rng, want.shape[-2:], np.float32 if "out_dtype" in arguments else dtype)
            want = want + 2 * wide(c) + wide(bias) + wide(residual)
            more = 2 * np.abs(wide(c)) + np.abs(wide(bias)) + np.abs(wide(residual))
            arguments |= {
                "bias": bias,
                "residual": residual,
                "c": c,
                "beta": 2,
                "keep_preactivation": True,
                "activation": "relu",
            }
        with kernels.use("emulated", device="H200", **schedule(i)), kernels.trace() as ran:
            got = kernels.matmul(a, b, config=how, **arguments)
        assert ran.names == ["matmul"]
        assert "sm90" in ran.launches[0].config
        what = f"{i}: {what} {sorted(arguments)} {schedule(i)}"
        if "bias" in arguments:
            got, before = got
            check(before, a, b, want, what, more)
            assert (np.asarray(got) == np.maximum(np.asarray(before), 0)).all(), what
        else:
            check(got, a, b, want, what, more)


@pytest.mark.parametrize("how", SCHEDULES, ids=lambda s: "-".join(map(str, s.values())))
@pytest.mark.parametrize("tile", TILES, ids=lambda t: f"{t[0]}x{t[1]}")
def test_every_tile_in_every_schedule(tile, how):
    """Tiles each way, in clusters and alone, more steps than stages, both major orders of each operand."""
    rng = np.random.default_rng(2)
    rows, columns = tile
    m, n, k = 2 * rows + 8, columns + 8, 5 * 64 - 8
    for turned_a, turned_b, cluster in [(False, True, 2), (True, False, 2), (False, False, 1), (True, True, 1)]:
        a, b = draw(rng, (m, k), bfloat16, turned_a), draw(rng, (k, n), bfloat16, turned_b)
        with kernels.use("emulated", device="H200", **how):
            got = kernels.matmul(a, b, config=config(rows, columns, stages=3, cluster=cluster, max_blocks=2))
        check(got, a, b, np.matmul(wide(a), wide(b)), f"{tile} {turned_a} {turned_b} {cluster}")


@pytest.mark.parametrize("how", SCHEDULES, ids=lambda s: "-".join(map(str, s.values())))
def test_operands_that_tma_cannot_take(how):
    """Rows at multiples of 8, 4 and 2 bytes, and elements apart, brought by threads, beside TMA and without it."""
    rng = np.random.default_rng(3)
    for i, (kind_a, kind_b) in enumerate(
        [(8, 16), (16, 4), (4, "misaligned"), ("stepped", 8), ("reversed", "reversed")]
    ):
        for turned_a, turned_b in [(False, False), (True, True)]:
            a, b = (
                draw(rng, (130, 330), np.float16, turned_a, kind_a),
                draw(rng, (330, 70), np.float16, turned_b, kind_b),
            )
            with kernels.use("emulated", device="H200", **how):
                got = kernels.matmul(a, b, config=config(128, 64, stages=3, cluster=1 + i % 2))
            check(got, a, b, np.matmul(wide(a), wide(b)), f"{kind_a} {turned_a} @ {kind_b} {turned_b}")


@pytest.mark.parametrize("dtype", TYPES, ids=name)
def test_parts_of_k(dtype):
    """Split-K and stream-K give the sums of their parts in the order of k: the same bits in every schedule."""
    rng = np.random.default_rng(4)
    a, b, bias = draw(rng, (200, 600), dtype), draw(rng, (600, 136), dtype), draw(rng, (1, 136), dtype)[0]
    want = np.matmul(wide(a), wide(b)) + wide(bias)
    for divided in [
        {"split": 3},
        {"split": 100},
        {"stream_k": True, "max_blocks": 5},
        {"stream_k": True, "max_blocks": 6, "cluster": 2},
    ]:
        results = []
        for how in SCHEDULES:
            with kernels.use("emulated", device="H200", **how):
                results.append(kernels.matmul(a, b, bias=bias, out_dtype=np.float32, config=config(64, 128, **divided)))
        check(results[0], a, b, want, str(divided), np.abs(wide(bias)))
        assert all((r == results[0]).all() for r in results[1:]), divided


@pytest.mark.parametrize("dtype", TYPES, ids=name)
def test_row_sums(dtype):
    """The gradient of a bias beside its weight's: sums of a's rows, in the same launch, in every schedule."""
    rng = np.random.default_rng(8)
    ways = [{}, {"split": 3}, {"stream_k": True, "max_blocks": 6}, {"max_blocks": 2}]
    for i, (tile, k) in enumerate((t, k) for t in TILES for k in (0, 5, 330)):
        kinds = [(16, 16), (4, 16), (16, "misaligned"), ("stepped", 8)][i % 4] if k else (16, 16)
        how = {**ways[i % len(ways)], "cluster": 1 + i // 2 % 2, "stages": 3}
        for transposed in (True, False):
            a, b = draw(rng, (200, k), dtype, transposed, kinds[0]), draw(rng, (k, 144), dtype, False, kinds[1])
            used = config(*tile, **how)
            for which in SCHEDULES if tile == (64, 128) else [schedule(i)]:
                with kernels.use("emulated", device="H200", **which), kernels.trace() as ran:
                    got, sums = kernels.matmul(a, b, config=used, row_sums=True)
                with kernels.use("emulated", device="H200"):
                    assert (got == kernels.matmul(a, b, config=used)).all()
                what = f"{tile} k={k} {how} {kinds} {transposed} {which}"
                assert ran.names == ["matmul"], what
                # 32 terms of a stage one after the other, stages with compensation, four parts of it, then those of k.
                limit = (40 * epsilon(np.float32) + epsilon(dtype)) * np.abs(wide(a)).sum(1)
                assert sums.dtype == dtype
                assert_close(sums, wide(a).sum(1), limit + TINY[name(dtype)], what)


def test_row_sums_of_infinities():
    a, b = np.zeros((130, 200), bfloat16), np.ones((200, 64), bfloat16)
    a[1, 3], a[2, 199], a[129, 64:66] = np.inf, np.nan, (np.inf, -np.inf)
    for x in (a, np.asfortranarray(a)):
        with kernels.use("emulated", device="H200"):
            _, sums = kernels.matmul(x, b, config=config(128, 64, split=2), row_sums=True)
        assert sums[1] == np.inf
        assert np.isnan(sums[[2, 129]]).all()
        assert (np.delete(sums, [1, 2, 129]) == 0).all()


@pytest.mark.parametrize("dtype", TYPES, ids=name)
def test_extreme_shapes(dtype):
    rng = np.random.default_rng(5)
    for i, (m, n, k) in enumerate(
        [(1, 1, 3000), (1, 600, 9), (600, 1, 9), (4, 6, 0), (1, 1, 1), (300, 8, 1), (0, 5, 3), (2, 5000, 1)]
    ):
        a, b, bias = draw(rng, (m, k), dtype), draw(rng, (k, n), dtype), draw(rng, (1, n), dtype)[0]
        for arguments in ({}, {"bias": bias}):
            with kernels.use("emulated", device="H200", **schedule(i)), kernels.trace() as ran:
                got = kernels.matmul(a, b, config=config(*TILES[i % len(TILES)]), **arguments)
            assert not got.size or "sm90" in ran.launches[0].config
            added = wide(bias) if arguments else 0.0
            check(got, a, b, np.matmul(wide(a), wide(b)) + added, f"{m}x{n}x{k}", np.abs(added))


@pytest.mark.parametrize("dtype", TYPES, ids=name)
def test_infinities_and_nan(dtype):
    """They stay in their row and column, also where boxes reach beyond the matrices."""
    rng = np.random.default_rng(6)
    a, b = draw(rng, (70, 100), dtype), draw(rng, (100, 72), dtype)
    a[3, 5], a[69, 99], b[7, 70] = np.inf, np.nan, -np.inf
    with np.errstate(all="ignore"):
        want = np.matmul(wide(a), wide(b))
        for i, how in enumerate(SCHEDULES):
            with kernels.use("emulated", device="H200", **how):
                got = wide(kernels.matmul(a, b, config=config(*TILES[i])))
            assert (np.isnan(got) == np.isnan(want)).all()
            assert (got[np.isinf(want)] == want[np.isinf(want)]).all()
            assert (np.isfinite(got) == np.isfinite(want)).all()


def test_as_its_reference():
    """Batches that broadcast, at stride zero or with more dimensions than a tensor map has."""
    rng = np.random.default_rng(7)
    x = draw(rng, (2, 3, 1, 2, 2, 40, 72), bfloat16)
    pairs = [
        (np.broadcast_to(draw(rng, (40, 72), bfloat16), (4, 40, 72)), draw(rng, (2, 1, 72, 24), bfloat16)),
        (x.transpose(4, 2, 0, 3, 1, 5, 6), draw(rng, (2, 1, 2, 1, 3, 72, 8), bfloat16)),
        (draw(rng, (5, 40, 72), bfloat16)[::-2], draw(rng, (72, 24), bfloat16)),
        (
            np.broadcast_to(draw(rng, (1, 1), bfloat16), (40, 72)),
            np.broadcast_to(draw(rng, (72, 1), bfloat16), (72, 24)),
        ),
    ]
    for i, (a, b) in enumerate(pairs):
        with kernels.use("emulated", device="H200", **schedule(i)):
            got = kernels.matmul(a, b, activation="gelu", config=config(64, 64, cluster=1 + i % 2))
        want = reference.matmul(a, b, activation="gelu")
        magnitude = np.matmul(np.abs(wide(a)), np.abs(wide(b)))
        assert_close(
            got, want, magnitude * 100 * epsilon(np.float32) + np.abs(wide(want)) * 2 * epsilon(bfloat16), str(i)
        )


def test_choice():
    """The family serves 16-bit types on Hopper alone; large products get the large tile, few tiles a divided k."""
    ext = _runtime.extension_for(np.empty(0))

    def choice(m, n, k, dtype="bfloat16", device="H200", **how):
        problem = ext.MatmulProblem(m, n, k, dtype, **how)
        found = ext.matmul_config(problem, device)
        ext.matmul_check(found, problem, device)
        return found

    assert str(choice(8192, 8192, 8192)) == "matmul(sm90 128x256x64, stages=4, cluster=2, max_blocks=132)"
    assert choice(64, 768, 8192).split > 1
    assert choice(8192, 8192, 8192, device="A100").family != "sm90"
    assert choice(8192, 8192, 8192, "float32").family != "sm90"
    assert choice(2**31, 8, 8).family != "sm90"
    with pytest.raises(ValueError, match="needs a Hopper GPU"):
        ext.matmul_check(config(128, 256), ext.MatmulProblem(8, 8, 8, "float16"), "A100")


@pytest.mark.parametrize(
    ("arguments", "how", "message"),
    [
        ((96, 128), {}, "has no such tile"),
        ((128, 128), {"k_step": 32}, "k_step=64"),
        ((128, 128), {"fold": 64}, "neither warps nor fold"),
        ((128, 128), {"stages": 2}, "stages outside of 3 to 8"),
        ((128, 128), {"cluster": 3}, "cluster of neither 1 nor 2"),
        ((128, 128), {"split": 0}, "split below 1"),
        ((128, 128), {"split": 2, "stream_k": True, "max_blocks": 4}, "both a split and stream_k"),
        ((128, 128), {"stream_k": True}, "stream_k without max_blocks"),
    ],
)
def test_bad_configs(arguments, how, message):
    with pytest.raises(ValueError, match=message):
        config(*arguments, **how)


def test_bad_problems():
    x = np.ones((8, 8), np.float32)
    with kernels.use("emulated", device="H200"):
        with pytest.raises(ValueError, match="which has float16 and bfloat16"):
            kernels.matmul(x, x, config=config(128, 128))
        with pytest.raises(ValueError, match="bytes of shared memory"):
            kernels.matmul(x.astype(np.float16), x.astype(np.float16), config=config(128, 256, stages=5))
