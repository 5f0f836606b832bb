"""Learning-rate schedules against PyTorch's: rates, momenta and states to the last bit, warnings and errors."""

import copy
import inspect
import math
import types
import warnings

import numpy as np
import pytest

import fastnet
from fastnet import optim


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed")


def optimizer_of(lib, kind="SGD", tensor_lr=False, **kw):
    """Two groups of one parameter each, of different rates."""
    kw = {"momentum": 0.9} | kw if kind == "SGD" else kw
    groups = [
        {"params": [lib.tensor([1.0, 2.0], requires_grad=True)]},
        {"params": [lib.tensor([3.0], requires_grad=True)], "lr": 0.05},
    ]
    if tensor_lr:
        for group, lr in zip(groups, (0.1, 0.05), strict=True):
            group["lr"] = lib.tensor(lr, dtype=lib.float64)
    return getattr(lib.optim, kind)(groups, lr=0.1, **kw)


class Halving:
    """A function with attributes, which a state keeps."""

    def __init__(self, factor=0.5):
        self.factor = factor

    def __call__(self, epoch):
        return self.factor**epoch


def one(name, **kw):
    return lambda lib, o: getattr(lib.optim.lr_scheduler, name)(o, **kw)


def sequential(lib, o):
    s = lib.optim.lr_scheduler
    parts = [s.ConstantLR(o, factor=0.1, total_iters=4), s.ExponentialLR(o, 0.9), s.CosineAnnealingLR(o, 5)]
    return s.SequentialLR(o, parts, milestones=[4, 11])


def chained(lib, o):
    s = lib.optim.lr_scheduler
    return s.ChainedScheduler([s.LinearLR(o, total_iters=4), s.StepLR(o, 3, 0.5), s.ExponentialLR(o, 0.95)])


def nested(lib, o):
    s = lib.optim.lr_scheduler
    warmup = s.SequentialLR(o, [s.LinearLR(o, 0.1, total_iters=3), s.ExponentialLR(o, 0.9)], milestones=[3])
    return s.ChainedScheduler([warmup, s.PolynomialLR(o, 9), s.ChainedScheduler([s.StepLR(o, 4)])], optimizer=o)


CASES = {
    "LambdaLR": one("LambdaLR", lr_lambda=lambda epoch: 0.9**epoch),
    "LambdaLR, one each": one("LambdaLR", lr_lambda=[lambda epoch: 0.9**epoch, Halving()]),
    "MultiplicativeLR": one("MultiplicativeLR", lr_lambda=lambda epoch: 0.5 + epoch / 40),
    "MultiplicativeLR, one each": one("MultiplicativeLR", lr_lambda=(Halving(0.99), lambda epoch: 0.7)),
    "StepLR": one("StepLR", step_size=3, gamma=0.5),
    "MultiStepLR": one("MultiStepLR", milestones=[2, 5, 5, 11]),
    "ConstantLR": one("ConstantLR"),
    "ConstantLR, longer": one("ConstantLR", factor=0.25, total_iters=9),
    "LinearLR": one("LinearLR"),
    "LinearLR, down": one("LinearLR", start_factor=1.0, end_factor=0.125, total_iters=12),
    "ExponentialLR": one("ExponentialLR", gamma=0.8),
    "PolynomialLR": one("PolynomialLR"),
    "PolynomialLR, square": one("PolynomialLR", total_iters=17, power=2.0),
    "CosineAnnealingLR": one("CosineAnnealingLR", T_max=7, eta_min=0.01),
    "CosineAnnealingWarmRestarts": one("CosineAnnealingWarmRestarts", T_0=5, eta_min=0.001),
    "CosineAnnealingWarmRestarts, growing": one("CosineAnnealingWarmRestarts", T_0=2, T_mult=3),
    "CyclicLR": one("CyclicLR", base_lr=0.01, max_lr=0.3, step_size_up=4),
    "CyclicLR, triangular2": one(
        "CyclicLR", base_lr=[0.01, 0.02], max_lr=[0.3, 0.2], step_size_up=3, step_size_down=5, mode="triangular2"
    ),
    "CyclicLR, exp_range": one(
        "CyclicLR", base_lr=0.01, max_lr=0.3, step_size_up=4, mode="exp_range", gamma=0.9, cycle_momentum=False
    ),
    "CyclicLR, scale_fn": one(
        "CyclicLR", base_lr=0.01, max_lr=0.3, step_size_up=4, scale_fn=Halving(0.75), scale_mode="iterations"
    ),
    "OneCycleLR": one("OneCycleLR", max_lr=0.5, total_steps=40),
    "OneCycleLR, linear": one(
        "OneCycleLR", max_lr=[0.5, 0.25], epochs=5, steps_per_epoch=8, anneal_strategy="linear", pct_start=0.1
    ),
    "OneCycleLR, three phases": one("OneCycleLR", max_lr=0.5, total_steps=40, three_phase=True, cycle_momentum=False),
    "SequentialLR": sequential,
    "ChainedScheduler": chained,
    "nested": nested,
}


def plain(state):
    """A state with what differs in kind, but not in meaning, made equal: tensors become numbers."""
    if isinstance(state, dict):
        return {k: plain(v) for k, v in state.items()}
    if isinstance(state, (list, tuple)):
        return [plain(v) for v in state]
    return state.item() if hasattr(state, "item") else state


def what_changes(o):
    return [
        {k: plain(v) for k, v in g.items() if k.endswith(("lr", "momentum")) or k == "betas"} for g in o.param_groups
    ]


@pytest.mark.parametrize("kind", ["SGD", "AdamW"])
@pytest.mark.parametrize("name", CASES)
def test_against_pytorch(torch, name, kind):
    """32 epochs; from epoch 10 on with schedules that loaded each other's state."""
    a, b = optimizer_of(fastnet, kind), optimizer_of(torch, kind)
    s, t = CASES[name](fastnet, a), CASES[name](torch, b)
    for epoch in range(32):
        assert s.get_last_lr() == t.get_last_lr(), epoch
        assert what_changes(a) == what_changes(b), epoch
        mine, theirs = s.state_dict(), t.state_dict()
        assert mine == theirs, epoch
        if epoch == 10:
            mine, theirs = copy.deepcopy(mine), copy.deepcopy(theirs)
            now = what_changes(a)
            a, b = optimizer_of(fastnet, kind), optimizer_of(torch, kind)
            s, t = CASES[name](fastnet, a), CASES[name](torch, b)
            for o in (a, b):
                for group, values in zip(o.param_groups, now, strict=True):
                    group.update(values)
            s.load_state_dict(theirs)
            assert theirs == mine  # loading leaves the dictionary as it was
            t.load_state_dict(mine)
        for x in (a, b, s, t):
            x.step()


@pytest.mark.parametrize("name", [n for n in CASES if "Cyclic" not in n])
def test_rates_in_tensors(torch, name):
    """They are written where they are, and PyTorch's numbers, to roundings of float64."""
    a, b = optimizer_of(fastnet, "SGD", tensor_lr=True), optimizer_of(torch, "SGD", tensor_lr=True)
    rates = [group["lr"] for group in a.param_groups]
    s, t = CASES[name](fastnet, a), CASES[name](torch, b)
    for _ in range(12):
        for x in (a, b, s, t):
            x.step()
        assert [float(lr) for lr in s.get_last_lr()] == pytest.approx([float(lr) for lr in t.get_last_lr()], rel=1e-14)
        assert all(group["lr"] is rate for group, rate in zip(a.param_groups, rates, strict=True))
        assert [rate.item() for rate in rates] == [float(lr) for lr in s.get_last_lr()]
    assert s.get_last_lr()[0] is not rates[0]


PLATEAU = [
    {},
    {"mode": "max", "factor": 0.5, "patience": 2},
    {"threshold_mode": "abs", "threshold": 0.25, "patience": 1, "cooldown": 2},
    {"mode": "max", "threshold_mode": "abs", "threshold": 0.25, "patience": 0, "min_lr": [0.02, 0.001]},
    {"factor": 0.1, "patience": 0, "min_lr": 0.03},
    {"factor": 0.5, "patience": 0, "eps": 0.02},
]


@pytest.mark.parametrize("kw", PLATEAU, ids=str)
@pytest.mark.parametrize("tensor_lr", [False, True])
def test_plateau(torch, kw, tensor_lr):
    rng = np.random.default_rng(0)
    a, b = optimizer_of(fastnet, tensor_lr=tensor_lr), optimizer_of(torch, tensor_lr=tensor_lr)
    s = optim.lr_scheduler.ReduceLROnPlateau(a, **kw)
    t = torch.optim.lr_scheduler.ReduceLROnPlateau(b, **kw)
    for epoch in range(40):
        loss = float(np.round(1 / (1 + epoch) + rng.standard_normal() / 4, 2)) if epoch % 9 else math.nan
        s.step(fastnet.tensor([loss], dtype=fastnet.float64) if epoch % 2 else loss)
        t.step(loss)
        assert plain(s.state_dict()) == plain(t.state_dict()), epoch
        assert what_changes(a) == what_changes(b)
        assert s.in_cooldown == t.in_cooldown
        if epoch == 20:
            mine, theirs = plain(s.state_dict()), plain(t.state_dict())
            s = optim.lr_scheduler.ReduceLROnPlateau(a, mode="min")
            t = torch.optim.lr_scheduler.ReduceLROnPlateau(b, mode="min")
            s.load_state_dict(theirs)
            t.load_state_dict(mine)


def test_plateau_and_new_groups(torch):
    for lib in (fastnet, torch):
        for min_lr in (0, [0, 0]):
            o = optimizer_of(lib)
            s = lib.optim.lr_scheduler.ReduceLROnPlateau(o, patience=0, min_lr=min_lr)
            o.add_param_group({"params": [lib.tensor([1.0], requires_grad=True)], "lr": 1.0})
            s.step(1.0)
            if min_lr == 0:
                s.step(1.0)
                assert o.param_groups[2]["lr"] == pytest.approx(0.1)
            else:
                with pytest.raises(RuntimeError, match="number of param groups"):
                    s.step(1.0)


CLOSED = [n for n in CASES if n.split(",")[0] in (
    "StepLR", "MultiStepLR", "ConstantLR", "LinearLR", "ExponentialLR", "PolynomialLR", "CosineAnnealingLR", "LambdaLR"
)]  # fmt: skip


@pytest.mark.parametrize("name", CLOSED)
def test_epochs_by_number(torch, name):
    """Deprecated: each call warns, and uses the closed form, which need not be the other's to the last bit."""
    a, b = optimizer_of(fastnet), optimizer_of(torch)
    s, t = CASES[name](fastnet, a), CASES[name](torch, b)
    a.step()
    b.step()
    for epoch in (7, 3, 3, 30, 0):
        for schedule in (s, t):
            with pytest.warns(UserWarning, match=r"epoch parameter in `scheduler.step\(\)`"):
                schedule.step(epoch)
        assert s.get_last_lr() == pytest.approx(t.get_last_lr(), rel=1e-14, abs=0)
        assert s.last_epoch == t.last_epoch == epoch


def test_fractions_of_epochs(torch):
    for kw in ({"T_0": 3}, {"T_0": 2, "T_mult": 2}):
        a, b = optimizer_of(fastnet), optimizer_of(torch)
        s = optim.lr_scheduler.CosineAnnealingWarmRestarts(a, **kw)
        t = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(b, **kw)
        for epoch in (0.25, 1, 1.5, 2, 5.75, 6, 14.5, 3, None, None):
            s.step(epoch)
            t.step(epoch)
            assert s.state_dict() == t.state_dict()
        for schedule in (s, t):
            with pytest.raises(ValueError, match="non-negative epoch"):
                schedule.step(-1)


@pytest.mark.parametrize(
    "name", [n for n in CASES if n.split(",")[0] not in ("SequentialLR", "ChainedScheduler", "nested")]
)
def test_resuming_by_last_epoch(torch, name):
    results = []
    for lib in (fastnet, torch):
        o = optimizer_of(lib)
        first = CASES[name](lib, o)
        for _ in range(3):
            o.step()
            first.step()
        made = getattr(lib.optim.lr_scheduler, name.split(",")[0])
        given = CASES[name].__closure__
        options = next(c.cell_contents for c in given if isinstance(c.cell_contents, dict))
        second = made(o, **options, last_epoch=2)
        rates = [second.get_last_lr()]
        for _ in range(5):
            o.step()
            second.step()
            rates.append(second.get_last_lr())
        results.append(rates)
    assert np.array(results[0]) == pytest.approx(np.array(results[1]), rel=1e-14)


def test_warnings(torch):
    for lib in (fastnet, torch):
        o = optimizer_of(lib)
        schedule = lib.optim.lr_scheduler.StepLR(o, 1)
        with pytest.warns(UserWarning, match=r"Detected call of `lr_scheduler.step\(\)` before `optimizer.step\(\)`"):
            schedule.step()
        schedule.step()  # warns once
        o.step()
        lib.optim.lr_scheduler.StepLR(o, 1).step()  # the optimizer has been stepped since its first schedule
        with pytest.warns(UserWarning, match=r"please use `get_last_lr\(\)`"):
            schedule.get_lr()
        o = optimizer_of(lib)
        o.step()
        late = lib.optim.lr_scheduler.StepLR(o, 1)
        with pytest.warns(UserWarning, match="Detected call"):
            late.step()
        o = optimizer_of(lib)
        schedule = lib.optim.lr_scheduler.StepLR(o, 1)
        o.step = types.MethodType(lambda self: None, o)
        with pytest.warns(UserWarning, match="has been overridden"):
            schedule.step()
        o = optimizer_of(lib)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            schedule = sequential(lib, o)
            for _ in range(14):
                o.step()
                schedule.step()


def test_own_schedules():
    """A schedule of the user's: get_lr is all it needs."""

    class Squares(optim.lr_scheduler.LRScheduler):
        def get_lr(self):
            return [base / (1 + self.last_epoch) ** 2 for base in self.base_lrs]

    o = optimizer_of(fastnet)
    schedule = Squares(o)
    assert schedule.get_last_lr() == [0.1, 0.05]
    o.step()
    schedule.step()
    assert schedule.get_last_lr() == [0.025, 0.0125]
    with pytest.raises(NotImplementedError):
        optim.lr_scheduler.LRScheduler(o)


def in_order(lib, **kw):
    s = lib.optim.lr_scheduler
    o = optimizer_of(lib)
    kw = {"schedulers": [s.StepLR(o, 1), s.StepLR(o, 1)], "milestones": [1], **kw}
    return s.SequentialLR(o, **kw)


BAD = {
    "no optimizer": lambda s, o, lib: s.StepLR(None, 1),
    "no optimizer for a plateau": lambda s, o, lib: s.ReduceLROnPlateau(1),
    "no optimizer for a cycle": lambda s, o, lib: s.CyclicLR([], 0.1, 0.2),
    "no optimizer for one cycle": lambda s, o, lib: s.OneCycleLR("SGD", 0.1, 10),
    "no initial_lr": lambda s, o, lib: s.StepLR(o, 1, last_epoch=3),
    "as many functions as groups": lambda s, o, lib: s.LambdaLR(o, [abs]),
    "as many factors as groups": lambda s, o, lib: s.MultiplicativeLR(o, [abs] * 3),
    "a factor that is no function": lambda s, o, lib: s.MultiplicativeLR(o, 0.5),
    "constant factor above 1": lambda s, o, lib: s.ConstantLR(o, factor=1.5),
    "constant factor below 0": lambda s, o, lib: s.ConstantLR(o, factor=-1),
    "linear start 0": lambda s, o, lib: s.LinearLR(o, start_factor=0),
    "linear end above 1": lambda s, o, lib: s.LinearLR(o, end_factor=2),
    "step 0": lambda s, o, lib: (o.step(), s.StepLR(o, 0).step()),
    "T_0 of 0": lambda s, o, lib: s.CosineAnnealingWarmRestarts(o, 0),
    "T_0 of 1.5": lambda s, o, lib: s.CosineAnnealingWarmRestarts(o, 1.5),
    "T_mult of 0": lambda s, o, lib: s.CosineAnnealingWarmRestarts(o, 1, 0),
    "eta_min that is text": lambda s, o, lib: s.CosineAnnealingWarmRestarts(o, 1, eta_min="0"),
    "as many bounds as groups": lambda s, o, lib: s.CyclicLR(o, [0.1], 0.2),
    "as many upper bounds as groups": lambda s, o, lib: s.CyclicLR(o, 0.1, [0.2] * 3),
    "unknown cycle": lambda s, o, lib: s.CyclicLR(o, 0.1, 0.2, mode="square"),
    "cycle of momentum without": lambda s, o, lib: s.CyclicLR(optimizer_of(lib, "Adagrad"), 0.1, 0.2),
    "one cycle of momentum without": lambda s, o, lib: s.OneCycleLR(optimizer_of(lib, "Adagrad"), 0.1, 10),
    "one cycle of no steps": lambda s, o, lib: s.OneCycleLR(o, 0.1, 0),
    "one cycle of half a step": lambda s, o, lib: s.OneCycleLR(o, 0.1, 0.5),
    "one cycle of no epochs": lambda s, o, lib: s.OneCycleLR(o, 0.1, epochs=0, steps_per_epoch=3),
    "one cycle of empty epochs": lambda s, o, lib: s.OneCycleLR(o, 0.1, epochs=3, steps_per_epoch=-1),
    "one cycle without an end": lambda s, o, lib: s.OneCycleLR(o, 0.1),
    "pct_start of 2": lambda s, o, lib: s.OneCycleLR(o, 0.1, 10, pct_start=2.0),
    "pct_start of a whole number": lambda s, o, lib: s.OneCycleLR(o, 0.1, 10, pct_start=1),
    "unknown strategy": lambda s, o, lib: s.OneCycleLR(o, 0.1, 10, anneal_strategy="sin"),
    "factor of 1": lambda s, o, lib: s.ReduceLROnPlateau(o, factor=1.0),
    "as many least rates as groups": lambda s, o, lib: s.ReduceLROnPlateau(o, min_lr=[0.1]),
    "unknown mode": lambda s, o, lib: s.ReduceLROnPlateau(o, mode="mean"),
    "unknown threshold": lambda s, o, lib: s.ReduceLROnPlateau(o, threshold_mode="log"),
    "a metric that is none": lambda s, o, lib: s.ReduceLROnPlateau(o).step(None),
    "no schedules": lambda s, o, lib: s.SequentialLR(o, [], []),
    "no schedules to chain": lambda s, o, lib: s.ChainedScheduler([]),
    "what is no schedule": lambda s, o, lib: s.SequentialLR(o, [1, s.StepLR(o, 1)], [1]),
    "what cannot be chained": lambda s, o, lib: s.ChainedScheduler([s.StepLR(o, 1), 1]),
    "a plateau in order": lambda s, o, lib: s.SequentialLR(o, [s.StepLR(o, 1), s.ReduceLROnPlateau(o)], [1]),
    "a plateau in a chain": lambda s, o, lib: s.ChainedScheduler([s.StepLR(o, 1), s.ReduceLROnPlateau(o)]),
    "another optimizer's": lambda s, o, lib: s.SequentialLR(o, [s.StepLR(o, 1), s.StepLR(optimizer_of(lib), 1)], [1]),
    "another optimizer's chained": lambda s, o, lib: s.ChainedScheduler([s.StepLR(o, 1)], optimizer_of(lib)),
    "too many milestones": lambda s, o, lib: in_order(lib, milestones=[1, 2]),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_errors_are_those_of_pytorch(torch, case):
    raised = []
    for lib in (fastnet, torch):
        with pytest.raises(Exception) as caught:  # noqa: PT011  the kind is compared below
            BAD[case](lib.optim.lr_scheduler, optimizer_of(lib), lib)
        raised.append(caught.value)
    assert type(raised[0]) is type(raised[1])
    if isinstance(raised[0], ValueError) and "different from" not in str(raised[0]):
        assert str(raised[0]) == str(raised[1])


def test_one_cycle_ends(torch):
    for lib in (fastnet, torch):
        o = optimizer_of(lib)
        schedule = lib.optim.lr_scheduler.OneCycleLR(o, 0.1, 5)
        for _ in range(5):
            o.step()
            schedule.step()
        with pytest.raises(ValueError, match="Tried to step 6 times"):
            schedule.step()


def test_groups_that_come_later():
    o = optimizer_of(fastnet)
    schedule = optim.lr_scheduler.LambdaLR(o, lambda epoch: 0.5)
    o.add_param_group({"params": [fastnet.tensor([1.0], requires_grad=True)]})
    o.step()
    with pytest.raises(ValueError, match="zip"):
        schedule.step()


def test_signatures_are_those_of_pytorch(torch):
    theirs = torch.optim.lr_scheduler
    assert sorted(optim.lr_scheduler.__all__) == sorted(theirs.__all__)
    for name in theirs.__all__:
        for method in ("__init__", "step", "get_last_lr", "state_dict", "load_state_dict"):
            mine, want = (
                [
                    (p.name, p.kind, p.default)
                    for p in inspect.signature(getattr(getattr(m, name), method)).parameters.values()
                ]
                for m in (optim.lr_scheduler, theirs)
            )
            assert mine == want, f"{name}.{method}"
