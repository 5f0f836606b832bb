"""Normalisation: emulated kernels and reference against float64, every dtype, schedule and launch; memory orders,
parameters in float32, running statistics, degenerate sizes and bad input."""

import math

import numpy as np
import pytest
from support import SCHEDULES, assert_close, bfloat16, epsilon, schedule

import fastnet
from fastnet import kernels, reference
from fastnet.kernels._runtime import extension_for

DTYPES = [np.float32, np.float64, np.float16, bfloat16]
by_name = pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
by_schedule = pytest.mark.parametrize("how", SCHEDULES, ids=lambda s: "-".join(map(str, s.values())))
# (shape, groups): rows within a warp and of a block, whole vectors and ragged ends, one element, positions or none.
PROBLEMS = [
    ((1, 1), 1),
    ((3, 5), 1),
    ((70, 8), 1),
    ((2, 64), 4),
    ((3, 40), 1),
    ((2, 4100), 1),
    ((2, 6, 5), 3),
    ((3, 8, 16), 2),
    ((2, 16, 3, 3), 4),
    ((2, 24, 8), 24),
    ((1, 3, 700), 1),
]
TINY = {"float16": 2.0**-25, "float32": 2.0**-149, "float64": 2.0**-1074, "bfloat16": 2.0**-134}


def draw(shape, dtype, seed=0, scale=1.0, shift=0.0, last=False):
    x = (np.random.default_rng(seed).standard_normal(shape) * scale + shift).astype(dtype)
    return channels_last(x) if last and x.ndim > 2 else x


def channels_last(x):
    """The same values, channels last in memory."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


def sums_epsilon(dtype):
    return epsilon(np.float64 if np.dtype(dtype) == np.float64 else np.float32)


def each(p, x):
    return p.astype(np.float64).reshape(-1, *[1] * (x.ndim - 2))


def statistics(x, groups, centred=True):
    """Mean and variance over each sample's groups (over the batch where groups is None) in float64, shaped as x."""
    x = x.astype(np.float64)
    axes = (0, *range(2, x.ndim))
    rows = x if groups is None else x.reshape(x.shape[0], groups, -1)
    where = axes if groups is None else 2
    mean = rows.mean(axis=where, keepdims=True) if centred else np.zeros((1,) * rows.ndim)
    var = ((rows - mean) ** 2).mean(axis=where, keepdims=True)
    count = rows.size // max(var.size, 1)
    spread = [np.broadcast_to(s, rows.shape).reshape(x.shape) for s in (mean, var)]
    return *spread, count, mean.reshape(-1), var.reshape(-1)


def check_forward(module, x, groups, parameters, eps, centred, what, config=None):
    """A norm of a module against float64; what it returned, as (y, mean, rstd)."""
    dtype = x.dtype
    weight, bias = parameters
    if groups is None:
        y, mean, rstd = module.batch_norm(x, weight, bias, eps=eps, config=config)
    elif not centred:
        y, rstd = module.rms_norm(x, weight, eps=eps, config=config)
        mean = None
    elif x.ndim == 2 and groups == 1:
        y, mean, rstd = module.layer_norm(x, weight, bias, eps=eps, config=config)
    else:
        y, mean, rstd = module.group_norm(x, groups, weight, bias, eps=eps, config=config)
    m, v, count, means, variances = statistics(x, groups, centred)
    h = (x.astype(np.float64) - m) / np.sqrt(v + eps)
    w = 1.0 if weight is None else each(weight, x)
    b = 0.0 if bias is None else each(bias, x)
    # The mean of n terms is off by at most n u of their size, the variance by n u of itself and twice the mean's error
    # times the deviation: relative (n + 8) u each; the difference from the mean is off by the mean's error over sigma.
    u = sums_epsilon(dtype)
    size = np.abs(x.astype(np.float64)).max() if x.size else 0.0
    sigma = np.sqrt(v + eps)
    bound = np.abs(w) * (np.abs(h) * (count + 12) * u + (np.abs(h) + 1) * (count + 4) * u * size / sigma)
    bound = bound + 4 * u * np.abs(b) + (np.abs(h * w) + np.abs(b)) * epsilon(dtype) + 2 * TINY[np.dtype(dtype).name]
    assert y.dtype == dtype
    assert y.shape == x.shape
    assert_close(y, h * w + b, bound, f"{what} y {x.shape} groups {groups}")
    if mean is not None:
        assert_close(mean.reshape(-1), means, (count + 4) * u * size, f"{what} mean")
    wanted = 1 / np.sqrt(variances + eps)
    assert_close(
        rstd.reshape(-1), wanted, wanted * ((count + 12) * u * (1 + 2 * size * wanted)), f"{what} rstd {x.shape}"
    )
    return y, mean, rstd


def check_backward(module, x, grad, groups, mean, rstd, weight, what, config=None, **options):
    """The gradients against float64, from the same statistics."""
    dtype = x.dtype
    if groups is None:
        got = module.batch_norm_backward(grad, x, mean, rstd, weight, config=config, **options)
    elif mean is None:
        got = (*module.rms_norm_backward(grad, x, rstd, weight, config=config), None)
    elif x.ndim == 2 and groups == 1:
        got = module.layer_norm_backward(grad, x, mean, rstd, weight, config=config)
    else:
        got = module.group_norm_backward(grad, x, groups, mean, rstd, weight, config=config)
    g, x64 = grad.astype(np.float64), x.astype(np.float64)
    if options.get("y") is not None:
        g = g * (options["y"] > 0)
    shape = (1, -1, *[1] * (x.ndim - 2)) if groups is None else (x.shape[0], groups, 1)
    form = x.shape if groups is None else (x.shape[0], groups, -1)
    axes = (0, *range(2, x.ndim)) if groups is None else 2
    r = np.broadcast_to(rstd.astype(np.float64).reshape(shape), x64.reshape(form).shape).reshape(x.shape)
    centre = 0.0 if mean is None else mean.astype(np.float64).reshape(shape)
    h = (x64.reshape(form) - centre).reshape(x.shape) * r
    w = np.ones((1,)) if weight is None else each(weight, x)
    gw = (g * w).reshape(form)
    count = gw.size / max(np.prod(rstd.shape), 1)
    own = options.get("batch_statistics", True)
    across = gw.mean(axis=axes, keepdims=True) if mean is not None and own else np.zeros_like(gw)
    along = (gw * h.reshape(form)).mean(axis=axes, keepdims=True) if own else np.zeros_like(gw)
    want = (gw - across - h.reshape(form) * along).reshape(x.shape) * r
    u = sums_epsilon(dtype)
    # h is off by 3 roundings of its size and of (x and mean) * r; sums of n terms by n of the sum of their sizes.
    size = np.abs(h) + (np.abs(x64).reshape(form) + np.abs(centre)).reshape(x.shape) * r
    means = np.abs(gw).mean(axis=axes, keepdims=True) if own else 0
    products = (np.abs(gw) * size.reshape(form)).mean(axis=axes, keepdims=True) if own else 0
    bound = r * (np.abs(gw) + means + size.reshape(form) * products).reshape(x.shape) * (count + 12) * u
    assert got[0].dtype == dtype
    assert_close(got[0], want, bound + np.abs(want) * epsilon(dtype) + 2 * TINY[np.dtype(dtype).name], f"{what} dx")
    rows, dtype_of = (0, *range(2, x.ndim)), (dtype if weight is None else weight.dtype)
    n = x.size / max(x.shape[1], 1)
    for name, result, terms, sizes in (("weight", got[1], g * h, np.abs(g) * size), ("bias", got[2], g, np.abs(g))):
        if result is None:
            continue
        total = terms.sum(axis=rows)
        bound = sizes.sum(axis=rows) * (n + 8) * u + np.abs(total) * epsilon(dtype_of) + 2 * TINY[dtype_of.name]
        assert result.dtype == dtype_of
        assert_close(result, total, bound, f"{what} of {name} {x.shape}")
    if options.get("residual_gradient"):
        assert_close(got[3], g, 0, f"{what} of residual")


def check_all(module, x, grad, groups, parameters, what, config=None, centred=True, eps=1e-5):
    y, mean, rstd = check_forward(module, x, groups, parameters, eps, centred, what, config)
    check_backward(module, x, grad, groups, mean, rstd, parameters[0], what, config)
    return y


def parameters_for(x, index, dtype=None):
    """A weight and a bias: both, the weight alone, none; in turn."""
    c = x.shape[1]
    weight, bias = draw(c, dtype or x.dtype, 5, 0.5, 1.0), draw(c, dtype or x.dtype, 6)
    return [(weight, bias), (weight, None), (None, None)][index % 3]


@by_schedule
@by_name
def test_against_float64(dtype, how):
    for index, (shape, groups) in enumerate(PROBLEMS):
        last = index % 2 == 1
        x, grad = draw(shape, dtype, index, 2.0, 0.5, last), draw(shape, dtype, index + 50, last=last)
        wide = np.float32 if index % 4 == 1 and np.dtype(dtype).itemsize == 2 else None
        parameters = parameters_for(x, index, wide)
        cases = [(groups, True), (None, True)] + ([(1, False)] if len(shape) == 2 else [])
        for which, centred in cases:
            given = (parameters[0], None) if not centred else parameters
            check_all(reference, x, grad, which, given, "reference", centred=centred)
            with kernels.use("emulated", **how), kernels.trace() as ran:
                y = check_all(kernels, x, grad, which, given, "emulated", centred=centred)
            assert len(ran) == 2
            if last and x.ndim > 2:
                assert y.strides == x.strides, "a result lies in memory as its input does"


@by_name
def test_every_launch(dtype):
    configs = [
        dict(team=1, block=32, blocks=0, columns=1, splits=1),
        dict(team=2, block=64, blocks=0, columns=32, splits=3),
        dict(team=32, block=128, blocks=0, columns=256, splits=7),
        dict(team=64, block=64, blocks=0, columns=8, splits=2),
        dict(team=512, block=512, blocks=0, columns=2, splits=40),
    ]
    for index, chosen in enumerate(configs):
        for shape, groups in [((9, 40), 1), ((3, 12, 4, 2), 3), ((2, 5, 33), 5)]:
            x, grad = draw(shape, dtype, index, last=index % 2 == 0), draw(shape, dtype, 9)
            with kernels.use("emulated", **schedule(index)), kernels.trace() as ran:
                config = extension_for(x).NormConfig(**chosen)
                for which in (groups, None):
                    check_all(kernels, x, grad, which, parameters_for(x, index), repr(config), config)
            assert {launch.config for launch in ran} == {repr(config)}
    for index, (team, block, blocks) in enumerate([(1, 32, 1), (4, 128, 2), (32, 64, 3), (128, 128, 2), (512, 512, 5)]):
        for shape in [(23, 40), (70, 9)] if team < 32 else [(23, 40), (5, 1030)]:
            x, grad = draw(shape, dtype, index), draw(shape, dtype, 9)
            with kernels.use("emulated", **schedule(index)):
                config = extension_for(x).NormConfig(team=team, block=block, blocks=blocks)
                check_all(kernels, x, grad, 1, parameters_for(x, index), repr(config), config)
                check_all(kernels, x, grad, 1, (draw(shape[1], dtype, 3), None), "rms", config, centred=False)


@by_name
def test_memory_orders(dtype):
    """Strided, transposed, reversed, broadcast and misaligned arrays give what their copies give."""
    base = draw((6, 8, 12), dtype)
    raw = np.zeros(base.nbytes + 1, np.uint8)
    raw[1:] = np.frombuffer(base.tobytes(), np.uint8)
    views = [
        base[:, ::2, 1:],
        base[:, ::-1, ::-2],
        base.transpose(2, 1, 0),
        base[0].T,
        draw(12 * 9 + 1, dtype)[1:].reshape(9, 12),
        np.broadcast_to(base[:1], base.shape),
        raw[1:].view(dtype).reshape(base.shape),
        base.transpose(0, 2, 1)[::2],
        channels_last(base)[:, :, ::2],
    ]
    for i, view in enumerate(views):
        c = view.shape[1]
        parameters = draw(2 * c, dtype, 3)[::2], draw(c, dtype, 4)
        grad = draw(view.shape[::-1], dtype, 8).T
        for module in (kernels, reference):
            with kernels.use("emulated", **schedule(i)):
                for groups in (1, c, None):
                    check_all(module, view, grad, groups, parameters, f"view {i}")


@by_name
@pytest.mark.parametrize("last", [False, True])
def test_batch_norm_options(dtype, last):
    """Residual, relu, running statistics, inference: kernels and reference against float64."""
    for index, shape in enumerate([(5, 7), (3, 8, 4, 2), (4, 3, 33)]):
        x, residual, grad = (draw(shape, dtype, s, last=last) for s in (1, 2, 3))
        weight, bias = parameters_for(x, 0)
        m, v, count, means, variances = statistics(x, None)
        h = (x.astype(np.float64) - m) / np.sqrt(v + 1e-3) * each(weight, x) + each(bias, x) + residual.astype(float)
        u, half = sums_epsilon(dtype), epsilon(dtype)
        for module in (reference, kernels):
            running = np.float32 if np.dtype(dtype).itemsize == 2 and index == 1 else dtype
            mean, var = draw(shape[1], running, 11), draw(shape[1], running, 12) ** 2
            wanted = [0.75 * s.astype(np.float64) for s in (mean, var)]
            wanted[0] += 0.25 * means
            wanted[1] += 0.25 * variances * count / (count - 1)
            with kernels.use("emulated", **schedule(index)):
                y, batch_mean, rstd = module.batch_norm(
                    x,
                    weight,
                    bias,
                    eps=1e-3,
                    running_mean=mean,
                    running_var=var,
                    momentum=0.25,
                    activation="relu",
                    residual=residual,
                )
                bound = (np.abs(h) + 4) * ((count + 16) * u * 8 + half)
                assert_close(y, np.maximum(h, 0), bound, "relu")
                for got, want in zip((mean, var), wanted, strict=True):
                    assert_close(got, want, (np.abs(want) + 1) * ((count + 8) * u + epsilon(running)), "running")
                for options in (
                    dict(y=y, residual_gradient=True),
                    dict(batch_statistics=False),
                    dict(y=y, batch_statistics=False, residual_gradient=True),
                ):
                    check_backward(module, x, grad, None, batch_mean, rstd, weight, "options", **options)
                y = module.batch_norm_inference(x, mean, var, weight, bias, eps=1e-3, residual=residual)
                r = 1 / np.sqrt(each(var, x) + 1e-3)
                z = (
                    (x.astype(np.float64) - each(mean, x)) * r * each(weight, x)
                    + each(bias, x)
                    + residual.astype(float)
                )
                size = (np.abs(x.astype(float)) + np.abs(each(mean, x))) * r * np.abs(each(weight, x)) + np.abs(z) + 4
                assert_close(y, z, size * (16 * u + half), "inference")


def test_statistics_of_large_numbers():
    """The variance of numbers around 1000 with deviations of 0.01 is right to a per cent: no difference of squares."""
    x = (1000 + 0.01 * np.random.default_rng(0).standard_normal((8, 4, 100))).astype(np.float32)
    exact = x.astype(np.float64).var(axis=(0, 2))
    for module in (kernels, reference):
        with kernels.use("emulated"):
            _, _, rstd = module.batch_norm(x, eps=0.0)
            _, _, of_rows = module.layer_norm(x.reshape(8, 400), eps=0.0)
        np.testing.assert_allclose(rstd.astype(np.float64) ** -2, exact, rtol=1e-2)
        want = x.astype(np.float64).reshape(8, 400).var(axis=1)
        np.testing.assert_allclose(of_rows.astype(np.float64) ** -2, want, rtol=1e-2)


def test_infinities_and_nan_stay_in_their_rows():
    x = draw((4, 24), np.float32)
    x[1, 3], x[2, 5] = np.inf, np.nan
    for module in (kernels, reference):
        with kernels.use("emulated"):
            y = module.layer_norm(x)[0]
        assert np.isnan(y[1:3]).all()
        assert np.isfinite(y[[0, 3]]).all()


def test_sizes_of_zero():
    for module in (kernels, reference):
        with kernels.use("emulated"):
            for shape in [(0, 4), (3, 4, 0), (0, 4, 5)]:
                x = np.ones(shape, np.float32)
                y, mean, rstd = module.batch_norm(x)
                assert y.shape == shape
                assert np.isnan(mean).all()
                dx, of_weight, of_bias, _ = module.batch_norm_backward(x, x, mean, rstd)
                assert dx.shape == shape
                assert (of_weight == 0).all()
                assert (of_bias == 0).all()
                y, mean, rstd = module.group_norm(x, 2)
                assert mean.shape == (shape[0], 2)
                assert module.group_norm_backward(x, x, 2, mean, rstd)[1].tolist() == [0, 0, 0, 0]


def test_config():
    with kernels.use("emulated", device="H200"):
        ext = extension_for(np.zeros(1))
        # Rows of a layer norm: a warp up to 2048, then a block; the gradients of parameters on the way.
        assert "team=32, block=128, blocks=264" in repr(ext.norm_config(8192, 768, 1, 1, True, 4))
        assert "team=256, block=256, blocks=264" in repr(ext.norm_config(8192, 4096, 1, 1, True, 4))
        assert "team=512, block=512, blocks=0" in repr(ext.norm_config(8192, 65536, 1, 1, True, 4))
        assert "columns=32" in repr(ext.norm_config(32, 256, 3136, 0, True, 4))
        assert "columns=1" in repr(ext.norm_config(32, 256, 3136, 0, False, 4))
        for wrong in (
            dict(team=3, block=96),
            dict(team=64, block=128),
            dict(block=1024),
            dict(columns=3),
            dict(splits=0),
        ):
            with pytest.raises(ValueError, match="must be"):
                ext.NormConfig(**wrong)
        x, statistics_of = np.ones((2, 4, 3), np.float32), np.ones((2, 2, 2), np.float32)
        with pytest.raises(ValueError, match="sums as it goes"):
            kernels.group_norm_backward(x, x, 2, *statistics_of, config=ext.NormConfig(blocks=2))
        x, narrow = np.ones((2, 9000), np.float32), ext.NormConfig(team=1, block=32, blocks=1)
        with pytest.raises(ValueError, match="shared memory"):
            kernels.layer_norm_backward(x, x, *np.ones((2, 2), np.float32), config=narrow)


@pytest.mark.parametrize("device", ["H200", "A100", "RTX 3090", "RTX 5090"])
def test_configs_fit_every_device(device):
    with kernels.use("emulated", device=device):
        ext = extension_for(np.zeros(1))
        limit = ext.known_devices()[device]
        for n, c, s, groups in [
            (1, 1, 1, 1),
            (10**6, 64, 1, 1),
            (4096, 12288, 1, 1),
            (2, 10**6, 1, 1),
            (32, 64, 56 * 56, 32),
        ]:
            for size in (4, 8):
                config = ext.norm_config(n, c, s, groups, True, size)
                assert 1 <= config.splits <= 65535
                if config.blocks:
                    assert config.block // config.team * 2 * c * size + 32 * size <= limit


@pytest.mark.parametrize("module", [kernels, reference])
def test_bad_input(module):
    x, p = np.ones((3, 4), np.float32), np.ones(4, np.float32)
    s = np.ones((3,), np.float32)
    refused = [
        (TypeError, "x", lambda: module.layer_norm([[1.0]])),
        (TypeError, "x", lambda: module.layer_norm(x.astype(np.int32))),
        (ValueError, "x", lambda: module.layer_norm(np.ones((2, 3, 4), np.float32))),
        (ValueError, "x", lambda: module.batch_norm(np.ones(3, np.float32))),
        (ValueError, "weight", lambda: module.layer_norm(x, np.ones(3, np.float32))),
        (TypeError, "weight", lambda: module.layer_norm(x, p.astype(np.float64))),
        (TypeError, "dtype", lambda: module.layer_norm(x.astype(np.float16), p, p.astype(np.float16))),
        (ValueError, "eps", lambda: module.rms_norm(x, eps=math.inf)),
        (ValueError, "eps", lambda: module.rms_norm(x, eps=math.nan)),
        (ValueError, "groups", lambda: module.group_norm(x, 3)),
        (ValueError, "groups", lambda: module.group_norm(x, 0)),
        (ValueError, "groups", lambda: module.group_norm(x, 2.0)),
        (ValueError, "mean", lambda: module.layer_norm_backward(x, x, np.ones(4, np.float32), s)),
        (TypeError, "rstd", lambda: module.layer_norm_backward(x, x, s, s.astype(np.float64))),
        (TypeError, "rstd", lambda: module.rms_norm_backward(x, x, None)),
        (TypeError, "mean", lambda: module.group_norm_backward(x, x, 1, None, np.ones((3, 1), np.float32))),
        (TypeError, "grad", lambda: module.batch_norm_backward(None, x, p, p)),
        (ValueError, "grad", lambda: module.layer_norm_backward(x[:2], x, s, s)),
        (ValueError, "residual", lambda: module.batch_norm(x, residual=x[:2])),
        (ValueError, "activation", lambda: module.batch_norm(x, activation="gelu")),
        (ValueError, "running_mean", lambda: module.batch_norm(x, running_mean=np.ones(3, np.float32))),
        (TypeError, "running_var", lambda: module.batch_norm_inference(x, p, None)),
    ]
    with kernels.use("emulated"):
        for error, argument, call in refused:
            with pytest.raises(error, match=argument):
                call()


def test_layers_run_the_kernels():
    """Layers give the same under the emulated kernels as under the reference, to float32 rounding."""
    layers = [
        (fastnet.nn.LayerNorm(6), (4, 6), "layer_norm"),
        (fastnet.nn.RMSNorm(6), (4, 6), "rms_norm"),
        (fastnet.nn.GroupNorm(2, 6), (4, 6, 3), "group_norm"),
        (fastnet.nn.BatchNorm2d(6), (2, 6, 3, 3), "batch_norm"),
        (fastnet.nn.InstanceNorm1d(6, affine=True), (2, 6, 5), "group_norm"),
    ]
    for layer, shape, name in layers:
        results = []
        for mode in ("reference", "emulated"):
            with kernels.use(mode), kernels.trace() as ran:
                x = fastnet.tensor(draw(shape, np.float32), requires_grad=True)
                y = layer(x)
                (y * fastnet.tensor(draw(shape, np.float32, 2))).sum().backward()
            results.append((y.detach().numpy(), x.grad.numpy()))
            wanted = [name, name + "_backward"] if mode == "emulated" else []
            assert [n for n in ran.names if "norm" in n] == wanted
        for a, b in zip(*results, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
