"""Autocast: which functions run in which dtype, as PyTorch has it on the CPU; loss scaling; recomputed activations."""

import numpy as np
import pytest

import fastnet
from fastnet import nn
from fastnet.utils.checkpoint import checkpoint, checkpoint_sequential

bf16, f32 = fastnet.bfloat16, fastnet.float32


def cases(t):
    """Calls by name; dtypes of their results under autocast must be PyTorch's."""
    F, x, w = t.nn.functional, t.ones(4, 4), t.ones(4, 4)
    image, filters = t.ones(1, 2, 5, 5), t.ones(3, 2, 3, 3)
    target, double = t.tensor([0, 1, 2, 3]), t.ones(4, 4, dtype=t.float64)
    half = x.to(t.bfloat16)
    return {
        "matmul": lambda: x @ w,
        "mm": lambda: t.mm(x, w),
        "bmm": lambda: t.bmm(x[None], w[None]),
        "addmm": lambda: t.addmm(x, x, w),
        "linear": lambda: F.linear(x, w),
        "Linear": lambda: t.nn.Linear(4, 3)(x),
        "double": lambda: double @ double,
        "conv2d": lambda: F.conv2d(image, filters),
        "Conv2d": lambda: t.nn.Conv2d(2, 3, 3)(image),
        "sdpa": lambda: F.scaled_dot_product_attention(x[None, None], x[None, None], x[None, None]),
        "einsum": lambda: t.einsum("ij,jk->ik", x, w),
        "add": lambda: x + w,
        "add mixed": lambda: half + x,
        "relu of linear": lambda: t.relu(F.linear(x, w)),
        "softmax of linear": lambda: F.linear(x, w).softmax(-1),
        "cross_entropy": lambda: F.cross_entropy(half, target),
        "mse_loss": lambda: F.mse_loss(half, half),
        "cat mixed": lambda: t.cat([half, x]),
        "sum": lambda: half.sum(),
        "layer_norm": lambda: F.layer_norm(half, (4,)),
        "ints": lambda: target + 1,
        "MultiheadAttention": lambda: t.nn.MultiheadAttention(4, 2)(x[None], x[None], x[None], need_weights=False)[0],
    }


@pytest.mark.parametrize("name", cases(fastnet))
def test_dtypes_equal_pytorch(name):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        want = cases(torch)[name]().dtype
    with fastnet.autocast("cpu", dtype=bf16):
        got = cases(fastnet)[name]().dtype
    assert got.name == str(want).split(".")[1]


def test_outside_and_nested():
    x = fastnet.ones(2, 2)
    assert not fastnet.is_autocast_enabled("cpu")
    with fastnet.autocast("cpu"):
        assert fastnet.is_autocast_enabled("cpu")
        assert (x @ x).dtype is bf16
        with fastnet.amp.autocast("cpu", enabled=False):
            assert (x @ x).dtype is f32
        with fastnet.autocast("cpu", dtype=fastnet.float16):
            assert (x @ x).dtype is fastnet.float16
        with fastnet.autocast("cuda"):
            assert (x @ x).dtype is bf16
    assert (x @ x).dtype is f32

    @fastnet.autocast("cpu")
    def product(y):
        return y @ y

    assert product(x).dtype is bf16
    with pytest.raises(RuntimeError, match="device_type"):
        fastnet.autocast("tpu")
    with pytest.raises(ValueError, match="dtype"):
        fastnet.autocast("cpu", dtype=f32)
    with fastnet.cuda.amp.autocast(enabled=False):
        assert (x @ x).dtype is f32


def test_a_parameter_is_cast_once_and_keeps_its_dtype():
    layer = nn.Linear(4, 4)
    seen = []
    with fastnet.autocast("cpu"):
        for _ in range(2):
            seen.append(fastnet._autocast.lowered(layer.weight))
        y = layer(layer(fastnet.ones(3, 4)))
    assert seen[0] is seen[1]
    y.float().sum().backward()
    assert layer.weight.grad.dtype is f32
    with fastnet.autocast("cpu", cache_enabled=False):
        assert fastnet._autocast.lowered(layer.weight) is not fastnet._autocast.lowered(layer.weight)


def test_training_in_bfloat16_follows_float32():
    """Twenty steps of a small network: losses within a few bfloat16 roundings of those in float32."""
    losses = []
    for enabled in (False, True):
        fastnet.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.LayerNorm(32), nn.Linear(32, 4))
        optimizer = fastnet.optim.SGD(model.parameters(), lr=0.1)
        x, y = fastnet.randn(64, 8), fastnet.randint(0, 4, (64,))
        for _ in range(20):
            with fastnet.autocast("cpu", enabled=enabled):
                loss = nn.functional.cross_entropy(model(x), y)
            assert loss.dtype is f32
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
    assert losses[0] < 1.2
    assert abs(losses[0] - losses[1]) < 0.02


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_recurrent_layers(name):
    layer = getattr(nn, name)(4, 5, bidirectional=True)
    with fastnet.autocast("cpu"):
        out, _ = layer(fastnet.ones(3, 2, 4))
    assert out.dtype is bf16
    out.float().sum().backward()
    assert all(p.grad.dtype is f32 for p in layer.parameters())


def test_custom_function():
    class Square(fastnet.autograd.Function):
        @staticmethod
        @fastnet.amp.custom_fwd(device_type="cpu", cast_inputs=f32)
        def forward(ctx, x):
            ctx.save_for_backward(x)
            assert not fastnet.is_autocast_enabled("cpu")
            return x @ x

        @staticmethod
        @fastnet.amp.custom_bwd(device_type="cpu")
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            return grad @ x.T + x.T @ grad

    x = fastnet.ones(2, 2, requires_grad=True)
    with fastnet.autocast("cpu"):
        y = Square.apply(x)
    assert y.dtype is f32
    y.sum().backward()
    assert x.grad.tolist() == [[4, 4], [4, 4]]


# ---- loss scaling --------------------------------------------------------------------------------------------------


def test_scaler_equals_pytorch():
    """Scales and parameters over steps with and without infinities."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    found = []
    for lib, device in ((torch, "cpu"), (fastnet, "cpu")):
        p = lib.nn.Parameter(lib.ones(3))
        optimizer = lib.optim.SGD([p], lr=0.1)
        scaler = lib.amp.GradScaler(device, init_scale=8.0, growth_interval=2, enabled=True)
        scales = []
        for step in range(8):
            optimizer.zero_grad()
            factor = float("inf") if step in (2, 5) else 1.0
            scaler.scale((p * factor).sum()).backward()
            if step % 2:
                scaler.unscale_(optimizer)
                lib.nn.utils.clip_grad_norm_([p], 1.0)
            scaler.step(optimizer)
            scaler.update()
            scales.append(scaler.get_scale())
        found.append((scales, p.detach().numpy(), scaler.state_dict()))
    assert found[0][0] == found[1][0]
    np.testing.assert_allclose(found[1][1], found[0][1], rtol=1e-6)
    assert found[0][2] == found[1][2]


def test_scaler_states_and_misuse():
    p = nn.Parameter(fastnet.ones(2))
    optimizer = fastnet.optim.SGD([p], lr=0.1)
    scaler = fastnet.amp.GradScaler(init_scale=4.0)
    other = fastnet.amp.GradScaler()
    other.load_state_dict(scaler.state_dict())
    assert other.get_scale() == 4.0
    with pytest.raises(AssertionError, match="inf checks"):
        scaler.update()
    scaler.scale(p.sum()).backward()
    scaler.unscale_(optimizer)
    assert p.grad.tolist() == [1, 1]
    with pytest.raises(RuntimeError, match="already been called"):
        scaler.unscale_(optimizer)
    scaler.step(optimizer)
    with pytest.raises(RuntimeError, match="since the last update"):
        scaler.step(optimizer)
    off = fastnet.amp.GradScaler(enabled=False)
    assert off.scale(p) is p
    assert off.get_scale() == 1.0
    assert off.state_dict() == {}


# ---- recomputation -------------------------------------------------------------------------------------------------


def test_checkpoint_gives_the_same_gradients_with_dropout():
    """The same masks again: outputs and gradients are the same bits."""
    results = []
    for recompute in (False, True):
        fastnet.manual_seed(5)
        block = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 6))
        x = fastnet.randn(4, 6).requires_grad_()
        calls = []
        block[0].register_forward_hook(lambda *_, calls=calls: calls.append(1))
        y = checkpoint(block, x, use_reentrant=False) if recompute else block(x)
        (y * y).sum().backward()
        assert len(calls) == 1 + recompute
        after = fastnet.rand(3)
        results.append([y, x.grad, after, *(p.grad for p in block.parameters())])
    for a, b in zip(*results, strict=True):
        assert a.tolist() == b.tolist()


def test_checkpoint_of_inputs_without_gradients_and_several_outputs():
    layer = nn.Linear(3, 2)
    a, b = checkpoint(lambda x, scale=1.0: (layer(x), layer(x) * scale), fastnet.ones(2, 3), scale=2.0)
    (a + b).sum().backward()
    assert layer.bias.grad.tolist() == [6, 6]
    parts = nn.Sequential(*[nn.Linear(3, 3) for _ in range(5)])
    x = fastnet.ones(2, 3, requires_grad=True)
    checkpoint_sequential(parts, 2, x).sum().backward()
    found = x.grad.tolist()
    x.grad = None
    parts(x).sum().backward()
    assert x.grad.tolist() == found
    with fastnet.no_grad():
        assert not checkpoint(layer, fastnet.ones(1, 3)).requires_grad
