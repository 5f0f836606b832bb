"""Norm, scaling and infinities of gradients, and steps that read them from device memory: the emulated kernels and the
reference against float64, in every schedule; master weights."""

import copy

import numpy as np
import pytest
from optim_problems import DTYPES, SHAPES, by_name, draw
from support import SCHEDULES, assert_close, bfloat16, epsilon, schedule

import fastnet
from fastnet import kernels, optim, reference
from fastnet.kernels._runtime import extension_for

STEPS = {
    "sgd_step": (1, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    "adam_step": (3, {"weight_decay": 0.1}),
    "adagrad_step": (1, {"lr_decay": 0.1, "weight_decay": 0.1}),
    "rmsprop_step": (3, {"momentum": 0.9, "weight_decay": 0.1}),
}
by_step = pytest.mark.parametrize("name", sorted(STEPS))
by_schedule = pytest.mark.parametrize("how", SCHEDULES, ids=lambda s: "-".join(map(str, s.values())))


def exact_norm(grads):
    return np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in grads))


def check_state(got, grads, scale=None, max_norm=None):
    """Squares are added up in float32 within a thread, at most 64 of them: each sum is off by at most 65 roundings."""
    inverse = 1.0 if scale is None else 1 / float(scale[0])
    norm = exact_norm(grads) * inverse
    clip = 1.0 if max_norm is None else min(1.0, max_norm / (norm + 1e-6))
    relative = 65 * epsilon(np.float32) / 2  # of a root
    assert got.dtype == np.float64
    assert_close(got, [norm, clip * inverse, 0], [norm * relative, clip * inverse * relative, 0], f"{scale} {max_norm}")


@by_name
@by_schedule
def test_norm_against_float64(dtype, how):
    grads = draw(SHAPES, dtype, 1)
    for module in (reference, kernels):
        for scale in (None, np.array([8], np.float32)):
            for max_norm in (None, 0.0, 1.0, 1e6):
                with kernels.use("emulated", **how), kernels.trace() as ran:
                    got = module.gradient_norm(grads, scale=scale, max_norm=max_norm)
                check_state(got, grads, scale, max_norm)
                assert ran.names == (["gradient_norm"] if module is kernels else [])


def test_norm_of_long_lists_in_small_chunks_of_several_dtypes():
    shapes = [(i % 7 * 40 + 1,) for i in range(400)]
    grads = [draw([s], DTYPES[i % 4], i)[0] for i, s in enumerate(shapes)]
    for n, chunk in enumerate((16, 64, 4096)):
        with kernels.use("emulated", **schedule(n)):
            config = extension_for(np.zeros(1)).OptimConfig(chunk=chunk)
            check_state(kernels.gradient_norm(grads, config=config), grads)


def test_norm_of_other_memory_orders():
    a, b, c = draw([(6, 5), (8, 9), (50,)], np.float32, 2)
    raw = np.zeros(c.nbytes + 1, np.uint8)
    shifted = raw[1:].view(np.float32)
    shifted[...] = c
    grads = [
        a.T,
        b[::2, 1:],
        shifted,
        b[1::2, ::-1],
        np.broadcast_to(np.float32(2), (3, 4)),
        np.zeros((0, 3), np.float32),
    ]
    for module in (reference, kernels):
        with kernels.use("emulated", order="reverse"):
            check_state(module.gradient_norm(grads, max_norm=1.0), grads, max_norm=1.0)


@by_name
def test_norm_has_the_same_bits_in_every_schedule(dtype):
    grads = draw([(9, 300), (1030,)], dtype, 3)
    results = []
    for how in SCHEDULES:
        with kernels.use("emulated", **how):
            results.append(kernels.gradient_norm(grads, max_norm=1.0).tobytes())
    assert len(set(results)) == 1


@by_name
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_infinities_are_found_wherever_they_are(dtype, value):
    one = np.ones(1, np.float32)
    for module in (reference, kernels):
        for place in (0, 7, 255, 256, 1029):
            grads = draw([(3,), (1030,)], dtype, 4)
            grads[1][place] = value
            with kernels.use("emulated"):
                got = module.gradient_norm(grads, scale=one, max_norm=1.0)
                assert got[2] == 1
                assert module.gradient_norm(grads, max_norm=1.0)[2] == 0  # without a scale nobody asks
            # PyTorch's clip_grad_norm_: NaN makes all NaN, an infinite norm multiplies by 0
            assert np.isnan(got[1]) if np.isnan(value) else got[1] == 0


@by_name
@by_schedule
def test_scaling_against_float64(dtype, how):
    state = np.array([3.0, 0.3, 0.0])
    for module in (reference, kernels):
        grads = draw(SHAPES, dtype, 5)
        wants = [g.astype(np.float64) * 0.3 for g in grads]
        with kernels.use("emulated", **how):
            module.scale_gradients(grads, state)
        for g, want in zip(grads, wants, strict=True):
            eps = max(epsilon(dtype), epsilon(np.float32) * (dtype is not np.float64))
            tiny = 2.0**-25 if g.dtype == np.float16 else 0.0
            assert_close(
                g, want, np.abs(want) * (eps + 2 * epsilon(np.float64 if dtype == np.float64 else np.float32)) + tiny
            )


def test_scaling_of_other_memory_orders():
    for module in (reference, kernels):
        a, b = draw([(6, 5), (8, 9)], np.float32, 6)
        before = a.copy(), b.copy()
        with kernels.use("emulated"):
            module.scale_gradients([a.T, b[::2, 1:]], np.array([1.0, 2.0, 0.0]))
        assert np.array_equal(a, 2 * before[0])
        assert np.array_equal(b[::2, 1:], 2 * before[1][::2, 1:])
        assert np.array_equal(b[1::2], before[1][1::2])


def test_loss_scale():
    for module in (reference, kernels):
        for scale, tracker, skip, want in (
            (8.0, 0, 1, (4.0, 0)), (8.0, 2, 0, (16.0, 0)), (8.0, 1, 0, (8.0, 2)), (8.0, 5, 0, (8.0, 6)),
            (3e38, 2, 0, (3e38, 0)), (2.0**-149, 0, 1, (0.0, 0)),
        ):  # fmt: skip
            arrays = np.array([scale], np.float32), np.array([tracker], np.int32), np.array([1.0, 1.0, skip])
            with kernels.use("emulated"):
                module.update_loss_scale(*arrays, growth_factor=2.0, backoff_factor=0.5, growth_interval=3)
            assert (arrays[0][0], arrays[1][0]) == (np.float32(want[0]), want[1])


# ---- steps that read what was found ----------------------------------------------------------------------------------


def lists_for(name, dtype, seed=0, wide=None):
    """Params, gradients, states above the squares of what enters them, and counts of steps."""
    params, grads = draw(SHAPES, dtype, seed), draw(SHAPES, dtype, seed + 1)
    states = [[np.asarray(4 + np.abs(x)).astype(wide or dtype) for x in draw(SHAPES, np.float64, seed + 2 + i)]
              for i in range(STEPS[name][0])]  # fmt: skip
    if name == "rmsprop_step":
        states[2] = [np.zeros_like(x) for x in states[2]]
    counts = [[np.array([i], np.float32) for i in range(len(SHAPES))]] if name != "sgd_step" else []
    return params, grads, states, counts


@by_step
@by_name
@by_schedule
def test_a_step_of_scaled_gradients_is_the_step_of_their_products(name, dtype, how):
    """The factor is a power of two: the products are exact, and the bits those of a step on them."""
    state = np.array([5.0, 0.25, 0.0])
    for module in (reference, kernels):
        results = []
        for gradients in (None, state):
            params, grads, states, counts = lists_for(name, dtype)
            if gradients is None:
                grads = [np.asarray(g * g.dtype.type(0.25)) for g in grads]
            before = copy.deepcopy(grads)
            with kernels.use("emulated", **how):
                getattr(module, name)(params, grads, *states, *counts, lr=0.1, gradients=gradients, **STEPS[name][1])
            assert all(np.array_equal(a, b) for a, b in zip(grads, before, strict=True))
            results.append([x for part in (params, *states, *counts) for x in part])
        tiny = 2.0**-24 if dtype == np.float16 else 0.0  # a product that float16 holds as a denormal number
        for got, want in zip(*reversed(results), strict=True):
            assert_close(got, want, tiny * 8, name)


@by_step
@by_name
def test_a_step_that_is_left_out_changes_nothing(name, dtype):
    for n, module in enumerate((reference, kernels, kernels)):
        params, grads, states, counts = lists_for(name, dtype)
        for g in grads:
            g[...] = np.nan
        before = copy.deepcopy((params, states, counts))
        with kernels.use("emulated", **schedule(n)):
            getattr(module, name)(
                params, grads, *states, *counts, lr=0.1, gradients=np.array([np.nan, np.nan, 1.0]), **STEPS[name][1]
            )
        for got, want in zip((params, *states, *counts), (before[0], *before[1], *before[2]), strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(got, want, strict=True))
        with kernels.use("emulated"):  # and the next one is not
            getattr(module, name)(params, draw(SHAPES, dtype, 9), *states, *counts, lr=0.1, **STEPS[name][1])
        assert counts == [] or all(c[0] == i + 1 for i, c in enumerate(counts[0]))


@by_step
@pytest.mark.parametrize("dtype", [np.float16, bfloat16], ids=lambda d: np.dtype(d).name)
@by_schedule
def test_master_weights_are_updated_in_float32_and_rounded_once(name, dtype, how):
    """The bits of a float32 step on the same gradients; the params are its result, rounded. Long lists, odd sizes and
    addresses among them."""
    for module in (reference, kernels):
        params, grads, states, counts = lists_for(name, dtype, wide=np.float32)
        masters = [np.asarray(p.astype(np.float32) + np.float32(1e-4)) for p in params]
        wants = copy.deepcopy((masters, [g.astype(np.float32) for g in grads], *states, *counts))
        with kernels.use("emulated", **how):
            getattr(module, name)(*wants, lr=0.1, **STEPS[name][1])
            getattr(module, name)(params, grads, *states, *counts, lr=0.1, masters=masters, **STEPS[name][1])
        for got, want in zip((masters, *states, *counts), (wants[0], *wants[2:]), strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(got, want, strict=True))
        for p, want in zip(params, wants[0], strict=True):
            assert np.array_equal(p, want.astype(dtype))


def test_master_weights_in_other_memory_orders():
    for module in (reference, kernels):
        params, grads = (draw([(6, 5), (8, 9)], np.float16, seed) for seed in (1, 2))
        masters = [np.asfortranarray(p.astype(np.float32)) for p in params]
        want = [m - np.float32(0.5) * g for m, g in zip(masters, grads, strict=True)]
        with kernels.use("emulated"):
            module.sgd_step(params, grads, None, lr=0.5, masters=masters)
        for p, m, w in zip(params, masters, want, strict=True):
            assert_close(m, w, 2 * epsilon(np.float32) * np.abs(w) + epsilon(np.float32))
            assert np.array_equal(p, m.astype(np.float16))


def test_bad_arguments():
    def a(shape=(3,), dtype=np.float32):
        return np.ones(shape, dtype)

    state, one, count = np.ones(3), a((1,)), a((1,), np.int32)
    rates = {"growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": 2}
    fixed = a()
    fixed.flags.writeable = False
    spread = np.lib.stride_tricks.as_strided(a(), (3,), (0,))
    cases = [
        (TypeError, "grads is a ndarray", lambda: kernels.gradient_norm(a())),
        (ValueError, "grads is empty", lambda: kernels.gradient_norm([])),
        (TypeError, r"grads\[1\] has dtype int64", lambda: kernels.gradient_norm([a(), a(dtype=np.int64)])),
        (TypeError, "scale has dtype float64", lambda: kernels.gradient_norm([a()], scale=np.ones(1))),
        (ValueError, "scale has 3 elements", lambda: kernels.gradient_norm([a()], scale=a())),
        (ValueError, "max_norm is -1", lambda: kernels.gradient_norm([a()], max_norm=-1)),
        (ValueError, "max_norm is nan", lambda: kernels.gradient_norm([a()], max_norm=float("nan"))),
        (TypeError, "config is a int", lambda: kernels.gradient_norm([a()], config=16)),
        (ValueError, "read-only", lambda: kernels.scale_gradients([fixed], state)),
        (ValueError, "broadcast", lambda: kernels.scale_gradients([spread], state)),
        (TypeError, "state has dtype float32", lambda: kernels.scale_gradients([a()], a())),
        (ValueError, r"state has shape \(2,\)", lambda: kernels.scale_gradients([a()], np.ones(2))),
        (TypeError, "tracker has dtype float32", lambda: kernels.update_loss_scale(one, one, state, **rates)),
        (ValueError, "growth_interval is 0", lambda: kernels.update_loss_scale(
            one, count, state, **{**rates, "growth_interval": 0})),
        (TypeError, "gradients has dtype float32", lambda: kernels.sgd_step([a()], [a()], None, lr=1, gradients=a())),
        (ValueError, r"gradients has shape \(4,\)", lambda: kernels.sgd_step(
            [a()], [a()], None, lr=1, gradients=np.ones(4))),
        (TypeError, r"params\[0\] has dtype float32", lambda: kernels.sgd_step(
            [a()], [a()], None, lr=1, masters=[a()])),
        (TypeError, r"masters\[0\] has dtype float16", lambda: kernels.sgd_step(
            [a(dtype=np.float16)], [a(dtype=np.float16)], None, lr=1, masters=[a(dtype=np.float16)])),
        (TypeError, r"momenta\[0\] has dtype float16", lambda: kernels.sgd_step(
            [a(dtype=np.float16)], [a(dtype=np.float16)], [a(dtype=np.float16)], lr=1, momentum=0.9, masters=[a()])),
        (ValueError, "masters has 2 arrays", lambda: kernels.sgd_step(
            [a(dtype=np.float16)], [a(dtype=np.float16)], None, lr=1, masters=[a(), a()])),
    ]  # fmt: skip
    with kernels.use("emulated"):
        for kind, text, call in cases:
            with pytest.raises(kind, match=text):
                call()


# ---- optimizers and the scaler ---------------------------------------------------------------------------------------

KINDS = [
    ("SGD", {"momentum": 0.9}), ("SGD", {"momentum": 0.9, "dampening": 0.3}), ("SGD", {}), ("Adam", {}),
    ("AdamW", {"amsgrad": True}), ("Adagrad", {}), ("RMSprop", {"momentum": 0.9, "centered": True}), ("Adadelta", {}),
    ("Adamax", {}), ("NAdam", {}), ("RAdam", {"decoupled_weight_decay": True}), ("Rprop", {}), ("ASGD", {"t0": 3}),
]  # fmt: skip
by_kind = pytest.mark.parametrize(("kind", "options"), KINDS, ids=lambda k: k if isinstance(k, str) else "-".join(k))
MODES = pytest.mark.parametrize("mode", ["reference", "emulated"])


@MODES
@by_kind
def test_clipped_steps_equal_pytorchs(kind, options, mode):
    """20 steps, gradients mostly above the norm; ours are clipped in float32 by one product, as PyTorch's."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    ends = []
    for lib in (fastnet, torch):
        rng = np.random.default_rng(0)
        params = [
            lib.tensor(rng.standard_normal(s).astype(np.float32), requires_grad=True) for s in ((3, 4), (5,), (33,))
        ]
        optimizer = getattr(lib.optim, kind)(
            [{"params": params[:1]}, {"params": params[1:], "lr": 0.02, "weight_decay": 0.1}], lr=0.05, **options
        )
        with kernels.use(mode):
            for step in range(20):
                for p in params:
                    p.grad = lib.tensor((rng.standard_normal(tuple(p.shape)) * (step + 1) / 10).astype(np.float32))
                if lib is fastnet:
                    optimizer.step(max_norm=1.0)
                    want = exact_norm([p.grad.numpy() for p in params])
                    np.testing.assert_allclose(optimizer.grad_norm.item(), want, rtol=1e-6)
                else:
                    torch.nn.utils.clip_grad_norm_(params, 1.0)
                    optimizer.step()
        ends.append([p.detach().numpy() for p in params])
    for got, want in zip(*ends, strict=True):
        assert_close(got, want, 1e-5, kind)  # 20 steps of some tens of roundings of values of at most 4


@MODES
@by_kind
@pytest.mark.parametrize("way", ["fused", "clipped", "by hand"])
def test_scaled_steps_are_left_out_as_in_pytorch(kind, options, mode, way):
    """Infinities at the first, the fourth and the fifth of 8 steps."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    ends = []
    for lib in (fastnet, torch):
        rng = np.random.default_rng(1)
        params = [lib.tensor(rng.standard_normal(s).astype(np.float32), requires_grad=True) for s in ((3, 4), (33,))]
        optimizer = getattr(lib.optim, kind)(params, lr=0.05, **options)
        scaler = lib.amp.GradScaler("cpu", init_scale=64.0, growth_interval=2)
        scales = []
        with kernels.use(mode):
            for step in range(8):
                optimizer.zero_grad()
                factor = lib.tensor(float("inf") if step in (0, 3, 4) else 1.0 + step)
                scaler.scale(sum((p * p).sum() for p in params) * factor).backward()
                if way == "by hand" or (lib is torch and way == "clipped"):
                    scaler.unscale_(optimizer)
                    lib.nn.utils.clip_grad_norm_(params, 1.0)
                extra = {"max_norm": 1.0} if lib is fastnet and way == "clipped" else {}
                scaler.step(optimizer, **extra)
                scaler.update()
                scales.append(scaler.get_scale())
        steps = [float(s["step"]) for s in optimizer.state_dict()["state"].values() if "step" in s]
        ends.append(([p.detach().numpy() for p in params], scales, steps, scaler.state_dict()))
    assert ends[0][1:] == ends[1][1:]
    for got, want in zip(ends[0][0], ends[1][0], strict=True):
        assert_close(got, want, 1e-5, f"{kind} {way}")


def test_two_optimizers_share_a_scaler():
    for bad in (0, 1):
        params = [fastnet.ones(3, requires_grad=True) for _ in range(2)]
        optimizers = [optim.SGD([p], lr=1.0) for p in params]
        scaler = fastnet.amp.GradScaler("cpu", init_scale=4.0)
        factors = [float("inf") if i == bad else 1.0 for i in range(2)]
        for p, factor, optimizer in zip(params, factors, optimizers, strict=True):
            scaler.scale((p * factor).sum()).backward()
            scaler.step(optimizer)
        scaler.update()
        assert scaler.get_scale() == 2.0
        assert [p.detach().tolist() for p in params] == [[1.0] * 3 if i == bad else [0.0] * 3 for i in range(2)]


def test_an_optimizer_of_the_users_own_is_asked_to_step_or_not():
    class Own(optim.Optimizer):
        calls = 0

        def step(self, closure=None):
            self.calls += 1

    p = fastnet.ones(3, requires_grad=True)
    optimizer, scaler = Own([p], {}), fastnet.amp.GradScaler("cpu", init_scale=4.0)
    for factor, calls in ((float("inf"), 0), (1.0, 1)):
        optimizer.zero_grad()
        scaler.scale((p * factor).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        assert optimizer.calls == calls
    assert p.grad.tolist() == [1.0] * 3  # unscaled


@MODES
@by_kind
def test_master_weights_follow_float32(kind, options, mode):
    """16-bit parameters with master weights are the rounded float32 ones of the same gradients, to the bit; small
    updates, which 16 bits alone lose, arrive."""
    for dtype in ("float16", "bfloat16"):
        start = np.linspace(1, 2, 40, dtype=np.float32)
        narrow = fastnet.tensor(start, dtype=getattr(fastnet, dtype), requires_grad=True)
        wide = narrow.detach().float().requires_grad_()
        optimizers = [getattr(optim, kind)([p], lr=1e-4, **options) for p in (narrow, wide)]
        optimizers[0].keep_master_weights()
        with kernels.use(mode):
            for step in range(10):
                g = fastnet.full((40,), 0.5 + step / 8)
                narrow.grad, wide.grad = g.to(narrow.dtype), g
                for o in optimizers:
                    o.step()
        state = optimizers[0].state[narrow]
        assert state["master"].tolist() == wide.detach().tolist()
        assert narrow.detach().tolist() == wide.detach().to(narrow.dtype).tolist()
        assert all(v.dtype == fastnet.float32 for v in state.values())
        # The state goes through a file and back.
        again = getattr(optim, kind)([narrow.detach().clone().requires_grad_()], lr=1e-4, **options)
        again.load_state_dict(optimizers[0].state_dict())
        loaded = again.state[again.param_groups[0]["params"][0]]
        assert {k: v.tolist() for k, v in loaded.items()} == {k: v.tolist() for k, v in state.items()}
        assert loaded["master"].dtype == fastnet.float32


def test_master_weights_after_steps_without():
    p = fastnet.ones(4, dtype=fastnet.float16, requires_grad=True)
    optimizer = optim.Adam([p], lr=0.1)
    p.grad = fastnet.ones(4, dtype=fastnet.float16)
    optimizer.step()
    optimizer.keep_master_weights()
    optimizer.keep_master_weights()  # changes nothing
    assert optimizer.state[p]["exp_avg"].dtype == fastnet.float32
    optimizer.step()
    assert p.detach().tolist() == optimizer.state[p]["master"].half().tolist()
