"""Attention's sm90 family (wgmma, TMA), emulated, against float64: every width, causal form, grouped heads, lengths
that differ, memory orders, in every schedule, posing as an H200."""

import numpy as np
import pytest
from support import SCHEDULES, assert_close, bfloat16, epsilon, schedule
from test_attention import STATE, TINY, assert_mask_gradient, definition, inputs, masks

from fastnet import kernels
from fastnet.kernels._runtime import extension_for

DTYPES = [np.float16, bfloat16]
by_name = pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
CAUSAL = ("none", "top_left", "bottom_right")
U = 2.0**-24


def of_family(**how):
    return extension_for(np.empty(0)).AttentionConfig(**({"family": "sm90", "stages": 4} | how))


def check(q, k, v, grad, what, causal="none", scale=None, how=None, mask=None, dropout_p=0.0, config=None, **features):
    """Results and gradients within the bounds that test_attention.definition derives where
    probabilities and gradients of scores are rounded to 16 bits."""
    half, number = epsilon(q.dtype), 1 / np.sqrt(q.shape[3]) if scale is None else scale
    lost = {"float16": 2.0**-25, "bfloat16": 2.0**-126}[q.dtype.name]
    want, want_lse, gradients, bound, bound_lse, bounds = definition(
        q, k, v, grad, mask, causal, number, dropout_p, 5, rounded=half / U, lost=lost / U, **features
    )
    tiny = 2 * TINY[q.dtype.name]
    options = dict(causal=causal, scale=scale, mask=mask, dropout_p=dropout_p, state=STATE, offset=5) | features
    with kernels.use("emulated", device="H200", **(how or {})):
        out, lse = kernels.attention(q, k, v, config=config, **options)
    assert_close(out, want, bound * U + np.abs(want) * half + tiny, f"{what} out")
    assert_close(lse, want_lse, bound_lse * U, f"{what} lse")
    additive = mask is not None and mask.dtype != bool and not features.get("softcap")
    config = of_family(stages=max(4, config.stages), max_blocks=config.max_blocks)
    with kernels.use("emulated", device="H200", **(how or {})):
        *got, of_mask = kernels.attention_backward(
            grad, q, k, v, out, lse, config=config, mask_gradient=additive, **options
        )
    for name, x, exact, limit in zip("qkv", got, gradients[:3], bounds[:3], strict=True):
        assert_close(x, exact, limit * U + np.abs(exact) * half + tiny, f"{what} d{name}")
    if additive:
        assert_mask_gradient(of_mask, mask, gradients[3], bounds[3], U, what)
    return out, lse, *got


def run(index, sizes, dtype, how=None, arrays=None, kind="none", **options):
    options.setdefault("config", of_family())
    arrays = arrays or inputs(sizes, dtype, index)
    options["mask"] = None if kind == "none" else masks(sizes, dtype, kind, index)
    return check(*arrays, f"{index}: {sizes} {options}", how=how or schedule(index), **options)


# batch, heads, key heads, queries, keys, d, dv: single elements, tiles' edges, more tiles than stages, every width.
SIZES = [
    (1, 1, 1, 1, 1, 8, 8),
    (1, 1, 1, 1, 1, 256, 8),
    (1, 1, 1, 113, 203, 64, 64),
    (1, 2, 1, 203, 113, 128, 128),
    (1, 1, 1, 799, 3, 16, 24),
    (1, 1, 1, 3, 799, 40, 32),
    (1, 4, 2, 65, 67, 256, 200),
    (2, 2, 2, 128, 128, 32, 64),
    (1, 1, 1, 64, 700, 136, 136),
    (1, 1, 1, 64, 700, 128, 72),
]


@by_name
def test_against_float64(dtype):
    for index, sizes in enumerate(SIZES):
        run(index, sizes, dtype, causal=CAUSAL[index % 3])
        run(index + 3, sizes, dtype, causal=CAUSAL[(index + 1) % 3])


LENGTHS = [(1, 1), (113, 203), (799, 3), (3, 799)]
SLOPES = np.array([0.5, 0.25, 0.125, 0.0625], np.float32)
FEATURES = {
    "boolean mask": {"kind": "bool"},
    "keys' mask": {"kind": "keys"},
    "bias": {"kind": "additive"},
    "bias of float32": {"kind": "float32", "causal": "bottom_right"},
    "dropout": {"dropout_p": 0.3},
    "window": {"window_size": (70, 30)},
    "left": {"window_size": (140, -1), "causal": "top_left"},
    "behind all keys": {"window_size": (0, 0), "causal": "top_left"},
    "cap": {"softcap": 1.5},
    "bias of distant keys": {"kind": "additive", "window_size": (10, 20), "dropout_p": 0.4},
    "alibi": {"alibi_slopes": SLOPES},
    "alibi by batch": {"alibi_slopes": np.stack([SLOPES, SLOPES[::-1]]), "causal": "bottom_right"},
    "all": {
        "window_size": (200, 40),
        "softcap": 0.75,
        "alibi_slopes": SLOPES,
        "kind": "additive",
        "dropout_p": 0.3,
        "causal": "bottom_right",
    },
    "all but causal": {
        "window_size": (90, 90),
        "softcap": 3.0,
        "alibi_slopes": SLOPES,
        "kind": "bool",
        "dropout_p": 0.6,
        "scale": -0.2,
    },
}


@pytest.mark.parametrize("how", SCHEDULES, ids=lambda s: "-".join(map(str, s.values())))
@pytest.mark.parametrize("width", [64, 128, 256])
def test_features_in_every_schedule(width, how):
    """Each alone and all together; lengths that are multiples of four, whose draws lanes share, and that are not."""
    for index, (name, options) in enumerate(FEATURES.items()):
        if index % 6 != SCHEDULES.index(how) and not name.startswith("all"):
            continue
        sizes = (2, 4, 2, 65 + index % 3 * 64, [150, 132, 271][index % 3], width, width - 8)
        run(index, sizes, DTYPES[index % 2], how, config=of_family(max_blocks=1 + index % 4), **options)


@by_name
def test_features_at_every_width(dtype):
    for index, options in enumerate(FEATURES.values()):
        sizes = (2, 4, 4, 40 + 31 * (index % 4), 37 + 68 * (index % 3), [24, 72, 136][index % 3], 16)
        run(index, sizes, dtype, **options)


@by_name
def test_random_problems(dtype, full):
    """Sizes, widths, stages and blocks at random; with --full 300 of a dtype."""
    rng = np.random.default_rng(5)
    for index in range(300 if full else 12):
        kind, options = "none", {}
        if index % 3:
            kind = str(rng.choice(["none", "bool", "keys", "additive", "float32"]))
            options = {
                "dropout_p": float(rng.choice([0.0, 0.2])),
                "window_size": tuple(int(n) for n in rng.integers(-1, 300, 2)),
                "softcap": float(rng.choice([0.0, 1.0, 8.0])),
            }
        key_heads = int(rng.integers(1, 3))
        widest = int(rng.choice([64, 64, 128, 256]))
        d, dv = (8 * int(n) for n in rng.integers(1, widest // 8 + 1, 2))
        batch, group = (int(n) for n in rng.integers(1, 3, 2))
        queries, keys = int(rng.integers(1, 400)), int(rng.integers(1, 600))
        if index < len(LENGTHS):
            queries, keys = LENGTHS[index]
        if options and index % 2:
            options["alibi_slopes"] = rng.random(key_heads * group).astype(np.float32)
        run(
            index,
            (batch, key_heads * group, key_heads, queries, keys, d, dv),
            dtype,
            kind=kind,
            **options,
            causal=str(rng.choice(CAUSAL)),
            scale=float(rng.choice([0.1, 0.3, -0.2, 0.0])),
            config=of_family(stages=int(rng.integers(3, 5)), max_blocks=int(rng.integers(1, 6))),
        )


@pytest.mark.parametrize("how", SCHEDULES, ids=lambda s: "-".join(map(str, s.values())))
@pytest.mark.parametrize("width", [64, 128, 256])
def test_tiles_that_see_no_key(width, how):
    """A block passes such tiles without a product that would bring its threads together, one after another."""
    options = {"causal": "bottom_right", "config": of_family(max_blocks=2)}
    run(0, (1, 2, 2, 799, 3, width, width), bfloat16, how, window_size=(52, 28), **options)
    run(1, (2, 2, 2, 799, 3, width, width), bfloat16, how, softcap=1.0, kind="bool", window_size=(9, 0), **options)


@pytest.mark.parametrize("width", [64, 128, 256])
@pytest.mark.parametrize("causal", ["none", "bottom_right"])
def test_same_bits_in_every_schedule(width, causal):
    """More tiles than stages, blocks that take several tiles; each result within its bound."""
    arrays = inputs((1, 3, 1, 200, 400, width, width), bfloat16)
    found = set()
    for blocks, how in enumerate(SCHEDULES, 1):
        got = run(0, None, bfloat16, how, arrays, causal=causal, config=of_family(max_blocks=blocks))
        found.add(b"".join(x.tobytes() for x in got))
    assert len(found) == 1


def test_memory_orders():
    """Heads beside features in memory; one array of queries, keys and values; rows apart by more than they are long."""
    sizes = (2, 2, 2, 70, 140, 64, 64)
    for index in range(3):
        arrays = inputs(sizes, bfloat16, index)
        if index == 0:
            arrays = [np.ascontiguousarray(x.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3) for x in arrays]
        elif index == 1:
            packed = np.stack([x[:, :, :70] for x in arrays[:3]], axis=2)  # (B, H, 3, T, D)
            arrays = [*(packed[:, :, i] for i in range(3)), arrays[3]]
        else:
            arrays = [np.concatenate([x[..., :8], x], axis=3)[..., 8:] for x in arrays]
        run(index, sizes, bfloat16, causal="top_left", arrays=arrays, config=of_family(max_blocks=3))


def test_what_tma_does_not_take_goes_to_the_sm80_family():
    """And is refused where the sm90 family is asked for by name."""
    plain = inputs((2, 2, 2, 34, 70, 24, 24), np.float16)
    wide = [np.concatenate([x[..., :4], x, x[..., :4]], axis=3) for x in plain]
    repeated = [np.broadcast_to(x[:1], x.shape) for x in plain]
    mask = np.ones((1, 1, 34, 70), bool)
    state = np.array([7, 3], np.uint64)
    cases = [
        (plain, {}, "sm90"),
        ([x[..., 4:-4] for x in wide], {}, "sm80"),  # rows that begin at 8 bytes
        ([x[..., :20] for x in plain], {}, "sm80"),  # results' rows do
        ([x[:, :, ::-1] for x in plain], {}, "sm80"),
        ([np.repeat(x, 2, axis=3)[..., ::2] for x in plain], {}, "sm80"),
        ([repeated[0], plain[1], plain[2]], {}, "sm80"),
        ([plain[0], plain[1][:, :, :0], plain[2][:, :, :0]], {}, "sm80"),
        (plain, {"mask": mask}, "sm90"),
        (plain, {"dropout_p": 0.5, "state": state}, "sm90"),
        (plain, {"window_size": (3, 3), "softcap": 2.0}, "sm90"),
    ]
    for arrays, options, family in cases:
        q, k, v = arrays[:3]
        with kernels.use("emulated", device="H200"), kernels.trace() as ran:
            kernels.attention(q, k, v, **options)
        assert family in str(ran.launches[0].config), (options, family)
        if family == "sm90":
            continue
        with kernels.use("emulated", device="H200"), pytest.raises(ValueError, match=r"attention: .*(serves|needs)"):
            kernels.attention(q, k, v, config=of_family(), **options)
    with kernels.use("emulated", device="A100"), pytest.raises(ValueError, match="Hopper"):
        kernels.attention(*plain[:3], config=of_family())


def low_precision(q, k, v, grad, there, scale):
    """Attention and its gradients with float32 sums, and operands of every product rounded to q's dtype."""
    q, k, v, g = (x.astype(np.float32) for x in (q, k, v, grad))
    dtype, group = grad.dtype, q.shape[1] // k.shape[1]
    rounded = lambda x: x.astype(dtype).astype(np.float32)  # noqa: E731
    fold = lambda x: x.reshape(x.shape[0], -1, group, *x.shape[2:]).sum(2)  # noqa: E731
    k, v = (np.repeat(x, group, axis=1) for x in (k, v))
    s = np.where(there, scale * q @ k.swapaxes(-1, -2), -np.inf)
    p = np.exp(s - s.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    out = rounded(rounded(p) @ v)
    ds = rounded(p * (g @ v.swapaxes(-1, -2) - (g * out).sum(-1, keepdims=True)))
    dq, dk, dv = scale * ds @ k, fold(scale * ds.swapaxes(-1, -2) @ q), fold(rounded(p).swapaxes(-1, -2) @ g)
    return [x.astype(dtype) for x in (out, dq, dk, dv)]


def test_error_is_at_most_twice_that_of_the_definition_in_the_same_precision():
    """Results and gradients; the definition rounds what the kernels round."""
    sizes_of = [(1, 2, 1, 113, 203, 64, 64), (1, 1, 1, 150, 150, 128, 128), (1, 1, 1, 70, 90, 256, 256)]
    for dtype in DTYPES:
        for index, sizes in enumerate(sizes_of):
            q, k, v, grad = inputs(sizes, dtype, index)
            scale = 1 / np.sqrt(sizes[5])
            exact = definition(q, k, v, grad, None, "bottom_right", scale, 0.0, 0)
            with kernels.use("emulated", device="H200"):
                out, lse = kernels.attention(q, k, v, causal="bottom_right")
                *got, _ = kernels.attention_backward(grad, q, k, v, out, lse, causal="bottom_right")
            queries, keys = sizes[3:5]
            there = np.arange(keys)[None] <= np.arange(queries)[:, None] + keys - queries
            low = low_precision(q, k, v, grad, there, scale)
            names = ("out", "dq", "dk", "dv")
            for name, x, y, want in zip(names, (out, *got), low, (exact[0], *exact[2]), strict=False):
                what = f"{np.dtype(dtype).name} {sizes} {name}"
                mine, theirs = (np.abs(a.astype(np.float64) - want) for a in (x, y))
                assert mine.max() <= 2 * theirs.max(), what
                assert mine.mean() <= 1.2 * theirs.mean(), what


def test_rows_of_nothing_give_zeros():
    q, k, v, _ = inputs((1, 2, 2, 300, 70, 16, 16), np.float16)
    with kernels.use("emulated", device="H200"):
        out, lse = kernels.attention(q, k, v, causal="bottom_right", config=of_family(max_blocks=2))
    assert (out[:, :, :230] == 0).all()
    assert (lse[:, :, :230] == -np.inf).all()
    assert np.isfinite(lse[:, :, 230:]).all()


def test_nan_spreads_as_far_as_it_is_seen():
    q, k, v, _ = inputs((1, 1, 1, 200, 200, 16, 16), bfloat16)
    q[0, 0, 1, 2] = np.nan
    k[0, 0, 198, 0] = np.nan
    with kernels.use("emulated", device="H200"):
        out, lse = kernels.attention(q, k, v, causal="top_left", config=of_family())
    spoilt = np.isin(np.arange(200), [1, 198, 199])
    assert (np.isnan(lse[0, 0]) == spoilt).all()
    assert (np.isnan(out[0, 0].astype(np.float32)).any(axis=1) == spoilt).all()


def test_heads_keep_nan_to_themselves():
    """Statistics of a head's last tile end in those of the next head."""
    q, k, v, grad = inputs((1, 2, 2, 70, 90, 16, 16), bfloat16)
    grad[0, 1, 0, 3] = np.nan
    with kernels.use("emulated", device="H200"):
        out, lse = kernels.attention(q, k, v, config=of_family())
        dq, dk, dv = kernels.attention_backward(grad, q, k, v, out, lse, config=of_family())[:3]
    assert all(np.isfinite(x[:, 0].astype(np.float32)).all() for x in (dq, dk, dv))
    assert np.isnan(dk[:, 1].astype(np.float32)).all()


def test_tiles_that_causality_hides_are_not_read():
    """NaN among values that no query may see would come through a product with a probability of zero."""
    q, k, v, _ = inputs((1, 1, 1, 100, 300, 16, 16), np.float16)
    v[0, 0, 128:] = np.nan
    k[0, 0, 128:] = np.nan
    with kernels.use("emulated", device="H200"):
        out, lse = kernels.attention(q, k, v, causal="top_left", config=of_family())
    assert all(np.isfinite(x).all() for x in (out, lse))


def test_configs():
    """Hopper alone, 16-bit types."""
    ext = extension_for(np.empty(0))
    for dtype in ("float16", "bfloat16"):
        for width in (8, 64, 96, 128, 256):
            for device in ("H100", "H200"):
                assert ext.attention_config(width, width, dtype, False, device).family == "sm90"
                assert ext.attention_config(width, width, dtype, False, device, tma=False).family == "sm80"
                assert ext.attention_config(width, width, dtype, True, device).family == "sm90"
            assert ext.attention_config(width, width, dtype, False, "RTX 5090").family == "sm80"
        assert ext.attention_config(264, 64, dtype, False, "H200").family == "general"
    assert ext.attention_config(64, 64, "float32", False, "H200").family == "sm80"
    assert str(ext.attention_config(64, 64, "float16", False, "H200")) == "attention(sm90, stages=4)"
    x = np.ones((1, 1, 4, 256), np.float16)
    with kernels.use("emulated", device="H200"):
        for stages, message in ((2, "at least 3 stages"), (5, "shared memory")):
            with pytest.raises(ValueError, match=message):
                kernels.attention(x, x, x, config=of_family(stages=stages))
        with pytest.raises(ValueError, match="float16 and bfloat16"):
            kernels.attention(*[x.astype(np.float32)] * 3, config=of_family())
