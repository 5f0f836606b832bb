"""Norms fused with a residual's sum and dropout: emulated kernels and reference against float64, every dtype, schedule
and launch; the public functions against the same in parts."""

import numpy as np
import pytest
from support import assert_close, epsilon, schedule
from test_norm import TINY, by_name, by_schedule, draw, statistics, sums_epsilon

import fastnet
from fastnet import kernels, reference
from fastnet.kernels._runtime import extension_for
from fastnet.reference.dropout import dropout_mask

STATE = np.array([11, 2], np.uint64)
SHAPES = [(1, 1), (3, 5), (70, 8), (3, 40), (2, 2304), (5, 1000), (0, 4)]


def misaligned(x):
    flat = np.empty(x.size + 1, x.dtype)
    flat[1:] = x.reshape(-1)
    return flat[1:].reshape(x.shape)


def check(module, shape, dtype, what, centred=True, p=0.0, place=lambda x: x, config=None, seed=0):
    x, residual, grad, of_total = (draw(shape, dtype, 8 * seed + i) for i in range(4))
    weight, bias = (draw(shape[1:], dtype, 8 * seed + 4 + i) for i in range(2))
    bias = bias if centred else None
    drawn = {"dropout_p": p, "state": STATE, "offset": 3} if p else {}
    y, total, mean, rstd = module.add_norm(
        place(x), residual, weight, bias, centred=centred, eps=1e-3, config=config, **drawn
    )
    u, half, tiny = sums_epsilon(dtype), epsilon(dtype), 2 * TINY[np.dtype(dtype).name]
    keep = dropout_mask(shape, p, STATE, 3) / (1 - p) if p else 1.0
    want = residual.astype(np.float64) + keep * x.astype(np.float64)
    assert_close(total, want, np.abs(want) * half + 4 * u * (np.abs(residual) + np.abs(keep * x)) + tiny, f"{what} sum")
    assert (mean is None) == (not centred)
    if not total.size:
        return
    # The norm is that of the sum as it was rounded; bounds as test_norm's.
    t = total.astype(np.float64)
    m, v, count, means, variances = statistics(total, 1, centred)
    sigma = np.sqrt(v + 1e-3)
    h, w = (t - m) / sigma, weight.astype(np.float64)
    b = 0.0 if bias is None else bias.astype(np.float64)
    size = np.abs(t).max()
    bound = np.abs(w) * (np.abs(h) * (count + 12) * u + (np.abs(h) + 1) * (count + 4) * u * size / sigma)
    bound = bound + 4 * u * np.abs(b) + (np.abs(h * w) + np.abs(b)) * half + tiny
    assert_close(y, h * w + b, bound, f"{what} y")
    wanted = 1 / np.sqrt(variances + 1e-3)
    assert_close(rstd, wanted, wanted * (count + 12) * u * (1 + 2 * size * wanted), f"{what} rstd")
    if centred:
        assert_close(mean, means, (count + 4) * u * size, f"{what} mean")

    of_x, of_residual, of_weight, of_bias = module.add_norm_backward(
        place(grad), total, mean, rstd, weight, of_total=of_total, config=config, **drawn
    )
    r = rstd.astype(np.float64)[:, None]
    centre = mean.astype(np.float64)[:, None] if centred else 0.0
    g, h = grad.astype(np.float64), (t - centre) * r
    gw = g * w
    across = gw.mean(axis=1, keepdims=True) if centred else 0.0
    along = (gw * h).mean(axis=1, keepdims=True)
    want = r * (gw - across - h * along) + of_total.astype(np.float64)
    sizes = np.abs(h) + (np.abs(t) + np.abs(centre)) * r
    means = np.abs(gw).mean(axis=1, keepdims=True) + sizes * (np.abs(gw) * sizes).mean(axis=1, keepdims=True)
    bound = r * (np.abs(gw) + means) * (count + 12) * u + 2 * u * np.abs(of_total.astype(np.float64))
    assert_close(of_residual, want, bound + np.abs(want) * half + tiny, f"{what} of residual")
    assert_close(of_x, want * keep, (bound + np.abs(want) * (half + 2 * u)) * keep + tiny, f"{what} of x")
    n = shape[0]
    for name, got, terms, size in (("weight", of_weight, g * h, np.abs(g) * sizes), ("bias", of_bias, g, np.abs(g))):
        if name == "weight" or centred:
            want = terms.sum(axis=0)
            bound = size.sum(axis=0) * (n + 8) * u + np.abs(want) * half + tiny
            assert_close(got, want, bound, f"{what} of {name}")


@by_schedule
def test_against_float64(how):
    for index, shape in enumerate(SHAPES):
        for centred in (True, False):
            with kernels.use("emulated", **how), kernels.trace() as ran:
                check(kernels, shape, np.float32, f"{shape} {centred}", centred, [0.0, 0.3][index % 2], seed=index)
            assert set(ran.names) == ({"add_norm", "add_norm_backward"} if shape[0] else set())


@by_name
def test_every_dtype(dtype):
    for index, shape in enumerate(SHAPES):
        for module in (reference, kernels):
            with kernels.use("emulated", **schedule(index)):
                place = [lambda x: x, misaligned, lambda x: x[:, ::-1].copy()[:, ::-1]][index % 3]
                check(module, shape, dtype, f"{shape}", index % 3 > 0, 0.25, place, seed=index)


def test_every_launch():
    with kernels.use("emulated"):
        config = extension_for(np.zeros(1)).NormConfig
        for index, how in enumerate(({"team": 1}, {"team": 8, "blocks": 3}, {"team": 256, "block": 256, "blocks": 2})):
            for shape in ((9, 40), (3, 700), (5, 33)):
                check(kernels, shape, np.float32, f"{shape} {how}", p=0.5, config=config(**how), seed=index)


@pytest.mark.parametrize("module", [kernels, reference])
def test_bad_input(module):
    x = draw((3, 4), np.float32)
    statistics = np.ones(3, np.float32)
    refused = [
        (ValueError, "residual", lambda: module.add_norm(x, x[:2])),
        (TypeError, "residual", lambda: module.add_norm(x, x.astype(np.float64))),
        (TypeError, "residual", lambda: module.add_norm(x, None)),
        (ValueError, "bias", lambda: module.add_norm(x, x, x[0], x[0], centred=False)),
        (TypeError, "centred", lambda: module.add_norm(x, x, centred=1)),
        (TypeError, "state", lambda: module.add_norm(x, x, dropout_p=0.5)),
        (ValueError, "of_total", lambda: module.add_norm_backward(x, x, statistics, statistics, of_total=x[:1])),
        (ValueError, "mean", lambda: module.add_norm_backward(x, x, statistics[:1], statistics)),
    ]
    with kernels.use("emulated"):
        for error, argument, call in refused:
            with pytest.raises(error, match=argument):
                call()


@pytest.mark.parametrize("mode", ["reference", "emulated"])
@pytest.mark.parametrize("p", [0.0, 0.4])
@pytest.mark.parametrize("kind", ["layer", "rms"])
def test_public_functions_are_their_parts(mode, p, kind):
    """Values and gradients of dropout, sum and norm one after another, from the same draws; either result unused."""
    functional = fastnet.nn.functional
    for used in ("both", "norm", "sum"):
        found = []
        for fused in (True, False):
            fastnet.manual_seed(5)
            x, residual, up, down = (fastnet.tensor(draw((2, 3, 8), np.float32, i)) for i in range(4))
            weight, bias = (fastnet.tensor(draw((8,), np.float32, 4 + i)) for i in range(2))
            leaves = [a.requires_grad_() for a in (x, residual, weight, bias)][: 4 if kind == "layer" else 3]
            with kernels.use(mode):
                if fused:
                    call = functional.add_layer_norm if kind == "layer" else functional.add_rms_norm
                    y, total = call(x, residual, (8,), *leaves[2:], dropout_p=p)
                else:
                    total = residual + (functional.dropout(x, p) if p else x)
                    y = (functional.layer_norm if kind == "layer" else functional.rms_norm)(total, (8,), *leaves[2:])
                loss = {
                    "both": (y * up).sum() + (total * down).sum(),
                    "norm": (y * up).sum(),
                    "sum": (total * down).sum(),
                }
                loss[used].backward()
            found.append([y, total, *(a.grad for a in leaves)])
        for a, b in zip(*found, strict=True):
            if b is None:
                assert a is None or not a.numpy().any()
            else:
                np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=0, atol=2e-6)
