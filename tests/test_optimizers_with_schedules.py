"""Every optimizer under every schedule, as training uses them: 20 steps of two groups, gradients of two batches added
up and clipped, against PyTorch in float64."""

import numpy as np
import pytest
from support import assert_close

import fastnet
from fastnet.optim.array_code import ArrayOptimizer

OPTIMIZERS = {
    "SGD": {"momentum": 0.9, "nesterov": True},
    "Adam": {"amsgrad": True},
    "AdamW": {},
    "Adagrad": {"lr_decay": 0.1},
    "RMSprop": {"momentum": 0.5, "centered": True},
    "Muon": {},
    "Adadelta": {},
    "Adamax": {},
    "NAdam": {},
    "RAdam": {"decoupled_weight_decay": True},
    "Rprop": {},
    "ASGD": {"t0": 5},
}
SCHEDULES = {
    "none": None,
    "LambdaLR": lambda s, o: s.LambdaLR(o, [lambda e: 0.9**e, lambda e: 1 / (1 + e)]),
    "MultiplicativeLR": lambda s, o: s.MultiplicativeLR(o, lambda e: 0.95),
    "StepLR": lambda s, o: s.StepLR(o, 3, 0.5),
    "MultiStepLR": lambda s, o: s.MultiStepLR(o, [2, 11], 0.3),
    "ConstantLR": lambda s, o: s.ConstantLR(o, 0.2, 5),
    "LinearLR": lambda s, o: s.LinearLR(o, 0.1, 1.0, 7),
    "ExponentialLR": lambda s, o: s.ExponentialLR(o, 0.9),
    "PolynomialLR": lambda s, o: s.PolynomialLR(o, 15, 2.0),
    "CosineAnnealingLR": lambda s, o: s.CosineAnnealingLR(o, 12, 1e-3),
    "CosineAnnealingWarmRestarts": lambda s, o: s.CosineAnnealingWarmRestarts(o, 4, 2),
    "OneCycleLR": lambda s, o: s.OneCycleLR(o, [0.1, 0.05], total_steps=21, cycle_momentum="RMS" not in type(o).__name__
                                            and ("momentum" in o.defaults or "betas" in o.defaults)),
    "CyclicLR": lambda s, o: s.CyclicLR(o, 0.01, 0.1, 4, cycle_momentum=False),
    "SequentialLR": lambda s, o: s.SequentialLR(o, [s.ConstantLR(o, 0.5, 3), s.ExponentialLR(o, 0.8)], [5]),
    "ChainedScheduler": lambda s, o: s.ChainedScheduler([s.ExponentialLR(o, 0.95), s.StepLR(o, 4)], optimizer=o),
    "ReduceLROnPlateau": lambda s, o: s.ReduceLROnPlateau(o, patience=1, factor=0.5),
    "SWALR": None,
}  # fmt: skip


@pytest.fixture(scope="module")
def torch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # matrices this small only wait for other threads
    yield torch
    torch.set_num_threads(threads)


def trained(library, kind, schedule):
    """Losses, rates and weights of 20 steps."""
    rng = np.random.default_rng(0)
    shapes = ((6, 5), (4, 6)) if kind == "Muon" else ((6, 5), (6,), (4, 6))
    weights = [library.tensor(rng.standard_normal(s) / 2, requires_grad=True) for s in shapes]
    groups = [{"params": weights[:1]}, {"params": weights[1:], "lr": 0.03, "weight_decay": 0.1}]
    optimizer = getattr(library.optim, kind)(groups, lr=0.05, **OPTIMIZERS[kind])
    made = None
    if schedule == "SWALR":
        made = library.optim.swa_utils.SWALR(optimizer, [0.01, 0.02], anneal_epochs=6)
    elif SCHEDULES[schedule]:
        made = SCHEDULES[schedule](library.optim.lr_scheduler, optimizer)
    losses, rates = [], []
    for _ in range(20):
        optimizer.zero_grad()
        total = 0.0
        for _ in range(2):
            x, y = library.tensor(rng.standard_normal((7, 5))), library.tensor(rng.standard_normal((7, 4)))
            hidden = (x @ weights[0].t() + (weights[1] if len(weights) == 3 else 0)).tanh()
            loss = ((hidden @ weights[-1].t() - y) ** 2).mean() / 2
            loss.backward()
            total += loss.item()
        library.nn.utils.clip_grad_norm_(weights, 0.5)
        optimizer.step()
        if made is not None:
            made.step(*[total] * (schedule == "ReduceLROnPlateau"))
        losses.append(total)
        rates.append([float(g["lr"]) for g in optimizer.param_groups])
    return np.array(losses), np.array(rates), [w.detach().cpu().numpy() for w in weights]


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_twenty_steps_equal_pytorchs(torch, kind):
    """Rounding alone: some hundred operations in double a step, which steps of momentum and quotients of small numbers
    multiply by some hundreds. Muon orthogonalises in bfloat16: units of 2^-8 of steps of at most 0.1."""
    bound = 0.1 * 20 * 2.0**-6 if kind == "Muon" else 1e-10
    # Those of array code take their rate as the others do: three schedules stand for all.
    some = ("none", "OneCycleLR", "SequentialLR")
    for schedule in some if issubclass(getattr(fastnet.optim, kind), ArrayOptimizer) else SCHEDULES:
        got, want = (trained(library, kind, schedule) for library in (fastnet, torch))
        assert_close(got[1], want[1], 0.0, f"{kind} {schedule}")
        assert_close(got[0], want[0], 10 * bound, f"{kind} {schedule}")
        for a, b in zip(got[2], want[2], strict=True):
            assert_close(a, b, bound, f"{kind} {schedule}")
