"""Optimizers: trajectories, state, hooks and errors against PyTorch; clipping, scaled losses and master weights."""

import copy
import importlib
import inspect
import math

import numpy as np
import pytest
from optim_problems import OPTIONS, combine, options
from support import assert_close, bfloat16, epsilon

import fastnet
from fastnet import kernels, optim


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
# Optimizers of array code, without kernels of their own: what ran them makes no difference.
CONFIGURATIONS_OF_ARRAY_CODE = {
    "Adadelta": [*combine(rho=(0.9, 0.3), eps=(1e-6, 0.1), weight_decay=(0, 0.1), maximize=(False, True)),
        {"foreach": True}, {"foreach": False}],
    "Adamax": [*combine(
        betas=((0.9, 0.999), (0.4, 0.8)), eps=(1e-8, 0.1), weight_decay=(0, 0.1), maximize=(False, True),
    ), {"foreach": True}],
    "NAdam": [*combine(
        betas=((0.9, 0.999), (0.4, 0.8)), weight_decay=(0, 0.1), momentum_decay=(4e-3, 0.5),
        decoupled_weight_decay=(False, True), maximize=(False, True),
    ), {"eps": 0.1, "foreach": True}],
    "RAdam": [*combine(
        betas=((0.9, 0.999), (0.4, 0.8), (0.9, 0.6)), weight_decay=(0, 0.1), decoupled_weight_decay=(False, True),
        maximize=(False, True),
    ), {"eps": 0.1, "foreach": True}],
    "Rprop": [*combine(etas=((0.5, 1.2), (0.1, 3.0)), step_sizes=((1e-6, 50), (0.04, 0.3)), maximize=(False, True)),
        {"foreach": True}],
    "ASGD": [*combine(
        lambd=(1e-4, 0.1), alpha=(0.75, 0.3), t0=(1e6, 4), weight_decay=(0, 0.1), maximize=(False, True),
    )],  # no foreach: PyTorch's rounds rates to float32 there and differs from its loop by 4e-8
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kind", sorted(CONFIGURATIONS_OF_ARRAY_CODE))
def test_trajectories_of_array_code(torch, kind, dtype):
    """32 steps, with the bounds of the adaptive ones. ASGD, NAdam: float32 numbers among the states are rounded as
    PyTorch rounds them, or a state differs by a unit of float32 in the last place, which a bound of 1e-11 sees."""
    bound = 1e-11 if dtype == "float64" else 1e-4
    for kw in CONFIGURATIONS_OF_ARRAY_CODE[kind]:
        mine, theirs, a, b = pair(torch, dtype, kind, **kw)
        run(torch, mine, theirs, a, b, 32)
        for p, q in zip(mine, theirs, strict=True):
            assert_close(p.detach().numpy(), q.detach().numpy(), bound, f"{kind} {kw}")
        assert_same_state(a.state_dict(), b.state_dict(), bound)


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


@pytest.mark.parametrize("kind", sorted(CONFIGURATIONS | CONFIGURATIONS_OF_ARRAY_CODE))
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
        optimizer = getattr(lib.optim, kind)([p], lr=0.01, **{} if kind == "Rprop" else {"weight_decay": 0.1})
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
    "Adadelta": ({"rho": 0.5}, {"eps": 0.1}),
    "Adamax": ({"betas": (0.8, 0.9)}, {"maximize": True}),
    "NAdam": ({"momentum_decay": 0.1}, {}),
    "RAdam": ({"betas": (0.8, 0.7)}, {"decoupled_weight_decay": True}),
    "Rprop": ({"etas": (0.3, 1.5)}, {}),
    "ASGD": ({"t0": 3}, {"lambd": 0.5}),
}


@pytest.mark.parametrize("kind", sorted(INTERCHANGED))
def test_states_are_interchangeable(torch, kind):
    """To 1e-12, but for NAdam and ASGD: numbers among their states are float32 until PyTorch loads them, which makes
    them as wide as the parameters; ten steps of some tenths then differ by units of float32."""
    bound = 1e-6 if kind in ("NAdam", "ASGD") else 1e-12
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
        assert_close(p.detach().numpy(), q2.detach().numpy(), bound)
    e = getattr(optim, kind)(mine, lr=0.1)
    with pytest.raises(ValueError, match="different number of parameter groups"):
        e.load_state_dict(a.state_dict())
    f = getattr(optim, kind)([{"params": mine[:2]}, {"params": mine[2:]}], lr=0.1)
    with pytest.raises(ValueError, match="doesn't match the size of optimizer's group"):
        f.load_state_dict(a.state_dict())


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("kind", sorted(INTERCHANGED))
def test_a_state_that_was_kept_goes_on_to_the_same_bits(kind, dtype, tmp_path):
    """Three steps, a file, three more: the bits of six."""
    rng = np.random.default_rng(4)
    start, grads = rng.standard_normal(9), [rng.standard_normal(9) for _ in range(6)]

    def steps(p, optimizer, which):
        for g in which:
            p.grad = fastnet.tensor(g, dtype=p.dtype)
            optimizer.step()

    made = [fastnet.tensor(start, dtype=getattr(fastnet, dtype), requires_grad=True) for _ in range(2)]
    whole, broken = (getattr(optim, kind)([p], lr=0.1, **INTERCHANGED[kind][0]) for p in made)
    steps(made[0], whole, grads)
    steps(made[1], broken, grads[:3])
    fastnet.save({"p": made[1].detach(), "optimizer": broken.state_dict()}, tmp_path / "state")
    kept = fastnet.load(tmp_path / "state")
    p = kept["p"].requires_grad_()
    again = getattr(optim, kind)([p], lr=0.5)
    again.load_state_dict(kept["optimizer"])
    steps(p, again, grads[3:])
    assert p.tolist() == made[0].tolist()
    for name, value in whole.state[made[0]].items():
        assert again.state[p][name].dtype is value.dtype
        assert again.state[p][name].tolist() == value.tolist()


def test_old_states_load():
    """Steps that were numbers, and options that older versions did not have."""
    for kind in ("Adam", "AdamW", "Adagrad", "RMSprop", *CONFIGURATIONS_OF_ARRAY_CODE):
        p = fastnet.tensor([1.0, 2.0], requires_grad=True)
        a, b = (getattr(optim, kind)([p], lr=0.1) for _ in range(2))
        p.grad = fastnet.ones(2)
        a.step()
        old = copy.deepcopy(a.state_dict())
        for name in {"step", "eta", "mu", "mu_product"} & set(old["state"][0]):
            old["state"][0][name] = old["state"][0][name].item()
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
    for kind in ("Adam", "AdamW", "Adagrad", "RMSprop", *CONFIGURATIONS_OF_ARRAY_CODE):
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
    ("RMSprop", {"fused": True}), ("Adadelta", {"rho": 1.5}), ("Adadelta", {"lr": -1}), ("Adadelta", {"eps": -1}),
    ("Adadelta", {"weight_decay": -1}), ("Adamax", {"lr": -1.0}), ("Adamax", {"eps": -1}), ("Adamax", {"lr": None}),
    ("Adamax", {"betas": (1.0, 0.9)}), ("Adamax", {"betas": (0.9, -0.1)}), ("Adamax", {"weight_decay": -1}),
    ("NAdam", {"lr": math.nan}), ("NAdam", {"eps": -1}), ("NAdam", {"betas": (1.0, 0.9)}), ("NAdam", {"fused": True}),
    ("NAdam", {"betas": (0.9, 1.0)}), ("NAdam", {"weight_decay": -1}), ("NAdam", {"momentum_decay": -1}),
    ("RAdam", {"lr": -1.0}), ("RAdam", {"eps": -1}), ("RAdam", {"betas": (0.9, 1.0)}), ("RAdam", {"betas": (-1, 0.5)}),
    ("RAdam", {"weight_decay": -1}), ("Rprop", {"lr": -1.0}), ("Rprop", {"etas": (1.0, 1.2)}),
    ("Rprop", {"etas": (0.5, 0.9)}), ("Rprop", {"weight_decay": 0.1}), ("ASGD", {"lr": -1.0}),
    ("ASGD", {"weight_decay": -1}), ("LBFGS", {"lr": -1}), ("LBFGS", {"maximize": True}),
    ("SGD", {"foreach": True, "fused": True}), ("SGD", {"lr": -1.0}),
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
    for kind in ("SGD", "Adam", "AdamW", "Adagrad", "RMSprop", "LBFGS", *CONFIGURATIONS_OF_ARRAY_CODE):
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
