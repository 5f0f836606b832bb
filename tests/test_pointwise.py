"""bias_activation and its gradient: emulated kernel and reference against float64, every activation and dtype."""

import numpy as np
import pytest
from support import SCHEDULES, assert_close, bfloat16, epsilon, schedule

from fastnet import kernels, reference
from fastnet.kernels import _arrays, _runtime
from fastnet.reference.pointwise import ACTIVATIONS

DTYPES = [np.float32, np.float64, np.float16, bfloat16]
EXTREME = np.array(
    [
        0.0,
        -0.0,
        1e-30,
        -1e-30,
        1.0,
        -1.0,
        3.0,
        -3.0,
        19.9,
        20.1,
        -20.1,
        60.0,
        -60.0,
        300.0,
        -300.0,
        np.inf,
        -np.inf,
        np.nan,
    ]
)


def exact(x, bias, activation, residual=None):
    """In float64, or for float64 itself in extended precision where that exists."""
    wide = np.float64
    v = x.astype(wide) + (0 if bias is None else bias.astype(wide))
    y = reference.bias_activation(v, activation=activation)
    return y if residual is None else y + residual.astype(wide)


def bound(dtype, scale):
    """One rounding to the dtype and, in float32, up to 8 roundings of values no larger than ``scale`` before it."""
    inner = 2.0**-53 if dtype == np.float64 else 2.0**-24
    return scale * (8 * inner + epsilon(dtype)) + 1e-37


@pytest.mark.parametrize("how", SCHEDULES, ids=lambda s: "-".join(map(str, s.values())))
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
def test_every_activation(dtype, how):
    rng = np.random.default_rng(0)
    for activation in ACTIVATIONS:
        for shape in [(1,), (3, 7), (0, 4), (5, 16)]:
            x, residual = (3 * rng.standard_normal(shape)).astype(dtype), rng.standard_normal(shape).astype(dtype)
            bias, grad = rng.standard_normal(shape[-1:]).astype(dtype), rng.standard_normal(shape).astype(dtype)
            want = exact(x, bias, activation, residual)
            scale = (
                1 + np.abs(x.astype(np.float64)) + np.abs(residual.astype(np.float64)) + np.abs(bias.astype(np.float64))
            )
            derivative = reference.bias_activation_backward(
                grad.astype(np.float64), x.astype(np.float64), bias.astype(np.float64), activation=activation
            )
            with kernels.use("emulated", **how):
                forward = kernels.bias_activation(x, bias, activation=activation, residual=residual)
                backward = kernels.bias_activation_backward(grad, x, bias, activation=activation)
            for name, f, b in (
                ("emulated", forward, backward),
                (
                    "reference",
                    reference.bias_activation(x, bias, activation=activation, residual=residual),
                    reference.bias_activation_backward(grad, x, bias, activation=activation),
                ),
            ):
                assert f.dtype == b.dtype == np.dtype(dtype)
                assert_close(f, want, bound(dtype, scale), f"{name} {activation} {shape}")
                # A derivative moves with its argument, which was rounded once: |second derivative| <= 1.2 for all of
                # these but softplus and hardswish's corners, far from which random numbers fall.
                assert_close(
                    b,
                    derivative,
                    bound(dtype, 3 * scale * np.abs(grad.astype(np.float64))),
                    f"{name} {activation}' {shape}",
                )


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extreme_values_agree_with_pytorch(activation, dtype):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    F = torch.nn.functional
    function = {
        "none": lambda x: x * 1,
        "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
    }.get(activation) or getattr(F, activation)
    x = EXTREME.astype(dtype)
    t = torch.tensor(x, requires_grad=True)
    y = function(t)
    y.backward(torch.ones_like(y))
    finite = np.isfinite(
        x
    )  # at infinities PyTorch's formulas give NaN where the limit exists, and some derivatives too
    with kernels.use("emulated"):
        for got, want in (
            (kernels.bias_activation(x, activation=activation), y.detach().numpy()),
            (kernels.bias_activation_backward(np.ones_like(x), x, activation=activation), t.grad.numpy()),
        ):
            # PyTorch's gelu computes 1 + erf(x), which loses what x * 2^-24 is in absolute terms; ours keeps it.
            atol = (
                (1e-6 if dtype == np.float32 else 1e-15)
                if activation == "gelu"
                else (1e-7 if dtype == np.float32 else 1e-15)
            )
            np.testing.assert_allclose(
                got[finite], want[finite], rtol=4e-6 if dtype == np.float32 else 1e-12, atol=atol
            )
    ours, emulated = reference.bias_activation(x, activation=activation), None
    with kernels.use("emulated"):
        emulated = kernels.bias_activation(x, activation=activation)
    assert np.isnan(ours[-1])
    assert np.isnan(emulated[-1])
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(emulated))


def test_layouts_and_alignment():
    rng = np.random.default_rng(1)
    base = rng.standard_normal((12, 10)).astype(np.float32)
    for i, x in enumerate(
        [base.T, base[::2], base[:, ::-1], base[:, 1:], np.broadcast_to(base[0], (3, 10)), base.reshape(-1)[1:-3]]
    ):
        with kernels.use("emulated", **schedule(i)):
            np.testing.assert_array_equal(kernels.bias_activation(x, activation="relu"), np.maximum(x, 0))
    raw = np.zeros(41, np.uint8)
    odd = raw[1:].view(np.float32)  # not even on a multiple of 4 bytes
    odd[:] = np.arange(10) - 5
    with kernels.use("emulated"):
        np.testing.assert_array_equal(kernels.bias_activation(odd, activation="relu"), np.maximum(odd, 0))


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
def test_forced_configs(dtype):
    x = _arrays.empty(np.empty(0), (8, 64), dtype)
    x[:] = np.random.default_rng(2).standard_normal((8, 64)).astype(dtype)
    extension = _runtime.extension_for(x)
    results = []
    for vector in (1, max(4, 16 // np.dtype(dtype).itemsize)):
        for blocks in (1, 3, 1000):
            with kernels.use("emulated"), kernels.trace() as ran:
                results.append(
                    kernels.bias_activation(
                        x, activation="silu", config=extension.PointwiseConfig(vector=vector, blocks=blocks)
                    )
                )
            assert f"vector={vector}, blocks={blocks}" in ran.launches[0].config
    for r in results[1:]:
        np.testing.assert_array_equal(r, results[0])


def test_parameters():
    x = np.array([-2.0, 3.0], np.float32)
    with kernels.use("emulated"):
        for implementation in (kernels, reference):
            np.testing.assert_allclose(
                implementation.bias_activation(x, activation="leaky_relu", parameter=0.5), [-1, 3]
            )
            np.testing.assert_allclose(
                implementation.bias_activation(x, activation="elu", parameter=2.0), [2 * np.expm1(-2), 3], rtol=1e-6
            )
            np.testing.assert_allclose(
                implementation.bias_activation(x, activation="softplus", parameter=2.0),
                np.log1p(np.exp(2 * x)) / 2,
                rtol=1e-6,
            )


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda x: kernels.bias_activation(x, activation="swish"), ValueError),
        (lambda x: kernels.bias_activation(x, parameter="a"), TypeError),
        (lambda x: kernels.bias_activation(x, np.ones(3, np.float32)), ValueError),
        (lambda x: kernels.bias_activation(x, np.ones(4)), TypeError),
        (lambda x: kernels.bias_activation(x, residual=np.ones(4, np.float32)), ValueError),
        (lambda x: kernels.bias_activation(None), TypeError),
        (lambda x: kernels.bias_activation(x.astype(np.int32)), TypeError),
        (lambda x: kernels.bias_activation(x, config="fast"), TypeError),
        (lambda x: kernels.bias_activation_backward(None, x, activation="relu"), TypeError),
        (lambda x: kernels.bias_activation_backward(x[:1], x, activation="relu"), ValueError),
        (lambda x: kernels.bias_activation(x.astype(">f4")), TypeError),
    ],
)
def test_bad_input(call, error):
    with kernels.use("emulated"), pytest.raises(error):
        call(np.ones((2, 4), np.float32))


def test_memory_order_is_kept():
    """Images stay channels-last through an activation and its gradient: nothing is copied on the way."""
    rng = np.random.default_rng(11)
    x, grad, residual = (rng.standard_normal((2, 5, 6, 3)).astype(np.float32).transpose(0, 3, 1, 2) for _ in range(3))
    with kernels.use("emulated"), kernels.trace() as ran:
        y = kernels.bias_activation(x, activation="silu", residual=residual)
        back = kernels.bias_activation_backward(grad, x, activation="silu")
        mixed = kernels.bias_activation(x, activation="silu", residual=np.ascontiguousarray(residual))
    assert len(ran) == 3
    for got, want in (
        (y, reference.bias_activation(x, activation="silu", residual=residual)),
        (mixed, y),
        (back, reference.bias_activation_backward(grad, x, activation="silu")),
    ):
        assert got.transpose(0, 2, 3, 1).flags.c_contiguous
        np.testing.assert_allclose(got, want, 1e-6, 1e-6)
