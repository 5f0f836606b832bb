"""einops with fastnet's tensors, against NumPy's answers and PyTorch's layers; whichever is imported first."""

import subprocess
import sys

import numpy as np
import pytest

import fastnet
from fastnet import nn

einops = pytest.importorskip("einops", reason="einops is not installed")


@pytest.fixture
def x():
    return fastnet.randn(2, 3, 4, 6, dtype=fastnet.float64, generator=fastnet.Generator().manual_seed(3))


CALLS = {
    "rearrange": lambda x: einops.rearrange(x, "b c (h p) (w q) -> b (h w) (p q c)", p=2, q=3),
    "rearrange a list": lambda x: einops.rearrange([x, 2 * x], "k b c h w -> b k c h w"),
    "repeat": lambda x: einops.repeat(x, "b c h w -> (r b) c h w new", r=2, new=3),
    "repeat twice": lambda x: einops.repeat(x, "b c h w -> one b two c h w", one=2, two=3),
    "mean": lambda x: einops.reduce(x, "b c h w -> b c", "mean"),
    "sum": lambda x: einops.reduce(x, "b c h w -> h", "sum"),
    "max": lambda x: einops.reduce(x, "b c (h p) (w q) -> b c h w", "max", p=2, q=2),
    "min": lambda x: einops.reduce(x, "b c h w -> c ()", "min"),
    "prod": lambda x: einops.reduce(x, "b c h w -> b w", "prod"),
    "any": lambda x: einops.reduce(x > 1, "b c h w -> b w", "any"),
    "all": lambda x: einops.reduce(x > -1, "b c h w -> b w", "all"),
    "pack": lambda x: einops.pack([x, x[:, 0], 3 * x], "b * w")[0],
    "unpack": lambda x: einops.unpack(x, [(2,), ()], "b * h w")[1],
    "einsum": lambda x: einops.einsum(x, x[:, 0], "batch c h w, batch h w -> batch c"),
}


@pytest.mark.parametrize("name", CALLS)
def test_functions(x, name):
    ours, theirs = CALLS[name](x), CALLS[name](x.numpy())
    assert isinstance(ours, fastnet.Tensor)
    assert ours.numpy().dtype == theirs.dtype
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-12)


def test_other_functions(x):
    assert einops.parse_shape(x, "b _ h w") == {"b": 2, "h": 4, "w": 6}
    assert isinstance(einops.asnumpy(x), np.ndarray)
    with pytest.raises(NotImplementedError, match="non-floating"):
        einops.reduce(fastnet.ones(2, 2, dtype=fastnet.int64), "a b -> a", "mean")


def test_gradients_flow(x):
    x.requires_grad_()
    einops.repeat(einops.rearrange(x, "b c h w -> b (h w) c"), "b n c -> b n c r", r=3).sum().backward()
    assert (x.grad == 3).all()
    x.grad = None
    einops.reduce(x, "b c h w -> b", "max").sum().backward()
    assert x.grad.sum() == 2


def test_layers(x):
    from einops.layers.fastnet import EinMix, Rearrange, Reduce

    model = nn.Sequential(
        Rearrange("b c h w -> b (h w) c"),
        nn.Linear(3, 4, dtype=fastnet.float64),
        Reduce("b n c -> b c", "mean"),
    )
    assert list(model.state_dict()) == ["1.weight", "1.bias"]
    assert "Rearrange('b c h w -> b (h w) c')" in repr(model)
    expected = model[1](x.permute(0, 2, 3, 1).reshape(2, 24, 3)).mean(1)
    np.testing.assert_allclose(model(x).detach().numpy(), expected.detach().numpy(), rtol=1e-12)
    mix = EinMix("b (g c) h w -> b h w (g d)", "g c d", "g d", g=3, c=1, d=2).double()
    assert [(n, tuple(p.shape)) for n, p in mix.named_parameters()] == [
        ("weight", (3, 1, 2)),
        ("bias", (1, 1, 1, 3, 2)),
    ]
    assert mix(x).shape == (2, 4, 6, 6)
    assert [n for n, _ in EinMix("b c -> b d", "c d", c=3, d=2).named_parameters()] == ["weight"]


def test_layers_are_those_for_pytorch(x):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from einops.layers import fastnet as ours
    from einops.layers import torch as theirs

    arguments = ("b (g c) h w -> b h w (g d)", "g c d", "g d")
    a = ours.EinMix(*arguments, g=3, c=1, d=2).double()
    b = theirs.EinMix(*arguments, g=3, c=1, d=2).double()
    assert repr(a) == repr(b)
    a.load_state_dict({k: fastnet.tensor(v.numpy()) for k, v in b.state_dict().items()})
    expected = b(torch.tensor(x.numpy())).detach().numpy()
    np.testing.assert_allclose(a(x).detach().numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("first", ["einops, fastnet", "fastnet, einops"])
def test_either_is_imported_first(first, tmp_path):
    code = (
        f"import {first}; import einops.layers.fastnet as layers; x = fastnet.ones(2, 3); "
        "assert einops.rearrange(x, 'a b -> b a').shape == layers.Rearrange('a b -> b a')(x).shape == (3, 2); "
        "import sys; assert 'torch' not in sys.modules"
    )
    environment = {"PYTHONPATH": ":".join(p for p in sys.path if p)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert done.returncode == 0, done.stderr
