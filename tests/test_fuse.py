"""fuse: the same results and gradients from fewer kernels; modules with something of their own are called as before."""

from collections import OrderedDict

import numpy as np
import pytest
from support import assert_close

import fastnet
from fastnet import kernels, nn

ACTIVATIONS = [
    nn.ReLU(),
    nn.ReLU(inplace=True),
    nn.LeakyReLU(0.2),
    nn.ELU(0.7),
    nn.GELU(),
    nn.GELU("tanh"),
    nn.SiLU(),
    nn.Mish(),
    nn.Sigmoid(),
    nn.Tanh(),
    nn.Hardswish(),
    nn.Softplus(2.0),
]


@pytest.fixture(params=["reference", "emulated"])
def mode(request):
    with kernels.use(request.param):
        yield request.param


def layers(activation, dtype=fastnet.float32):
    fastnet.manual_seed(3)
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(2, 4, 3, stride=2, padding=1, dtype=dtype),
            activation=activation,
            second=nn.Sequential(
                nn.Conv2d(4, 6, 1, bias=False, dtype=dtype), nn.BatchNorm2d(6, dtype=dtype), nn.ReLU()
            ),
            flat=nn.Flatten(),
            linear=nn.Linear(6 * 3 * 4, 5, dtype=dtype),
            after=activation,
            last=nn.Linear(5, 3, dtype=dtype),
        )
    )


def run(model, x):
    """Result and all gradients."""
    x = x.clone().requires_grad_()
    model.zero_grad()
    y = model(x)
    (y * fastnet.arange(y.numel(), dtype=y.dtype).reshape(y.shape)).sum().backward()
    return [y.detach(), x.grad, *[p.grad.clone() for p in model.parameters()]]


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_same_results_and_gradients(activation, mode):
    x = fastnet.randn(2, 2, 5, 8, dtype=fastnet.float64)
    for training in (True, False):
        plain = layers(activation, fastnet.float64).train(training)
        keys = list(plain.state_dict())
        want = run(plain, x)
        model = fastnet.fuse(layers(activation, fastnet.float64)).train(training)
        assert list(model.state_dict()) == keys
        for got, expected in zip(run(model, x), want, strict=True):
            scale = float(expected.abs().max())
            assert_close(got.numpy(), expected.numpy(), 1e-12 * (1 + scale), f"{activation} {training}")


def test_fewer_kernels():
    x, model = fastnet.randn(2, 2, 5, 8), layers(nn.ReLU())
    first, second, last = ["conv2d"], ["conv2d", "batch_norm"], ["matmul"]
    alone = ["bias_activation"]
    assert seen(model, x) == first + alone + second + alone + last + alone + last
    assert seen(fastnet.fuse(model), x) == first + second + last + last


def seen(model, x):
    """Names of the kernels that a call ran."""
    with kernels.use("emulated"), kernels.trace() as ran:
        model(x)
    return ran.names


def test_modules_with_something_of_their_own_are_called():
    x, called = fastnet.randn(3, 4), []

    class Doubling(nn.ReLU):
        def forward(self, input):
            return 2 * super().forward(input)

    for change in ("forward hook", "pre-hook", "backward hook", "forward"):
        for i in (0, 1):
            model = fastnet.fuse(nn.Sequential(nn.Linear(4, 5), nn.ReLU()))
            assert seen(model, x) == ["matmul"]
            if change == "forward hook":
                model[i].register_forward_hook(lambda *a: called.append(1))
            elif change == "pre-hook":
                model[i].register_forward_pre_hook(lambda *a: called.append(1))
            elif change == "backward hook":
                model[i].register_full_backward_hook(lambda *a: called.append(1))
            else:
                forward = model[i].forward
                model[i].forward = lambda input, forward=forward: called.append(1) or forward(input)
            assert seen(model, x) == ["matmul", "bias_activation"], change
            if change == "backward hook":
                model(x).sum().backward()
            assert called, change
            called.clear()
    double = fastnet.fuse(nn.Sequential(nn.Linear(4, 5), Doubling()))
    assert (double(x) == 2 * fastnet.relu(double[0](x))).all()
    normal = fastnet.fuse(nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(4, 5)), nn.ReLU()))
    assert seen(normal.eval(), x)[-1] == "bias_activation"


def test_what_no_kernel_has_is_left():
    for model, x in [
        (nn.Sequential(nn.Linear(4, 5), nn.Softplus(1.0, 5.0)), fastnet.randn(3, 4)),
        (nn.Sequential(nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), nn.ReLU()), fastnet.randn(1, 2, 5, 5)),
        (nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU()), fastnet.randn(2, 5, 5)),
        (nn.Sequential(nn.BatchNorm1d(4), nn.Tanh()), fastnet.randn(3, 4)),
        (nn.Sequential(nn.ReLU(), nn.Linear(4, 5)), fastnet.randn(3, 4)),
        (nn.Sequential(), fastnet.randn(3, 4)),
        (nn.Linear(4, 5), fastnet.randn(3, 4)),
    ]:
        model.eval()
        want = model(x)
        assert (fastnet.fuse(model)(x) == want).all(), model


def test_slices_and_resume():
    model = fastnet.fuse(layers(nn.ReLU()))
    plain = layers(nn.ReLU())
    model.load_state_dict(plain.state_dict())
    x = fastnet.randn(2, 2, 5, 8)
    assert_close(model[:4](x).detach().numpy(), plain[:4](x).detach().numpy(), 1e-5, "slice")
    assert fastnet.fuse(model) is model
    assert isinstance(model, nn.Sequential)


def test_autocast_and_half_precision():
    """Sums are rounded once where two operations round twice: by half a unit in the last place of what lies between."""
    fastnet.manual_seed(4)
    model = nn.Sequential(nn.Linear(64, 32), nn.GELU())
    x = fastnet.randn(8, 64)
    want = model(x).detach().numpy().astype(np.float64)
    fused = fastnet.fuse(model)
    with fastnet.autocast("cpu", dtype=fastnet.bfloat16):
        got = fused(x)
    assert got.dtype is fastnet.bfloat16
    assert_close(got.float().detach().numpy(), want, 2.0**-6 * (1 + abs(want)), "bfloat16")


def test_bad_arguments():
    for bad in (None, 3, [nn.Linear(1, 1)], nn.Linear):
        with pytest.raises(TypeError, match="fuse: model is a"):
            fastnet.fuse(bad)
