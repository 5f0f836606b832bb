"""Muon: orthogonal steps, and trajectories, options and errors of PyTorch's."""

import numpy as np
import pytest
from support import assert_close

import fastnet
from fastnet import kernels, optim
from fastnet.optim.muon import orthogonalised

COEFFICIENTS = (3.4445, -4.775, 2.0315)
MODES = pytest.mark.parametrize("mode", ["reference", "emulated"])


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed")


@MODES
@pytest.mark.parametrize("shape", [(16, 16), (24, 8), (8, 40), (1, 5), (5, 1)])
def test_orthogonalised(mode, shape):
    """Singular values of what comes out lie where the quintic takes [0.01, 1] in five steps: 0.68 to 1.14 (Jordan et
    al. 2024), and bfloat16's rounding beyond; the singular vectors stay."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape).astype(np.float32)
    with kernels.use(mode), kernels.trace() as ran:
        y = orthogonalised(x, COEFFICIENTS, 5, 1e-7).astype(np.float64)
    assert ran.names == (["matmul"] * 15 if mode == "emulated" else [])
    u, s, v = np.linalg.svd(x.astype(np.float64), full_matrices=False)
    large = s > 0.05 * np.sqrt((s**2).sum())
    got = (u.T @ y @ v.T)[np.ix_(large, large)]
    assert (np.diag(got) > 0.6).all()
    assert (np.diag(got) < 1.25).all()
    assert np.abs(got - np.diag(np.diag(got))).max() < 0.05


OPTIONS = [
    {}, {"nesterov": False}, {"momentum": 0.3, "weight_decay": 0.0}, {"adjust_lr_fn": "match_rms_adamw"},
    {"adjust_lr_fn": "original", "ns_steps": 2}, {"ns_coefficients": (2.0, -1.5, 0.5), "eps": 1e-3},
]  # fmt: skip


@MODES
@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(o) or "default")
def test_trajectories(torch, mode, options):
    """20 steps with two groups. Each step moves by lr times a matrix of bfloat16 numbers of at most about 1, which five
    iterations of rounding to 8 bits leave with errors of some units of 2^-8 on both sides; they add up as a random walk
    at most linearly."""
    shapes = ((12, 6), (6, 20), (8, 8))
    ends = []
    for lib in (fastnet, torch):
        rng = np.random.default_rng(1)
        params = [lib.tensor(rng.standard_normal(s).astype(np.float32), requires_grad=True) for s in shapes]
        optimizer = lib.optim.Muon([{"params": params[:1]}, {"params": params[1:], "lr": 0.01}], lr=0.02, **options)
        with kernels.use(mode):
            for step in range(20):
                for i, p in enumerate(params):
                    g = lib.tensor(rng.standard_normal(tuple(p.shape)).astype(np.float32))
                    p.grad = None if i == 1 and step == 3 else g
                optimizer.step()
        ends.append((params, optimizer.state_dict()))
    for got, want in zip(ends[0][0], ends[1][0], strict=True):
        assert_close(got.detach().numpy(), want.detach().numpy(), 20 * 0.02 * 2 * 2.0**-6, str(options))
    (mine, theirs) = (e[1] for e in ends)
    assert mine["param_groups"] == theirs["param_groups"]
    for i, state in theirs["state"].items():
        assert mine["state"][i].keys() == state.keys()
        assert_close(mine["state"][i]["momentum_buffer"].numpy(), state["momentum_buffer"].numpy(), 1e-5)


def test_bad_options(torch):
    for kw in ({"lr": -1.0}, {"momentum": -1.0}, {"weight_decay": -1.0}, {"adjust_lr_fn": "x"}):
        for lib in (fastnet, torch):
            with pytest.raises(ValueError, match=r"-1|not supported"):
                lib.optim.Muon([lib.ones(2, 2, requires_grad=True)], **kw)
    for lib in (fastnet, torch):
        with pytest.raises(ValueError, match="2D"):
            lib.optim.Muon([lib.ones(2, requires_grad=True)])
        optimizer = lib.optim.Muon([lib.ones(2, 2, requires_grad=True)], ns_steps=100)
        optimizer.param_groups[0]["params"][0].grad = lib.ones(2, 2)
        with pytest.raises(ValueError, match="less than 100"):
            optimizer.step()


def test_it_learns_and_waits_for_the_scaler():
    fastnet.manual_seed(0)
    model = fastnet.nn.Linear(8, 4, bias=False)
    x, target = fastnet.randn(64, 8), fastnet.randn(8, 4)
    optimizer, scaler = optim.Muon(model.parameters(), lr=0.05, weight_decay=0.0), fastnet.amp.GradScaler("cpu")
    losses = []
    for step in range(60):
        optimizer.zero_grad()
        loss = ((model(x) - x @ target) ** 2).mean()
        scaler.scale(loss * (float("inf") if step == 5 else 1.0)).backward()
        before = model.weight.tolist()
        scaler.step(optimizer)
        scaler.update()
        assert (model.weight.tolist() == before) == (step == 5)
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
