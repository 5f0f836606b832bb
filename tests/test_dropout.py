"""Pointwise, dropout and random kernels share their tests' inputs: see test_pointwise.py. Here: masks, scaling,
gradients."""

import numpy as np
import pytest
from support import SCHEDULES, assert_close, bfloat16, epsilon, schedule

import fastnet
from fastnet import kernels, reference
from fastnet.autograd import gradcheck

DTYPES = [np.float32, np.float64, np.float16, bfloat16]
STATE = np.array([12345, 7], np.uint64)


@pytest.mark.parametrize("how", SCHEDULES, ids=lambda s: "-".join(map(str, s.values())))
def test_masks_are_equal_bit_for_bit(how):
    for shape in [(1,), (3, 5), (0, 4), (1024,), (17, 33)]:
        for p in (0.0, 0.1, 0.5, 0.999, 1.0):
            want = reference.dropout_mask(shape, p, STATE, 3)
            with kernels.use("emulated", **how):
                got = kernels.dropout_mask(shape, p, STATE, 3)
            assert got.dtype == bool
            np.testing.assert_array_equal(got, want)
            if p in (0.0, 1.0):
                assert want.all() == (p == 0.0) or want.size == 0


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("activation", ["none", "relu", "gelu"])
def test_kernel_equals_reference(dtype, activation):
    rng = np.random.default_rng(0)
    for i in range(12):
        shape = tuple(int(n) for n in rng.integers(1, 40, rng.integers(1, 4)))
        x, bias = rng.standard_normal(shape).astype(dtype), rng.standard_normal(shape[-1:]).astype(dtype)
        residual, grad = rng.standard_normal(shape).astype(dtype), rng.standard_normal(shape).astype(dtype)
        if i % 3 == 1 and len(shape) > 1:
            x = np.ascontiguousarray(x.T).T  # another memory order, the same elements
        options = {"bias": bias, "activation": activation} if i % 2 else {"activation": activation}
        # Both round once to the dtype, from float32 values that differ by a few units of float32.
        bound = 4 * epsilon(dtype) + 2.0**-20 * (np.dtype(dtype) != np.float64)
        with kernels.use("emulated", **schedule(i)):
            got = kernels.dropout(x, 0.4, STATE, i, residual=residual, **options)
            back = kernels.dropout_backward(grad, 0.4, STATE, i, x=x, **options)
        want = reference.dropout(x, 0.4, STATE, i, residual=residual, **options)
        want_back = reference.dropout_backward(grad, 0.4, STATE, i, x=x, **options)
        assert got.dtype == want.dtype == np.dtype(dtype)
        assert_close(got, want, bound * (1 + np.abs(want.astype(np.float64))), f"{shape}")
        assert_close(back, want_back, bound * (1 + np.abs(want_back.astype(np.float64))), f"{shape}")
        kept = reference.dropout_mask(shape, 0.4, STATE, i)
        assert (np.asarray(back, np.float64)[~kept] == 0).all()


def test_misaligned_rows_and_forced_width():
    x = np.arange(65, dtype=np.float32)[1:]
    want = reference.dropout(x, 0.5, STATE)
    with kernels.use("emulated"):
        np.testing.assert_array_equal(kernels.dropout(x, 0.5, STATE), want)
        config = kernels._runtime.extension_for(x).PointwiseConfig(vector=4, blocks=1)
        with pytest.raises(ValueError, match="alignment"):
            kernels.dropout(x, 0.5, STATE, config=config)
        aligned = kernels._arrays.empty(x, x.shape)
        aligned[:] = x
        np.testing.assert_array_equal(kernels.dropout(aligned, 0.5, STATE, config=config), want)


def test_share_of_kept_elements():
    # 10^6 draws: the share's standard deviation is sqrt(p (1 - p) / n) = 0.0005; five of them.
    for p in (0.1, 0.5, 0.9):
        kept = reference.dropout_mask((1_000_000,), p, STATE).mean()
        assert abs(kept - (1 - p)) < 5 * (p * (1 - p) / 1e6) ** 0.5


def test_operation():
    fastnet.manual_seed(0)
    x = fastnet.ones(1000, requires_grad=True)
    y = fastnet.nn.functional.dropout(x, 0.25)
    assert set(np.unique(y.detach().numpy()).tolist()) == {0.0, np.float32(1 / 0.75)}
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), y.detach().numpy())  # the same mask, drawn again
    assert fastnet.nn.functional.dropout(x, 0.25, training=False) is x
    assert not fastnet.nn.functional.dropout(x, 1.0).detach().numpy().any()
    np.testing.assert_array_equal(fastnet.nn.functional.dropout(x, 0.0).detach().numpy(), 1)


def test_same_seed_same_mask_under_every_implementation():
    masks = []
    for mode in ("reference", "emulated"):
        with kernels.use(mode):
            fastnet.manual_seed(5)
            masks.append([fastnet.nn.functional.dropout(fastnet.ones(5, 7), 0.5).numpy() for _ in range(3)])
    np.testing.assert_array_equal(masks[0], masks[1])
    assert (masks[0][0] != masks[0][1]).any()


def test_gradient():
    x = fastnet.randn(4, 5, dtype=fastnet.float64, requires_grad=True)

    def f(t):
        fastnet.manual_seed(1)
        return fastnet.nn.functional.dropout(t * t, 0.3)

    assert gradcheck(f, [x])


def test_whole_channels():
    fastnet.manual_seed(0)
    y = fastnet.nn.functional.dropout2d(fastnet.ones(8, 16, 3, 3)).numpy()
    assert ((y == y[:, :, :1, :1]).all(axis=(2, 3))).all()
    assert 0 < (y[:, :, 0, 0] == 0).sum() < 128


@pytest.mark.parametrize(
    ("p", "state", "error"),
    [
        (-0.1, STATE, ValueError),
        (1.1, STATE, ValueError),
        (float("nan"), STATE, ValueError),
        ("0.5", STATE, TypeError),
        (None, STATE, TypeError),
        (0.5, STATE[:1], ValueError),
        (0.5, STATE.astype(np.int64), TypeError),
        (0.5, None, TypeError),
    ],
)
def test_bad_input(p, state, error):
    with kernels.use("emulated"), pytest.raises(error, match="dropout"):
        kernels.dropout(np.ones(3, np.float32), p, state)


@pytest.mark.parametrize(
    ("name", "shape"), [("dropout1d", (40, 30)), ("dropout2d", (20, 30, 3, 2)), ("dropout3d", (20, 30, 2, 1, 2))]
)
def test_whole_channels_by_rank(name, shape):
    fastnet.manual_seed(0)
    x = fastnet.ones(*shape, requires_grad=True)
    y = getattr(fastnet.nn.functional, name)(x, 0.25)
    values = y.detach().numpy()
    assert set(np.unique(values)) == {0, np.float32(1 / 0.75)}
    if name == "dropout1d":  # (C, L)
        assert (values == values[:, :1]).all()
        values = values[:, 0]
    else:
        first = values[(slice(None), slice(None), *[slice(0, 1)] * (values.ndim - 2))]
        assert (values == first).all()
        values = first
    # kept channels: binomial, five standard deviations
    n = values.size
    assert abs((values != 0).sum() - 0.75 * n) < 5 * (n * 0.75 * 0.25) ** 0.5
    y.sum().backward()
    assert (x.grad.numpy() == y.detach().numpy()).all()


@pytest.mark.parametrize("name", ["alpha_dropout", "feature_alpha_dropout"])
def test_alpha_dropout_keeps_mean_and_variance(name):
    fastnet.manual_seed(0)
    x = fastnet.randn(400, 500, requires_grad=True)
    y = getattr(fastnet.nn.functional, name)(x, 0.3, training=True)
    values = y.detach().numpy().astype(np.float64)
    # 140,000 kept normal values and a two-valued rest: means within 5 / sqrt(n), variances within 5 sqrt(2 / n)
    assert abs(values.mean()) < 5 / 200000**0.5
    assert abs(values.var() - 1) < 5 * (2 / 140000) ** 0.5
    y.sum().backward()
    kept = x.grad.numpy() != 0
    assert len(np.unique(values[~kept])) == 1
    assert abs(kept.mean() - 0.7) < 5 * (0.21 / 200000) ** 0.5


def test_dropout_layers_in_place_and_in_evaluation():
    for layer in ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout"):
        shape = {"Dropout1d": (2, 3, 4), "Dropout3d": (2, 3, 2, 2, 2)}.get(layer, (2, 3, 2, 2))
        x = fastnet.ones(*shape)
        module = getattr(fastnet.nn, layer)(0.5, inplace=True)
        assert module(x) is x
        assert (x.numpy() != 1).any()
        y = fastnet.ones(*shape)
        assert module.eval()(y) is y
        assert (y.numpy() == 1).all()


@pytest.mark.parametrize("name", ["dropout", "dropout1d", "dropout2d", "alpha_dropout", "feature_alpha_dropout"])
def test_nothing_is_drawn_where_nothing_is_left_to_chance(name):
    """As PyTorch: probabilities 0 and 1 and empty inputs leave the generator where it was; 0 gives the input itself."""
    function = getattr(fastnet.nn.functional, name)
    shape = {"dropout1d": (2, 3, 4)}.get(name, (2, 3, 2, 2))
    fastnet.manual_seed(3)
    before = fastnet.get_rng_state().tolist()
    x = fastnet.ones(*shape, requires_grad=True)
    assert function(x, 0.0, True) is x
    empty = fastnet.ones(0, *shape[1:])
    assert function(empty, 0.5, True).shape == empty.shape
    y = function(x, 1.0, True)
    assert not y.detach().numpy().any()
    y.sum().backward()
    assert not x.grad.numpy().any()
    assert fastnet.get_rng_state().tolist() == before
    function(x, 0.5, True)
    assert fastnet.get_rng_state().tolist() != before


def test_dropping_all_keeps_nan_as_pytorch_does():
    x = fastnet.tensor([1.0, np.nan, np.inf])
    assert np.isnan(fastnet.nn.functional.dropout(x, 1.0).numpy()).tolist() == [False, True, True]
