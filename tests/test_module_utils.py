"""nn.utils' hooks, folded batch norm, and calls with other parameters, against PyTorch's from the same weights."""

import copy
import warnings

import numpy as np
import pytest

import fastnet
from fastnet import nn
from fastnet.func import functional_call
from fastnet.nn.utils import parametrizations, parametrize, stateless

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

LAYERS = {
    "linear": (lambda nn: nn.Linear(5, 4).double(), (3, 5)),
    "conv": (lambda nn: nn.Conv2d(2, 3, 3).double(), (2, 2, 5, 5)),
    "transposed": (lambda nn: nn.ConvTranspose2d(2, 3, 3).double(), (2, 2, 4, 4)),
}
NORMS = {
    "weight norm": ("weight_norm", {}),
    "weight norm of dimension 1": ("weight_norm", {"dim": 1}),
    "weight norm of all": ("weight_norm", {"dim": None}),
    "spectral norm": ("spectral_norm", {}),
    "spectral norm of dimension 1": ("spectral_norm", {"dim": 1, "n_power_iterations": 3}),
}
ignore_deprecation = pytest.mark.filterwarnings("ignore::FutureWarning")


def ours_of(tensor):
    return fastnet.tensor(tensor.detach().numpy())


def load(ours, theirs):
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict({k: ours_of(v) for k, v in theirs.state_dict().items()})


def close(ours, theirs):
    np.testing.assert_allclose(ours.detach().numpy(), theirs.detach().numpy(), rtol=1e-10, atol=1e-12)


def both(layer, shape, seed=0):
    x = np.random.default_rng(seed).standard_normal(shape)
    return layer(nn), layer(torch.nn), fastnet.tensor(x), torch.tensor(x)


@ignore_deprecation
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("layer", LAYERS)
def test_norms(layer, norm):
    function, options = NORMS[norm]
    ours, theirs, x, y = both(*LAYERS[layer])
    plain = copy.deepcopy(ours).weight
    assert getattr(nn.utils, function)(ours, **options) is ours
    getattr(torch.nn.utils, function)(theirs, **options)
    if function == "weight_norm":
        close(ours.weight, torch.tensor(plain.detach().numpy()))  # nothing has changed yet
    load(ours, theirs)
    for _ in range(2):  # the power method goes on from call to call
        result, expected = ours(x), theirs(y)
        close(result, expected)
    result.sum().backward()
    expected.sum().backward()
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        close(p.grad, q.grad)
        assert not name.endswith("weight")
    for name, value in theirs.state_dict().items():
        close(ours.state_dict()[name], value)
    close(ours.eval()(x), theirs.eval()(y))
    with pytest.raises(RuntimeError, match="Cannot register two"):
        getattr(nn.utils, function)(ours)
    getattr(nn.utils, f"remove_{function}")(ours)
    getattr(torch.nn.utils, f"remove_{function}")(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    close(ours.weight, theirs.weight)
    close(ours(x), theirs(y))
    with pytest.raises(ValueError, match="not found"):
        getattr(nn.utils, f"remove_{function}")(ours)


@ignore_deprecation
def test_norms_refuse():
    with pytest.raises(ValueError, match="positive"):
        nn.utils.spectral_norm(nn.Linear(2, 2), n_power_iterations=0)
    with pytest.raises(ValueError, match="None"):
        nn.utils.spectral_norm(nn.Linear(2, 2, bias=False), "bias")
    with pytest.raises(AttributeError):
        nn.utils.weight_norm(nn.Linear(2, 2), "other")
    with pytest.raises(ValueError, match="lazy"):
        nn.utils.weight_norm(nn.LazyLinear(2))


def test_weight_norm_is_deprecated_as_in_pytorch():
    for library in (nn, torch.nn):
        with pytest.warns(FutureWarning, match="parametrizations.weight_norm"):
            library.utils.weight_norm(library.Linear(2, 2))


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", ["conv", "transposed", "linear", "linear, one feature"])
def test_fused_batch_norm(kind, affine, bias):
    def make(nn, rand):
        layer = {
            "conv": lambda: nn.Conv2d(2, 3, 3, bias=bias),
            "transposed": lambda: nn.ConvTranspose2d(2, 3, 3, bias=bias),
        }.get(kind, lambda: nn.Linear(2, 3, bias=bias))()
        flat = kind.startswith("linear")
        bn = (nn.BatchNorm1d if flat else nn.BatchNorm2d)(1 if kind.endswith("feature") else 3, affine=affine)
        bn.running_mean.copy_(rand(bn.num_features))
        bn.running_var.copy_(rand(bn.num_features) + 0.5)
        return layer.double().eval(), bn.double().eval()

    (layer, bn), (theirs, their_bn) = make(nn, fastnet.rand), make(torch.nn, torch.rand)
    load(layer, theirs)
    load(bn, their_bn)
    x = np.random.default_rng(0).standard_normal((2, 2) if kind.startswith("linear") else (1, 2, 5, 5))
    before = {k: v.clone() for k, v in layer.state_dict().items()}
    if kind.startswith("linear"):
        fused = nn.utils.fuse_linear_bn_eval(layer, bn)
        if not affine:  # PyTorch's takes none without a weight
            outputs = theirs(torch.tensor(x))
            close(fused(fastnet.tensor(x)), their_bn(outputs.reshape(-1, their_bn.num_features)).reshape(outputs.shape))
            return
        expected = torch.nn.utils.fuse_linear_bn_eval(theirs, their_bn)
    else:
        fused = nn.utils.fuse_conv_bn_eval(layer, bn, kind == "transposed")
        expected = torch.nn.utils.fuse_conv_bn_eval(theirs, their_bn, kind == "transposed")
    for (name, p), (other, q) in zip(fused.named_parameters(), expected.named_parameters(), strict=True):
        assert (name, p.requires_grad) == (other, q.requires_grad)
        close(p, q.expand(p.shape))
    close(fused(fastnet.tensor(x)), expected(torch.tensor(x)))
    assert all((layer.state_dict()[k] == v).all() for k, v in before.items())
    for broken in (layer.train(), bn.train()):
        with pytest.raises(AssertionError, match="eval"):
            nn.utils.fuse_conv_bn_eval(layer, bn)
        broken.eval()
    with pytest.raises(AssertionError, match="num_features"):
        nn.utils.fuse_linear_bn_eval(nn.Linear(2, 4).eval(), nn.BatchNorm1d(3).eval())


def test_skip_init():
    layer = nn.utils.skip_init(nn.Linear, 3, 2, bias=False, dtype=fastnet.float64)
    assert (layer.weight.shape, layer.weight.dtype, layer.bias) == ((2, 3), fastnet.float64, None)
    for library in (nn, torch.nn):
        with pytest.raises(RuntimeError, match="device"):
            library.utils.skip_init(library.ReLU)
        with pytest.raises(RuntimeError, match="Expected a Module"):
            library.utils.skip_init(dict)


def test_transferred_parametrizations():
    source = parametrizations.weight_norm(nn.Linear(3, 2))
    target = nn.Linear(3, 2)
    assert parametrize.transfer_parametrizations_and_params(source, target) is target
    assert parametrize.type_before_parametrizations(target) is parametrize.type_before_parametrizations(source)
    assert parametrize.type_before_parametrizations(nn.ReLU()) is nn.ReLU
    assert target.parametrizations.weight.original0 is source.parametrizations.weight.original0
    assert (target.weight == source.weight).all()
    plain = nn.Linear(3, 2)
    assert parametrize.transfer_parametrizations_and_params(plain, target) is target


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Linear(3, 3)
        self.two = nn.Linear(3, 3, bias=False)
        self.two.weight = self.one.weight

    def forward(self, x, scale=1):
        return self.two(self.one(x)) * scale


def test_functional_call():
    model, x = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)), fastnet.randn(4, 3)
    twin = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    parameters = {k: v.detach().clone().requires_grad_() for k, v in twin.named_parameters()}
    buffers = {k: v.clone() for k, v in twin.named_buffers()}
    before = {k: v.clone() for k, v in model.state_dict().items()}
    result = functional_call(model, (parameters, buffers), x, strict=True)
    expected = twin(x)
    close(result, torch.tensor(expected.detach().numpy()))
    result.square().sum().backward()
    expected.square().sum().backward()
    for name, p in twin.named_parameters():
        close(parameters[name].grad, torch.tensor(p.grad.numpy()))
    assert buffers["1.num_batches_tracked"] == 1
    assert all((model.state_dict()[k] == v).all() for k, v in before.items())
    assert all(isinstance(p, nn.Parameter) for p in model.parameters())
    assert all(p.grad is None for p in model.parameters())


def test_functional_call_of_tied_parameters():
    model, x, one = Tied(), fastnet.ones(1, 3), fastnet.eye(3)
    given = {"one.weight": one, "one.bias": fastnet.zeros(3)}
    assert functional_call(model, given, (x,), {"scale": 2}).tolist() == [[2, 2, 2]]
    assert functional_call(model, given, x, tie_weights=False).tolist() == model.two(x).tolist()
    with pytest.raises(ValueError, match="tied"):
        functional_call(model, {**given, "two.weight": 2 * one}, x)
    assert functional_call(model, {**given, "two.weight": 2 * one}, x, tie_weights=False).tolist() == [[2, 2, 2]]


def test_functional_call_refuses():
    model, x = nn.Linear(2, 1), fastnet.ones(2)
    weight = model.weight
    for exception, given, options, what in [
        (ValueError, [("weight", weight)], {}, "dictionaries"),
        (ValueError, 3, {}, "dict"),
        (ValueError, ({"weight": weight}, {"weight": weight}), {}, "multiple"),
        (RuntimeError, {"weight": weight}, {"strict": True}, "bias"),
        (RuntimeError, {"weight": weight, "bias": model.bias, "more": weight}, {"strict": True}, "more"),
        (TypeError, {"weight": 3}, {}, "weight is a int"),
        (AttributeError, {"bias": fastnet.zeros(1), "no.weight": weight}, {}, "no"),
    ]:
        with pytest.raises(exception, match=what):
            functional_call(model, given, x, **options)
        assert model.weight is weight
        assert isinstance(model.bias, nn.Parameter)  # what had been put in place is taken back


def test_stateless_has_the_older_name():
    layer = nn.Linear(1, 1, bias=False)
    with pytest.warns(FutureWarning, match="deprecated"):
        assert stateless.functional_call(layer, {"weight": fastnet.full((1, 1), 3.0)}, fastnet.ones(1)) == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        functional_call(layer, {}, fastnet.ones(1))


@pytest.mark.parametrize("options", [{}, {"affine": False}, {"track_running_stats": False}, {"bias": False}])
def test_sync_batch_norm_of_one_process_is_batch_norm(options):
    def make(nn):
        return nn.Sequential(nn.Conv1d(2, 3, 1), nn.Sequential(nn.BatchNorm1d(3, momentum=0.3, **options)))

    plain, x = make(nn), fastnet.randn(4, 2, 5)
    expected = plain(x)
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(plain))
    theirs = torch.nn.SyncBatchNorm.convert_sync_batchnorm(make(torch.nn))
    assert list(converted.state_dict()) == list(theirs.state_dict())
    assert repr(converted) == repr(theirs)
    close(converted(x), torch.tensor(expected.detach().numpy()))
    weight = plain[1][0].weight
    shared = nn.SyncBatchNorm.convert_sync_batchnorm(plain)
    assert shared is plain
    assert shared[1][0].weight is weight  # optimizers hold it
    for library in (nn, torch.nn):
        with pytest.raises(ValueError, match="2D"):
            library.SyncBatchNorm(3)((fastnet if library is nn else torch).ones(3))
