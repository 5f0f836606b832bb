"""Problems of attention."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from fastnet.kernels._runtime import extension_for

from .inputs import Call, aligned, misaligned, normal, state


def attention_inputs(rng: np.random.Generator, dtype: Any, *sizes: int) -> list[np.ndarray]:
    """grad, q, k, v, out and lse, of numbers that need not belong together."""
    b, h, hk, tq, tk, d, dv = sizes
    shapes = [(b, h, tq, dv), (b, h, tq, d), (b, hk, tk, d), (b, hk, tk, dv), (b, h, tq, dv)]
    sums = np.float64 if np.dtype(dtype) == np.float64 else np.float32
    return [*(normal(rng, s, dtype) for s in shapes), aligned((b, h, tq), sums, normal(rng, (b, h, tq), sums) + 4)]


def general_attention() -> Any:
    return extension_for(np.empty(0)).AttentionConfig()


def of_tensor_cores(dtype: Any, family: str = "sm80", **how: int) -> dict[str, Any]:
    """The family's config where it has the dtype, else the general one's."""
    without = (np.float64,) if family == "sm80" else (np.float32, np.float64)
    family = "general" if np.dtype(dtype) in without else family
    return {"config": extension_for(np.empty(0)).AttentionConfig(family=family, **how)}


def small_attention(backward: bool, rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for sizes in [(1, 1, 1, 1, 1, 1, 1), (1, 4, 2, 5, 37, 9, 6), (2, 1, 1, 33, 3, 4, 40)]:
        grad, q, k, v, out, lse = attention_inputs(rng, dtype, *sizes)
        mask = normal(rng, (1, 1, q.shape[2], k.shape[2]), dtype)
        for kwargs in ({"causal": "top_left"}, {"mask": mask > 0, "dropout_p": 0.3, "state": state()}, {"mask": mask}):
            q = misaligned(q)
            if backward:
                yield (grad, q, k, v, out, lse), {**kwargs, "mask_gradient": kwargs.get("mask") is mask}
            else:
                yield (q, k, v), kwargs
    grad, q, k, v, out, lse = attention_inputs(rng, dtype, 1, 4, 2, 33, 37, 9, 6)
    features = {"window_size": (20, 3), "softcap": 2.0, "alibi_slopes": aligned((4,), np.float32, 0.5)}
    yield ((grad, q, k, v, out, lse) if backward else (q, k, v)), features

    # Every width of the sm80 family, stages used again, edges of tiles, blocks that take several tiles.
    for index, sizes in enumerate(
        [(1, 2, 1, 140, 150, 24, 33), (1, 1, 1, 17, 140, 128, 72), (1, 1, 1, 20, 70, 136, 8)]
    ):
        grad, q, k, v, out, lse = attention_inputs(rng, dtype, *sizes)
        if np.dtype(dtype) == np.float64 or (np.dtype(dtype) == np.float32 and index == 2):
            continue
        kwargs: dict[str, Any] = {"causal": ["top_left", "none", "bottom_right"][index], **of_tensor_cores(dtype)}
        if index == 0:
            kwargs |= {"dropout_p": 0.3, "state": state()}
        yield ((grad, q, k, v, out, lse) if backward else (q, k, v)), kwargs
        slopes = aligned((sizes[1],), np.float32, 0.5)
        kwargs = {"window_size": (30, 3), "softcap": 2.0, "alibi_slopes": slopes, **of_tensor_cores(dtype)}
        yield ((grad, q, k, v, out, lse) if backward else (q, k, v)), kwargs

    # The same of the sm90 family.
    for index, sizes in enumerate(
        [(1, 2, 1, 200, 270, 24, 32), (1, 1, 1, 130, 260, 128, 72), (1, 2, 2, 20, 170, 136, 8)]
    ):
        grad, q, k, v, out, lse = attention_inputs(rng, dtype, *sizes)
        if np.dtype(dtype) in (np.float32, np.float64):
            continue
        kwargs = {"causal": ["top_left", "none", "bottom_right"][index]}
        kwargs |= of_tensor_cores(dtype, "sm90", stages=4 if backward else 3, max_blocks=1 + index % 2)
        yield ((grad, q, k, v, out, lse) if backward else (q, k, v)), kwargs
        args = (grad, q, k, v, out, lse) if backward else (q, k, v)
        shape = (1, 1, q.shape[2], k.shape[2])
        kwargs |= {"mask": normal(rng, shape, (dtype, np.float32)[index % 2]), "dropout_p": 0.3, "state": state()}
        if index == 2:
            kwargs["mask"] = kwargs["mask"] > -1
        yield args, kwargs | ({"mask_gradient": index < 2} if backward else {})
        slopes = aligned((q.shape[1],), np.float32, 0.5)
        kwargs |= {"mask": None, "window_size": (150, 9), "softcap": 2.0, "alibi_slopes": slopes}
        yield args, kwargs


def packed_attention(backward: bool, arrays: list[np.ndarray], lengths: list[tuple[int, int]]) -> tuple:
    """Arguments of attention_varlen, or of its gradients, from arrays of one batch of as many tokens."""
    grad, q, k, v, out = (x[0].transpose(1, 0, 2) for x in arrays[:5])
    starts = [aligned((len(n) + 1,), np.int32, np.cumsum([0, *n])) for n in zip(*lengths, strict=True)]
    longest = [max(n) for n in zip(*lengths, strict=True)]
    return (grad, q, k, v, out, arrays[5][0], *starts, *longest) if backward else (q, k, v, *starts, *longest)


def small_attention_varlen(backward: bool, rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for lengths in ([(1, 1)], [(5, 3), (0, 2), (34, 36)]):
        arrays = attention_inputs(rng, dtype, 1, 4, 2, 40, 42, 9, 6)
        arrays[1] = misaligned(arrays[1])
        for kwargs in ({"causal": "bottom_right"}, {"window_size": (4, 4), "dropout_p": 0.3, "state": state()}):
            yield packed_attention(backward, arrays, lengths), {**kwargs, "config": general_attention()}
            yield packed_attention(backward, arrays, lengths), {**kwargs, **of_tensor_cores(dtype)}
    if np.dtype(dtype) in (np.float32, np.float64):
        return
    for lengths, width in (([(5, 3), (0, 2), (200, 135)], 24), ([(70, 0), (66, 90)], 136)):
        arrays = attention_inputs(rng, dtype, 1, 4, 2, *map(sum, zip(*lengths, strict=True)), width, 16)
        for kwargs in ({"causal": "bottom_right"}, {"window_size": (40, 4), "dropout_p": 0.3, "state": state()}):
            how = of_tensor_cores(dtype, "sm90", stages=4, max_blocks=2)
            yield packed_attention(backward, arrays, lengths), kwargs | how


def aligned_attention_varlen(backward: bool, rng: np.random.Generator, dtype: Any, family: str = "general") -> Call:
    """Of whole tiles; sm90: of them, and in float16 where it has no float32."""
    if family == "general":
        arrays = attention_inputs(rng, dtype, 1, 1, 1, 96, 128, 64, 64)
        return packed_attention(backward, arrays, [(32, 96), (64, 32)]), {"config": general_attention()}
    if family == "sm90" and np.dtype(dtype) == np.float32:
        dtype = np.dtype(np.float16)
    arrays = attention_inputs(rng, dtype, 1, 1, 1, 384, 384, 64, 64)
    how = of_tensor_cores(dtype, family, stages=4 if family == "sm90" else 2)
    return packed_attention(backward, arrays, [(128, 256), (256, 128)]), how


def attention_cache(rng: np.random.Generator, dtype: Any, *sizes: int) -> tuple:
    """q, caches, how much they hold, new keys and values."""
    b, h, hk, tq, capacity, d, dv = sizes
    shapes = [(b, h, tq, d), (b, hk, capacity, d), (b, hk, capacity, dv), (b, hk, tq, d), (b, hk, tq, dv)]
    q, k_cache, v_cache, k, v = (normal(rng, s, dtype) for s in shapes)
    return q, k_cache, v_cache, aligned((b,), np.int32, np.arange(b) * 3 + capacity // 2), k, v


def small_attention_with_kvcache(rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    config = extension_for(np.empty(0)).AttentionCacheConfig
    for sizes in [(1, 1, 1, 1, 5, 1, 1), (2, 6, 2, 3, 140, 9, 6)]:
        q, *rest = attention_cache(rng, dtype, *sizes)
        yield (q, *rest), {}
        yield (misaligned(q), *rest), {"config": config(3), "window_size": (40, -1)}


def aligned_attention_with_kvcache(rng: np.random.Generator, dtype: Any) -> Call:
    config = extension_for(np.empty(0)).AttentionCacheConfig
    return attention_cache(rng, dtype, 1, 4, 2, 1, 256, 64, 64), {"config": config(2)}


def aligned_attention(backward: bool, rng: np.random.Generator, dtype: Any, width: int = 64, family: str = "") -> Call:
    """family: of the sm80 or sm90 family in bfloat16 and, which they do not have in float32, in float16."""
    if (family == "sm90" or width > 128) and np.dtype(dtype) == np.float32:
        dtype = np.dtype(np.float16)
    sizes = (1, 1, 1, 64, 96, 64, 64)
    if family:  # whole tiles of both
        sizes = (
            (1, 1, 1, 384, 320 if width == 256 else 256, width, width)
            if family == "sm90"
            else (1, 1, 1, 256, 128, width, width)
        )
    grad, q, k, v, out, lse = attention_inputs(rng, dtype, *sizes)
    general = {"config": general_attention()}
    kwargs = of_tensor_cores(dtype, family, **({"stages": 4} if family == "sm90" else {})) if family else general
    return ((grad, q, k, v, out, lse) if backward else (q, k, v)), kwargs


def featured_attention(backward: bool, rng: np.random.Generator, dtype: Any, family: str, what: str) -> Call:
    """Whole tiles of the family, plain or featured, of width 64; sm90: in float16 where it has no float32."""
    if family == "sm90" and np.dtype(dtype) == np.float32:
        dtype = np.dtype(np.float16)
    grad, q, k, v, out, lse = attention_inputs(rng, dtype, 1, 2, 1, 384, 256, 64, 64)
    kwargs = of_tensor_cores(dtype, family, **({"stages": 4} if family == "sm90" else {}))
    shape = (1, 2, 384, 256)
    if what == "mask":
        kwargs["mask"] = aligned(shape, bool, normal(rng, shape, np.float32) > -1)
    elif what == "bias":
        kwargs["mask"] = normal(rng, shape, dtype)
        kwargs |= {"mask_gradient": True} if backward else {}
    elif what == "features":
        kwargs |= {"window_size": (300, 200), "softcap": 2.0, "alibi_slopes": aligned((2,), np.float32, 0.5)}
    elif what == "dropout":
        kwargs |= {"dropout_p": 0.3, "state": state()}
    return ((grad, q, k, v, out, lse) if backward else (q, k, v)), kwargs


SMALL: dict[str, Callable[[np.random.Generator, Any], Iterator[Call]]] = {
    "attention": partial(small_attention, False),
    "attention_backward": partial(small_attention, True),
    "attention_varlen": partial(small_attention_varlen, False),
    "attention_varlen_backward": partial(small_attention_varlen, True),
    "attention_with_kvcache": small_attention_with_kvcache,
}


ALIGNED: dict[str, Callable[[np.random.Generator, Any], Call]] = {
    "attention": partial(aligned_attention, False),
    "attention_backward": partial(aligned_attention, True),
    **{
        f"attention{'_backward' * backward}: sm80 {width}": partial(
            aligned_attention, backward, width=width, family="sm80"
        )
        for width in (64, 128, 256)
        for backward in (False, True)
    },
    **{f"attention: sm90 {n}": partial(aligned_attention, False, width=n, family="sm90") for n in (64, 128, 256)},
    **{
        f"attention_backward: sm90 {n}": partial(aligned_attention, True, width=n, family="sm90")
        for n in (64, 128, 256)
    },
    **{
        f"attention{'_backward' * backward}: {family} {what}": partial(
            featured_attention, backward, family=family, what=what
        )
        for family in ("sm80", "sm90")
        for what in ("grouped", "mask", "bias", "features", "dropout")
        for backward in (False, True)
    },
    **{
        f"attention_varlen{'_backward' * backward}{f': {family}' * (family != 'general')}": partial(
            aligned_attention_varlen, backward, family=family
        )
        for family in ("general", "sm80", "sm90")
        for backward in (False, True)
    },
    "attention_with_kvcache": aligned_attention_with_kvcache,
}
