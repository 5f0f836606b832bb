"""Attention: emulated kernels and reference against float64, forward and every gradient; all dtypes, schedules, masks,
causal forms, grouped heads, dropout, strides and degenerate sizes."""

import itertools

import numpy as np
import pytest
from support import SCHEDULES, assert_close, bfloat16, epsilon, schedule

import fastnet
from fastnet import kernels, reference
from fastnet.kernels._runtime import extension_for
from fastnet.reference.dropout import dropout_mask

DTYPES = [np.float32, np.float64, np.float16, bfloat16]
by_name = pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
STATE = np.array([7, 3], np.uint64)
TINY = {"float16": 2.0**-25, "float32": 2.0**-149, "float64": 2.0**-1074, "bfloat16": 2.0**-134}
# batch, heads, key heads, queries, keys, d, dv: one of everything; a tile and its edges; more tiles; nothing.
SIZES = [
    (1, 1, 1, 1, 1, 1, 1),
    (2, 4, 2, 33, 65, 16, 8),
    (1, 2, 2, 5, 40, 70, 33),
    (1, 2, 1, 40, 5, 8, 40),
    (1, 1, 1, 32, 64, 32, 32),
    (1, 3, 3, 3, 0, 4, 4),
    (0, 2, 2, 3, 3, 4, 4),
    (1, 1, 1, 0, 3, 4, 4),
]


def draw(shape, dtype, seed):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def inputs(sizes, dtype, seed=0):
    b, h, hk, tq, tk, d, dv = sizes
    return [
        draw(s, dtype, seed * 4 + i)
        for i, s in enumerate([(b, h, tq, d), (b, hk, tk, d), (b, hk, tk, dv), (b, h, tq, dv)])
    ]


def masks(sizes, dtype, kind, seed=0):
    b, h, _, tq, tk, _, _ = sizes
    rng = np.random.default_rng(seed)
    if kind == "bool":
        return rng.random((1, h, tq, tk)) > 0.3
    if kind == "keys":
        return rng.random((b, 1, 1, tk)) > 0.5
    if kind == "additive":
        return rng.standard_normal((b, 1, tq, tk)).astype(dtype)
    if kind == "float32":
        x = rng.standard_normal((1, h, 1, tk)).astype(np.float64 if np.dtype(dtype) == np.float64 else np.float32)
        return np.where(x < -1, -np.inf, x).astype(x.dtype)
    return None


def seen(shape, mask, causal, window_size=(-1, -1), alibi_slopes=None):
    """Which scores there are, and what is added to them."""
    added = np.zeros(shape)
    there = np.ones(shape, bool)
    if mask is not None and mask.dtype == bool:
        there &= mask
    elif mask is not None:
        added = added + mask.astype(np.float64)
        there &= added > -np.inf
    queries, keys = shape[-2:]
    place = np.arange(queries)[:, None] + (0 if causal == "top_left" else keys - queries)
    if causal != "none":
        there &= np.arange(keys)[None] <= place
    left, right = window_size
    if left >= 0:
        there &= np.arange(keys)[None] >= place - left
    if right >= 0:
        there &= np.arange(keys)[None] <= place + right
    if alibi_slopes is not None:
        slopes = np.broadcast_to(alibi_slopes, shape[:2]).astype(np.float64)[..., None, None]
        added = added - slopes * np.abs(place - np.arange(keys)[None])
    return there, np.where(there, added, 0)


def definition(
    q,
    k,
    v,
    grad,
    mask,
    causal,
    scale,
    dropout_p,
    offset,
    keep=None,
    softcap=0.0,
    rounded=0.0,
    lost=0.0,
    operands=0.0,
    **features,
):
    """out, lse, and the gradients in float64 with, for each, a bound of float32-like arithmetic in units of u.

    keep: what dropout multiplies probabilities by, where it is not that of a dense batch.
    rounded, lost: kernels on tensor cores round probabilities and gradients of scores before the products that follow:
    by a relative `rounded` u, and where they are tiny by `lost` u. operands: so are q, k, v and grad, by `operands` u.
    """
    q64, k64, v64, g = (x.astype(np.float64) for x in (q, k, v, grad))
    group = q.shape[1] // max(k.shape[1], 1)
    k64, v64 = (np.repeat(x, group, axis=1) for x in (k64, v64))
    there, added = seen((*q.shape[:3], k.shape[2]), mask, causal, **features)
    products, slope = scale * q64 @ k64.swapaxes(-1, -2), 1.0
    if softcap:
        t = np.tanh(products / softcap)
        products, slope = softcap * t, 1 - t * t
    s = np.where(there, products + added, -np.inf)
    high = np.where(there.any(-1), s.max(-1, initial=-np.inf), 0)[..., None]
    p = np.exp(s - high)
    total = p.sum(-1, keepdims=True)
    with np.errstate(divide="ignore"):
        lse = np.where(total == 0, -np.inf, high + np.log(total))[..., 0]
    p = p / np.where(total == 0, 1, total)
    if keep is None:
        keep = dropout_mask(p.shape, dropout_p, STATE, offset) / (1 - dropout_p) if dropout_p else 1.0
    out = (p * keep) @ v64
    dp = (g @ v64.swapaxes(-1, -2)) * keep
    ds = p * (dp - (p * dp).sum(-1, keepdims=True))
    fold = lambda x: x.reshape(x.shape[0], k.shape[1], group, *x.shape[2:]).sum(2) if group > 1 else x  # noqa: E731
    of_product = ds * slope
    gradients = (
        scale * of_product @ k64,
        fold(scale * of_product.swapaxes(-1, -2) @ q64),
        fold((p * keep).swapaxes(-1, -2) @ g),
        ds,
    )
    # A score of d products is off by (d + 3) u of the sum of their sizes; so is the logarithm of a probability, and the
    # sum over keys adds one u a term and rescaling. Probabilities are then off by `e` relative.
    n, d = k.shape[2], q.shape[3]
    size = abs(scale)
    of_products = size * np.abs(q64) @ np.abs(k64).swapaxes(-1, -2)
    # A tangent of slope at most 1 adds two roundings of the cap's size.
    sizes = of_products + np.abs(added) + softcap
    e = (d + 4 + 2 * operands) * np.where(there, sizes, 0).max(-1, keepdims=True, initial=0) * 2 + 4 * n + 24
    rounded = rounded + 2 * operands
    bound_out = (p * keep * e) @ np.abs(v64) + ((n + rounded) * (p * keep) + lost * there) @ np.abs(v64)
    bound_lse = e[..., 0] + np.where(np.isfinite(lse), np.abs(lse), 0) * 2
    size_dp = (np.abs(g) @ np.abs(v64).swapaxes(-1, -2)) * keep
    mean_dp = (p * size_dp).sum(-1, keepdims=True)
    # The kernel takes the mean of dp from out, which comes rounded to its dtype.
    out_rounded = epsilon(q.dtype) / epsilon(np.float64 if q.dtype == np.float64 else np.float32)
    of_out = rounded * mean_dp + out_rounded * (np.abs(g) * np.abs(out)).sum(-1, keepdims=True)
    bound_ds = p * ((size_dp + mean_dp) * (2 * e + v.shape[3] + 12 + 2 * operands) + of_out)
    if rounded:  # their exponentials (ex2.approx.ftz) are zero below 2^-126
        bound_ds = bound_ds + 2.0**-102 * there * (size_dp + mean_dp)
    bound_product, m = bound_ds * slope, q.shape[2] * group
    m *= 1.5 if rounded else 1  # tensor cores cut off up to 11 u every 8 terms
    if softcap:  # 1 - t^2 is off by twice what t is
        bound_product = bound_product + np.abs(ds) * (2 * (d + 4 + 2 * operands) * of_products / softcap + 8)
    bounds = (
        size * (bound_product + (n + rounded) * np.abs(of_product) + lost * there) @ np.abs(k64),
        fold(size * (bound_product + (m + rounded) * np.abs(of_product) + lost * there).swapaxes(-1, -2) @ np.abs(q64)),
        fold((p * keep * (e + m + rounded) + lost * there).swapaxes(-1, -2) @ np.abs(g)),
        bound_ds,
    )
    return out, lse, gradients, bound_out, bound_lse, bounds


def rounding_of(config, dtype, precision=None):
    """What `definition` is told of a config's family: tensor cores round to 16 bits between products; they split
    float32 with an error of 2^-21 of a product, or round it to TF32."""
    if config is None or config.family == "general":
        return {}
    if np.dtype(dtype) == np.float32:
        return {"rounded": 8.0, "lost": 2.0**-102, "operands": 0.0 if precision != "high" else 2.0**13}
    lost = {"float16": 2.0**-25, "bfloat16": 2.0**-126}[np.dtype(dtype).name]
    return {"rounded": epsilon(dtype) / epsilon(np.float32), "lost": lost / epsilon(np.float32)}


def assert_mask_gradient(got, mask, ds, bound_ds, u, what):
    """got against the sum of ds, the gradient of scores, over what the mask is repeated for."""
    axes = tuple(i for i, (a, b) in enumerate(zip(mask.shape, ds.shape, strict=True)) if a != b)
    count = ds.size / max(mask.size, 1)
    want = ds.sum(axis=axes, keepdims=True)
    bound = (bound_ds * u + np.abs(ds) * count * u).sum(axis=axes, keepdims=True)
    bound = bound + np.abs(want) * epsilon(mask.dtype) + 2 * TINY[mask.dtype.name]
    assert got.dtype == mask.dtype
    assert_close(got, want, bound, f"{what} of mask")


def check(
    module,
    sizes,
    dtype,
    what,
    kind="none",
    causal="none",
    dropout_p=0.0,
    scale=None,
    config=None,
    seed=0,
    arrays=None,
    precision=None,
    **features,
):
    q, k, v, grad = arrays or inputs(sizes, dtype, seed)
    mask = masks(sizes, dtype, kind, seed)
    options = dict(mask=mask, causal=causal, scale=scale, dropout_p=dropout_p, state=STATE, offset=5, config=config)
    options |= features | {"precision": precision}
    if module is kernels and config is None:  # the family that this file is about
        options["config"] = config = extension_for(q).AttentionConfig()
    number = 1 / np.sqrt(q.shape[3]) if scale is None else scale
    sums = np.float64 if np.dtype(dtype) == np.float64 else np.float32
    u, half, tiny = epsilon(sums), epsilon(dtype), 2 * TINY[np.dtype(dtype).name]
    out, lse, gradients, bound_out, bound_lse, bounds = definition(
        q, k, v, grad, mask, causal, number, dropout_p, 5, **rounding_of(config, dtype, precision), **features
    )
    got, got_lse = module.attention(q, k, v, **options)
    assert got.dtype == dtype
    assert got_lse.dtype == sums
    assert_close(got, out, bound_out * u + np.abs(out) * half + tiny, f"{what} out")
    assert_close(got_lse, lse, bound_lse * u, f"{what} lse")
    additive = mask is not None and mask.dtype != bool
    results = module.attention_backward(grad, q, k, v, got, got_lse, mask_gradient=additive, **options)
    for name, x, want, bound in zip("qkv", results[:3], gradients[:3], bounds[:3], strict=True):
        assert x.dtype == dtype
        assert_close(x, want, bound * u + np.abs(want) * half + tiny, f"{what} d{name}")
    if not additive:
        assert results[3] is None
        return
    assert_mask_gradient(results[3], mask, gradients[3], bounds[3], u, what)


@pytest.mark.parametrize("how", SCHEDULES, ids=lambda s: "-".join(map(str, s.values())))
@by_name
def test_against_float64(dtype, how):
    for index, sizes in enumerate(SIZES):
        options = dict(
            kind=["none", "bool", "additive", "keys", "float32"][index % 5],
            causal=["top_left", "none", "bottom_right"][index % 3],
            dropout_p=[0.0, 0.25][index % 2],
            seed=index,
        )
        check(reference, sizes, dtype, "reference", **options)
        with kernels.use("emulated", **how), kernels.trace() as ran:
            check(kernels, sizes, dtype, "emulated", **options)
        b, h, hk, tq, tk = sizes[:5]
        expected = ["attention"] * bool(b * h * tq) + ["attention_backward"] * bool(b * (h * tq + hk * tk))
        assert ran.names == expected


def test_every_feature_with_every_other():
    sizes = (2, 4, 2, 9, 37, 8, 12)
    features = itertools.product(
        ("none", "bool", "keys", "additive", "float32"), ("none", "top_left", "bottom_right"), (0.0, 0.4)
    )
    for index, (kind, causal, dropout_p) in enumerate(features):
        for module in (reference, kernels):
            with kernels.use("emulated", **schedule(index)):
                check(module, sizes, np.float32, f"{kind} {causal} {dropout_p}", kind, causal, dropout_p, seed=index)


@by_name
def test_memory_orders_and_few_blocks(dtype):
    """Heads beside features in memory, as a projection leaves them; reversed, strided and misaligned arrays."""
    sizes = (2, 2, 2, 34, 35, 6, 6)
    for index in range(4):
        q, k, v, grad = inputs(sizes, dtype, index)
        if index == 0:
            arrays = [np.ascontiguousarray(x.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3) for x in (q, k, v, grad)]
        elif index == 1:
            arrays = [x[:, ::-1, ::-1, ::-1] for x in (q, k, v, grad)]
        elif index == 2:
            arrays = [np.repeat(x, 2, axis=3)[..., ::2] for x in (q, k, v, grad)]
        else:
            arrays = []
            for x in (q, k, v, grad):
                raw = np.zeros(x.nbytes + 1, np.uint8)
                raw[1:] = np.frombuffer(x.tobytes(), np.uint8)
                arrays.append(raw[1:].view(dtype).reshape(x.shape))
        for module in (reference, kernels):
            with kernels.use("emulated", **schedule(index)):
                config = extension_for(q).AttentionConfig(max_blocks=3)
                check(module, sizes, dtype, f"order {index}", causal="top_left", config=config, arrays=arrays)


def test_random_problems(full):
    """Sizes, features and dtypes at random; with --full 300 of them."""
    rng = np.random.default_rng(11)
    for index in range(300 if full else 24):
        key_heads = int(rng.integers(1, 4))
        sizes = (
            int(rng.integers(1, 3)),
            key_heads * int(rng.integers(1, 4)),
            key_heads,
            int(rng.integers(1, 80)),
            int(rng.integers(1, 100)),
            int(rng.integers(1, 48)),
            int(rng.integers(1, 48)),
        )
        dtype = DTYPES[index % 4]
        with kernels.use("emulated", **schedule(index)):
            check(
                kernels,
                sizes,
                dtype,
                f"{index}: {sizes}",
                kind=str(rng.choice(["none", "bool", "keys", "additive", "float32"])),
                causal=str(rng.choice(["none", "top_left", "bottom_right"])),
                dropout_p=float(rng.choice([0.0, 0.1, 0.5])),
                scale=float(rng.choice([0.1, 0.3])),
                seed=index,
            )


def test_rows_of_nothing_give_zeros():
    q, k, v, grad = inputs((1, 2, 2, 5, 6, 4, 4), np.float32)
    mask = np.ones((1, 2, 5, 6), bool)
    mask[0, 1, 3] = False
    for module in (reference, kernels):
        with kernels.use("emulated"):
            out, lse = module.attention(q, k, v, mask=mask)
            dq, dk, dv, _ = module.attention_backward(grad, q, k, v, out, lse, mask=mask)
        assert (out[0, 1, 3] == 0).all()
        assert lse[0, 1, 3] == -np.inf
        assert (dq[0, 1, 3] == 0).all()
        assert all(np.isfinite(x).all() for x in (dq, dk, dv))


def test_nan_spreads_as_far_as_it_is_seen():
    q, k, v, _ = inputs((1, 1, 1, 4, 40, 4, 4), np.float32)
    q[0, 0, 1, 2] = np.nan
    k[0, 0, 38, 0] = np.nan
    for module in (reference, kernels):
        with kernels.use("emulated"):
            out, lse = module.attention(q, k, v, causal="bottom_right")
        # Query i sees keys up to 36 + i; its own NaN spoils query 1.
        assert np.isnan(lse[0, 0]).tolist() == [False, True, True, True]
        assert np.isnan(out[0, 0]).all(axis=1).tolist() == [False, True, True, True]
        assert np.isfinite(out[0, 0, 0]).all()


def test_same_bits_in_every_schedule():
    q, k, v, grad = inputs((1, 2, 1, 40, 70, 8, 8), np.float32)
    found = set()
    for how in SCHEDULES:
        with kernels.use("emulated", **how):
            out, lse = kernels.attention(q, k, v, causal="top_left", dropout_p=0.2, state=STATE)
            results = kernels.attention_backward(grad, q, k, v, out, lse, causal="top_left", dropout_p=0.2, state=STATE)
            found.add(b"".join(x.tobytes() for x in (out, lse, *results[:3])))
    assert len(found) == 1


@pytest.mark.parametrize("module", [kernels, reference])
def test_bad_input(module):
    q, k, v, grad = inputs((2, 4, 2, 3, 5, 4, 6), np.float32)
    with kernels.use("emulated"):
        out, lse = module.attention(q, k, v)

        def backward(**options):
            return module.attention_backward(grad, q, k, v, out, lse, **options)

        refused = [
            (TypeError, "q", lambda: module.attention(None, k, v)),
            (TypeError, "q", lambda: module.attention(q.astype(np.int32), k, v)),
            (ValueError, "q", lambda: module.attention(q[0], k, v)),
            (TypeError, "k", lambda: module.attention(q, k.astype(np.float64), v)),
            (ValueError, "k", lambda: module.attention(q, k[:1], v)),
            (ValueError, "k", lambda: module.attention(q, k[..., :3], v)),
            (ValueError, "v", lambda: module.attention(q, k, v[:, :, :4])),
            (ValueError, "heads", lambda: module.attention(q[:, :3], k, v)),
            (ValueError, "head dimension", lambda: module.attention(q[..., :0], k[..., :0], v)),
            (ValueError, "causal", lambda: module.attention(q, k, v, causal=True)),
            (ValueError, "mask", lambda: module.attention(q, k, v, mask=np.ones((1, 1, 2, 5), bool))),
            (TypeError, "mask", lambda: module.attention(q, k, v, mask=np.ones((1, 1, 3, 5), np.int64))),
            (ValueError, "mask", lambda: module.attention(q, k, v, mask=np.ones((3, 5), bool))),
            (ValueError, "dropout_p", lambda: module.attention(q, k, v, dropout_p=1.5, state=STATE)),
            (TypeError, "dropout_p", lambda: module.attention(q, k, v, dropout_p="0.5", state=STATE)),
            (TypeError, "state", lambda: module.attention(q, k, v, dropout_p=0.5)),
            (ValueError, "grad", lambda: module.attention_backward(grad[:1], q, k, v, out, lse)),
            (ValueError, "lse", lambda: module.attention_backward(grad, q, k, v, out, lse[:1])),
            (
                ValueError,
                "mask_gradient",
                lambda: module.attention_backward(grad, q, k, v, out, lse, mask_gradient=True),
            ),
        ]
        for error, argument, call in refused:
            with pytest.raises(error, match=argument):
                call()


def test_shared_memory_is_checked():
    with kernels.use("emulated", device="RTX 3090"):
        ext = extension_for(np.zeros(1))
        assert ext.attention_shared_bytes(256, 256, True, 4) <= ext.known_devices()["RTX 3090"]
        x = np.ones((1, 1, 2, 1024), np.float32)
        with pytest.raises(ValueError, match="shared memory"):
            kernels.attention(x, x, x)
        with pytest.raises(ValueError, match="max_blocks"):
            ext.AttentionConfig(max_blocks=0)


def test_dropout_draws_as_the_generator_says():
    """Two calls draw different masks, the same seed the same ones, backward those of forward."""
    x = fastnet.tensor(draw((1, 2, 6, 4), np.float32, 3))
    call = fastnet.nn.functional.scaled_dot_product_attention
    results = []
    for mode in ("reference", "emulated"):
        with kernels.use(mode):
            fastnet.manual_seed(4)
            q = x.clone().requires_grad_()
            first, second = call(q, x, x, dropout_p=0.5), call(q, x, x, dropout_p=0.5)
            assert (first != second).any()
            first.sum().backward()
            results.append((first.detach().numpy(), q.grad.numpy()))
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
