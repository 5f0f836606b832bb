"""Attention to a cache of keys and values: emulated kernel and reference against float64 in every schedule, split or
not; what is appended; features; lengths that do not fit; the public function."""

import numpy as np
import pytest
from support import SCHEDULES, assert_close, epsilon, schedule
from test_attention import TINY, by_name, definition, draw

import fastnet
from fastnet import kernels, reference
from fastnet.kernels._runtime import extension_for

# batch, heads, key heads, queries, new tokens, capacity, d, dv
SIZES = (3, 4, 2, 1, 1, 150, 16, 12)


def cached(sizes, lengths, dtype, seed=0, order=0):
    """q, caches with NaN beyond what they hold, lengths, new keys and values."""
    b, h, hk, tq, t, capacity, d, dv = sizes
    q = draw((b, h, tq, d), dtype, 6 * seed)
    k_cache, v_cache = draw((b, hk, capacity, d), dtype, 6 * seed + 1), draw((b, hk, capacity, dv), dtype, 6 * seed + 2)
    for i, held in enumerate(lengths):
        k_cache[i, :, held:] = v_cache[i, :, held:] = np.nan
    k, v = (draw((b, hk, t, n), dtype, 6 * seed + 3 + i) for i, n in enumerate((d, dv)))
    arrays = [q, k_cache, v_cache, np.array(lengths, np.int32), k, v]
    if order:  # heads beside features in memory, as a projection leaves them
        arrays = [x.swapaxes(1, 2).copy().swapaxes(1, 2) if x.ndim == 4 else x for x in arrays]
    return arrays


def check(module, sizes, lengths, dtype, what, splits=None, seed=0, order=0, **options):
    q, k_cache, v_cache, held, k, v = cached(sizes, lengths, dtype, seed, order)
    new = (k, v) if sizes[4] else (None, None)
    before = k_cache.copy(), v_cache.copy()
    config = None if splits is None else extension_for(q).AttentionCacheConfig(splits)
    out, lse = module.attention_with_kvcache(q, k_cache, v_cache, held, *new, config=config, **options)
    assert held.tolist() == list(lengths)
    sums = np.float64 if np.dtype(dtype) == np.float64 else np.float32
    u, half, tiny = epsilon(sums), epsilon(dtype), 2 * TINY[np.dtype(dtype).name]
    for i, n in enumerate(lengths):
        end = n + sizes[4]
        for cache, old, fresh in ((k_cache, before[0], k), (v_cache, before[1], v)):
            pairs = (
                (cache[i, :, n:end], fresh[i]),
                (cache[i, :, :n], old[i, :, :n]),
                (cache[i, :, end:], old[i, :, end:]),
            )
            for got, want in pairs:
                np.testing.assert_array_equal(got.astype(np.float64), want.astype(np.float64), err_msg=what)
        one = [x[i : i + 1].astype(dtype) for x in (q, k_cache[:, :, :end], v_cache[:, :, :end])]
        causal, features = options.get("causal", "bottom_right"), {k: v for k, v in options.items() if k != "causal"}
        if features.get("alibi_slopes") is not None:
            features["alibi_slopes"] = np.broadcast_to(features["alibi_slopes"], q.shape[:2])[i : i + 1]
        grad = np.zeros((1, *out.shape[1:]), dtype)
        want, want_lse, _, bound, bound_lse, _ = definition(
            *one, grad, None, causal, 1 / np.sqrt(q.shape[3]), 0.0, 0, **features
        )
        where = f"{what}, sequence {i}"
        # Joining the splits rounds once more for each.
        extra = 2 + (splits or 4)
        bound = bound + extra * np.abs(want)
        assert_close(out[i : i + 1], want, bound * u + np.abs(want) * half + tiny, f"{where} out")
        assert_close(lse[i : i + 1], want_lse, (bound_lse + extra) * u, f"{where} lse")


PROBLEMS = [
    (SIZES, (0, 37, 149), {}),
    ((2, 2, 2, 1, 1, 70, 8, 40), (1, 69), {"window_size": (20, -1)}),
    ((2, 6, 2, 5, 5, 90, 20, 8), (3, 80), {"softcap": 2.0, "alibi_slopes": np.linspace(0.1, 0.6, 6, dtype=np.float32)}),
    ((1, 4, 1, 3, 0, 64, 8, 8), (64,), {"causal": "none"}),
    ((2, 1, 1, 2, 7, 40, 8, 8), (0, 20), {"causal": "top_left", "window_size": (3, 0)}),
    ((1, 2, 1, 11, 11, 40, 8, 8), (0,), {}),
    ((2, 1, 1, 3, 0, 33, 8, 8), (0, 1), {}),
]


@pytest.mark.parametrize("how", SCHEDULES, ids=lambda s: "-".join(map(str, s.values())))
def test_against_float64(how):
    for index, (sizes, lengths, options) in enumerate(PROBLEMS):
        for splits in (None, 1, 2, 5):
            with kernels.use("emulated", **how), kernels.trace() as ran:
                check(kernels, sizes, lengths, np.float32, f"{sizes} {splits}", splits, seed=index, **options)
            assert ran.names == ["attention_with_kvcache"]


@by_name
def test_every_dtype(dtype):
    for index, (sizes, lengths, options) in enumerate(PROBLEMS):
        for module in (reference, kernels):
            with kernels.use("emulated", **schedule(index)):
                splits = [1, 3][index % 2]
                check(module, sizes, lengths, dtype, f"{sizes}", splits, seed=index, order=index % 2, **options)


def test_random_problems(full):
    """Sizes, lengths and features at random; with --full 300 of them."""
    rng = np.random.default_rng(3)
    for index in range(300 if full else 16):
        batch, key_heads, group = (int(rng.integers(1, 4)) for _ in range(3))
        queries, added, capacity = int(rng.integers(1, 8)), int(rng.integers(0, 6)), int(rng.integers(8, 200))
        sizes = (batch, group * key_heads, key_heads, queries, added, capacity, int(rng.integers(1, 40)), 9)
        lengths = rng.integers(0, capacity - added + 1, batch).tolist()
        options = {
            "causal": str(rng.choice(["none", "top_left", "bottom_right"])),
            "window_size": (int(rng.integers(-1, 60)), int(rng.integers(-1, 5))),
            "softcap": float(rng.choice([0.0, 3.0])),
        }
        with kernels.use("emulated", **schedule(index)):
            dtype = [np.float32, np.float64, np.float16][index % 3]
            what = f"{index}: {sizes} {lengths} {options}"
            check(kernels, sizes, lengths, dtype, what, int(rng.integers(1, 6)), seed=index, **options)


@pytest.mark.parametrize("d", [16, 128, 256])
def test_head_dimensions(d):
    with kernels.use("emulated", device="A100"):
        check(kernels, (1, 8, 1, 2, 1, 40, d, d), (35,), np.float32, f"d {d}", 2)


def test_splits_follow_the_device():
    with kernels.use("emulated", device="H200"):
        ext = extension_for(np.zeros(1))
        few, many = (ext.attention_cache_config(n, 12, 1, 4096).splits for n in (1, 64))
        assert (few, many) == (22, 1)  # 132 SMs, two blocks each
        assert ext.attention_cache_config(1, 12, 1, 300).splits == 2  # 128 keys a part at least
        for wrong in (0, 257):
            with pytest.raises(ValueError, match="splits"):
                ext.AttentionCacheConfig(wrong)


@pytest.mark.parametrize("module", [kernels, reference])
def test_lengths_that_do_not_fit(module):
    for bad in ((3, 150, 1), (0, -1, 0)):
        q, k_cache, v_cache, held, k, v = cached(SIZES, (3, 10, 1), np.float32)
        held[:] = bad
        before = k_cache.copy()
        with kernels.use("emulated"), pytest.raises(IndexError, match="attention_with_kvcache: a sequence has no room"):
            module.attention_with_kvcache(q, k_cache, v_cache, held, k, v)
        np.testing.assert_array_equal(k_cache[1], before[1])


@pytest.mark.parametrize("module", [kernels, reference])
def test_bad_input(module):
    q, k_cache, v_cache, held, k, v = cached(SIZES, (3, 10, 1), np.float32)
    call = module.attention_with_kvcache
    locked = k_cache.copy()
    locked.flags.writeable = False
    refused = [
        (TypeError, "cache_seqlens", lambda: call(q, k_cache, v_cache, 3, k, v)),
        (TypeError, "cache_seqlens", lambda: call(q, k_cache, v_cache, held.astype(np.int64), k, v)),
        (ValueError, "cache_seqlens", lambda: call(q, k_cache, v_cache, held[:2], k, v)),
        (TypeError, "v", lambda: call(q, k_cache, v_cache, held, k)),
        (ValueError, "k", lambda: call(q, k_cache, v_cache, held, k[:, :1], v)),
        (ValueError, "v", lambda: call(q, k_cache, v_cache, held, k, v[:, :, :0])),
        (ValueError, "v_cache|v ", lambda: call(q, k_cache, v_cache[:, :, :9], held, k, v)),
        (ValueError, "memory", lambda: call(q, k_cache, v_cache, held, k_cache[:, :, :1], v)),
        (ValueError, "k_cache is read-only", lambda: call(q, locked, v_cache, held, k, v)),
        (ValueError, "one query", lambda: call(q[:, :, :0], k_cache, v_cache, held, k, v)),
    ]
    with kernels.use("emulated"):
        for error, argument, run in refused:
            with pytest.raises(error, match=argument):
                run()


@pytest.mark.parametrize("mode", ["reference", "emulated"])
def test_public_function_is_a_step_of_attention(mode):
    """Token by token into the cache: the rows of causal attention to all tokens, with a window."""
    call, whole = fastnet.nn.functional.attention_with_kvcache, fastnet.nn.functional.attention
    q, k, v = (fastnet.tensor(draw((2, 4, 9, 8), np.float32, i)) for i in range(3))
    k_cache, v_cache = fastnet.zeros(2, 4, 12, 8), fastnet.zeros(2, 4, 12, 8)
    with kernels.use(mode):
        want = whole(q, k, v, causal=True, window_size=(4, -1))
        for start, end in ((0, 4), (4, 5), (5, 6), (6, 9)):
            new = [x[:, :, start:end] for x in (q, k, v)]
            held = start if start % 2 else fastnet.full((2,), start, dtype=fastnet.int32)
            got = call(new[0], k_cache, v_cache, *new[1:], cache_seqlens=held, causal=True, window_size=(4, -1))
            np.testing.assert_allclose(got.numpy(), want[:, :, start:end].numpy(), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(k_cache[:, :, :9].numpy(), k.numpy())
    assert k_cache._version_counter[0] > 0
    with pytest.raises(RuntimeError, match="gradient"):
        call(q.requires_grad_(), k_cache, v_cache, cache_seqlens=9)
