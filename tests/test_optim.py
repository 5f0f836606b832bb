"""Optimizer steps: the emulated kernels and the reference against float64, in every memory order."""

import copy

import numpy as np
import pytest
from optim_problems import DTYPES, OPTIONS, SHAPES, by_name, combine, draw, options
from support import SCHEDULES, assert_close, epsilon, schedule

from fastnet import kernels, reference
from fastnet.kernels._runtime import extension_for


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
