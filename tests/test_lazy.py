"""Lazy layers: shaped by the first input or by what is loaded, ordinary afterwards; as PyTorch's."""

import numpy as np
import pytest

import fastnet
from fastnet import nn

LAYERS = {
    "LazyLinear": (lambda n: n.LazyLinear(4), (2, 3)),
    "LazyLinear without bias": (lambda n: n.LazyLinear(4, bias=False), (2, 5, 3)),
    "LazyConv1d": (lambda n: n.LazyConv1d(4, 3, padding=1), (2, 3, 6)),
    "LazyConv2d": (lambda n: n.LazyConv2d(4, 3, stride=2, groups=2), (2, 6, 6, 7)),
    "LazyConv3d": (lambda n: n.LazyConv3d(2, (1, 2, 2), bias=False), (3, 3, 4, 4)),
    "LazyConvTranspose1d": (lambda n: n.LazyConvTranspose1d(4, 3, 2), (2, 3, 5)),
    "LazyConvTranspose2d": (lambda n: n.LazyConvTranspose2d(4, 3, 2, 1, 1, 2), (2, 4, 3, 3)),
    "LazyConvTranspose3d": (lambda n: n.LazyConvTranspose3d(2, 2), (1, 3, 2, 2, 2)),
    "LazyBatchNorm1d": (lambda n: n.LazyBatchNorm1d(), (4, 3)),
    "LazyBatchNorm2d": (lambda n: n.LazyBatchNorm2d(momentum=0.2, bias=False), (4, 3, 2, 2)),
    "LazyBatchNorm3d": (lambda n: n.LazyBatchNorm3d(affine=False), (2, 3, 2, 2, 2)),
    "LazyInstanceNorm1d": (lambda n: n.LazyInstanceNorm1d(), (4, 3, 5)),
    "LazyInstanceNorm2d": (lambda n: n.LazyInstanceNorm2d(track_running_stats=False), (4, 3, 2, 2)),
    "LazyInstanceNorm3d": (lambda n: n.LazyInstanceNorm3d(), (4, 3, 2, 2, 2)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_first_forward_shapes_the_layer(name):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    make, shape = LAYERS[name]
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    results = []
    for library in (torch, fastnet):
        layer = make(library.nn)
        before = repr(layer), list(layer.state_dict()), [repr(p) for p in layer.parameters()]
        state = make(library.nn)
        with torch.no_grad():
            layer(library.tensor(x))
        shapes = {k: tuple(v.shape) for k, v in layer.state_dict().items()}
        results.append((before, repr(layer), type(layer).__name__, shapes))
        if "Instance" in name:  # PyTorch's refuse an input where what was loaded shaped them
            continue
        # Loaded into one that has seen nothing: the same results.
        state.load_state_dict(layer.state_dict())
        for module in (layer, state):
            module.eval()
        with torch.no_grad():
            np.testing.assert_array_equal(state(library.tensor(x)).tolist(), layer(library.tensor(x)).tolist())
        assert type(state) is type(layer)
    assert results[0] == results[1]


def test_a_parameter_without_a_shape_says_so():
    layer = nn.LazyLinear(3)
    for use in (lambda p: p.shape, lambda p: p.sum(), lambda p: p.numel(), lambda p: p.reshape(-1)):
        with pytest.raises((RuntimeError, ValueError), match="uninitialized"):
            use(layer.weight)
    layer.double()
    assert layer.weight.dtype is fastnet.float64
    assert isinstance(layer.weight, nn.UninitializedParameter)
    layer(fastnet.ones(2, 5, dtype=fastnet.float64))
    assert type(layer.weight) is nn.Parameter
    assert layer.weight.requires_grad
    assert tuple(layer.weight.shape) == (3, 5)


def test_what_is_not_initialised_cannot_be_loaded_elsewhere():
    with pytest.raises(RuntimeError, match="uninitialized"):
        nn.Linear(2, 3).load_state_dict(nn.LazyLinear(3).state_dict())
    nn.LazyLinear(3).load_state_dict(nn.LazyLinear(3).state_dict())  # nothing to load


def test_groups_must_divide_the_channels():
    with pytest.raises(ValueError, match="groups"):
        nn.LazyConv2d(4, 3, groups=2)(fastnet.ones(1, 3, 5, 5))


def test_lazy_model_trains():
    fastnet.manual_seed(0)
    net = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
    x, y = fastnet.randn(8, 1, 5, 5), fastnet.arange(8) % 2
    net(x)
    optimizer = fastnet.optim.SGD(net.parameters(), lr=0.1)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
