"""gated_activation and its gradients: emulated kernels and reference against float64, every activation and dtype;
swiglu and its layer against PyTorch's functions."""

import numpy as np
import pytest
from support import SCHEDULES, assert_close, bfloat16, epsilon, schedule

import fastnet
from fastnet import kernels, nn, reference
from fastnet.autograd import gradcheck
from fastnet.kernels import _runtime
from fastnet.kernels._arrays import empty
from fastnet.nn import functional as F
from fastnet.reference.pointwise import ACTIVATIONS

DTYPES = [np.float32, np.float64, np.float16, bfloat16]


def name(dtype):
    return np.dtype(dtype).name


def drawn(rng, shape, dtype, count):
    return [(2 * rng.standard_normal(shape)).astype(dtype) for _ in range(count)]


def check(got, arrays, dtype, activation, what):
    """Result, and gradients of gate and up, against float64."""
    gate, up, grad = (x.astype(np.float64) for x in arrays)
    # One rounding to the dtype; before it up to 8 in the accumulator of values no larger than 1 + |x|, and of
    # derivatives, which move with an argument that is exact here.
    inner = epsilon(np.float64 if dtype == np.float64 else np.float32)
    size = (1 + np.abs(gate)) * 8 * inner + (1 + np.abs(gate)) * epsilon(dtype)
    least = 2.0**-25 if dtype == np.float16 else 1e-37
    wanted = (
        reference.gated_activation(gate, up, activation=activation),
        *reference.gated_activation_backward(grad, gate, up, activation=activation),
    )
    bounds = size * np.abs(up) + least, 3 * size * np.abs(grad * up) + least, size * np.abs(grad) + least
    for part, g, w, bound in zip(("out", "gate", "up"), got, wanted, bounds, strict=True):
        assert g.dtype == np.dtype(dtype)
        assert_close(g, w, bound, f"{what} {activation} {part}")


@pytest.mark.parametrize("how", SCHEDULES, ids=lambda s: "-".join(map(str, s.values())))
@pytest.mark.parametrize("dtype", DTYPES, ids=name)
def test_every_activation(dtype, how):
    rng = np.random.default_rng(0)
    for activation in ACTIVATIONS:
        for shape in [(1,), (3, 7), (5, 16)]:
            gate, up, grad = arrays = drawn(rng, shape, dtype, 3)
            for what, by in ("kernels", kernels), ("reference", reference):
                with kernels.use("emulated", **how):
                    out = by.gated_activation(gate, up, activation=activation)
                    back = by.gated_activation_backward(grad, gate, up, activation=activation)
                check((out, *back), arrays, dtype, activation, f"{what} {shape}")


@pytest.mark.parametrize("dtype", DTYPES, ids=name)
def test_random_layouts(dtype, full):
    """Halves of longer rows where they lie, other strides and alignments, gradients side by side, every launch."""
    rng = np.random.default_rng(1)
    extension = _runtime.extension_for(np.empty(0))
    for i in range(300 if full else 24):
        lead = tuple(int(n) for n in rng.integers(1, 6, rng.integers(0, 3)))
        cols = int(rng.integers(1, 30)) * int(rng.choice([1, 8]))
        if i % 3 == 0:
            both = empty(np.empty(0), (*lead, 2 * cols), dtype)
            both[...] = drawn(rng, both.shape, dtype, 1)[0]
            gate, up = both[..., :cols], both[..., cols:]
        elif i % 3 == 1:
            gate, up = (np.repeat(x, 2, axis=-1)[..., ::2] for x in drawn(rng, (*lead, cols), dtype, 2))
        else:
            gate, up = (np.concatenate([x.ravel()[:1], x.ravel()])[1:].reshape(x.shape)
                        for x in drawn(rng, (*lead, cols), dtype, 2))  # fmt: skip
            gate = np.broadcast_to(gate[(0,) * len(lead)], gate.shape)
        (grad,) = drawn(rng, gate.shape, dtype, 1)
        config = extension.PointwiseConfig(vector=1, blocks=int(rng.integers(1, 5))) if i % 4 == 3 else None
        with kernels.use("emulated", **schedule(i)):
            out = kernels.gated_activation(gate, up, config=config)
            packed = kernels.gated_activation_backward(grad, gate, up, together=True, config=config)
        assert packed.shape == (*lead, 2 * cols)
        check((out, packed[..., :cols], packed[..., cols:]), (gate, up, grad), dtype, "silu", f"{i}")
        same = reference.gated_activation_backward(grad, gate, up, together=True)
        assert same.shape == packed.shape


def test_halves_are_read_where_they_lie():
    """No copies, and 16-byte accesses, for the halves of a wide product's rows."""
    both = empty(np.empty(0), (2, 6, 64), np.float32)
    both[...] = 1
    with kernels.use("emulated"), kernels.trace() as ran:
        kernels.gated_activation(both[..., :32], both[..., 32:])
        kernels.gated_activation_backward(both[..., :32], both[..., :32], both[..., 32:], together=True)
    assert len(ran.launches) == 2
    assert all("vector=4" in launch.config for launch in ran.launches)


@pytest.mark.parametrize("implementation", [kernels, reference], ids=["kernels", "reference"])
def test_bad_input(implementation):
    x = np.ones((2, 4), np.float32)
    for call, error, message in [
        (lambda: implementation.gated_activation(x, x[:1]), ValueError, "up has shape"),
        (lambda: implementation.gated_activation(x, x.astype(np.float64)), TypeError, "up has dtype"),
        (lambda: implementation.gated_activation(x.astype(int), x), TypeError, "gate has dtype"),
        (lambda: implementation.gated_activation(x[0, 0, ...], x), (ValueError, TypeError), "gate"),
        (lambda: implementation.gated_activation_backward(None, x, x), TypeError, "grad is a NoneType"),
    ]:
        with kernels.use("emulated"), pytest.raises(error, match=message):
            call()
    with kernels.use("emulated"):
        with pytest.raises(ValueError, match="activation is 'swish'"):
            kernels.gated_activation(x, x, activation="swish")
        config = _runtime.extension_for(x).PointwiseConfig(vector=4, blocks=1)
        with pytest.raises(ValueError, match="allow only vector=1"):
            kernels.gated_activation(x[:, 1:], x[:, 1:], config=config)


# ---- operations and layer ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["reference", "emulated"])
@pytest.mark.parametrize("activation", ["silu", "gelu", "gelu_tanh", "sigmoid", "relu"])
def test_gradients(mode, activation):
    fastnet.manual_seed(0)
    gate, up = (fastnet.randn(2, 3, 4, dtype=fastnet.float64, requires_grad=True) for _ in range(2))
    wide = fastnet.randn(3, 8, dtype=fastnet.float64, requires_grad=True)
    with kernels.use(mode):
        assert gradcheck(lambda a, b: F.gated_activation(a, b, activation=activation), [gate, up])
        assert gradcheck(lambda a: F.gated_activation(a, activation=activation), [wide])


@pytest.mark.parametrize("mode", ["reference", "emulated"])
def test_swiglu_equals_pytorch(mode):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 5, 8)).astype(np.float32)
    theirs = torch.tensor(x, requires_grad=True)
    gate, up = theirs.chunk(2, -1)
    want = torch.nn.functional.silu(gate) * up
    upstream = torch.linspace(-1, 1, want.numel()).reshape(want.shape)
    want.backward(upstream)
    with kernels.use(mode):
        for apart in (False, True):
            ours = fastnet.tensor(x, requires_grad=True)
            out = F.swiglu(*ours.chunk(2, -1)) if apart else F.swiglu(ours)
            out.backward(fastnet.tensor(upstream.numpy()))
            np.testing.assert_allclose(out.detach().numpy(), want.detach().numpy(), rtol=1e-6, atol=1e-6)
            np.testing.assert_allclose(ours.grad.numpy(), theirs.grad.numpy(), rtol=1e-6, atol=1e-6)


def test_the_layer_equals_pytorch():
    """The perceptron of Hugging Face's Llama, by its parameters' names."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")

    class Perceptron(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.gate_proj, self.up_proj = (torch.nn.Linear(6, 10, bias=False) for _ in range(2))
            self.down_proj = torch.nn.Linear(10, 6, bias=False)

        def forward(self, x):
            return self.down_proj(torch.nn.functional.silu(self.gate_proj(x)) * self.up_proj(x))

    torch.manual_seed(0)
    theirs, ours = Perceptron(), nn.SwiGLU(6, 10)
    ours.load_state_dict({k: fastnet.tensor(v.detach().numpy()) for k, v in theirs.state_dict().items()})
    x = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
    results = []
    for library, layer in ((torch, theirs), (fastnet, ours)):
        given = library.tensor(x, requires_grad=True)
        out = layer(given)
        (out * out).sum().backward()
        results.append([out.detach().numpy(), given.grad.numpy(), *(p.grad.numpy() for p in layer.parameters())])
    for want, got in zip(*results, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)
    assert nn.SwiGLU(4, 8, 3, bias=True)(fastnet.ones(2, 4)).shape == (2, 3)
    for wrong, error in [
        (lambda: F.swiglu(fastnet.ones(3)), ValueError),
        (lambda: F.swiglu(fastnet.ones(4), fastnet.ones(3)), ValueError),
        (lambda: F.swiglu(fastnet.ones(4), fastnet.ones(4).double()), ValueError),
        (lambda: F.swiglu(fastnet.tensor(1.0)), ValueError),
        (lambda: F.swiglu(fastnet.ones(4).long()), (ValueError, TypeError, RuntimeError)),
        (lambda: F.gated_activation(fastnet.ones(4), activation="swish"), ValueError),
    ]:
        with pytest.raises(error):
            wrong()
