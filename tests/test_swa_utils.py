"""Averages of weights: what they are, and values, states and rates against PyTorch."""

import numpy as np
import pytest

import fastnet
from fastnet import nn, optim
from fastnet.optim.swa_utils import (
    SWALR,
    AveragedModel,
    get_ema_avg_fn,
    get_ema_multi_avg_fn,
    get_swa_avg_fn,
    get_swa_multi_avg_fn,
    update_bn,
)


def model_of(n, seed=0):
    rng = np.random.default_rng(seed)
    model = n.Sequential(n.Linear(3, 5), n.BatchNorm1d(5), n.Linear(5, 2))
    return model, [rng.standard_normal(tuple(p.shape)).astype(np.float32) for p in model.parameters()]


WAYS = {
    "equal": lambda u: {},
    "ema": lambda u: {"multi_avg_fn": u.get_ema_multi_avg_fn(0.9)},
    "ema by tensor": lambda u: {"avg_fn": u.get_ema_avg_fn(0.9)},
    "ema of buffers": lambda u: {"multi_avg_fn": u.get_ema_multi_avg_fn(0.9), "use_buffers": True},
    "swa": lambda u: {"multi_avg_fn": u.get_swa_multi_avg_fn()},
    "swa by tensor": lambda u: {"avg_fn": u.get_swa_avg_fn(), "use_buffers": True},
}


@pytest.mark.parametrize("way", WAYS)
def test_averages_equal_pytorchs(way):
    torch = pytest.importorskip("torch")
    states = []
    for library, tensor in ((fastnet, fastnet.from_numpy), (torch, torch.from_numpy)):
        model, _ = model_of(library.nn)
        averaged = library.optim.swa_utils.AveragedModel(model, **WAYS[way](library.optim.swa_utils))
        rng = np.random.default_rng(1)
        for step in range(4):
            with library.no_grad():
                for p in model.parameters():
                    p.copy_(tensor(rng.standard_normal(tuple(p.shape)).astype(np.float32)))
            model(tensor(rng.standard_normal((6, 3)).astype(np.float32)))  # moves the running statistics
            averaged.update_parameters(model)
            assert int(averaged.n_averaged) == step + 1
        states.append({k: v.detach().numpy() for k, v in averaged.state_dict().items()})
    ours, theirs = states
    assert list(ours) == list(theirs)
    for k in ours:
        # Four updates of numbers below 4, each of at most three roundings.
        np.testing.assert_allclose(ours[k], theirs[k], rtol=0, atol=4 * 3 * 4 * 2**-24, err_msg=k)


def test_the_first_update_copies_and_forward_is_the_averages():
    model, values = model_of(nn)
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    with fastnet.no_grad():
        for p, v in zip(model.parameters(), values, strict=True):
            p.copy_(fastnet.from_numpy(v))
    averaged.update_parameters(model)
    assert all(np.array_equal(a.detach().numpy(), v) for a, v in zip(averaged.module.parameters(), values, strict=True))
    x = fastnet.randn(4, 3)
    averaged.eval(), model.eval()
    assert averaged(x).tolist() == model(x).tolist()


def test_bad_arguments():
    model, _ = model_of(nn)
    with pytest.raises(AssertionError, match="Only one"):
        AveragedModel(model, avg_fn=get_swa_avg_fn(), multi_avg_fn=get_swa_multi_avg_fn())
    for function in (get_ema_avg_fn, get_ema_multi_avg_fn):
        with pytest.raises(ValueError, match="decay"):
            function(1.5)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    for bad in ({"anneal_strategy": "step"}, {"anneal_epochs": -1}, {"swa_lr": [0.1, 0.2]}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            SWALR(optimizer, **{"swa_lr": 0.05, **bad})


def test_statistics_over_a_loader():
    model = nn.Sequential(nn.BatchNorm1d(3))
    batches = [fastnet.randn(8, 3) for _ in range(3)]
    model.eval()
    update_bn([(x, None) for x in batches], model)
    assert not model.training
    assert model[0].momentum == 0.1
    want = np.mean([x.numpy().mean(0) for x in batches], 0)
    np.testing.assert_allclose(model[0].running_mean.numpy(), want, atol=1e-6)
    update_bn(batches, nn.Linear(3, 3))  # nothing to set


@pytest.mark.parametrize("options", [{}, {"anneal_epochs": 4, "anneal_strategy": "linear"}, {"anneal_epochs": 0}])
def test_rates_equal_pytorchs(options):
    torch = pytest.importorskip("torch")
    rates, keys = [], []
    for library in (fastnet, torch):
        groups = [{"params": [library.zeros(1, requires_grad=True)]} for _ in range(2)]
        groups[1]["lr"] = 0.5
        optimizer = library.optim.SGD(groups, lr=0.1)
        schedule = library.optim.swa_utils.SWALR(optimizer, [0.05, 0.7], **options)
        rates.append([])
        for _ in range(15):
            optimizer.step()
            schedule.step()
            rates[-1].append(list(schedule.get_last_lr()))
        keys.append(set(schedule.state_dict()))
    assert rates[0] == rates[1]
    assert keys[0] == keys[1]
