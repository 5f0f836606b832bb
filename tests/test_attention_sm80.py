"""Attention's sm80 family (mma.sync, cp.async, ldmatrix), emulated, against float64: forward and every gradient, every
dtype, width, mask, causal form, alignment, in every schedule, posing as an A100 and as an H200."""

import numpy as np
import pytest
from support import SCHEDULES, assert_close, bfloat16, epsilon, schedule
from test_attention import STATE, check, definition, inputs, rounding_of
from test_attention_features import check_packed

from fastnet import kernels
from fastnet.kernels._runtime import extension_for
from fastnet.kernels.matmul import get_float32_matmul_precision, set_float32_matmul_precision

DTYPES = [np.float16, bfloat16, np.float32]
by_name = pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
DEVICES = ("A100", "H200")
KINDS, CAUSAL = ("none", "bool", "keys", "additive", "float32"), ("none", "top_left", "bottom_right")


def config(**how):
    return extension_for(np.empty(0)).AttentionConfig(family="sm80", **how)


def run(index, sizes, dtype, how=None, device=None, stages=2, what="", **options):
    with kernels.use("emulated", device=device or DEVICES[index % 2], **(how or schedule(index))):
        options.setdefault("config", config(stages=stages))
        check(kernels, sizes, dtype, f"{what or index}: {sizes} {options}", seed=index, **options)


# batch, heads, key heads, queries, keys, d, dv: single elements, tiles' edges, more tiles than stages, every width.
SIZES = [
    (1, 1, 1, 1, 1, 8, 8),
    (1, 1, 1, 1, 1, 256, 1),
    (1, 1, 1, 113, 203, 64, 64),
    (1, 2, 1, 203, 113, 128, 128),
    (1, 1, 1, 799, 3, 16, 24),
    (1, 1, 1, 3, 799, 40, 33),
    (1, 4, 2, 65, 67, 256, 200),
    (2, 2, 2, 128, 128, 32, 64),
    (1, 3, 3, 3, 0, 4, 4),
    (0, 2, 2, 3, 3, 4, 4),
    (1, 1, 1, 0, 3, 4, 4),
]


@by_name
def test_against_float64(dtype):
    for index, sizes in enumerate(SIZES):
        if dtype == np.float32 and max(sizes[5:]) > 128:
            continue
        run(index, sizes, dtype, kind=KINDS[index % 5], causal=CAUSAL[index % 3], dropout_p=[0.0, 0.25][index % 2])
        run(index + 1, sizes, dtype, causal=CAUSAL[(index + 1) % 3])


@by_name
def test_random_problems(dtype, full):
    """Sizes, widths and features at random; with --full 300 of a dtype."""
    rng = np.random.default_rng(5)
    for index in range(300 if full else 8):
        key_heads = int(rng.integers(1, 3))
        widest = int(rng.choice([64, 64, 128, 128 if dtype == np.float32 else 256]))
        sizes = (
            int(rng.integers(1, 3)),
            key_heads * int(rng.integers(1, 3)),
            key_heads,
            int(rng.integers(1, 160)),
            int(rng.integers(1, 200)),
            int(rng.integers(1, widest + 1)),
            int(rng.integers(1, widest + 1)),
        )
        run(
            index,
            sizes,
            dtype,
            stages=int(rng.integers(2, 4)) if widest < (128 if dtype == np.float32 else 256) else 2,
            kind=str(rng.choice(KINDS)),
            causal=str(rng.choice(CAUSAL)),
            dropout_p=float(rng.choice([0.0, 0.1, 0.5])),
            scale=float(rng.choice([0.1, 0.3, -0.2])),
        )


def test_tf32_on_request():
    """By argument and by the precision that is set for products; elsewhere float32 is three products of TF32."""
    sizes = (1, 2, 1, 70, 90, 24, 40)
    for index in range(6):
        run(index, sizes, np.float32, precision="high", causal=CAUSAL[index % 3], softcap=(0.0, 2.0)[index % 2])
    q, k, v, _ = inputs(sizes, np.float32)
    with kernels.use("emulated", device="A100"):
        found = [kernels.attention(q, k, v, precision=x)[0] for x in (None, "highest", "high", "medium")]
        before = get_float32_matmul_precision()
        set_float32_matmul_precision("high")
        try:
            found.append(kernels.attention(q, k, v)[0])
        finally:
            set_float32_matmul_precision(before)
        with pytest.raises(ValueError, match="attention: precision"):
            kernels.attention(q, k, v, precision="low")
    assert [(x == found[0]).all() for x in found] == [True, True, False, False, False]
    assert (found[2] == found[3]).all()
    assert (found[2] == found[4]).all()


def test_every_feature_with_every_other():
    index = 0
    for kind in KINDS:
        for causal in CAUSAL:
            for dropout_p in (0.0, 0.4):
                run(index, (1, 2, 1, 20, 70, 8, 16), DTYPES[index % 3], kind=kind, causal=causal, dropout_p=dropout_p)
                index += 1


# More tiles than stages; windows that leave out tiles on both sides, of queries and of keys.
SLOPES = np.array([0.5, 0.0625], np.float32)
FEATURES = {
    "window": {"window_size": (20, 9)},
    "left": {"window_size": (30, -1), "causal": "top_left"},
    "right": {"window_size": (-1, 0)},
    "own key": {"window_size": (0, 0), "causal": "bottom_right"},
    "cap": {"softcap": 1.5},
    "alibi": {"alibi_slopes": SLOPES},
    "alibi by batch": {"alibi_slopes": np.stack([SLOPES, SLOPES[::-1]]), "scale": -0.2},
    "all": {"window_size": (60, 2), "softcap": 0.75, "alibi_slopes": SLOPES, "dropout_p": 0.3},
    "all masked": {"window_size": (50, 5), "softcap": 3.0, "alibi_slopes": SLOPES, "kind": "additive"},
}


@pytest.mark.parametrize("index", range(6))
def test_features_in_every_schedule(index):
    """Each of the features in every schedule, at a width of the three and in a dtype of the three in turn."""
    for number, (name, options) in enumerate(FEATURES.items()):
        dtype, width = DTYPES[(number + index) % 3], (8, 72, 136)[(number * 2 + index // 2) % 3]
        width = min(width, 128) if dtype == np.float32 else width
        lengths = ((150, 190), (190, 70))[index % 2]
        batch = 2 if name == "alibi by batch" else 1
        sizes = (batch, 2, 1, *lengths, width, width) if width == 8 else (batch, 2, 2, 70, 150, 9, width)
        run(number, sizes, dtype, how=schedule(index), device="A100", what=name, **options)


LENGTHS = [(70, 90), (0, 3), (4, 0), (1, 1), (131, 66)]
PACKED = {
    "plain": {},
    "causal": {"causal": "bottom_right", "dropout_p": 0.25},
    "top left": {"causal": "top_left", "softcap": 1.0},
    "all": {
        "window_size": (40, 4),
        "softcap": 2.0,
        "alibi_slopes": np.outer(np.arange(1, 6), SLOPES).astype(np.float32),
        "beyond": 3,
        "dropout_p": 0.1,
    },
}


@pytest.mark.parametrize("index", range(6))
def test_packed_sequences_in_every_schedule(index):
    for number, (name, options) in enumerate(PACKED.items()):
        dtype, width = DTYPES[(number + index) % 3], (8, 72, 136)[(number * 2 + index // 2) % 3]
        width = min(width, 128) if dtype == np.float32 else width
        with kernels.use("emulated", device="A100", **schedule(index)):
            how = dict(heads=(2, 1), d=width, dv=12, seed=number, config=config(max_blocks=1 + number * 4))
            check_packed(kernels, LENGTHS, dtype, name, **how, **options)


def test_sequences_do_not_read_each_other():
    """NaN of a neighbour would come through a product with a probability of zero."""
    rng = np.random.default_rng(0)
    q, k, v, grad = (rng.standard_normal((90, 1, 16)).astype(np.float16) for _ in range(4))
    for x in (q, k, v, grad):
        x[30:50] = np.nan
    starts = np.array([0, 30, 50, 90], np.int32)
    with kernels.use("emulated", device="A100"):
        out, lse = kernels.attention_varlen(q, k, v, starts, starts, 40, 40, config=config())
        results = kernels.attention_varlen_backward(
            grad, q, k, v, out, lse, starts, starts, 40, 40, config=config(), softcap=5.0
        )
    for x in (out, *results):
        assert np.isfinite(x[:30]).all()
        assert np.isnan(x[30:50]).all()
        assert np.isfinite(x[50:]).all()


def test_lengths_that_do_not_fit():
    rng = np.random.default_rng(0)
    q, k, v, grad = (rng.standard_normal((6, 1, 8)).astype(np.float16) for _ in range(4))
    good = np.array([0, 2, 4, 6], np.int32)
    with kernels.use("emulated", device="A100"):
        out, lse = kernels.attention_varlen(q, k, v, good, good, 4, 4, config=config())
        for starts in ([0, 3, 2, 6], [0, 2, 5, 9], [-1, 2, 4, 6], [0, 1, 6, 6]):
            bad = np.array(starts, np.int32)
            for pair in ((bad, good), (good, bad)):
                with pytest.raises(IndexError, match="cu_seqlens"):
                    kernels.attention_varlen(q, k, v, *pair, 4, 4, config=config())
                with pytest.raises(IndexError, match="cu_seqlens"):
                    kernels.attention_varlen_backward(grad, q, k, v, out, lse, *pair, 4, 4, config=config())


@pytest.mark.parametrize(
    ("dtype", "width"), [(bfloat16, 64), (bfloat16, 128), (bfloat16, 256), (np.float32, 64), (np.float32, 128)]
)
def test_same_bits_in_every_schedule(dtype, width):
    """More tiles than stages, blocks that take several tiles; each result within its bound."""
    sizes = (1, 2, 1, 150, 140, width, width)
    q, k, v, grad = inputs(sizes, dtype)
    options = dict(causal="bottom_right", dropout_p=0.2, state=STATE, offset=5)
    number = 1 / np.sqrt(width)
    want, _, _, bound, _, _ = definition(
        q, k, v, grad, None, "bottom_right", number, 0.2, 5, **rounding_of(config(), dtype)
    )
    found = set()
    for how in SCHEDULES:
        with kernels.use("emulated", device="A100", **how):
            options["config"] = config(stages=3 if width * q.itemsize < 512 else 2, max_blocks=1 + len(found))
            out, lse = kernels.attention(q, k, v, **options)
            assert_close(out, want, bound * 2.0**-24 + np.abs(want) * epsilon(dtype), f"{how}")
            results = kernels.attention_backward(grad, q, k, v, out, lse, **options)
            found.add(b"".join(x.tobytes() for x in (out, lse, *results[:3])))
    assert len(found) == 1


@by_name
def test_memory_orders(dtype):
    """Heads beside features in memory; reversed and strided arrays, rows that start at 8, 4 and 2 bytes."""
    sizes = (2, 2, 2, 34, 70, 24, 24)
    for index in range(6):
        arrays = inputs(sizes, dtype, index)
        if index == 0:
            arrays = [np.ascontiguousarray(x.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3) for x in arrays]
        elif index == 1:
            arrays = [x[:, ::-1, ::-1, ::-1] for x in arrays]
        elif index == 2:
            arrays = [np.repeat(x, 2, axis=3)[..., ::2] for x in arrays]
        else:
            pad = {3: 4, 4: 2, 5: 1}[index]
            arrays = [np.concatenate([x[..., :pad], x], axis=3)[..., pad:] for x in arrays]
        run(index, sizes, dtype, causal="top_left", arrays=arrays, config=config(max_blocks=3))


def test_error_is_at_most_twice_that_of_the_definition_in_the_same_precision():
    """The definition with probabilities and gradients of scores rounded to 16 bits before the products that follow."""
    for dtype in DTYPES[:2]:
        for index, sizes in enumerate([(1, 2, 1, 113, 203, 64, 64), (1, 1, 1, 150, 150, 128, 128)]):
            q, k, v, grad = inputs(sizes, dtype, index)
            scale = 1 / np.sqrt(sizes[5])
            want, _, gradients, *_ = definition(q, k, v, grad, None, "bottom_right", scale, 0.0, 0)
            with kernels.use("emulated", device="A100"):
                out, lse = kernels.attention(q, k, v, causal="bottom_right")
                got = kernels.attention_backward(grad, q, k, v, out, lse, causal="bottom_right")[:3]
            wide = [x.astype(np.float32) for x in (q, k, v, grad)]
            group = sizes[1] // sizes[2]
            k32, v32 = (np.repeat(x, group, axis=1) for x in wide[1:3])
            s = scale * wide[0] @ k32.swapaxes(-1, -2)
            queries, keys = s.shape[-2:]
            s = np.where(np.arange(keys)[None] <= np.arange(queries)[:, None] + keys - queries, s, -np.inf)
            p = np.exp(s - s.max(-1, keepdims=True))
            p /= p.sum(-1, keepdims=True)
            rounded = p.astype(dtype).astype(np.float32)
            low = (rounded @ v32).astype(dtype)
            dp = wide[3] @ v32.swapaxes(-1, -2)
            mean = (wide[3] * low.astype(np.float32)).sum(-1, keepdims=True)
            ds = (p * (dp - mean)).astype(dtype).astype(np.float32)

            def fold(x, group=group, sizes=sizes):
                return x.reshape(x.shape[0], sizes[2], group, *x.shape[2:]).sum(2)

            lows = [
                scale * ds @ k32,
                fold(scale * ds.swapaxes(-1, -2) @ wide[0]),
                fold(rounded.swapaxes(-1, -2) @ wide[3]),
            ]
            pairs = [(out, low, want), *zip(got, (x.astype(dtype) for x in lows), gradients[:3], strict=True)]
            for name, (mine, theirs, exact) in zip(("out", "dq", "dk", "dv"), pairs, strict=True):
                error = [np.abs(x.astype(np.float64) - exact) for x in (mine, theirs)]
                assert error[0].max() <= 2 * error[1].max(), f"{name} {np.dtype(dtype).name} {sizes}"
                assert error[0].mean() <= 1.2 * error[1].mean(), f"{name} {np.dtype(dtype).name} {sizes}"


def test_rows_of_nothing_give_zeros():
    q, k, v, grad = inputs((1, 2, 2, 20, 70, 16, 16), np.float16)
    mask = np.ones((1, 2, 20, 70), bool)
    mask[0, 1, 3] = False
    options = dict(mask=mask, config=config())
    with kernels.use("emulated", device="A100"):
        out, lse = kernels.attention(q, k, v, **options)
        dq, dk, dv, _ = kernels.attention_backward(grad, q, k, v, out, lse, **options)
        # Causality alone leaves rows without keys, too.
        short, short_lse = kernels.attention(q, k[:, :, :5], v[:, :, :5], causal="bottom_right", config=config())
    assert (out[0, 1, 3] == 0).all()
    assert lse[0, 1, 3] == -np.inf
    assert (dq[0, 1, 3] == 0).all()
    assert all(np.isfinite(x).all() for x in (dq, dk, dv))
    assert (short[:, :, :15] == 0).all()
    assert (short_lse[:, :, :15] == -np.inf).all()
    assert np.isfinite(short_lse[:, :, 15:]).all()


@pytest.mark.parametrize(
    ("dtype", "spoiler"), [(bfloat16, np.nan), (np.float32, np.nan), (np.float32, np.inf)], ids=["16", "32", "infinity"]
)
def test_nan_spreads_as_far_as_it_is_seen(dtype, spoiler):
    """And in float32, of which the small half is NaN, infinity."""
    q, k, v, _ = inputs((1, 1, 1, 200, 200, 16, 16), dtype)
    q[0, 0, 1, 2] = spoiler
    k[0, 0, 198, 0] = spoiler
    with kernels.use("emulated", device="A100"):
        out, lse = kernels.attention(q, k, v, causal="top_left", config=config())
    spoilt = np.isin(np.arange(200), [1, 198, 199])
    assert (np.isnan(lse[0, 0]) == spoilt).all()
    assert (np.isnan(out[0, 0].astype(np.float32)).any(axis=1) == spoilt).all()


def test_tiles_that_nobody_sees_are_not_read():
    """NaN among values that no query may see would come through a product with a probability of zero."""
    q, k, v, grad = inputs((1, 1, 1, 100, 300, 16, 16), np.float16)
    v[0, 0, 128:] = np.nan
    k[0, 0, 128:] = np.nan
    options = dict(causal="top_left", config=config())
    with kernels.use("emulated", device="A100"):
        out, lse = kernels.attention(q, k, v, **options)
        dq, dk, dv, _ = kernels.attention_backward(grad, q, k, v, out, lse, **options)
    assert all(np.isfinite(x).all() for x in (out, lse, dq, dk[:, :, :128], dv[:, :, :128]))
    assert (dk[:, :, 128:] == 0).all()
    assert (dv[:, :, 128:] == 0).all()
    # A window: the queries stand at keys 200 .. 299 and see those from 192 on.
    options = dict(window_size=(8, -1), config=config())
    v[0, 0, 128:] = k[0, 0, 128:] = 1
    v[0, 0, :192] = k[0, 0, :192] = np.nan
    with kernels.use("emulated", device="A100"):
        out, lse = kernels.attention(q, k, v, **options)
        dq, dk, dv, _ = kernels.attention_backward(grad, q, k, v, out, lse, **options)
    assert all(np.isfinite(x).all() for x in (out, lse, dq, dk[:, :, 192:], dv[:, :, 192:]))
    assert (dv[:, :, :192] == 0).all()


def test_configs():
    """Tensor cores for all but float64 wherever there are any; what does not fit is refused before the launch."""
    ext = extension_for(np.empty(0))
    for device in ("A100", "H100", "H200", "RTX 3090", "RTX 4090", "RTX 5090"):
        for backward in (False, True):
            for dtype in ("float16", "bfloat16"):
                for width in (8, 64, 96, 128, 256):
                    chosen = ext.attention_config(width, width, dtype, backward, device, tma=False)
                    assert chosen.family == "sm80"
                    assert chosen.stages >= 2
                assert ext.attention_config(64, 257, dtype, backward, device).family == "general"
            for width in (8, 64, 128):
                chosen = ext.attention_config(width, width, "float32", backward, device)
                assert chosen.family == "sm80"
                assert chosen.stages >= 2
            assert ext.attention_config(136, 64, "float32", backward, device).family == "general"
            assert ext.attention_config(64, 64, "float64", backward, device).family == "general"
    assert str(ext.attention_config(64, 64, "float16", False, "A100")) == "attention(sm80, stages=4)"
    with pytest.raises(ValueError, match="family"):
        ext.AttentionConfig(family="sm70")
    with pytest.raises(ValueError, match="stages"):
        ext.AttentionConfig(family="sm80", stages=1)
    with kernels.trace() as ran, kernels.use("emulated", device="RTX 3090"):
        for dtype, d, how, message in [
            (np.float64, 8, {}, "float16 and bfloat16"),
            (np.float32, 136, {}, "float32 up to 128"),
            (np.float16, 264, {}, "head dimensions up to 256"),
            (np.float16, 256, {"stages": 6}, "shared memory"),
        ]:
            x, sums = np.ones((1, 1, 4, d), dtype), np.float64 if dtype == np.float64 else np.float32
            with pytest.raises(ValueError, match=message):
                kernels.attention(x, x, x, config=config(**how))
            with pytest.raises(ValueError, match=message):
                kernels.attention_backward(x, x, x, x, x, np.ones((1, 1, 4), sums), config=config(**how))
    x, starts = np.ones((1, 1, 4, 8), bfloat16), np.array([0, 3, 4], np.int32)
    with kernels.use("emulated", device="A100"), kernels.trace() as ran:
        kernels.attention(x, x, x)
        kernels.attention(x, x, x, window_size=(2, -1), softcap=1.0, alibi_slopes=np.ones(1, np.float32))
        kernels.attention_varlen(*[x[0].transpose(1, 0, 2)] * 3, starts, starts, 3, 3)
    assert len(ran.launches) == 3
    assert all("sm80" in launch.config for launch in ran.launches)
