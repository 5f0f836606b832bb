"""Small problems for every function of fastnet.kernels: what the sanitizer and counter builds run.

``SMALL[name](rng, dtype)`` gives calls (args, kwargs) with odd shapes, misaligned and strided inputs;
``ALIGNED[name](rng, dtype)`` one call with aligned, contiguous inputs, on which the counters are held. Both cover every
kernel: a test compares their keys with ``fastnet.kernels.__all__``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from fastnet.kernels._runtime import extension_for

Call = tuple[tuple, dict]
ALIGNMENT = 256  # bytes, as CUDA's allocations


def aligned(shape: tuple[int, ...], dtype: Any, values: Any = None) -> np.ndarray:
    """An array that starts on 256 bytes, so that counts of sectors do not depend on where NumPy put it."""
    dtype = np.dtype(dtype)
    size = int(np.prod(shape)) * dtype.itemsize
    raw = np.zeros(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    out = raw[start : start + size].view(dtype).reshape(shape)
    if values is not None:
        out[...] = values
    return out


def normal(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    return aligned(shape, dtype, rng.standard_normal(shape).astype(dtype))


def misaligned(x: np.ndarray) -> np.ndarray:
    """The same values one element further on, so that no row starts on 16 bytes."""
    flat = np.empty(x.size + 1, x.dtype)
    flat[1:] = x.reshape(-1)
    return flat[1:].reshape(x.shape)


def state(seed: int = 1) -> np.ndarray:
    return np.array([seed, 3], np.uint64)


# ---- matmul, reduction ---------------------------------------------------------------------------------------------


def small_matmul(rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for m, n, k in [(1, 1, 1), (5, 7, 3), (33, 65, 17), (70, 130, 40), (3, 2, 0)]:
        a, b = normal(rng, (m, k), dtype), normal(rng, (k, n), dtype)
        yield (a, b), {}
        yield (misaligned(a), normal(rng, (n, k), dtype).T), {"bias": normal(rng, (n,), dtype), "activation": "gelu"}
    yield (normal(rng, (2, 1, 9, 11), dtype), normal(rng, (3, 11, 6), dtype)), {}
    config = extension_for(np.empty(0)).MatmulConfig
    a, b = normal(rng, (40, 70), dtype).T, normal(rng, (40, 36), dtype)
    yield (a, b), {"row_sums": True, "config": config("general", 32, 32)}
    if np.dtype(dtype) == np.float64:
        return
    for number, (tile, how) in enumerate(
        [
            ((64, 64), {"stages": 2, "max_blocks": 2}),
            ((64, 64), {"split": 2}),
            ((64, 64), {"stream_k": True, "max_blocks": 3}),
            ((16, 128), {"stages": 4}),
            ((128, 16), {}),
        ]
    ):
        a, b = normal(rng, (70, 100), dtype), normal(rng, (100, 72), dtype)
        bias = normal(rng, (72,), dtype)
        if number % 2:
            a, b = np.asfortranarray(a), misaligned(b)
        yield (a, b), {"bias": bias, "row_sums": True, "config": config("sm80", *tile, **how)}
    if np.dtype(dtype) == np.float32:
        return
    for number, (tile, how) in enumerate(
        [
            ((128, 64), {"stages": 3, "cluster": 2, "max_blocks": 2}),
            ((64, 128), {"stages": 3, "split": 2}),
            ((64, 64), {"cluster": 2, "stream_k": True, "max_blocks": 6}),
            ((128, 128), {}),
        ]
    ):
        a, b = normal(rng, (136, 328), dtype), normal(rng, (328, 72), dtype)
        if number % 2:
            a, b = np.asfortranarray(a), misaligned(b)
        yield (a, b), {"config": config("sm90", *tile, **how)}
        residual = normal(rng, (136, 72), dtype)
        yield (a, b), {"residual": residual, "row_sums": True, "config": config("sm90", *tile, **how)}


def aligned_matmul(rng: np.random.Generator, dtype: Any) -> Call:
    return (normal(rng, (256, 256), dtype), normal(rng, (256, 256), dtype)), {}


def aligned_products() -> dict[str, Callable[[np.random.Generator, Any], Call]]:
    """The large tiles of the sm80 and sm90 families and their second passes: beside the config that is chosen."""

    def product(transpose_a: bool, transpose_b: bool, split: int) -> Callable[[np.random.Generator, Any], Call]:
        def call(rng: np.random.Generator, dtype: Any) -> Call:
            a, b = normal(rng, (128, 128), dtype), normal(rng, (128, 128), dtype)
            columns = 64 if np.dtype(dtype) == np.float32 else 128
            config = extension_for(np.empty(0)).MatmulConfig("sm80", 128, columns, split=split)
            return (a.T if transpose_a else a, b.T if transpose_b else b), {"config": config}

        return call

    def hopper(
        columns: int, pad: int, row_sums: bool = False, **how: Any
    ) -> Callable[[np.random.Generator, Any], Call]:
        def call(rng: np.random.Generator, dtype: Any) -> Call:
            if np.dtype(dtype) == np.float32:  # which this family does not have
                dtype = np.float16
            a, b = normal(rng, (256, 192 + pad), dtype)[:, :192], normal(rng, (192, columns), dtype)
            residual = {"residual": normal(rng, (256, columns), dtype)} if how.get("split") or pad else {}
            if row_sums:  # the weight gradient's form: k's rows hold neighbours of m
                a, residual = normal(rng, (192, 256), dtype).T, {"row_sums": True}
            config = extension_for(np.empty(0)).MatmulConfig("sm90", 128, columns, cluster=2, **how)
            return (a, b), {"config": config, **residual}

        return call

    names = {"NN": (False, False), "TN": (True, False), "NT": (False, True), "TT": (True, True)}
    return {
        **{f"matmul: sm80 {name}": product(*which, 1) for name, which in names.items()},
        "matmul: sm80 split": product(False, False, 2),
        "matmul: sm90": hopper(256, 0),
        "matmul: sm90 split": hopper(128, 0, split=3),
        "matmul: sm90 row sums": hopper(256, 0, row_sums=True),
        "matmul: sm90 rows on 8 bytes": hopper(128, 4),
    }


def small_column_sum(rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for shape in [(1, 1), (300, 33), (1030, 5), (0, 4)]:
        yield (normal(rng, shape, dtype),), {}


def aligned_column_sum(rng: np.random.Generator, dtype: Any) -> Call:
    return (normal(rng, (512, 256), dtype),), {}


# ---- attention -----------------------------------------------------------------------------------------------------


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
    family = "general" if np.dtype(dtype) in (np.float32, np.float64) else family
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
        if np.dtype(dtype) in (np.float32, np.float64):
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
        if np.dtype(dtype) in (np.float32, np.float64) or (backward and index == 2):
            continue
        kwargs = {"causal": ["top_left", "none", "bottom_right"][index]}
        kwargs |= of_tensor_cores(dtype, "sm90", stages=4 if backward else 3, max_blocks=1 + index % 2)
        yield ((grad, q, k, v, out, lse) if backward else (q, k, v)), kwargs
        if backward:
            continue
        shape = (1, 1, q.shape[2], k.shape[2])
        kwargs |= {"mask": normal(rng, shape, (dtype, np.float32)[index % 2]), "dropout_p": 0.3, "state": state()}
        yield (q, k, v), {**kwargs, "mask": kwargs["mask"] > -1} if index == 2 else kwargs
        slopes = aligned((q.shape[1],), np.float32, 0.5)
        yield (q, k, v), {**kwargs, "mask": None, "window_size": (150, 9), "softcap": 2.0, "alibi_slopes": slopes}


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


def aligned_attention_varlen(backward: bool, rng: np.random.Generator, dtype: Any) -> Call:
    arrays = attention_inputs(rng, dtype, 1, 1, 1, 96, 128, 64, 64)
    return packed_attention(backward, arrays, [(32, 96), (64, 32)]), {"config": general_attention()}


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
    if family and np.dtype(dtype) == np.float32:
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


# ---- norm ----------------------------------------------------------------------------------------------------------


NORMS = ("batch_norm", "group_norm", "layer_norm", "rms_norm")


def norm_statistics(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    sums = np.float64 if np.dtype(dtype) == np.float64 else np.float32
    return normal(rng, shape, sums), normal(rng, shape, sums)


def small_norm(name: str, backward: bool, rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    """Every shape that the function takes: rows, channels first and last in memory, in groups."""
    shapes = [(5, 7), (3, 40), (2, 300)] + ([] if name in ("layer_norm", "rms_norm") else [(3, 8, 5), (2, 6, 4, 3)])
    for shape in shapes:
        first, grad, weight = normal(rng, shape, dtype), normal(rng, shape, dtype), normal(rng, shape[1:2], dtype)
        for x in (misaligned(first), np.moveaxis(np.ascontiguousarray(np.moveaxis(first, 1, -1)), -1, 1)):
            if name == "batch_norm":
                statistics = norm_statistics(rng, shape[1:2], dtype)
                if backward:
                    yield (grad, x, *statistics, weight), {"y": grad, "residual_gradient": True}
                else:
                    running = {"running_mean": statistics[0], "running_var": statistics[1] ** 2}
                    yield (x, weight, weight), {"residual": grad, "activation": "relu", **running}
            elif name == "group_norm":
                groups = 2 if shape[1] % 2 == 0 else 1
                statistics = norm_statistics(rng, (shape[0], groups), dtype)
                yield ((grad, x, groups, *statistics, weight) if backward else (x, groups, weight, weight)), {}
            else:
                statistics = norm_statistics(rng, shape[:1], dtype)[name == "rms_norm" :]
                yield ((grad, x, *statistics, weight) if backward else (x, weight)), {}


def aligned_norm(name: str, backward: bool, rng: np.random.Generator, dtype: Any) -> Call:
    shape = (64, 256) if name in ("layer_norm", "rms_norm") else (4, 64, 8, 8)
    x, grad, weight = normal(rng, shape, dtype), normal(rng, shape, dtype), normal(rng, shape[1:2], dtype)
    if name == "batch_norm":
        return ((grad, x, *norm_statistics(rng, shape[1:2], dtype), weight) if backward else (x, weight, weight)), {}
    if name == "group_norm":
        return ((grad, x, 8, *norm_statistics(rng, (4, 8), dtype), weight) if backward else (x, 8, weight, weight)), {}
    statistics = norm_statistics(rng, shape[:1], dtype)[name == "rms_norm" :]
    return ((grad, x, *statistics, weight) if backward else (x, weight)), {}


def small_batch_norm_inference(rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for shape in [(5, 7), (2, 6, 4, 3)]:
        mean, var = normal(rng, shape[1:2], dtype), normal(rng, shape[1:2], dtype) ** 2
        yield (misaligned(normal(rng, shape, dtype)), mean, var, mean), {"activation": "relu"}


def aligned_batch_norm_inference(rng: np.random.Generator, dtype: Any) -> Call:
    mean, var = normal(rng, (64,), dtype), aligned((64,), dtype, normal(rng, (64,), dtype) ** 2)
    return (normal(rng, (4, 64, 8, 8), dtype), mean, var, mean, var), {}


def small_add_norm(backward: bool, rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for shape in [(5, 7), (3, 40), (2, 300), (1, 2304)]:
        x, residual, grad = (normal(rng, shape, dtype) for _ in range(3))
        weight, statistics = normal(rng, shape[1:], dtype), norm_statistics(rng, shape[:1], dtype)
        drawn = {"dropout_p": 0.3, "state": state()}
        if backward:
            yield (grad, misaligned(x), *statistics, weight), {"of_total": residual, **drawn}
            yield (grad, x, None, statistics[1], weight), {"of_total": residual, **drawn}
        else:
            yield (misaligned(x), residual, weight, weight), drawn
            yield (x, residual, weight), {"centred": False, **drawn}


def aligned_add_norm(backward: bool, rng: np.random.Generator, dtype: Any) -> Call:
    x, residual, grad = (normal(rng, (64, 256), dtype) for _ in range(3))
    weight, drawn = normal(rng, (256,), dtype), {"dropout_p": 0.1, "state": state()}
    if backward:
        return (grad, x, *norm_statistics(rng, (64,), dtype), weight), {"of_total": residual, **drawn}
    return (x, residual, weight, weight), drawn


# ---- rnn -----------------------------------------------------------------------------------------------------------

STEPS = ("gru_cell", "gru_cell_backward", "lstm_cell", "lstm_cell_backward", "rnn_cell_backward")


def step_inputs(name: str, rng: np.random.Generator, dtype: Any, batch: int, hidden: int) -> tuple[np.ndarray, ...]:
    """What a recurrent step takes, in order."""
    sums = np.float64 if np.dtype(dtype) == np.float64 else np.float32

    def of(gates: int, kind: Any = dtype) -> np.ndarray:
        return normal(rng, (batch, gates * hidden), kind)

    return {
        "gru_cell": lambda: (of(3), of(3), of(1)),
        "gru_cell_backward": lambda: (of(1), of(4), of(1)),
        "lstm_cell": lambda: (of(4), of(1, sums)),
        "lstm_cell_backward": lambda: (of(1), of(1, sums), of(4), of(1, sums), of(1, sums)),
        "rnn_cell_backward": lambda: (of(1), of(1)),
    }[name]()


def small_step(name: str, rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for batch, hidden in [(1, 1), (3, 7), (5, 64)]:
        inputs = step_inputs(name, rng, dtype, batch, hidden)
        yield (misaligned(inputs[0]), *inputs[1:]), {}


def aligned_step(name: str, rng: np.random.Generator, dtype: Any) -> Call:
    return step_inputs(name, rng, dtype, 32, 128), {}


SEQUENCES = {"rnn": 1, "lstm": 4, "gru": 3}  # and their gates


def sequence_inputs(
    name: str, rng: np.random.Generator, dtype: Any, sizes: list[int], hidden: int, directions: int, bias: bool = True
) -> tuple:
    """What a recurrent sequence, or its gradient, takes, in order. Weights keep the size of what they multiply, and
    activations lie in (-1, 1), or errors would grow from step to step."""
    sums = np.float64 if np.dtype(dtype) == np.float64 else np.float32
    gates, total, backward = SEQUENCES[name.removesuffix("_backward")], sum(sizes), name.endswith("_backward")

    def each(*shape: int, kind: Any = dtype) -> list[np.ndarray]:
        return [normal(rng, shape, kind) for _ in range(directions)]

    def activated(*arrays: np.ndarray) -> list[np.ndarray]:
        for a in arrays:
            a[...] = np.tanh(a.astype(sums))
        return list(arrays)

    def state(kind: Any = dtype) -> np.ndarray:
        return normal(rng, (directions, sizes[0], hidden), kind)

    x, weight = each(total, gates * hidden), each(gates * hidden, hidden)
    for w in weight:
        w[...] = w.astype(sums) / np.sqrt(hidden)
    if not backward:
        cell = (state(sums),) if gates == 4 else ()
        return x, state(), *cell, weight, each(gates * hidden) if bias else None, sizes
    grad, out = (normal(rng, (total, directions * hidden), dtype) for _ in range(2))
    activated(out)
    if gates == 4:
        saved = activated(*each(total, 4 * hidden)), each(total, hidden, kind=sums), state(sums)
        return grad, state(), state(sums), *saved, weight, sizes
    saved = (activated(*each(total, 4 * hidden)), out, state()) if gates == 3 else (out,)
    return grad, state(), *saved, weight, sizes


def small_sequence(name: str, rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    """One block, blocks that divide the batch, blocks that wait for one another; weights kept and streamed."""
    config = extension_for(np.empty(0)).RnnSequenceConfig
    for sizes, hidden, directions, how in [
        ([1], 1, 1, None),
        ([3, 2, 2, 1], 7, 2, None),
        ([18, 17, 2], 9, 1, (True, 32, 1, 2)),
        ([2, 2, 1], 17, 1, (True, 8, 2, 1)),
        ([3, 3, 3], 40, 2, (False, 8, 2, 1)),
        ([17, 17], 70, 1, (False, 32, 2, 2)),
    ]:
        inputs = sequence_inputs(name, rng, dtype, sizes, hidden, directions, bias=directions == 1)
        inputs = tuple(misaligned(x) if isinstance(x, np.ndarray) else x for x in inputs)
        yield inputs, {} if how is None else {"config": config(*how)}


def aligned_sequence(name: str, how: tuple | None, rng: np.random.Generator, dtype: Any) -> Call:
    inputs = sequence_inputs(name, rng, dtype, [32, 32, 16], 64, 1)
    return inputs, {} if how is None else {"config": extension_for(np.empty(0)).RnnSequenceConfig(*how)}


# ---- pointwise, dropout, random ------------------------------------------------------------------------------------


def small_bias_activation(rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for shape in [(1, 1), (7, 33), (0, 3), (40, 64)]:
        x = normal(rng, shape, dtype)
        yield (x,), {"activation": "relu"}
        yield (
            (misaligned(x), normal(rng, shape[-1:], dtype)),
            {"activation": "gelu", "residual": normal(rng, shape, dtype)},
        )


def aligned_bias_activation(rng: np.random.Generator, dtype: Any) -> Call:
    x = normal(rng, (64, 256), dtype)
    return (x, normal(rng, (256,), dtype)), {"activation": "relu", "residual": normal(rng, (64, 256), dtype)}


def small_bias_activation_backward(rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for shape in [(1, 1), (7, 33), (40, 64)]:
        grad, x = normal(rng, shape, dtype), normal(rng, shape, dtype)
        yield (misaligned(grad), x, normal(rng, shape[-1:], dtype)), {"activation": "silu"}


def aligned_bias_activation_backward(rng: np.random.Generator, dtype: Any) -> Call:
    return (normal(rng, (64, 256), dtype), normal(rng, (64, 256), dtype)), {"activation": "relu"}


def small_gated_activation(backward: bool, rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for shape in [(1, 1), (7, 33), (0, 3), (40, 64)]:
        gate, up, grad = (normal(rng, shape, dtype) for _ in range(3))
        both = normal(rng, (*shape[:-1], 2 * shape[-1]), dtype)
        halves = both[..., : shape[-1]], both[..., shape[-1] :]
        yield ((grad,) if backward else ()) + (misaligned(gate), up), {"activation": "gelu"}
        yield ((grad,) if backward else ()) + halves, {"together": True} if backward else {}


def aligned_gated_activation(backward: bool, rng: np.random.Generator, dtype: Any) -> Call:
    both = normal(rng, (64, 512), dtype)
    halves = both[:, :256], both[:, 256:]
    return ((normal(rng, (64, 256), dtype), *halves), {"together": True}) if backward else (halves, {})


def small_dropout(rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for shape in [(1,), (7, 33), (0, 3), (40, 64)]:
        x = normal(rng, shape, dtype)
        yield (x, 0.5, state()), {}
        yield (
            (misaligned(x), 0.1, state(), 5),
            {"bias": normal(rng, shape[-1:], dtype), "activation": "relu", "residual": normal(rng, shape, dtype)},
        )


def aligned_dropout(rng: np.random.Generator, dtype: Any) -> Call:
    return (normal(rng, (64, 256), dtype), 0.5, state()), {}


def small_dropout_backward(rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for shape in [(1,), (7, 33), (40, 64)]:
        grad = normal(rng, shape, dtype)
        yield (grad, 0.5, state()), {}
        yield (misaligned(grad), 0.3, state()), {"x": normal(rng, shape, dtype), "activation": "gelu"}


def aligned_dropout_backward(rng: np.random.Generator, dtype: Any) -> Call:
    return (normal(rng, (64, 256), dtype), 0.5, state()), {}


def small_augment(rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    everything = {"padding": (1, 2), "degrees": (-20.0, 20.0), "flip": 0.5, "brightness": (0.5, 1.5)}
    for shape in [(1, 1, 1, 1), (3, 3, 5, 7), (0, 3, 4, 4), (2, 4, 9, 8), (2, 1, 20, 31)]:
        x = rng.integers(0, 256, shape, dtype=np.uint8)
        yield (x, state()), {"padding": 1, "size": 2}
        contrast = (0.5, 1.5) if shape[1] in (1, 3) else None
        yield (
            (misaligned(x), state(), 5),
            {**everything, "contrast": contrast, "scale_shift": normal(rng, (2, shape[1]), np.float32)},
        )
    config = extension_for(np.empty(0)).AugmentConfig(3, 2)
    x = rng.integers(0, 256, (2, 3, 17, 19), dtype=np.uint8)
    yield (x, state()), {**everything, "contrast": (0.5, 1.5), "config": config}


def aligned_augment(rng: np.random.Generator, dtype: Any) -> Call:
    pixels = aligned((8, 32, 32, 3), np.uint8, rng.integers(0, 256, (8, 32, 32, 3), dtype=np.uint8))
    options = {"padding": 4, "size": 32, "flip": 0.5, "brightness": (0.8, 1.2), "contrast": (0.8, 1.2)}
    return (pixels.transpose(0, 3, 1, 2), state()), options


def small_random(rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for shape in [(1,), (7, 33), (0, 3), (1024,)]:
        yield (shape, state(), 2), {}


def aligned_random(rng: np.random.Generator, dtype: Any) -> Call:
    return ((64, 256), state()), {}


def small_dropout_mask(rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for shape in [(1,), (7, 33), (1024,)]:
        yield (shape, 0.5, state()), {}


def aligned_dropout_mask(rng: np.random.Generator, dtype: Any) -> Call:
    return ((64, 256), 0.5, state()), {}


def small_permutation(rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for n in (0, 1, 37):
        yield (n, state()), {}


def aligned_permutation(rng: np.random.Generator, dtype: Any) -> Call:
    return (4096, state()), {}


# ---- embedding -----------------------------------------------------------------------------------------------------


def small_embedding(rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for rows, dim, count in [(1, 1, 1), (7, 33, 50), (5, 64, 0), (3, 24, 100)]:
        weight, index = normal(rng, (rows, dim), dtype), rng.integers(0, rows, count)
        yield (weight, index), {}
        yield (misaligned(weight), index.astype(np.int32)), {}


def aligned_embedding(rng: np.random.Generator, dtype: Any) -> Call:
    return (normal(rng, (64, 256), dtype), aligned((128,), np.int64, rng.integers(0, 64, 128))), {}


def small_embedding_backward(rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for rows, dim, count in [(1, 1, 1), (7, 33, 50), (5, 64, 0), (3, 24, 150)]:
        grad, index = normal(rng, (count, dim), dtype), rng.integers(-1, rows + 1, count)
        yield (grad, index, rows), {}
        yield (misaligned(grad), index, rows), {"padding_idx": 0}


def aligned_embedding_backward(rng: np.random.Generator, dtype: Any) -> Call:
    return (normal(rng, (128, 256), dtype), aligned((128,), np.int64, np.arange(128) % 16), 64), {}


# ---- rotary --------------------------------------------------------------------------------------------------------


def rotary_angles(rng: np.random.Generator, places: int, half: int, dtype: Any) -> list[np.ndarray]:
    return [normal(rng, (places, half), np.float64 if np.dtype(dtype) == np.float64 else np.float32) for _ in range(2)]


def small_rotary_embedding(rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for batch, heads, length, d, half in [(1, 1, 1, 2, 1), (2, 3, 5, 13, 6), (2, 9, 7, 64, 32), (1, 2, 0, 8, 4)]:
        x, tables = normal(rng, (batch, heads, length, d), dtype), rotary_angles(rng, 20, half, dtype)
        yield (x, *tables), {"offset": 3}
        by_sequence = rng.integers(0, 10, (batch, 1)).astype(np.int32)
        yield (misaligned(x), *tables), {"positions": by_sequence, "interleaved": True, "inverse": True}


def aligned_rotary_embedding(interleaved: bool, rng: np.random.Generator, dtype: Any) -> Call:
    heads, length = 4, 64
    config = extension_for(np.empty(0)).RotaryConfig(team=8, heads=heads, rows=32)
    x, tables = normal(rng, (1, heads, length, 64), dtype), rotary_angles(rng, length, 32, dtype)
    return (x, *tables), {"interleaved": interleaved, "config": config}


# ---- pool ----------------------------------------------------------------------------------------------------------


def channels_last(x: np.ndarray) -> np.ndarray:
    """The same values (N, C, H, W), channels-last in memory."""
    return aligned((x.shape[0], *x.shape[2:], x.shape[1]), x.dtype, x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def poolings(rng: np.random.Generator, dtype: Any) -> Iterator[tuple[np.ndarray, np.ndarray, dict]]:
    """Images, a gradient of the result, options."""
    for shape, out, options in [
        ((1, 1, 1, 1), (1, 1), {"kernel_size": 1}),
        ((2, 8, 7, 9), (3, 4), {"kernel_size": 2}),
        ((2, 3, 7, 9), (4, 5), {"kernel_size": 3, "stride": 2, "padding": 1}),
        ((1, 16, 5, 6), (3, 4), {"kernel_size": (2, 3), "stride": (2, 2), "padding": (0, 1), "ceil_mode": True}),
        ((1, 5, 7, 5), (3, 2), {"output_size": (3, 2)}),
        ((0, 4, 4, 4), (2, 2), {"kernel_size": 2}),
    ]:
        yield normal(rng, shape, dtype), normal(rng, (*shape[:2], *out), dtype), options


def small_max_pool2d(rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for x, _, options in poolings(rng, dtype):
        yield (channels_last(x),), {**options, "with_indices": True}
        yield (misaligned(x),), options


def small_max_pool2d_backward(rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for x, grad, options in poolings(rng, dtype):
        yield (channels_last(grad), x.shape[2:]), {**options, "x": channels_last(x)}
        indices = rng.integers(0, x.shape[2] * x.shape[3], grad.shape).astype(np.int32)
        yield (misaligned(grad), x.shape[2:]), {**options, "indices": indices}


def small_avg_pool2d(rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for x, _, options in poolings(rng, dtype):
        yield (channels_last(x),), options
        yield (misaligned(x),), {**options, "count_include_pad": False}


def small_avg_pool2d_backward(rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for x, grad, options in poolings(rng, dtype):
        yield (channels_last(grad), x.shape[2:]), options
        yield (misaligned(grad), x.shape[2:]), {**options, "divisor_override": 3}


def aligned_pool(rng: np.random.Generator, dtype: Any) -> Call:
    return (channels_last(normal(rng, (2, 64, 16, 16), dtype)), 2), {}


def aligned_max_pool2d_backward(rng: np.random.Generator, dtype: Any) -> Call:
    x, grad = normal(rng, (2, 64, 16, 16), dtype), normal(rng, (2, 64, 8, 8), dtype)
    return (channels_last(grad), 16, 2), {"x": channels_last(x)}


def aligned_avg_pool2d_backward(rng: np.random.Generator, dtype: Any) -> Call:
    return (channels_last(normal(rng, (2, 64, 8, 8), dtype)), 16, 2), {}


# ---- conv ----------------------------------------------------------------------------------------------------------


def convolutions(rng: np.random.Generator, dtype: Any) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, dict]]:
    """Images, a weight, a gradient of the result, options."""
    for x, weight, out, options in [
        ((1, 1, 1, 1), (1, 1, 1, 1), (1, 1), {}),
        ((2, 8, 6, 7), (5, 8, 3, 3), (6, 7), {"padding": 1}),
        ((1, 3, 7, 9), (70, 3, 3, 2), (4, 4), {"stride": (2, 3), "padding": ((1, 2), (1, 2))}),
        ((2, 6, 9, 5), (4, 3, 2, 3), (7, 5), {"groups": 2, "dilation": (2, 1), "padding": (0, 1)}),
        ((1, 4, 5, 5), (4, 1, 3, 3), (3, 3), {"groups": 4, "stride": 2, "padding": 1}),
        ((0, 4, 4, 4), (2, 4, 1, 1), (4, 4), {}),
    ]:
        yield normal(rng, x, dtype), normal(rng, weight, dtype), normal(rng, (x[0], weight[0], *out), dtype), options


def conv_configs(dtype: Any, **how: Any) -> list[Any]:
    """One of every family and tile; of sm90's two, of one consumer and of two."""
    config = extension_for(np.empty(0)).ConvConfig
    item = np.dtype(dtype).itemsize
    tiles = {2: [(128, 128), (128, 64), (64, 64)], 4: [(128, 64), (64, 64)], 8: []}[item]
    return [
        config("general", 32, 32),
        *(config("sm80", *t, stages=2 + i, **how) for i, t in enumerate(tiles)),
        *(config("sm90", *t, stages=3, **how) for t in ([(128, 128), (64, 64)] if item == 2 else [])),
    ]


def of_every_config(
    rng: np.random.Generator, dtype: Any, **how: Any
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, dict]]:
    """As ``convolutions``: one of many steps, whose phases and groups have edges, with every config."""
    options = {"stride": 2, "padding": 1, "groups": 2}
    for config in conv_configs(dtype, **how):
        x, weight, grad = (normal(rng, s, dtype) for s in ((2, 48, 9, 7), (80, 24, 3, 3), (2, 80, 5, 4)))
        yield x, weight, grad, {**options, "config": config}


def depthwise(
    rng: np.random.Generator, dtype: Any, **how: Any
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, dict]]:
    """As ``convolutions``: channels in 16 bytes, and more filters than channels, by few blocks."""
    for channels, filters in [(24, 24), (3, 6)]:
        x, weight = normal(rng, (2, channels, 7, 9), dtype), normal(rng, (filters, 1, 4, 3), dtype)
        config = extension_for(np.empty(0)).ConvConfig("depthwise", 64, 2, max_blocks=2, **how)
        options = {"stride": (2, 1), "padding": 1, "groups": channels, "config": config}
        yield x, weight, normal(rng, (2, filters, 3, 9), dtype), options


def few_channels(
    rng: np.random.Generator, dtype: Any, **how: Any
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, dict]]:
    """As ``convolutions``: first layers, of several tiles a block, two chunks of filters, rows of any alignment."""
    for x, filters, window, out in [((2, 3, 9, 11), 72, 5, (5, 6)), ((1, 1, 8, 16), 8, 3, (4, 8))]:
        config = extension_for(np.empty(0)).ConvConfig("few_channels", 2, 4, max_blocks=2, **how)
        options = {"stride": 2, "padding": window // 2, "config": config}
        weight = normal(rng, (filters, x[1], window, window), dtype)
        yield normal(rng, x, dtype), weight, normal(rng, (x[0], filters, *out), dtype), options


def small_conv2d(rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for x, weight, grad, options in convolutions(rng, dtype):
        yield (channels_last(x), weight), {**options, "residual": grad, "activation": "relu"}
        yield (misaligned(x), misaligned(weight)), {**options, "bias": weight[:, 0, 0, 0], "keep_preactivation": True}
    of_all = [*of_every_config(rng, dtype, max_blocks=2), *depthwise(rng, dtype), *few_channels(rng, dtype)]
    for x, weight, grad, options in of_all:
        yield (channels_last(x), weight), {**options, "residual": grad}


def small_conv2d_input_grad(rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for x, weight, grad, options in convolutions(rng, dtype):
        yield (channels_last(grad), weight, x.shape[2:]), options
        yield (misaligned(grad), misaligned(weight), x.shape[2:]), options
    for x, weight, grad, options in [*of_every_config(rng, dtype, max_blocks=2), *depthwise(rng, dtype)]:
        yield (channels_last(grad), weight, x.shape[2:]), options


def small_conv2d_weight_grad(rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for x, weight, grad, options in convolutions(rng, dtype):
        yield (channels_last(grad), channels_last(x), weight.shape[2:]), options
        yield (misaligned(grad), misaligned(x), weight.shape[2:]), options
    of_all = [
        *of_every_config(rng, dtype, splits=2, max_blocks=3),
        *depthwise(rng, dtype, splits=2),
        *few_channels(rng, dtype, splits=2),
    ]
    for x, weight, grad, options in of_all:
        yield (channels_last(grad), channels_last(x), weight.shape[2:]), options


def aligned_conv2d(rng: np.random.Generator, dtype: Any) -> Call:
    x, weight = normal(rng, (2, 32, 16, 16), dtype), normal(rng, (64, 32, 3, 3), dtype)
    return (channels_last(x), channels_last(weight)), {"padding": 1}


def aligned_conv2d_input_grad(rng: np.random.Generator, dtype: Any) -> Call:
    grad, weight = normal(rng, (2, 64, 8, 8), dtype), normal(rng, (64, 32, 3, 3), dtype)
    return (channels_last(grad), channels_last(weight), 16), {"padding": 1, "stride": 2}


def aligned_conv2d_weight_grad(rng: np.random.Generator, dtype: Any) -> Call:
    grad, x = normal(rng, (2, 64, 16, 16), dtype), normal(rng, (2, 32, 16, 16), dtype)
    return (channels_last(grad), channels_last(x), 3), {"padding": 1}


def aligned_convolutions() -> dict[str, Callable[[np.random.Generator, Any], Call]]:
    """Every family on a 3x3 layer of stride 1: beside the config that is chosen."""

    def product(function: str, family: str) -> Callable[[np.random.Generator, Any], Call]:
        def call(rng: np.random.Generator, dtype: Any) -> Call:
            if family.startswith("sm90"):
                dtype = np.float16 if np.dtype(dtype).itemsize != 2 else dtype
            x, weight, grad = (normal(rng, s, dtype) for s in ((2, 64, 16, 16), (128, 64, 3, 3), (2, 128, 16, 16)))
            split = {"splits": 2} if family.endswith("split") else {}
            # The family's largest, but for sm90's with more columns than there are.
            config = next(c for c in conv_configs(dtype, **split) if c.family == family.split()[0])
            if function == "conv2d":
                return (channels_last(x), channels_last(weight)), {"padding": 1, "config": config}
            if function == "conv2d_input_grad":
                return (channels_last(grad), channels_last(weight), 16), {"padding": 1, "config": config}
            return (channels_last(grad), channels_last(x), 3), {"padding": 1, "config": config}

        return call

    functions = ("conv2d", "conv2d_input_grad", "conv2d_weight_grad")
    made = {f"{f}: {family}": product(f, family) for f in functions for family in ("general", "sm80", "sm90")}
    split = {f"conv2d_weight_grad: {s}": product("conv2d_weight_grad", s) for s in ("sm80 split", "sm90 split")}

    def first_layer(
        function: str, channels: int, window: int, stride: int
    ) -> Callable[[np.random.Generator, Any], Call]:
        def call(rng: np.random.Generator, dtype: Any) -> Call:
            x, weight, grad = (
                normal(rng, s, dtype)
                for s in ((2, channels, 32, 32), (64, channels, window, window), (2, 64, 32 // stride, 32 // stride))
            )
            options = {"padding": window // 2, "stride": stride}
            if function == "conv2d":
                return (channels_last(x), channels_last(weight)), options
            return (channels_last(grad), channels_last(x), window), options

        return call

    def depthwise_layer(function: str) -> Callable[[np.random.Generator, Any], Call]:
        def call(rng: np.random.Generator, dtype: Any) -> Call:
            x, weight = normal(rng, (2, 64, 16, 16), dtype), normal(rng, (64, 1, 3, 3), dtype)
            options = {"padding": 1, "groups": 64}
            if function == "conv2d":
                return (channels_last(x), weight), options
            last = (weight, 16) if function == "conv2d_input_grad" else (channels_last(x), 3)
            return (channels_last(normal(rng, (2, 64, 16, 16), dtype)), *last), options

        return call

    firsts = {
        f"{f}: {what}": first_layer(f, *sizes)
        for f in ("conv2d", "conv2d_weight_grad")
        for what, sizes in (("first layer 7x7", (3, 7, 2)), ("first layer 3x3", (1, 3, 1)))
    }
    return {
        **made,
        **split,
        **{f"{f}: depthwise": depthwise_layer(f) for f in functions},
        **firsts,
    }


# ---- softmax, optim ------------------------------------------------------------------------------------------------


def small_softmax(rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for shape in [(1, 1), (7, 33), (3, 1500), (2, 5000)]:
        x = normal(rng, shape, dtype)
        yield (misaligned(x),), {}
        yield (x,), {"axis": 0}


def aligned_softmax(rng: np.random.Generator, dtype: Any) -> Call:
    return (normal(rng, (16, 1024), dtype),), {}


def small_softmax_backward(rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for shape in [(1, 1), (7, 33), (3, 1500), (2, 5000)]:
        grad, y = normal(rng, shape, dtype), normal(rng, shape, dtype)
        yield (misaligned(grad), y), {}
        yield (grad, y), {"axis": 0}


def aligned_softmax_backward(rng: np.random.Generator, dtype: Any) -> Call:
    return (normal(rng, (16, 1024), dtype), normal(rng, (16, 1024), dtype)), {}


def small_cross_entropy(rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for rows, classes in [(1, 1), (7, 33), (3, 1500), (2, 5000)]:
        x, target = normal(rng, (rows, classes), dtype), rng.integers(0, classes, rows)
        yield (misaligned(x), target), {"with_gradient": True}
        target[0] = -100
        yield (
            (x, target),
            {"weight": rng.random(classes).astype(x.dtype), "label_smoothing": 0.1, "with_gradient": True},
        )


def aligned_cross_entropy(rng: np.random.Generator, dtype: Any) -> Call:
    return (normal(rng, (16, 1024), dtype), aligned((16,), np.int64, rng.integers(0, 1024, 16))), {
        "with_gradient": True
    }


# How many lists of states each optimizer has, and options that use them all.
OPTIMIZERS: dict[str, tuple[int, dict]] = {
    "sgd_step": (1, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    "adam_step": (3, {"lr": 0.1, "weight_decay": 0.01, "decoupled_weight_decay": True}),
    "adagrad_step": (1, {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.01}),
    "rmsprop_step": (3, {"lr": 0.1, "alpha": 0.9, "momentum": 0.9, "weight_decay": 0.01}),
}


def optimizer_lists(name: str, rng: np.random.Generator, dtype: Any, shapes: list[tuple[int, ...]]) -> list[list]:
    """Params, gradients and states. States are squares above 1, so that RMSprop's is above its squared mean, last."""
    states = [[2 + abs(normal(rng, s, dtype)) for s in shapes] for _ in range(OPTIMIZERS[name][0])]
    if name == "rmsprop_step":
        states[2] = [aligned(s, dtype, 0.5) for s in shapes]
    return [[normal(rng, s, dtype) for s in shapes] for _ in range(2)] + [
        [aligned(x.shape, dtype, x) for x in state] for state in states
    ]


def small_optimizer(name: str) -> Callable[[np.random.Generator, Any], Iterator[Call]]:
    def problems(rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
        shapes = [(1,), (7, 33), (0,), (40, 64), (3, 1000)]
        states, options = OPTIMIZERS[name]
        steps = [[np.array([i + 1], np.float32) for i in range(len(shapes))]] if name != "sgd_step" else []
        lists = optimizer_lists(name, rng, dtype, shapes)
        yield tuple([[misaligned(x) if i % 2 else x for i, x in enumerate(z)] for z in lists] + steps), options
        # As few states as there can be, and numbers for steps.
        fewest = {"sgd_step": 0, "adam_step": 2, "adagrad_step": 1, "rmsprop_step": 1}[name]
        lists = optimizer_lists(name, rng, dtype, shapes)[: 2 + fewest] + [None] * (states - fewest)
        yield tuple(lists + [[1, 2, 3, 4, 5]] * len(steps)), {"lr": 0.1, "maximize": True}
        # Gradients scaled by what was found of them, a step that is left out, and master weights.
        found = [aligned((3,), np.float64, values) for values in ([2.0, 0.5, 0], [2.0, 0.5, 1])]
        for gradients in found:
            lists = optimizer_lists(name, rng, dtype, shapes)
            yield (*lists, *steps), {**options, "gradients": gradients}
        if np.dtype(dtype).itemsize == 2:
            params, grads, *wide = optimizer_lists(name, rng, dtype, shapes)
            wide = [[x.astype(np.float32) for x in state] for state in wide]
            masters = [p.astype(np.float32) for p in params]
            yield (params, grads, *wide, *steps), {**options, "masters": masters, "gradients": found[0]}

    return problems


def small_gradients(name: str) -> Callable[[np.random.Generator, Any], Iterator[Call]]:
    def problems(rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
        shapes = [(1,), (7, 33), (0,), (40, 64), (3, 1000)]
        grads = [normal(rng, s, dtype) for s in shapes]
        spread = [misaligned(g) if i % 2 else g.T for i, g in enumerate(grads)]
        if name == "gradient_norm":
            yield (grads,), {}
            yield (spread,), {"scale": aligned((1,), np.float32, 8), "max_norm": 1.0}
        else:
            yield (grads, aligned((3,), np.float64, [2.0, 0.5, 0])), {}
            yield (spread, aligned((3,), np.float64, [2.0, 0.5, 0])), {}

    return problems


def aligned_gradients(name: str) -> Callable[[np.random.Generator, Any], Call]:
    def problem(rng: np.random.Generator, dtype: Any) -> Call:
        state = () if name == "gradient_norm" else (aligned((3,), np.float64, [2.0, 0.5, 0]),)
        return ([normal(rng, (64, 256), dtype)], *state), {}

    return problem


def small_loss_scale(rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for skip in (0.0, 1.0):
        yield aligned_loss_scale(rng, dtype, skip)


def aligned_loss_scale(rng: np.random.Generator, dtype: Any, skip: float = 0.0) -> Call:
    arrays = aligned((1,), np.float32, 8), aligned((1,), np.int32, 1), aligned((3,), np.float64, [2.0, 0.5, skip])
    return arrays, {"growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": 2}


def aligned_optimizer(name: str) -> Callable[[np.random.Generator, Any], Call]:
    def problem(rng: np.random.Generator, dtype: Any) -> Call:
        options = OPTIMIZERS[name][1]
        steps = [[aligned((1,), np.float32, 3)]] if name != "sgd_step" else []
        return tuple(optimizer_lists(name, rng, dtype, [(64, 256)]) + steps), options

    return problem


SMALL: dict[str, Callable[[np.random.Generator, Any], Iterator[Call]]] = {
    **{name: partial(small_step, name) for name in STEPS},
    "add_norm": partial(small_add_norm, False),
    "add_norm_backward": partial(small_add_norm, True),
    **{name + end: partial(small_sequence, name + end) for name in SEQUENCES for end in ("", "_backward")},
    "attention": partial(small_attention, False),
    "attention_backward": partial(small_attention, True),
    "attention_varlen": partial(small_attention_varlen, False),
    "attention_varlen_backward": partial(small_attention_varlen, True),
    "attention_with_kvcache": small_attention_with_kvcache,
    "augment": small_augment,
    "avg_pool2d": small_avg_pool2d,
    "avg_pool2d_backward": small_avg_pool2d_backward,
    "bias_activation": small_bias_activation,
    "bias_activation_backward": small_bias_activation_backward,
    "column_sum": small_column_sum,
    "conv2d": small_conv2d,
    "conv2d_input_grad": small_conv2d_input_grad,
    "conv2d_weight_grad": small_conv2d_weight_grad,
    "cross_entropy": small_cross_entropy,
    "dropout": small_dropout,
    "dropout_backward": small_dropout_backward,
    "dropout_mask": small_dropout_mask,
    "embedding": small_embedding,
    "embedding_backward": small_embedding_backward,
    "gated_activation": partial(small_gated_activation, False),
    "gated_activation_backward": partial(small_gated_activation, True),
    "log_softmax": small_softmax,
    "log_softmax_backward": small_softmax_backward,
    "matmul": small_matmul,
    "batch_norm_inference": small_batch_norm_inference,
    **{name + end: partial(small_norm, name, bool(end)) for name in NORMS for end in ("", "_backward")},
    "max_pool2d": small_max_pool2d,
    "max_pool2d_backward": small_max_pool2d_backward,
    "normal": small_random,
    "permutation": small_permutation,
    "random_bits": small_random,
    "rotary_embedding": small_rotary_embedding,
    **{name: small_gradients(name) for name in ("gradient_norm", "scale_gradients")},
    **{name: small_optimizer(name) for name in OPTIMIZERS},
    "update_loss_scale": small_loss_scale,
    "softmax": small_softmax,
    "softmax_backward": small_softmax_backward,
    "uniform": small_random,
}

# By function and, behind a colon, variant.
ALIGNED: dict[str, Callable[[np.random.Generator, Any], Call]] = {
    **{name: partial(aligned_step, name) for name in STEPS},
    "add_norm": partial(aligned_add_norm, False),
    "add_norm_backward": partial(aligned_add_norm, True),
    **{name + end: partial(aligned_sequence, name + end, None) for name in SEQUENCES for end in ("", "_backward")},
    **{f"lstm{end}: streamed": partial(aligned_sequence, "lstm" + end, (False, 32, 2, 2)) for end in ("", "_backward")},
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
    **{f"attention_backward: sm90 {n}": partial(aligned_attention, True, width=n, family="sm90") for n in (64, 128)},
    "attention_varlen": partial(aligned_attention_varlen, False),
    "attention_varlen_backward": partial(aligned_attention_varlen, True),
    "attention_with_kvcache": aligned_attention_with_kvcache,
    "augment": aligned_augment,
    "avg_pool2d": aligned_pool,
    "avg_pool2d_backward": aligned_avg_pool2d_backward,
    **aligned_products(),
    "bias_activation": aligned_bias_activation,
    "bias_activation_backward": aligned_bias_activation_backward,
    "column_sum": aligned_column_sum,
    "conv2d": aligned_conv2d,
    "conv2d_input_grad": aligned_conv2d_input_grad,
    "conv2d_weight_grad": aligned_conv2d_weight_grad,
    **aligned_convolutions(),
    "cross_entropy": aligned_cross_entropy,
    "dropout": aligned_dropout,
    "dropout_backward": aligned_dropout_backward,
    "dropout_mask": aligned_dropout_mask,
    "embedding": aligned_embedding,
    "embedding_backward": aligned_embedding_backward,
    "gated_activation": partial(aligned_gated_activation, False),
    "gated_activation_backward": partial(aligned_gated_activation, True),
    "log_softmax": aligned_softmax,
    "log_softmax_backward": aligned_softmax_backward,
    "matmul": aligned_matmul,
    "batch_norm_inference": aligned_batch_norm_inference,
    **{name + end: partial(aligned_norm, name, bool(end)) for name in NORMS for end in ("", "_backward")},
    "max_pool2d": aligned_pool,
    "max_pool2d_backward": aligned_max_pool2d_backward,
    "normal": aligned_random,
    "permutation": aligned_permutation,
    "random_bits": aligned_random,
    "rotary_embedding": partial(aligned_rotary_embedding, False),
    "rotary_embedding: interleaved": partial(aligned_rotary_embedding, True),
    **{name: aligned_gradients(name) for name in ("gradient_norm", "scale_gradients")},
    **{name: aligned_optimizer(name) for name in OPTIMIZERS},
    "update_loss_scale": aligned_loss_scale,
    "softmax": aligned_softmax,
    "softmax_backward": aligned_softmax_backward,
    "uniform": aligned_random,
}

# Names of fastnet.kernels that launch nothing.
NOT_KERNELS = {"available", "trace", "use"}
