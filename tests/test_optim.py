"""Optimizer steps: the emulated kernels and the reference against float64, in every memory order; trajectories, state,
hooks and errors against PyTorch."""

import copy
import importlib
import inspect
import itertools
import math

import numpy as np
import pytest
from support import SCHEDULES, assert_close, bfloat16, epsilon, schedule

import fastnet
from fastnet import kernels, optim, reference
from fastnet.kernels._runtime import extension_for

DTYPES = [np.float32, np.float64, np.float16, bfloat16]
by_name = pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
SHAPES = [(), (0,), (1,), (3, 5), (17,), (1030,), (2, 0), (9, 300)]
OPTIONS = [
    o
    for o in itertools.product((0.0, 0.9), (0.0, 0.3), (0.0, 0.1), (False, True), (False, True), (False, True))
    if not (o[3] and (o[0] == 0 or o[1])) and not (o[0] == 0 and (o[1] or o[5]))
]


def draw(shapes, dtype, seed):
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.standard_normal(s)).astype(dtype) for s in shapes]


def exact(p, g, m, lr, momentum, dampening, weight_decay, nesterov, maximize, first_step):
    p, g, m = (a.astype(np.float64) for a in (p, g, m))
    size = np.abs(g) + weight_decay * np.abs(p)
    g = (-g if maximize else g) + weight_decay * p
    if momentum:
        size = size if first_step else momentum * np.abs(m) + (1 - dampening) * size
        m = g if first_step else momentum * m + (1 - dampening) * g
        g = g + momentum * m if nesterov else m
        size = size * (1 + 1 / (1 - dampening))
    return p - lr * g, m, size


def check_step(module, params, grads, momenta, config=None, lr_array=False, **o):
    """One step against float64. At most 8 roundings in a row, of terms no larger than `size`, and one on storing."""
    lr = np.array([0.1], np.float32) if lr_array else 0.1
    rate = float(lr[0]) if lr_array else lr
    wants = [exact(p, g, m, rate, **o) for p, g, m in zip(params, grads, momenta, strict=True)]
    kept = copy.deepcopy(grads)
    given = momenta if o["momentum"] else None
    before = copy.deepcopy(momenta)
    assert module.sgd_step(params, grads, given, lr=lr, config=config, **o) is None
    for i, (p, m, (want_p, want_m, size)) in enumerate(zip(params, momenta, wants, strict=True)):
        dtype = p.dtype
        eps, tiny = epsilon(np.float64 if dtype == np.float64 else np.float32), 2.0**-24 if dtype == np.float16 else 0.0
        assert_close(
            p,
            want_p,
            (size * rate + np.abs(want_p)) * 8 * eps + np.abs(want_p) * epsilon(dtype) + tiny,
            f"param {i} {p.shape}",
        )
        if o["momentum"]:
            assert_close(m, want_m, size * 8 * eps + np.abs(want_m) * epsilon(dtype) + tiny, f"momentum {i}")
        else:
            assert np.array_equal(m, before[i])
        assert np.array_equal(grads[i], kept[i])


def options(o):
    return dict(zip(("momentum", "dampening", "weight_decay", "nesterov", "maximize", "first_step"), o, strict=True))


@by_name
@pytest.mark.parametrize("how", SCHEDULES, ids=lambda s: "-".join(map(str, s.values())))
def test_against_float64(dtype, how):
    for n, o in enumerate(OPTIONS):
        for module in (reference, kernels):
            arrays = [draw(SHAPES, dtype, seed) for seed in (1, 2, 3)]
            if o[5]:
                for m in arrays[2]:
                    m[...] = np.nan  # not read on the first step
            with kernels.use("emulated", **how), kernels.trace() as ran:
                check_step(module, *arrays, lr_array=n % 2 == 1, **options(o))
            assert ran.names == (["sgd_step"] if module is kernels else [])


MOMENTUM = options((0.9, 0.0, 0.1, True, False, False))


@by_name
def test_memory_orders(dtype):
    """Transposed and sliced arrays, unlike strides, odd addresses: all are updated in place."""

    def arrays(seed):
        a, b, c, d, e = draw([(6, 5), (8, 9), (40,), (4, 3, 5), (50,)], dtype, seed)
        raw = np.zeros(e.nbytes + 1, np.uint8)
        shifted = raw[1:].view(dtype)
        shifted[...] = e
        return [a.T, b[::2, 1:], c[1:], d.transpose(2, 0, 1), shifted, b[1::2, ::-1]]

    for module in (reference, kernels):
        with kernels.use("emulated", order="reverse"):
            check_step(module, arrays(1), arrays(2), arrays(3), **MOMENTUM)
            unlike = [np.ascontiguousarray(g) for g in arrays(2)]
            check_step(module, arrays(1), unlike, arrays(3), **MOMENTUM)
            spread = [np.broadcast_to(np.ones((), dtype), p.shape) for p in arrays(1)]
            check_step(module, arrays(1), spread, arrays(3), **MOMENTUM)


def test_long_lists_and_configs():
    shapes = [(i % 7 * 10 + 1,) for i in range(200)]
    for n, chunk in enumerate((16, 64, 4096)):
        with kernels.use("emulated", **schedule(n)), kernels.trace() as ran:
            config = extension_for(np.zeros(1)).OptimConfig(chunk=chunk)
            arrays = [draw(shapes, np.float32, seed) for seed in (1, 2, 3)]
            check_step(kernels, *arrays, config=config, **MOMENTUM)
        assert [launch.config for launch in ran] == [f"optim(chunk={chunk})"]
    with kernels.use("emulated", device="A100"):
        ext = extension_for(np.zeros(1))
        assert repr(ext.optim_config(1000)) == "optim(chunk=1024)"
        assert repr(ext.optim_config(10**9)) == "optim(chunk=16384)"
        for chunk in (0, 8, 24, -16, 2**21):
            with pytest.raises(ValueError, match="chunk"):
                ext.OptimConfig(chunk=chunk)


def test_mixed_dtypes():
    params = [draw([(5,)], d, 1)[0] for d in DTYPES]
    grads = [draw([(5,)], d, 2)[0] for d in DTYPES]
    momenta = [draw([(5,)], d, 3)[0] for d in DTYPES]
    with kernels.use("emulated"), kernels.trace() as ran:
        check_step(kernels, params, grads, momenta, **MOMENTUM)
    assert [launch.dtype for launch in ran] == ["float32", "float64", "float16", "bfloat16"]
    with kernels.use("emulated"):
        kernels.sgd_step([], [], None, lr=0.1)


def test_overflow_and_nan():
    for module in (reference, kernels):
        with kernels.use("emulated"):
            p, g = (
                np.array([1e38, -1e38, np.nan, 0, 1], np.float32),
                np.array([-3e38, 3e38, 0, np.inf, np.nan], np.float32),
            )
            module.sgd_step([p], [g], None, lr=10.0)
            assert np.array_equal(p, np.array([np.inf, -np.inf, np.nan, -np.inf, np.nan], np.float32), equal_nan=True)


def test_the_same_bits_in_every_schedule():
    results = []
    for how in SCHEDULES:
        arrays = [draw(SHAPES, np.float32, seed) for seed in (1, 2, 3)]
        with kernels.use("emulated", **how):
            kernels.sgd_step(*arrays, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1)
        results.append(arrays[0] + arrays[2])
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_bad_arguments():
    def a(shape=(3,), dtype=np.float32):
        return np.ones(shape, dtype)

    fixed = a()
    fixed.flags.writeable = False
    same = a()
    cases = [
        (TypeError, "params is a ndarray", lambda: kernels.sgd_step(a(), [a()], None, lr=0.1)),
        (TypeError, "grads is a NoneType", lambda: kernels.sgd_step([a()], None, None, lr=0.1)),
        (ValueError, "grads has 2 arrays", lambda: kernels.sgd_step([a()], [a(), a()], None, lr=0.1)),
        (TypeError, r"grads\[0\] is a NoneType", lambda: kernels.sgd_step([a()], [None], None, lr=0.1)),
        (TypeError, r"params\[0\] has dtype int64", lambda: kernels.sgd_step([a(dtype=np.int64)], [a()], None, lr=0.1)),
        (
            TypeError,
            r"grads\[0\] has dtype float64",
            lambda: kernels.sgd_step([a()], [a(dtype=np.float64)], None, lr=0.1),
        ),
        (ValueError, r"grads\[0\] has shape", lambda: kernels.sgd_step([a()], [a((4,))], None, lr=0.1)),
        (
            ValueError,
            r"momenta\[0\] has shape",
            lambda: kernels.sgd_step([a()], [a()], [a((1, 3))], lr=0.1, momentum=0.9),
        ),
        (ValueError, "momenta is None", lambda: kernels.sgd_step([a()], [a()], None, lr=0.1, momentum=0.9)),
        (ValueError, "momenta is given", lambda: kernels.sgd_step([a()], [a()], [a()], lr=0.1)),
        (ValueError, "read-only", lambda: kernels.sgd_step([fixed], [a()], None, lr=0.1)),
        (
            ValueError,
            "broadcast",
            lambda: kernels.sgd_step([np.lib.stride_tricks.as_strided(a(), (3,), (0,))], [a()], None, lr=0.1),
        ),
        (ValueError, "same memory", lambda: kernels.sgd_step([same, same], [a(), a()], None, lr=0.1)),
        (ValueError, "same memory", lambda: kernels.sgd_step([same], [a()], [same], lr=0.1, momentum=0.9)),
        (TypeError, "lr has dtype", lambda: kernels.sgd_step([a()], [a()], None, lr=a((1,), np.int64))),
        (ValueError, "lr has 3 elements", lambda: kernels.sgd_step([a()], [a()], None, lr=a())),
        (TypeError, None, lambda: kernels.sgd_step([a()], [a()], None, lr=None)),
    ]
    with kernels.use("emulated"):
        for kind, text, call in cases:
            with pytest.raises(kind, match=text):
                call()


# ---- Adam, Adagrad, RMSprop -----------------------------------------------------------------------------------------

# Each gives, in float64, what param and states become, and for each how far float arithmetic may be off in units of its
# epsilon (unit is double's): a handful of roundings of the terms that enter, carried through to first order.
# A gradient that weight decay almost cancels keeps the rounding error of its terms, `size`.


def exact_adam(p, g, m, v, most, t, lr, beta1, beta2, weight_decay, eps, maximize, decoupled_weight_decay, unit):
    size = np.abs(g) + weight_decay * np.abs(p)
    g = -g if maximize else g
    if decoupled_weight_decay:
        p = p * (1 - lr * weight_decay)
    else:
        g = g + weight_decay * p
    err_m = 6 * (np.abs(m) + size)
    m = beta1 * m + (1 - beta1) * g
    err_v = 6 * (beta2 * v + (1 - beta2) * (g * g + 2 * np.abs(g) * size))
    v = beta2 * v + (1 - beta2) * g * g
    err_most = err_v
    largest = v
    if most is not None:
        largest = most = np.maximum(most, v)
    c1, c2 = 1 - beta1**t, np.sqrt(1 - beta2**t)
    d = np.sqrt(largest) / c2 + eps
    err_d = (err_v / (2 * np.sqrt(largest)) + 6 * np.sqrt(largest)) / c2
    cancelled = unit * (1 / c1 + 1 / c2**2)  # 1 - beta^t from a rounded beta^t, in double
    err_p = 4 * np.abs(p) + lr / c1 * (err_m + (8 + cancelled) * np.abs(m) + np.abs(m) * err_d / d) / d
    return [(p - lr / c1 * m / d, err_p), (m, err_m), (v, err_v), (most, err_most)]


def exact_adagrad(p, g, total, t, lr, lr_decay, weight_decay, eps, maximize, unit):
    size = np.abs(g) + weight_decay * np.abs(p)
    g = (-g if maximize else g) + weight_decay * p
    err_s = 6 * (total + g * g + 2 * np.abs(g) * size)
    total = total + g * g
    rate = lr / (1 + (t - 1) * lr_decay)
    d = np.sqrt(total) + eps
    err_p = 4 * np.abs(p) + rate * (6 * size + np.abs(g) * (err_s / (2 * np.sqrt(total)) + 4 * d) / d) / d
    return [(p - rate * g / d, err_p), (total, err_s)]


def exact_rmsprop(p, g, s, b, a, t, lr, alpha, eps, weight_decay, momentum, maximize, unit):
    size = np.abs(g) + weight_decay * np.abs(p)
    g = (-g if maximize else g) + weight_decay * p
    err_s = 6 * (alpha * s + (1 - alpha) * (g * g + 2 * np.abs(g) * size))
    s = alpha * s + (1 - alpha) * g * g
    centre, err_c, err_a = s, err_s, None
    if a is not None:
        err_a = 6 * (np.abs(a) + size)
        a = alpha * a + (1 - alpha) * g
        centre, err_c = s - a * a, err_s + 2 * np.abs(a) * err_a + 2 * (s + a * a)
    d = np.sqrt(centre) + eps
    change = g / d
    err_change = (4 * size + np.abs(g) * (err_c / (2 * np.sqrt(centre)) + 3 * d) / d) / d
    if b is not None:
        err_change = err_change + 3 * (momentum * np.abs(b) + np.abs(change))
        b = change = momentum * b + change
    return [
        (p - lr * change, 4 * np.abs(p) + lr * (err_change + 3 * np.abs(change))),
        (s, err_s),
        (b, err_change),
        (a, err_a),
    ]


def combine(**choices):
    return [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]


# Function: what is exact, its options, and which of the options' combinations keep which states.
STEPS = {
    "adam_step": (
        exact_adam,
        combine(
            beta1=(0.9, 0.3, 0.0), beta2=(0.999,), weight_decay=(0.0, 0.1), eps=(1e-8, 0.5), maximize=(False, True),
            decoupled_weight_decay=(False, True), amsgrad=(False, True),
        ),
        lambda o: (True, True, o.pop("amsgrad")),
    ),
    "adagrad_step": (
        exact_adagrad,
        combine(lr_decay=(0.0, 0.25), weight_decay=(0.0, 0.1), eps=(1e-10, 0.5), maximize=(False, True)),
        lambda o: (True,),
    ),
    "rmsprop_step": (
        exact_rmsprop,
        combine(
            alpha=(0.9, 0.3), eps=(1e-8, 0.5), weight_decay=(0.0, 0.1), momentum=(0.0, 0.9), maximize=(False, True),
            centered=(False, True),
        ),
        lambda o: (True, o["momentum"] != 0, o.pop("centered")),
    ),
}  # fmt: skip
by_step = pytest.mark.parametrize("name", sorted(STEPS))


def draw_states(name, o, shapes, dtype, seed):
    """Params, gradients, states or None for those that are not kept, and the options without what decided that.

    Squares are sums of at least 1.5, so that those of RMSprop are above the square of its mean gradient."""
    o = dict(o)
    kept = STEPS[name][2](o)
    params, grads = draw(shapes, dtype, seed), draw(shapes, dtype, seed + 1)
    signed = {"adam_step": (0,), "adagrad_step": (), "rmsprop_step": (1, 2)}[name]
    states = []
    for i, keep in enumerate(kept):
        drawn = draw(shapes, np.float64, seed + 2 + i)
        drawn = [np.clip(x, -1, 1) if i in signed else 1.5 + np.abs(x) for x in drawn]
        states.append([np.asarray(x).astype(dtype) for x in drawn] if keep else None)
    return params, grads, states, o


def check_any(module, name, params, grads, states, o, counts, config=None, lr_array=None):
    lr = 0.1 if lr_array is None else np.array([0.1], lr_array)
    rate = 0.1 if lr_array is None else float(lr[0])
    before = [float(c.item()) if hasattr(c, "item") else float(c) for c in counts]

    def wide(x, i):
        return None if x is None else x[i].astype(np.float64)

    def unit(p):
        return 1.0 if p.dtype == np.float64 else 2.0**-29

    wants = [
        STEPS[name][0](*(wide(x, i) for x in (params, grads, *states)), before[i] + 1, rate, unit=unit(p), **o)
        for i, p in enumerate(params)
    ]
    kept = copy.deepcopy(grads)
    assert getattr(module, name)(params, grads, *states, counts, lr=lr, config=config, **o) is None
    for i, p in enumerate(params):
        eps = epsilon(np.float64 if p.dtype == np.float64 else np.float32)
        tiny = 2.0**-24 if p.dtype == np.float16 else 0.0
        for label, arrays, (want, error) in zip(
            ("param", *(f"state {j}" for j in range(len(states)))), (params, *states), wants[i], strict=True
        ):
            if arrays is not None:
                bound = error * eps + np.abs(want) * epsilon(p.dtype) + tiny
                assert_close(arrays[i], want, bound, f"{name} {label} {i} {p.shape} {o}")
        assert np.array_equal(grads[i], kept[i])
        counted = before[i] + hasattr(counts[i], "shape")
        assert np.asarray(counts[i]).item() == counted, f"step {i}"


def steps_of(n, arrays, first=2):
    return [np.array([first + i % 5], np.float32) if arrays else first + i % 5 for i in range(n)]


@by_step
@by_name
@pytest.mark.parametrize("how", SCHEDULES, ids=lambda s: "-".join(map(str, s.values())))
def test_steps_against_float64(name, dtype, how):
    for n, o in enumerate(STEPS[name][1]):
        for module in (reference, kernels):
            params, grads, states, rest = draw_states(name, o, SHAPES, dtype, n)
            counts = steps_of(len(SHAPES), n % 2 == 0, first=n % 3)
            with kernels.use("emulated", **how), kernels.trace() as ran:
                check_any(module, name, params, grads, states, rest, counts, lr_array=(None, "f4", "f8")[n % 3])
            assert ran.names == ([name] if module is kernels else [])


@by_step
@by_name
def test_steps_in_other_memory_orders(name, dtype):
    def spread(arrays):
        a, b, c, d, e = arrays
        raw = np.zeros(e.nbytes + 1, np.uint8)
        shifted = raw[1:].view(dtype)
        shifted[...] = e
        return [a.T, b[::2, 1:], c[1:], d.transpose(2, 0, 1), shifted, b[1::2, ::-1]]

    shapes = [(6, 5), (8, 9), (40,), (4, 3, 5), (50,)]
    o = STEPS[name][1][-1]  # all states are kept
    for module in (reference, kernels):
        with kernels.use("emulated", order="reverse"):
            params, grads, states, rest = draw_states(name, o, shapes, dtype, 1)
            assert None not in states
            spread_states = [spread(x) for x in states]
            counts = steps_of(6, True)
            check_any(module, name, spread(params), spread(grads), spread_states, rest, counts)
            params, grads, states, rest = draw_states(name, o, shapes, dtype, 2)
            unlike = [np.ascontiguousarray(g) for g in spread(grads)]
            check_any(module, name, spread(params), unlike, [spread(x) for x in states], rest, counts)


@by_step
def test_steps_over_long_lists(name):
    """More arrays than one launch takes, in small chunks: every block of an array sees the step before it is counted
    up, and it is counted once."""
    shapes = [(i % 7 * 40 + 1,) for i in range(150)]
    for n in range(6):
        with kernels.use("emulated", **schedule(n)), kernels.trace() as ran:
            config = extension_for(np.zeros(1)).OptimConfig(chunk=16)
            params, grads, states, o = draw_states(name, STEPS[name][1][-1], shapes, np.float32, n)
            check_any(kernels, name, params, grads, states, o, steps_of(150, True), config=config)
        assert ran.names == [name]


@by_step
def test_steps_of_mixed_dtypes(name):
    drawn = [draw_states(name, STEPS[name][1][-1], [(5,), (3, 4)], d, 1) for d in DTYPES]
    params, grads = ([x for d in drawn for x in d[j]] for j in (0, 1))
    states = [[x for d in drawn for x in d[2][j]] for j in range(len(drawn[0][2]))]
    with kernels.use("emulated"), kernels.trace() as ran:
        check_any(kernels, name, params, grads, states, drawn[0][3], steps_of(8, True))
        nothing = [[] for _ in states]
        getattr(kernels, name)([], [], *nothing, [], lr=0.1, **({"momentum": 0.9} if name == "rmsprop_step" else {}))
    assert [launch.dtype for launch in ran] == ["float32", "float64", "float16", "bfloat16"]


@by_step
def test_steps_have_the_same_bits_in_every_schedule(name):
    results = []
    for how in SCHEDULES:
        params, grads, states, o = draw_states(name, STEPS[name][1][-1], SHAPES, np.float32, 1)
        with kernels.use("emulated", **how):
            getattr(kernels, name)(params, grads, *states, steps_of(len(SHAPES), True), lr=0.1, **o)
        results.append(params + [x for state in states for x in state])
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other, strict=True))


@by_step
def test_steps_of_infinite_and_nan_gradients(name):
    """As in the reference: infinities and NaN come out where IEEE arithmetic puts them, and nowhere else."""
    g = np.array([np.inf, -np.inf, np.nan, 1e30, 0, 1], np.float32)
    results = []
    for module in (reference, kernels):
        params, _, states, o = draw_states(name, STEPS[name][1][-1], [g.shape], np.float32, 1)
        with kernels.use("emulated"):
            getattr(module, name)(params, [g], *states, [3], lr=0.1, **o)
        results.append(params + [s[0] for s in states])
    for mine, want in zip(*results, strict=True):
        assert_close(mine, want, 1e-5 * np.nan_to_num(np.abs(want)), name)  # the last of six units in the last place


def test_a_largest_square_stays_nan():
    for module in (reference, kernels):
        p, g, m, v, most = (np.ones(2, np.float32) for _ in range(5))
        v[0] = most[1] = np.nan
        with kernels.use("emulated"):
            module.adam_step([p], [g], [m], [v], [most], [0], lr=0.1)
        assert np.isnan(most).all()
        assert np.isnan(p).all()


@by_step
def test_steps_refuse(name):
    def a(shape=(3,), dtype=np.float32):
        return np.ones(shape, dtype)

    count = len(STEPS[name][2](dict(STEPS[name][1][0])))
    extra = {"momentum": 0.9} if name == "rmsprop_step" else {}

    def call(params=None, grads=None, states=None, steps=(1,), lr=0.1, **kw):
        states = [[a()] for _ in range(count)] if states is None else states
        params = [a()] if params is None else params
        step = getattr(kernels, name)
        return step(
            params,
            [a()] if grads is None else grads,
            *states,
            list(steps) if steps is not None else None,
            lr=lr,
            **{**extra, **kw},
        )

    def two():
        return [a(), a()]

    fixed = a((1,))
    fixed.flags.writeable = False
    one = a((1,))
    rest = [[a()] for _ in range(count - 1)]
    call()
    cases = [
        (TypeError, "params is a ndarray", lambda: call(params=a())),
        (TypeError, "is a NoneType", lambda: call(states=[None, *rest])),
        (ValueError, "has 2 arrays", lambda: call(states=[[a(), a()], *rest])),
        (TypeError, "has dtype float64", lambda: call(states=[[a(dtype=np.float64)], *rest])),
        (ValueError, r"has shape \(4,\)", lambda: call(states=[[a((4,))], *rest])),
        (TypeError, r"params\[0\] has dtype int64", lambda: call(params=[a(dtype=np.int64)])),
        (ValueError, r"grads\[0\] has shape", lambda: call(grads=[a((1, 3))])),
        (TypeError, "steps is a NoneType", lambda: call(steps=None)),
        (ValueError, "steps has 2 items", lambda: call(steps=(1, 2))),
        (TypeError, r"steps\[0\] is a str", lambda: call(steps=("1",))),
        (TypeError, r"steps\[0\] is a bool", lambda: call(steps=(True,))),
        (TypeError, r"steps\[0\] has dtype int64", lambda: call(steps=(np.ones(1, np.int64),))),
        (ValueError, r"steps\[0\] has 3 elements", lambda: call(steps=(a(),))),
        (ValueError, "read-only", lambda: call(steps=(fixed,))),
        (ValueError, "same memory", lambda: call(two(), two(), [two() for _ in range(count)], (one, one))),
        (TypeError, "lr has dtype", lambda: call(lr=a((1,), np.int64))),
        (TypeError, None, lambda: call(lr=None)),
        (TypeError, "config is a int", lambda: call(config=4096)),
    ]  # fmt: skip
    if name == "adam_step":
        cases += [
            (ValueError, "beta1 is 1", lambda: call(beta1=1.0)),
            (ValueError, "beta2 is -1", lambda: call(beta2=-1)),
        ]
    if name == "rmsprop_step":
        cases += [(ValueError, "momenta is given with momentum 0", lambda: call(momentum=0.0))]
    with kernels.use("emulated"):
        for kind, text, run in cases:
            with pytest.raises(kind, match=text):
                run()


# ---- fastnet.optim --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed")


def pair(torch, dtype="float64", kind="SGD", lr=0.1, shapes=((3, 4), (5,), ()), **kw):
    """The same parameters, in two groups, under both optimizers."""
    rng = np.random.default_rng(0)
    values = [np.asarray(rng.standard_normal(s)).astype(dtype) for s in shapes]
    mine = [fastnet.tensor(v, requires_grad=True) for v in values]
    theirs = [torch.tensor(v, requires_grad=True) for v in values]
    second = {"lr": 0.05, "weight_decay": 0.2}
    a, b = (
        getattr(lib.optim, kind)([{"params": ps[:1]}, {"params": ps[1:], **second}], lr=lr, **kw)
        for lib, ps in ((fastnet, mine), (torch, theirs))
    )
    return mine, theirs, a, b


def run(torch, mine, theirs, a, b, steps, seed=1):
    rng = np.random.default_rng(seed)
    for step in range(steps):
        for i, (p, q) in enumerate(zip(mine, theirs, strict=True)):
            g = np.asarray(rng.standard_normal(tuple(p.shape))).astype(p.detach().numpy().dtype)
            missing = i == 1 and step % 3 == 0  # parameters without a gradient are left alone
            p.grad, q.grad = (None, None) if missing else (fastnet.tensor(g), torch.tensor(g))
        a.step()
        b.step()


@pytest.mark.parametrize("mode", ["reference", "emulated"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_trajectories(torch, mode, dtype):
    bound = 1e-13 if dtype == "float64" else 5e-5  # 20 steps, values of at most some tens
    for o in OPTIONS:
        kw = {k: v for k, v in options(o).items() if k not in ("first_step", "weight_decay")} | {"weight_decay": o[2]}
        mine, theirs, a, b = pair(torch, dtype, **kw)
        with kernels.use(mode):
            run(torch, mine, theirs, a, b, 20)
        for p, q in zip(mine, theirs, strict=True):
            assert_close(p.detach().numpy(), q.detach().numpy(), bound, str(kw))
        assert_same_state(a.state_dict(), b.state_dict(), bound)


def assert_same_state(got, want, bound):
    assert list(got) == list(want)
    assert got["param_groups"] == want["param_groups"]
    assert [list(g) for g in got["param_groups"]] == [list(g) for g in want["param_groups"]]
    assert got["state"].keys() == want["state"].keys()
    for i, state in want["state"].items():
        assert got["state"][i].keys() == state.keys()
        for name, value in state.items():
            assert_close(got["state"][i][name].numpy(), value.numpy(), bound, name)


# Every combination of what changes the numbers, and the flags that must not.
CONFIGURATIONS = {
    "Adam": [*combine(
        betas=((0.9, 0.999), (0.4, 0.8)), eps=(1e-8, 0.1), weight_decay=(0, 0.1), amsgrad=(False, True),
        maximize=(False, True), decoupled_weight_decay=(False, True),
    ), {"foreach": True}, {"fused": True}, {"foreach": False, "fused": False}],
    "AdamW": [*combine(weight_decay=(1e-2, 0, 0.5), amsgrad=(False, True), maximize=(False, True)),
        {"betas": (0.0, 0.5)}, {"foreach": True}, {"fused": True}],
    "Adagrad": [*combine(
        lr_decay=(0, 0.1), weight_decay=(0, 0.1), initial_accumulator_value=(0, 0.5), eps=(1e-10, 0.1),
        maximize=(False, True),
    ), {"foreach": True}, {"fused": True}],
    "RMSprop": [*combine(
        alpha=(0.99, 0.3), eps=(1e-8, 0.1), weight_decay=(0, 0.1), momentum=(0, 0.9), centered=(False, True),
        maximize=(False, True),
    ), {"foreach": True}],
}  # fmt: skip


@pytest.mark.parametrize("mode", ["reference", "emulated"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kind", sorted(CONFIGURATIONS))
def test_adaptive_trajectories(torch, kind, dtype, mode):
    """32 steps. In float64 the libraries differ by the order of roundings; Adam's 1 - beta^t, which PyTorch computes by
    cancellation, by 1000 of them in a beta2 of 0.999. A step moves a value by some tenths; 32 add up. In float32 the
    same with its epsilon, and 1 - beta^t in double on their side."""
    bound = 1e-11 if dtype == "float64" else 1e-4
    for kw in CONFIGURATIONS[kind]:
        mine, theirs, a, b = pair(torch, dtype, kind, **kw)
        with kernels.use(mode):
            run(torch, mine, theirs, a, b, 32)
        for p, q in zip(mine, theirs, strict=True):
            assert_close(p.detach().numpy(), q.detach().numpy(), bound, f"{kind} {kw}")
        assert_same_state(a.state_dict(), b.state_dict(), bound)


@pytest.mark.parametrize("kind", sorted(CONFIGURATIONS))
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_trajectories(torch, kind, dtype):
    """16-bit parameters: PyTorch rounds after each operation, fastnet once a step, so the float64 trajectory of the
    same gradients is the judge: fastnet's distance is at most 1.5 times PyTorch's, or a unit in the last place a
    step."""
    rng = np.random.default_rng(3)
    start = rng.uniform(1, 2, 40)
    grads = [rng.standard_normal(40) for _ in range(16)]
    ends = {}
    for lib, name in ((fastnet, dtype), (torch, dtype), (torch, "float64")):
        narrow = getattr(torch, dtype)
        value = torch.tensor(start).to(narrow).double().numpy()
        p = lib.tensor(value, dtype=getattr(lib, name), requires_grad=True)
        optimizer = getattr(lib.optim, kind)([p], lr=0.01, weight_decay=0.1)
        for g in grads:
            g = torch.tensor(g).to(narrow).double().numpy()
            p.grad = lib.tensor(g, dtype=getattr(lib, name))
            optimizer.step()
        ends[lib.__name__, name] = np.array(p.detach().double().tolist())
    want = ends["torch", "float64"]
    ours, theirs = (np.abs(ends[lib, dtype] - want) for lib in ("fastnet", "torch"))
    assert ours.max() <= max(1.5 * theirs.max(), 16 * 2 * epsilon(dtype if dtype == "float16" else bfloat16))


def as_torch(torch, state):
    """Our state_dict with PyTorch's tensors."""
    return {
        "param_groups": state["param_groups"],
        "state": {i: {k: torch.tensor(v.numpy()) for k, v in s.items()} for i, s in state["state"].items()},
    }


INTERCHANGED = {
    "SGD": ({"momentum": 0.9, "nesterov": True}, {"momentum": 0.5}),
    "Adam": ({"amsgrad": True, "betas": (0.8, 0.9)}, {}),
    "AdamW": ({"weight_decay": 0.3}, {"maximize": True}),
    "Adagrad": ({"lr_decay": 0.1}, {"initial_accumulator_value": 3.0}),
    "RMSprop": ({"momentum": 0.5, "centered": True}, {"alpha": 0.1}),
}


@pytest.mark.parametrize("kind", sorted(INTERCHANGED))
def test_states_are_interchangeable(torch, kind):
    options_of_both, others = INTERCHANGED[kind]
    mine, theirs, a, b = pair(torch, kind=kind, **options_of_both)
    run(torch, mine, theirs, a, b, 5)
    mine2, theirs2, c, d = pair(torch, kind=kind, **others)
    c.load_state_dict(b.state_dict())  # PyTorch's, into ours
    d.load_state_dict(as_torch(torch, a.state_dict()))  # ours, into PyTorch's
    assert_same_state(c.state_dict(), b.state_dict(), 0)
    assert_same_state(a.state_dict(), d.state_dict(), 0)
    for p, q, p2, q2 in zip(mine, theirs, mine2, theirs2, strict=True):
        p2.data, q2.data = fastnet.tensor(p.detach().numpy()), torch.tensor(q.detach().numpy())
    run(torch, mine, theirs, a, b, 5, seed=2)
    run(torch, mine2, theirs2, c, d, 5, seed=2)
    for p, p2, q2 in zip(mine, mine2, theirs2, strict=True):
        assert_close(p.detach().numpy(), p2.detach().numpy(), 1e-12)
        assert_close(p.detach().numpy(), q2.detach().numpy(), 1e-12)
    e = getattr(optim, kind)(mine, lr=0.1)
    with pytest.raises(ValueError, match="different number of parameter groups"):
        e.load_state_dict(a.state_dict())
    f = getattr(optim, kind)([{"params": mine[:2]}, {"params": mine[2:]}], lr=0.1)
    with pytest.raises(ValueError, match="doesn't match the size of optimizer's group"):
        f.load_state_dict(a.state_dict())


def test_old_states_load():
    """Steps that were numbers, and options that older versions did not have."""
    for kind in ("Adam", "AdamW", "Adagrad", "RMSprop"):
        p = fastnet.tensor([1.0, 2.0], requires_grad=True)
        a, b = (getattr(optim, kind)([p], lr=0.1) for _ in range(2))
        p.grad = fastnet.ones(2)
        a.step()
        old = copy.deepcopy(a.state_dict())
        old["state"][0]["step"] = 1
        for key in set(old["param_groups"][0]) & {"maximize", "foreach", "capturable", "fused", "differentiable"}:
            del old["param_groups"][0][key]
        b.load_state_dict(old)
        step = b.state[p]["step"]
        assert (step.item(), step.dtype, step.shape) == (1.0, fastnet.float32, ())
        b.step()
        assert b.state[p]["step"].item() == 2.0
        assert b.param_groups[0]["differentiable"] is False


def test_one_launch_for_many_small_parameters():
    for kind, kw in (
        ("SGD", {"momentum": 0.9}),
        ("Adam", {"amsgrad": True}),
        ("AdamW", {}),
        ("Adagrad", {}),
        ("RMSprop", {"momentum": 0.9, "centered": True}),
    ):
        params = [fastnet.tensor(np.ones((i % 5 + 1, 3), np.float32), requires_grad=True) for i in range(200)]
        optimizer = getattr(optim, kind)(params, lr=0.1, **kw)
        for p in params:
            p.grad = fastnet.ones(*p.shape)
        for _ in range(2):  # the first and another step
            with kernels.use("emulated"), kernels.trace() as ran:
                optimizer.step()
            assert ran.names == [{"AdamW": "adam"}.get(kind, kind.lower()) + "_step"]
        if kind != "SGD":
            assert {optimizer.state[p]["step"].item() for p in params} == {2.0}


def test_a_rate_in_a_tensor(torch):
    for kind in ("Adam", "AdamW", "Adagrad", "RMSprop"):
        for mode in ("reference", "emulated"):
            mine, theirs, a, b = pair(torch, kind=kind)
            a.param_groups[0]["lr"] = fastnet.tensor([0.25], dtype=fastnet.float64)
            b.param_groups[0]["lr"] = torch.tensor(0.25, dtype=torch.float64)
            with kernels.use(mode):
                run(torch, mine, theirs, a, b, 3)
                a.param_groups[0]["lr"].fill_(0.5)
                b.param_groups[0]["lr"].fill_(0.5)
                run(torch, mine, theirs, a, b, 3, seed=2)
            for p, q in zip(mine, theirs, strict=True):
                assert_close(p.detach().numpy(), q.detach().numpy(), 1e-12, kind)


def test_betas_in_tensors(torch):
    betas = (0.5, 0.75)
    mine, _, a, _ = pair(torch, kind="Adam", betas=betas)
    p, q = mine[0], fastnet.tensor(mine[0].detach().numpy(), requires_grad=True)
    c = optim.Adam([q], lr=0.1, betas=tuple(fastnet.tensor([x]) for x in betas))
    assert c.param_groups[0]["betas"][0].shape == ()
    for g in (1.0, -2.0, 0.5):
        p.grad = fastnet.full((3, 4), g, dtype=fastnet.float64)
        q.grad = p.grad.clone()
        a.step()
        c.step()
    assert np.array_equal(p.detach().numpy(), q.detach().numpy())


def test_hooks(torch):
    """What hooks see, what they may change and in which order they run, in both libraries."""
    seen = {}
    for lib in (fastnet, torch):
        log = seen[lib] = []
        p = lib.tensor([1.0], requires_grad=True)
        p.grad = lib.tensor([1.0])
        optimizer = lib.optim.Adam([p], lr=0.5)
        module = importlib.import_module(f"{lib.__name__}.optim.optimizer")
        handles = [
            module.register_optimizer_step_pre_hook(lambda o, args, kw, log=log: log.append(("all", len(args), kw))),
            module.register_optimizer_step_post_hook(lambda o, args, kw, log=log: log.append(("all after", len(args)))),
            optimizer.register_step_pre_hook(lambda o, args, kw, log=log: log.append(("pre", o is args[0]))),
            optimizer.register_step_post_hook(lambda o, args, kw, log=log: log.append(("post", len(args), list(kw)))),
            optimizer.register_step_pre_hook(lambda o, args, kw: (args, {"closure": lambda: 7.0})),
        ]
        log.append(optimizer.step())
        for handle in handles:
            handle.remove()
        optimizer.step()
        handles = [
            optimizer.register_state_dict_pre_hook(lambda o, log=log: log.append("before")),
            optimizer.register_state_dict_post_hook(lambda o, s: {**s, "extra": 1}),
            optimizer.register_state_dict_post_hook(lambda o, s, log=log: log.append(sorted(s)), prepend=True),
            optimizer.register_load_state_dict_pre_hook(lambda o, s, log=log: log.append(("load", sorted(s)))),
            optimizer.register_load_state_dict_post_hook(lambda o, log=log: log.append("loaded")),
        ]
        state = optimizer.state_dict()
        log.append(sorted(state))
        optimizer.load_state_dict(state)
        for handle in handles:
            handle.remove()
        log.append(sorted(optimizer.state_dict()))
        wrong = optimizer.register_step_pre_hook(lambda o, args, kw: 1)
        with pytest.raises(RuntimeError, match="must return None or a tuple"):
            optimizer.step()
        wrong.remove()
    assert seen[fastnet] == seen[torch]


def test_duplicates_and_names(torch):
    for lib in (fastnet, torch):
        p = lib.tensor([1.0], requires_grad=True)
        with pytest.warns(UserWarning, match="duplicate parameters"):
            twice = lib.optim.Adam([p, p], lr=0.25)
        p.grad = lib.tensor([1.0])
        twice.step()
        assert (p.item(), twice.state[p]["step"].item()) == (pytest.approx(0.5, abs=1e-6), 2.0)
        q = lib.tensor([1.0], requires_grad=True)
        named = lib.optim.SGD([("p", p)], lr=0.1)
        for params in ([q], [("q", q), lib.tensor([1.0], requires_grad=True)]):
            with pytest.raises(ValueError, match="with/without names"):
                named.add_param_group({"params": params})
        with pytest.raises(KeyError):
            named.add_param_group({})


def test_copies_of_an_optimizer_are_their_own():
    p = fastnet.tensor([1.0], requires_grad=True)
    p.grad = fastnet.tensor([1.0])
    a = optim.Adam([p], lr=0.25)
    a.step()
    b = copy.deepcopy(a)
    (q,) = b.param_groups[0]["params"]
    b.step()
    assert (a.state[p]["step"].item(), b.state[q]["step"].item()) == (1.0, 2.0)
    assert p.item() == pytest.approx(0.75, abs=1e-6)
    assert q.item() == pytest.approx(0.5, abs=1e-6)


BAD = [
    ("Adam", {"lr": -1.0}), ("Adam", {"lr": math.nan}), ("Adam", {"eps": -1.0}), ("Adam", {"betas": (1.0, 0.9)}),
    ("Adam", {"betas": (0.9, -0.1)}), ("Adam", {"betas": (0, 0.9)}), ("Adam", {"weight_decay": -1}),
    ("Adam", {"foreach": True, "fused": True}), ("Adam", {"fused": True, "differentiable": True}),
    ("Adam", {"lr": None}), ("Adam", {"betas": None}), ("Adam", {"betas": (0.9,)}), ("Adam", {"lr": "0.1"}),
    ("AdamW", {"weight_decay": -1}),
    ("AdamW", {"decoupled_weight_decay": True}), ("Adagrad", {"lr": -1.0}), ("Adagrad", {"lr_decay": -1}),
    ("Adagrad", {"weight_decay": -1}), ("Adagrad", {"initial_accumulator_value": -1}), ("Adagrad", {"eps": -1}),
    ("Adagrad", {"foreach": True, "fused": True}), ("RMSprop", {"lr": -1.0}), ("RMSprop", {"alpha": -1}),
    ("RMSprop", {"eps": -1}), ("RMSprop", {"momentum": -1}), ("RMSprop", {"weight_decay": -1}),
    ("RMSprop", {"fused": True}), ("SGD", {"foreach": True, "fused": True}), ("SGD", {"lr": -1.0}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "kw"), BAD, ids=lambda x: x if isinstance(x, str) else "-".join(x))
def test_bad_options_raise_as_pytorch_does(torch, kind, kw):
    raised = []
    for lib in (fastnet, torch):
        with pytest.raises(Exception) as caught:  # noqa: PT011  the kind is compared below
            getattr(lib.optim, kind)([lib.tensor([1.0], requires_grad=True)], **kw)
        raised.append(caught)
    assert raised[0].type is raised[1].type
    if raised[0].type in (ValueError, RuntimeError) and None not in kw.values():
        assert str(raised[0].value).replace("fastnet.", "torch.") == str(raised[1].value)


def test_signatures_are_those_of_pytorch(torch):
    for kind in ("SGD", "Adam", "AdamW", "Adagrad", "RMSprop"):
        mine, theirs = (
            [(p.name, p.kind, p.default) for p in inspect.signature(getattr(lib.optim, kind)).parameters.values()]
            for lib in (fastnet, torch)
        )
        assert mine == theirs, kind


def test_loading_copies_and_casts():
    p = fastnet.tensor(np.ones((2, 3), np.float32), requires_grad=True)
    a = optim.SGD([p], lr=0.1, momentum=0.9)
    p.grad = fastnet.ones(2, 3)
    a.step()
    b = optim.SGD([p], lr=0.5, momentum=0.9)
    state = a.state_dict()
    state["state"][0]["momentum_buffer"] = fastnet.tensor(np.full((2, 3), 2.0))
    b.load_state_dict(state)
    loaded = b.state[p]["momentum_buffer"]
    assert loaded.dtype is fastnet.float32
    assert loaded is not state["state"][0]["momentum_buffer"]
    assert b.param_groups[0]["lr"] == 0.1
    state["param_groups"][0]["lr"] = 7.0
    assert b.param_groups[0]["lr"] == 0.1


def test_optimizer_interface():
    p, q = fastnet.tensor([1.0, 2.0], requires_grad=True), fastnet.tensor([3.0], requires_grad=True)
    optimizer = optim.SGD([("p", p)], lr=0.5)
    optimizer.add_param_group({"params": [("q", q)], "lr": 0.25})
    assert optimizer.state_dict()["param_groups"][1]["param_names"] == ["q"]

    def closure():
        optimizer.zero_grad()
        loss = (p * p).sum() + q.sum()
        loss.backward()
        return loss

    with fastnet.no_grad():
        assert optimizer.step(closure).item() == 8.0  # recorded although the caller does not
    assert p.detach().numpy().tolist() == [0.0, 0.0]
    assert q.item() == 2.75
    assert p.requires_grad
    assert p.is_leaf
    optimizer.zero_grad(set_to_none=False)
    assert p.grad.numpy().tolist() == [0.0, 0.0]
    optimizer.zero_grad()
    assert p.grad is None
    assert "lr: 0.25" in repr(optimizer)
    rate = fastnet.tensor([0.5])
    by_tensor = optim.SGD([q], lr=rate)
    q.grad = fastnet.tensor([1.0])
    by_tensor.step()
    assert q.item() == 2.25
    assert by_tensor.step() is None


def test_a_step_is_a_change_in_place():
    p = fastnet.tensor([2.0], requires_grad=True)
    out = (p * p).sum()
    p.grad = fastnet.tensor([1.0])
    optim.SGD([p], lr=0.1).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.backward()


def test_optimizer_refuses():
    p = fastnet.tensor([1.0], requires_grad=True)
    for kind, text, call in [
        (TypeError, "iterable of Tensors", lambda: optim.SGD(p, lr=0.1)),
        (ValueError, "empty parameter list", lambda: optim.SGD([], lr=0.1)),
        (TypeError, "only optimize Tensors", lambda: optim.SGD([1.0], lr=0.1)),
        (ValueError, "non-leaf", lambda: optim.SGD([p * 2], lr=0.1)),
        (ValueError, "more than one", lambda: optim.SGD([{"params": p}, {"params": p}])),
        (ValueError, "learning rate: -1", lambda: optim.SGD([p], lr=-1.0)),
        (ValueError, "momentum", lambda: optim.SGD([p], momentum=-1)),
        (ValueError, "weight_decay", lambda: optim.SGD([p], weight_decay=-1)),
        (ValueError, "Nesterov", lambda: optim.SGD([p], nesterov=True)),
        (ValueError, "Nesterov", lambda: optim.SGD([p], momentum=0.9, dampening=0.1, nesterov=True)),
        (ValueError, "learning rate: nan", lambda: optim.SGD([p], lr=math.nan)),
        (TypeError, "ordered", lambda: optim.SGD([{"params": {p}}])),
        (TypeError, "dict", lambda: optim.SGD([p]).add_param_group([p])),
        (ValueError, "differentiable", lambda: optim.SGD([p], differentiable=True)),
    ]:
        with pytest.raises(kind, match=text):
            call()
