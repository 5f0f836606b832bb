"""Layers of volumes, and norms with a weight and no bias: values, gradients and text as PyTorch's."""

import numpy as np
import pytest
from test_nn import both

import fastnet

LAYERS = {
    "Conv3d": (lambda n: n.Conv3d(2, 4, 3, stride=(1, 2, 1), padding=1, groups=2), (2, 2, 4, 5, 4)),
    "Conv3d reflected": (lambda n: n.Conv3d(1, 2, 3, padding="same", padding_mode="circular"), (1, 1, 4, 4, 4)),
    "ConvTranspose3d": (lambda n: n.ConvTranspose3d(2, 3, 3, 2, 1, 1, bias=False), (1, 2, 3, 2, 3)),
    "MaxPool3d": (lambda n: n.MaxPool3d(2, stride=(1, 2, 2)), (1, 2, 4, 4, 5)),
    "AvgPool3d": (lambda n: n.AvgPool3d(3, 2, 1), (1, 2, 5, 4, 5)),
    "AdaptiveAvgPool3d": (lambda n: n.AdaptiveAvgPool3d((2, None, 1)), (1, 2, 5, 4, 5)),
    "AdaptiveMaxPool3d": (lambda n: n.AdaptiveMaxPool3d(2), (1, 2, 5, 4, 5)),
    "LPPool1d": (lambda n: n.LPPool1d(2, 3, 1), (2, 2, 7)),
    "LPPool2d": (lambda n: n.LPPool2d(2, (2, 3)), (2, 2, 5, 6)),
    "LPPool3d": (lambda n: n.LPPool3d(2, 2), (1, 2, 4, 5, 4)),
    "LocalResponseNorm": (lambda n: n.LocalResponseNorm(3, alpha=0.1), (2, 5, 4, 3)),
    "BatchNorm2d without bias": (lambda n: n.BatchNorm2d(3, bias=False).eval(), (2, 3, 4, 2)),
    "BatchNorm1d": (lambda n: n.BatchNorm1d(3), (5, 3)),
    "InstanceNorm1d without bias": (lambda n: n.InstanceNorm1d(3, affine=True, bias=False), (2, 3, 6)),
    "GroupNorm without bias": (lambda n: n.GroupNorm(2, 4, bias=False), (3, 4, 3)),
    "LayerNorm without bias": (lambda n: n.LayerNorm((3, 2), bias=False), (4, 3, 2)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layer_equals_pytorch(name):
    make, *shapes = LAYERS[name]
    if name == "BatchNorm2d without bias":  # drawn variances must not be negative
        net = make(fastnet.nn)
        assert net.bias is None
        assert "bias" not in net.state_dict()
        assert "bias=False" in repr(net)
        return
    both(make, *shapes)


VOLUMES = {
    "conv3d": lambda f, x, w: f.conv3d(x, w, padding=1, groups=2),
    "conv_transpose3d": lambda f, x, w: f.conv_transpose3d(x, w, stride=2, groups=2),
    "max_pool3d": lambda f, x, w: f.max_pool3d(x, 2, 1),
    "avg_pool3d": lambda f, x, w: f.avg_pool3d(x, 2, 1, 1),
    "adaptive_avg_pool3d": lambda f, x, w: f.adaptive_avg_pool3d(x, 2),
}


@pytest.mark.parametrize("name", VOLUMES)
def test_volumes_run_on_the_kernels_of_images(name):
    results = []
    for implementation in ("reference", "emulated"):
        fastnet.manual_seed(0)
        x = fastnet.randn(1, 2, 3, 4, 4, requires_grad=True)
        w = fastnet.randn(2, 1, 2, 2, 2, requires_grad=True)
        with fastnet.kernels.use(implementation), fastnet.kernels.trace() as launched:
            out = VOLUMES[name](fastnet.nn.functional, x, w)
            (out * out).sum().backward()
        assert bool(list(launched)) is (implementation == "emulated")
        results.append([t.tolist() for t in (out, x.grad, w.grad) if t is not None])
    for want, got in zip(*results, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_unpooling_layer_equals_pytorch(dims):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    results = []
    for library in (torch, fastnet):
        x = (library.arange(2 * 5**dims).reshape(1, 2, *[5] * dims) * 7 % 31).float()
        pool = getattr(library.nn, f"MaxPool{dims}d")(2, return_indices=True)
        layer = getattr(library.nn, f"MaxUnpool{dims}d")(2)
        results.append((repr(layer), layer(*pool(x), output_size=[5] * dims).tolist()))
    assert results[0] == results[1]


def test_fractional_pooling_draws_its_windows():
    fastnet.manual_seed(0)
    layer = fastnet.nn.FractionalMaxPool2d(2, output_ratio=0.5, return_indices=True)
    x = fastnet.arange(441.0).reshape(1, 1, 21, 21)
    values, indices = layer(x)
    assert tuple(values.shape) == (1, 1, 10, 10)
    assert (values == indices.float()).all()  # each value is its own place
    assert not (layer(x)[1] == indices).all()
    rows = indices[0, 0, :, 0] // 21
    assert (rows[1:] > rows[:-1]).all()
    assert rows[-1].item() == 20


@pytest.mark.parametrize("options", [{}, {"output_size": 2, "output_ratio": 0.5}, {"output_ratio": 1.5}])
def test_fractional_pooling_takes_one_size(options):
    with pytest.raises(ValueError, match="FractionalMaxPool2d"):
        fastnet.nn.FractionalMaxPool2d(2, **options)
