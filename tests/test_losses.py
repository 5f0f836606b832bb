"""Losses between tensors of one shape: values, both gradients and reductions against PyTorch, differences, extremes."""

import warnings

import numpy as np
import pytest
from support import assert_close, bfloat16, epsilon

import fastnet
from fastnet.ops import losses as F

NAMES = ["mse_loss", "l1_loss", "smooth_l1_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits", "kl_div"]


def draw(name, shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal(shape) * 2, rng.standard_normal(shape)
    if name == "binary_cross_entropy":
        x = rng.uniform(0.05, 0.95, shape)
    if name.startswith("binary") or name == "kl_div":
        y = rng.uniform(0.05, 0.95, shape)
    return np.asarray(x).astype(dtype), np.asarray(y).astype(dtype)


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed")


def compare(torch, name, x, y, bound, **kw):
    a = [fastnet.tensor(v, requires_grad=True) for v in (x, y)]
    b = [torch.tensor(v, requires_grad=True) for v in (x, y)]
    factors = {k: v for k, v in kw.items() if isinstance(v, np.ndarray)}
    rest = {k: v for k, v in kw.items() if k not in factors}
    got = getattr(F, name)(*a, **rest, **{k: fastnet.tensor(v) for k, v in factors.items()})
    with warnings.catch_warnings():  # PyTorch warns of kl_div's "mean"
        warnings.simplefilter("ignore")
        want = getattr(torch.nn.functional, name)(*b, **rest, **{k: torch.tensor(v) for k, v in factors.items()})
    assert tuple(got.shape) == tuple(want.shape)
    upstream = np.asarray(np.random.default_rng(5).standard_normal(tuple(want.shape))).astype(x.dtype)
    got.backward(fastnet.tensor(upstream))
    want.backward(torch.tensor(upstream))
    assert_close(got.detach().numpy(), want.detach().numpy(), bound, name)
    for mine, theirs, which in zip(a, b, ("input", "target"), strict=True):
        assert_close(mine.grad.numpy(), theirs.grad.numpy(), bound, f"{name} gradient of {which}")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_against_pytorch(torch, name, dtype):
    bound = 1e-13 if dtype == "float64" else 1e-5  # values up to some tens, a few dozen roundings
    for shape in ((3, 4), (5,), (), (2, 3, 2)):
        for reduction in ("mean", "sum", "none", *(["batchmean"] if name == "kl_div" and shape else [])):
            extras = [{}]
            weight = np.asarray(np.random.default_rng(1).random(shape[-1:])).astype(dtype)
            if name.startswith("binary"):
                extras.append({"weight": weight})
            if name == "binary_cross_entropy_with_logits":
                extras.append({"pos_weight": np.asarray(weight * 3)})
                extras.append({"weight": weight, "pos_weight": np.asarray(weight * 3)})
            if name == "smooth_l1_loss":
                extras += [{"beta": 0.3}, {"beta": 0.0}]
            if name == "kl_div":
                extras.append({"log_target": True})
            for extra in extras:
                compare(torch, name, *draw(name, shape, dtype), bound, reduction=reduction, **extra)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_against_differences(name):
    x, y = draw(name, (2, 3), np.float64)
    leaves = [fastnet.tensor(v, requires_grad=True) for v in (x, y)]
    getattr(F, name)(*leaves).backward()
    for which, v in enumerate((x, y)):
        for index in np.ndindex(v.shape):
            ends = []
            for h in (1e-5, -1e-5):
                moved = [x.copy(), y.copy()]
                moved[which][index] += h
                ends.append(getattr(F, name)(*map(fastnet.tensor, moved)).item())
            # h^2 times a third derivative of at most some hundreds, and eps / h
            assert abs((ends[0] - ends[1]) / 2e-5 - leaves[which].grad.numpy()[index]) < 1e-7


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [np.float16, bfloat16], ids=["float16", "bfloat16"])
def test_short_types_are_computed_in_float32(name, dtype):
    x, y = draw(name, (40, 50), dtype)
    a, b = fastnet.tensor(x, requires_grad=True), fastnet.tensor(y)
    loss = getattr(F, name)(a, b)
    loss.backward()
    a32 = fastnet.tensor(x.astype(np.float32), requires_grad=True)
    want = getattr(F, name)(a32, fastnet.tensor(y.astype(np.float32)))
    want.backward()
    assert loss.dtype is a.dtype
    assert_close(loss.detach().numpy(), want.item(), abs(want.item()) * 2 * epsilon(dtype))
    tiny = 2.0**-25 if dtype == np.float16 else 0.0
    # the upstream gradient 1 / 2000 is applied in float32; one rounding is the result's
    assert_close(a.grad.numpy(), a32.grad.numpy(), np.abs(a32.grad.numpy()) * 2 * epsilon(dtype) + tiny)


def test_extremes(torch):
    big = np.array([-1e4, -100.0, 0.0, 100.0, 1e4])
    for y in (np.zeros(5), np.ones(5)):
        compare(torch, "binary_cross_entropy_with_logits", big, y, 1e-13, reduction="none")
    ends = np.array([0.0, 1.0, 0.0, 1.0], np.float32)
    # gradients of 1e12, from the clamped denominator; a few roundings
    compare(torch, "binary_cross_entropy", ends, ends[[0, 1, 1, 0]], 1e12 * 4 * 2.0**-24, reduction="none")
    compare(torch, "mse_loss", np.array([np.nan, np.inf]), np.zeros(2), 0, reduction="none")
    x, y = fastnet.tensor([-1.0, -2.0], requires_grad=True), fastnet.tensor([0.0, 1.0])
    F.kl_div(x, y, reduction="sum").backward()
    assert x.grad.numpy().tolist() == [0.0, -1.0]
    assert np.isnan(F.mse_loss(fastnet.zeros(0), fastnet.zeros(0)).item())


def test_broadcasting_warns(torch):
    x, y = draw("mse_loss", (3, 4), np.float64)
    for name in ("mse_loss", "l1_loss", "smooth_l1_loss"):
        with pytest.warns(UserWarning, match="target size"):
            compare(torch, name, x, y[:1], 1e-13)


def test_promotion_and_deprecated_arguments():
    loss = F.mse_loss(fastnet.tensor([1.0, 2.0]), fastnet.tensor([1, 1]))
    assert loss.dtype is fastnet.float32
    assert F.l1_loss(fastnet.zeros(2), fastnet.zeros(2, dtype=fastnet.float64)).dtype is fastnet.float64
    with pytest.warns(UserWarning, match="reduction='sum'"):
        assert F.mse_loss(fastnet.tensor([1.0, 3.0]), fastnet.zeros(2), size_average=False).item() == 10.0
    with pytest.warns(UserWarning, match="reduction='none'"):
        assert tuple(F.mse_loss(fastnet.tensor([1.0, 3.0]), fastnet.zeros(2), reduce=False).shape) == (2,)


def test_refuses():
    x, t = fastnet.zeros(2, 3), fastnet.tensor([[0, 1, 2], [0, 1, 2]])
    for kind, call in [
        (TypeError, lambda: F.mse_loss(None, x)),
        (TypeError, lambda: F.mse_loss(x, 1.0)),
        (TypeError, lambda: F.l1_loss(t, t)),
        (ValueError, lambda: F.mse_loss(x, fastnet.zeros(4))),
        (ValueError, lambda: F.mse_loss(x, x, reduction="average")),
        (ValueError, lambda: F.smooth_l1_loss(x, x, beta=-1)),
        (ValueError, lambda: F.binary_cross_entropy(x, x[:1])),
        (ValueError, lambda: F.binary_cross_entropy(x + 2, x)),
        (ValueError, lambda: F.binary_cross_entropy(x, x, weight=fastnet.zeros(4))),
        (ValueError, lambda: F.binary_cross_entropy_with_logits(x, x, pos_weight=fastnet.zeros(2, 2, 3))),
    ]:
        with pytest.raises(kind):
            call()
