"""Windows, caps on scores, ALiBi and packed sequences: emulated kernels and reference against float64, in every
schedule, alone and together; what has no keys; lengths that do not fit."""

import numpy as np
import pytest
from support import SCHEDULES, assert_close, epsilon, schedule
from test_attention import STATE, TINY, by_name, check, definition, draw, rounding_of

import fastnet
from fastnet import kernels, reference
from fastnet.kernels._runtime import extension_for
from fastnet.reference.dropout import dropout_mask

SIZES = (2, 4, 2, 37, 70, 8, 12)
SLOPES = np.array([0.5, 0.25, 0.125, 0.0625], np.float32)
FEATURES = {
    "window": {"window_size": (7, 3)},
    "left": {"window_size": (40, -1)},
    "right": {"window_size": (-1, 0)},
    "behind all keys": {"window_size": (0, 0), "causal": "top_left"},
    "cap": {"softcap": 1.5},
    "alibi": {"alibi_slopes": SLOPES},
    "alibi by batch": {"alibi_slopes": np.stack([SLOPES, SLOPES[::-1]])},
    "all": {
        "window_size": (33, 2),
        "softcap": 0.75,
        "alibi_slopes": SLOPES,
        "kind": "additive",
        "dropout_p": 0.3,
    },
    "all causal": {"window_size": (20, 5), "softcap": 3.0, "alibi_slopes": SLOPES, "causal": "bottom_right"},
}


@pytest.mark.parametrize("how", SCHEDULES, ids=lambda s: "-".join(map(str, s.values())))
def test_features_in_every_schedule(how):
    for name, options in FEATURES.items():
        with kernels.use("emulated", **how):
            check(kernels, SIZES, np.float32, name, **options)


@by_name
def test_features_in_every_dtype(dtype):
    for index, (name, options) in enumerate(FEATURES.items()):
        for module in (reference, kernels):
            with kernels.use("emulated", **schedule(index)):
                check(module, (2, 4, 2, 9, 37, 8, 12), dtype, name, seed=index, **options)


def packed(lengths, heads, key_heads, d, dv, dtype, seed, beyond=0):
    """q, k, v and grad of sequences of these (queries, keys), and their cumulative lengths; tokens beyond the last."""
    starts = [np.concatenate([[0], np.cumsum(n)]).astype(np.int32) for n in zip(*lengths, strict=True)]
    tokens = [int(s[-1]) + beyond for s in starts]
    shapes = [(tokens[0], heads, d), (tokens[1], key_heads, d), (tokens[1], key_heads, dv), (tokens[0], heads, dv)]
    return [draw(s, dtype, 4 * seed + i) for i, s in enumerate(shapes)], starts


def check_packed(module, lengths, dtype, what, heads=(4, 2), d=8, dv=12, seed=0, beyond=0, config=None, **options):
    (q, k, v, grad), starts = packed(lengths, *heads, d, dv, dtype, seed, beyond)
    longest = [max(n) for n in zip(*lengths, strict=True)]
    if module is kernels and config is None:  # the family that this file is about
        config = extension_for(q).AttentionConfig()
    common = dict(causal="none", dropout_p=0.0, state=STATE, offset=5, config=config) | options
    out, lse = module.attention_varlen(q, k, v, *starts, *longest, **common)
    results = module.attention_varlen_backward(grad, q, k, v, out, lse, *starts, *longest, **common)
    sums = np.float64 if np.dtype(dtype) == np.float64 else np.float32
    u, half, tiny = epsilon(sums), epsilon(dtype), 2 * TINY[np.dtype(dtype).name]
    p, causal = common["dropout_p"], common["causal"]
    features = {k: v for k, v in common.items() if k in ("window_size", "softcap", "alibi_slopes")}
    keep = dropout_mask((len(lengths), heads[0], *longest), p, STATE, 5) / (1 - p) if p else None
    for i, (a, b) in enumerate(lengths):
        rows, keys = (slice(s[i], s[i + 1]) for s in starts)
        one = [x[at].transpose(1, 0, 2)[None] for x, at in zip((q, k, v, grad), (rows, keys, keys, rows), strict=True)]
        if features.get("alibi_slopes") is not None and features["alibi_slopes"].ndim == 2:
            features["alibi_slopes"] = np.array(options["alibi_slopes"][i : i + 1])
        kept = 1.0 if keep is None else keep[i : i + 1, :, :a, :b]
        want, want_lse, gradients, bound, bound_lse, bounds = definition(
            *one, None, causal, 1 / np.sqrt(d), p, 5, keep=kept, **rounding_of(config, dtype), **features
        )
        heads_of = lambda x, at: x[at].transpose(1, 0, 2)[None]  # noqa: E731
        where = f"{what}, sequence {i}"
        assert_close(heads_of(out, rows), want, bound * u + np.abs(want) * half + tiny, f"{where} out")
        assert_close(lse[None, :, rows], want_lse, bound_lse * u, f"{where} lse")
        for name, x, at, g, limit in zip("qkv", results, (rows, keys, keys), gradients, bounds, strict=False):
            assert_close(heads_of(x, at), g, limit * u + np.abs(g) * half + tiny, f"{where} d{name}")
    for x, s in ((out, starts[0]), (results[0], starts[0]), (results[1], starts[1]), (results[2], starts[1])):
        assert (x[s[-1] :] == 0).all(), f"{what}: tokens of no sequence"
    assert (lse[:, starts[0][-1] :] == -np.inf).all()


LENGTHS = [(5, 9), (33, 40), (0, 3), (4, 0), (1, 1), (34, 33)]
PACKED = {
    "plain": {},
    "causal": {"causal": "bottom_right"},
    "top left": {"causal": "top_left", "dropout_p": 0.25},
    "all": {
        "window_size": (9, 4),
        "softcap": 2.0,
        "alibi_slopes": np.outer(np.arange(1, 7), SLOPES).astype(np.float32),
        "beyond": 3,
        "dropout_p": 0.1,
    },
}


@pytest.mark.parametrize("how", SCHEDULES, ids=lambda s: "-".join(map(str, s.values())))
def test_packed_sequences_in_every_schedule(how):
    for index, (name, options) in enumerate(PACKED.items()):
        with kernels.use("emulated", **how), kernels.trace() as ran:
            check_packed(kernels, LENGTHS, np.float32, name, seed=index, **options)
        assert ran.names == ["attention_varlen", "attention_varlen_backward"]


@by_name
def test_packed_sequences_in_every_dtype(dtype):
    for index, (name, options) in enumerate(PACKED.items()):
        for module in (reference, kernels):
            with kernels.use("emulated", **schedule(index)):
                check_packed(module, LENGTHS, dtype, name, heads=(4, 2), seed=index, **options)


def test_random_features(full):
    """Sizes, features and dtypes at random, dense and packed; with --full 300 of each."""
    rng = np.random.default_rng(5)
    for index in range(300 if full else 16):
        key_heads, group = int(rng.integers(1, 3)), int(rng.integers(1, 4))
        heads, dtype = key_heads * group, [np.float32, np.float64, np.float16][index % 3]
        options = {
            "causal": str(rng.choice(["none", "top_left", "bottom_right"])),
            "dropout_p": float(rng.choice([0.0, 0.2])),
            "window_size": (int(rng.integers(-1, 40)), int(rng.integers(-1, 20))),
            "softcap": float(rng.choice([0.0, 1.0, 8.0])),
            "alibi_slopes": None if rng.random() < 0.5 else rng.random(heads).astype(np.float32),
        }
        sizes = (2, heads, key_heads, int(rng.integers(1, 70)), int(rng.integers(1, 90)), 6, int(rng.integers(1, 40)))
        lengths = [(int(rng.integers(0, 50)), int(rng.integers(0, 50))) for _ in range(int(rng.integers(1, 4)))]
        lengths[0] = (lengths[0][0] + 1, lengths[0][1] + 1)
        with kernels.use("emulated", **schedule(index)):
            kind = str(rng.choice(["none", "bool", "additive"]))
            check(kernels, sizes, dtype, f"{index}: {sizes} {options}", kind=kind, seed=index, **options)
            what = f"{index}: {lengths} {options}"
            check_packed(kernels, lengths, dtype, what, heads=(heads, key_heads), seed=index, **options)


@pytest.mark.parametrize("d", [16, 64, 128, 256])
def test_head_dimensions(d):
    with kernels.use("emulated", device="A100", **schedule(d // 16)):
        sizes = (1, 2, 1, 35, 40, d, d)
        check(kernels, sizes, np.float32, f"d {d}", causal="bottom_right", softcap=4.0, window_size=(17, -1))


def test_rows_that_see_nothing_are_zero():
    """Queries before the first key or past the window's last: no keys, zeros, no gradients."""
    q, k, v = draw((1, 1, 40, 4), np.float32, 0), *(draw((1, 1, 8, 4), np.float32, i) for i in (1, 2))
    for module in (reference, kernels):
        with kernels.use("emulated"):
            out, lse = module.attention(q, k, v, window_size=(3, 2))
            dq, dk, dv, _ = module.attention_backward(np.ones_like(q), q, k, v, out, lse, window_size=(3, 2))
        # Query i stands at key i - 32: those below 30 and above 42 see none.
        empty = np.arange(40) < 30
        assert (out[0, 0, empty] == 0).all()
        assert (out[0, 0, ~empty] != 0).any(axis=1).all()
        assert (np.isneginf(lse[0, 0]) == empty).all()
        assert (dq[0, 0, empty] == 0).all()
        assert np.isfinite(dk).all()
        assert np.isfinite(dv).all()


@pytest.mark.parametrize("module", [kernels, reference])
@pytest.mark.parametrize("starts", [[0, 3, 2, 6], [0, 2, 5, 9], [-1, 2, 4, 6], [0, 1, 6, 6]])
def test_lengths_that_do_not_fit(module, starts):
    """Decreasing, past the end, before the start, longer than the maximum: an error, and nothing written astray."""
    (q, k, v, grad), good = packed([(2, 2)] * 3, 2, 2, 4, 4, np.float32, 0)
    bad = np.array(starts, np.int32)
    with kernels.use("emulated"):
        for pair in ((bad, good[1]), (good[0], bad)):
            with pytest.raises(IndexError, match="attention_varlen: cu_seqlens"):
                module.attention_varlen(q, k, v, *pair, 4, 4)
            out, lse = module.attention_varlen(q, k, v, *good, 4, 4)
            with pytest.raises(IndexError, match="attention_varlen_backward: cu_seqlens"):
                module.attention_varlen_backward(grad, q, k, v, out, lse, *pair, 4, 4)
            module.attention_varlen(q, k, v, *good, 4, 4)  # said once


@pytest.mark.parametrize("module", [kernels, reference])
def test_bad_input(module):
    q, k, v = (draw((1, 2, 3, 4), np.float32, i) for i in range(3))
    (pq, pk, pv, grad), starts = packed([(2, 2), (1, 3)], 2, 2, 4, 4, np.float32, 0)
    with kernels.use("emulated"):
        out, lse = module.attention_varlen(pq, pk, pv, *starts, 2, 3)
        refused = [
            (TypeError, "window_size", lambda: module.attention(q, k, v, window_size=3)),
            (TypeError, "window_size", lambda: module.attention(q, k, v, window_size=(1.5, 2))),
            (ValueError, "window_size", lambda: module.attention(q, k, v, window_size=(1, 2, 3))),
            (TypeError, "softcap", lambda: module.attention(q, k, v, softcap="1")),
            (ValueError, "softcap", lambda: module.attention(q, k, v, softcap=-1.0)),
            (ValueError, "softcap", lambda: module.attention(q, k, v, softcap=float("nan"))),
            (TypeError, "alibi_slopes", lambda: module.attention(q, k, v, alibi_slopes=SLOPES[:2].astype(np.float64))),
            (ValueError, "alibi_slopes", lambda: module.attention(q, k, v, alibi_slopes=SLOPES)),
            (ValueError, "q", lambda: module.attention_varlen(q, pk, pv, *starts, 2, 3)),
            (
                TypeError,
                "cu_seqlens_q",
                lambda: module.attention_varlen(pq, pk, pv, starts[0].tolist(), starts[1], 2, 3),
            ),
            (TypeError, "cu_seqlens_k", lambda: module.attention_varlen(pq, pk, pv, starts[0], starts[1] * 1.0, 2, 3)),
            (ValueError, "cu_seqlens_k", lambda: module.attention_varlen(pq, pk, pv, starts[0], starts[1][:2], 2, 3)),
            (ValueError, "cu_seqlens_q", lambda: module.attention_varlen(pq, pk, pv, *(s[:0] for s in starts), 2, 3)),
            (TypeError, "max_seqlen_q", lambda: module.attention_varlen(pq, pk, pv, *starts, 2.5, 3)),
            (ValueError, "max_seqlen_k", lambda: module.attention_varlen(pq, pk, pv, *starts, 2, -3)),
            (
                ValueError,
                "grad",
                lambda: module.attention_varlen_backward(grad[:1], pq, pk, pv, out, lse, *starts, 2, 3),
            ),
            (ValueError, "lse", lambda: module.attention_varlen_backward(grad, pq, pk, pv, out, lse.T, *starts, 2, 3)),
        ]
        for error, argument, call in refused:
            with pytest.raises(error, match=argument):
                call()


@pytest.mark.parametrize("mode", ["reference", "emulated"])
def test_public_functions_against_torch(mode):
    """Values and gradients of F.attention and F.attention_varlen against the formula under PyTorch's autograd."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: the peer of this test")
    arrays, starts = packed([(3, 5), (6, 6)], 4, 2, 8, 8, np.float32, 1)
    slopes = SLOPES * 0.5

    def formula(q, k, v):
        s = q @ k.repeat_interleave(2, 0).transpose(1, 2) / 8**0.5
        s = 2 * torch.tanh(s / 2)
        place = torch.arange(q.shape[1])[:, None] + k.shape[1] - q.shape[1] - torch.arange(k.shape[1])
        s = s - torch.tensor(slopes)[:, None, None] * place.abs()
        s = s.masked_fill((place > 3) | (place < 0), -torch.inf)
        return s.softmax(-1) @ v.repeat_interleave(2, 0)

    ours, theirs = ([to(x).requires_grad_() for x in arrays[:3]] for to in (fastnet.tensor, torch.tensor))
    options = dict(causal=True, window_size=(3, -1), softcap=2.0, alibi_slopes=fastnet.tensor(slopes))
    upstream = fastnet.tensor(arrays[3])
    with kernels.use(mode):
        whole = fastnet.nn.functional.attention_varlen(*ours, *(fastnet.tensor(s) for s in starts), 6, 6, **options)
        (whole * upstream).sum().backward()
    parts, results = [slice(0, 3), slice(3, 9)], []
    for i, rows in enumerate(parts):
        keys = slice(*starts[1][i : i + 2])
        q, k, v = (x[at].transpose(0, 1) for x, at in zip(theirs, (rows, keys, keys), strict=True))
        results.append(formula(q, k, v).transpose(0, 1))
        with kernels.use(mode):
            one = [x.detach()[at].transpose(0, 1)[None] for x, at in zip(ours, (rows, keys, keys), strict=True)]
            dense = fastnet.nn.functional.attention(*one, **options)[0].transpose(0, 1)
        np.testing.assert_allclose(dense.numpy(), whole.detach().numpy()[rows], rtol=0, atol=1e-6)
    want = torch.cat(results)
    (want * torch.tensor(arrays[3])).sum().backward()
    np.testing.assert_allclose(whole.detach().numpy(), want.detach().numpy(), rtol=0, atol=2e-6)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=0, atol=1e-5)
