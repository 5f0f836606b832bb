"""SGD: the emulated kernel and the reference against float64, in every memory order; trajectories, state and schedules
against PyTorch."""

import copy
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
        (TypeError, "lr has dtype", lambda: kernels.sgd_step([a()], [a()], None, lr=a((1,), np.float64))),
        (ValueError, "lr has 3 elements", lambda: kernels.sgd_step([a()], [a()], None, lr=a())),
        (TypeError, None, lambda: kernels.sgd_step([a()], [a()], None, lr=None)),
    ]
    with kernels.use("emulated"):
        for kind, text, call in cases:
            with pytest.raises(kind, match=text):
                call()


# ---- fastnet.optim --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed")


def pair(torch, dtype="float64", **kw):
    """The same parameters, in two groups, under both optimizers."""
    rng = np.random.default_rng(0)
    values = [np.asarray(rng.standard_normal(s)).astype(dtype) for s in ((3, 4), (5,), ())]
    mine = [fastnet.tensor(v, requires_grad=True) for v in values]
    theirs = [torch.tensor(v, requires_grad=True) for v in values]
    second = {"lr": 0.05, "weight_decay": 0.2}
    a = optim.SGD([{"params": mine[:1]}, {"params": mine[1:], **second}], lr=0.1, **kw)
    b = torch.optim.SGD([{"params": theirs[:1]}, {"params": theirs[1:], **second}], lr=0.1, **kw)
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


def test_states_are_interchangeable(torch):
    mine, theirs, a, b = pair(torch, momentum=0.9, nesterov=True)
    run(torch, mine, theirs, a, b, 5)
    mine2, theirs2, c, d = pair(torch, momentum=0.5)
    c.load_state_dict(b.state_dict())  # PyTorch's, into ours
    state = a.state_dict()
    d.load_state_dict(
        {
            "param_groups": state["param_groups"],  # ours, into PyTorch's
            "state": {i: {k: torch.tensor(v.numpy()) for k, v in s.items()} for i, s in state["state"].items()},
        }
    )
    assert c.param_groups[0]["momentum"] == 0.9
    for p, q, p2, q2 in zip(mine, theirs, mine2, theirs2, strict=True):
        p2.data, q2.data = fastnet.tensor(p.detach().numpy()), torch.tensor(q.detach().numpy())
    run(torch, mine, theirs, a, b, 5, seed=2)
    run(torch, mine2, theirs2, c, d, 5, seed=2)
    for p, p2, q2 in zip(mine, mine2, theirs2, strict=True):
        assert np.array_equal(p.detach().numpy(), p2.detach().numpy())
        assert_close(p.detach().numpy(), q2.detach().numpy(), 1e-13)
    e = optim.SGD(mine, lr=0.1)
    with pytest.raises(ValueError, match="different number of parameter groups"):
        e.load_state_dict(a.state_dict())


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
        (ValueError, "more than once", lambda: optim.SGD([p, p], lr=0.1)),
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
        (TypeError, "not an Optimizer", lambda: optim.lr_scheduler.StepLR(p, 1)),
    ]:
        with pytest.raises(kind, match=text):
            call()


SCHEDULERS = {
    "StepLR": {"step_size": 3, "gamma": 0.5},
    "LambdaLR": {"lr_lambda": lambda epoch: 0.9**epoch},
    "CosineAnnealingLR": {"T_max": 7, "eta_min": 0.01},
    "LinearLR": {"start_factor": 0.25, "total_iters": 6},
    "MultiStepLR": {"milestones": [2, 5, 5, 11]},
    "ExponentialLR": {"gamma": 0.8},
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_schedulers(torch, name):
    """Rates equal PyTorch's to the last bit, past a cosine's restart, alone and after a saved state was loaded."""
    _, _, a, b = pair(torch)
    ours, pytorchs = getattr(optim.lr_scheduler, name), getattr(torch.optim.lr_scheduler, name)
    s, t = ours(a, **SCHEDULERS[name]), pytorchs(b, **SCHEDULERS[name])
    for epoch in range(30):
        assert s.get_last_lr() == t.get_last_lr(), epoch
        assert [g["lr"] for g in a.param_groups] == s.get_last_lr()
        state, want = s.state_dict(), t.state_dict()
        assert state == want
        if epoch == 10:
            s = ours(a, **SCHEDULERS[name])
            s.load_state_dict(want)
            for group, lr in zip(a.param_groups, t.get_last_lr(), strict=True):
                group["lr"] = lr
        a.step()
        b.step()
        s.step()
        t.step()
    assert a.param_groups[0]["initial_lr"] == 0.1


def test_schedulers_chain_and_warn(torch):
    _, _, a, b = pair(torch)
    s = [optim.lr_scheduler.LinearLR(a), optim.lr_scheduler.ExponentialLR(a, 0.9)]
    t = [torch.optim.lr_scheduler.LinearLR(b), torch.optim.lr_scheduler.ExponentialLR(b, 0.9)]
    for _ in range(12):
        a.step()
        b.step()
        for x in s + t:
            x.step()
        assert [g["lr"] for g in a.param_groups] == [g["lr"] for g in b.param_groups]
    p = fastnet.tensor([1.0], requires_grad=True)
    early = optim.lr_scheduler.StepLR(optim.SGD([p], lr=0.1), 1)
    with pytest.warns(UserWarning, match="before `optimizer.step"):
        early.step()
    with pytest.raises(KeyError, match="initial_lr"):
        optim.lr_scheduler.StepLR(optim.SGD([p], lr=0.1), 1, last_epoch=3)
    rate = fastnet.tensor([0.5])
    optimizer = optim.SGD([p], lr=rate)
    optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    optimizer.step()
    assert optimizer.param_groups[0]["lr"] is rate
