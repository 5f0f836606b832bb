"""Modules and layers: registration, state, hooks, printing, and parity with PyTorch of every layer."""

import copy
import warnings

import numpy as np
import pytest

import fastnet
from fastnet import nn


def both(make, *shapes, dtype="float32", integer=None):
    """The same layer of both libraries with shared parameters, its outputs and all gradients compared."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    theirs, ours = make(torch.nn), make(nn)
    rng = np.random.default_rng(0)
    state = {k: rng.standard_normal(tuple(v.shape)).astype(np.float32) * 0.5 for k, v in theirs.state_dict().items()}
    assert list(state) == list(ours.state_dict())
    theirs.load_state_dict({k: torch.tensor(v) for k, v in state.items()})
    ours.load_state_dict({k: fastnet.tensor(v) for k, v in state.items()})
    arrays = [rng.integers(0, integer, s) if integer else rng.standard_normal(s).astype(np.float32) for s in shapes]
    results = []
    for library, layer in ((torch, theirs), (fastnet, ours)):
        inputs = [library.tensor(a) if integer else library.tensor(a).requires_grad_() for a in arrays]
        out = layer(*inputs)
        out.sum().backward() if out.dim() == 0 else (
            out * library.arange(out.numel()).reshape(out.shape).to(out.dtype)
        ).sum().backward()
        results.append(
            [
                out.detach().numpy(),
                *[t.grad.numpy() for t in inputs if not integer],
                *[p.grad.numpy() for p in layer.parameters()],
            ]
        )
    for w, g in zip(*results, strict=True):
        np.testing.assert_allclose(g, w, rtol=2e-5, atol=1e-5 * max(1, np.abs(w).max()))
    assert repr(ours) == repr(theirs)


LAYERS = {
    "Linear": (lambda n: n.Linear(5, 3), (4, 5)),
    "Linear without bias": (lambda n: n.Linear(5, 3, bias=False), (2, 4, 5)),
    "Bilinear": (lambda n: n.Bilinear(4, 3, 2), (5, 4), (5, 3)),
    "Flatten": (lambda n: n.Flatten(), (2, 3, 4)),
    "Unflatten": (lambda n: n.Unflatten(1, (2, 3)), (2, 6)),
    "Identity": (lambda n: n.Identity(), (3,)),
    "ReLU": (lambda n: n.ReLU(), (9,)),
    "LeakyReLU": (lambda n: n.LeakyReLU(0.3), (9,)),
    "PReLU": (lambda n: n.PReLU(3), (2, 3, 4)),
    "ELU": (lambda n: n.ELU(), (9,)),
    "GELU": (lambda n: n.GELU(), (9,)),
    "GELU tanh": (lambda n: n.GELU(approximate="tanh"), (9,)),
    "SiLU": (lambda n: n.SiLU(), (9,)),
    "Mish": (lambda n: n.Mish(), (9,)),
    "Softplus": (lambda n: n.Softplus(), (9,)),
    "Sigmoid": (lambda n: n.Sigmoid(), (9,)),
    "Tanh": (lambda n: n.Tanh(), (9,)),
    "Hardswish": (lambda n: n.Hardswish(), (9,)),
    "Hardsigmoid": (lambda n: n.Hardsigmoid(), (9,)),  # PyTorch's derivative is 1/6 in float32
    "Hardtanh": (lambda n: n.Hardtanh(-0.5, 0.5), (9,)),
    "ReLU6": (lambda n: n.ReLU6(), (9,)),
    "ReLU inplace repr": (lambda n: n.Sequential(n.Linear(3, 3), n.Mish(), n.ReLU6(inplace=True)), (2, 3)),
    "CELU": (lambda n: n.CELU(0.5), (9,)),
    "SELU": (lambda n: n.SELU(), (9,)),
    "GLU": (lambda n: n.GLU(0), (4, 3)),
    "RReLU eval": (lambda n: n.RReLU().eval(), (9,)),
    "Threshold": (lambda n: n.Threshold(0.1, 20), (9,)),
    "Softsign": (lambda n: n.Softsign(), (9,)),
    "LogSigmoid": (lambda n: n.LogSigmoid(), (9,)),
    "Tanhshrink": (lambda n: n.Tanhshrink(), (9,)),
    "Softshrink": (lambda n: n.Softshrink(0.3), (9,)),
    "Hardshrink": (lambda n: n.Hardshrink(), (9,)),
    "Softmin": (lambda n: n.Softmin(dim=1), (3, 4)),
    "Softmax2d": (lambda n: n.Softmax2d(), (2, 3, 2, 2)),
    "Dropout1d eval": (lambda n: n.Dropout1d(0.3).eval(), (3, 4)),
    "Dropout3d eval": (lambda n: n.Dropout3d(0.3).eval(), (2, 3, 2, 2)),
    "AlphaDropout eval": (lambda n: n.AlphaDropout(0.3).eval(), (3, 4)),
    "FeatureAlphaDropout eval": (lambda n: n.FeatureAlphaDropout(0.3).eval(), (3, 4)),
    "HuberLoss": (lambda n: n.HuberLoss(delta=0.5), (3, 4), (3, 4)),
    "PairwiseDistance": (lambda n: n.PairwiseDistance(1.5), (3, 4), (3, 4)),
    "CosineSimilarity": (lambda n: n.CosineSimilarity(dim=0), (3, 4), (3, 4)),
    "MarginRankingLoss": (lambda n: n.MarginRankingLoss(0.2), (4,), (4,), (4,)),
    "TripletMarginLoss": (lambda n: n.TripletMarginLoss(swap=True), (3, 4), (3, 4), (3, 4)),
    "TripletMarginWithDistanceLoss": (lambda n: n.TripletMarginWithDistanceLoss(margin=0.5), (3, 4), (3, 4), (3, 4)),
    "MultiLabelSoftMarginLoss": (lambda n: n.MultiLabelSoftMarginLoss(), (3, 4), (3, 4)),
    "PoissonNLLLoss": (lambda n: n.PoissonNLLLoss(reduction="sum"), (3, 4), (3, 4)),
    "BCEWithLogitsLoss": (lambda n: n.BCEWithLogitsLoss(), (3, 4), (3, 4)),
    "KLDivLoss": (lambda n: n.KLDivLoss(reduction="sum", log_target=True), (3, 4), (3, 4)),
    "Softmax": (lambda n: n.Softmax(dim=1), (3, 4)),
    "LogSoftmax": (lambda n: n.LogSoftmax(dim=0), (3, 4)),
    "MSELoss": (lambda n: n.MSELoss(), (3, 4), (3, 4)),
    "L1Loss": (lambda n: n.L1Loss(reduction="sum"), (3, 4), (3, 4)),
    "SmoothL1Loss": (lambda n: n.SmoothL1Loss(), (3, 4), (3, 4)),
    "Sequential": (lambda n: n.Sequential(n.Linear(4, 6), n.ReLU(), n.Sequential(n.Linear(6, 2), n.Tanh())), (3, 4)),
    "Dropout eval": (lambda n: n.Dropout(0.3).eval(), (3, 4)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layer_equals_pytorch(name):
    make, *shapes = LAYERS[name]
    both(make, *shapes)


def test_embedding_equals_pytorch():
    both(lambda n: n.Embedding(7, 3, padding_idx=2), (4, 5), integer=7)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"weight": True},
        {"ignore_index": 1},
        {"reduction": "sum"},
        {"reduction": "none"},
        {"label_smoothing": 0.2},
        {"weight": True, "label_smoothing": 0.1, "ignore_index": 0},
    ],
)
@pytest.mark.parametrize("shape", [(6, 4), (2, 4, 3)])
def test_cross_entropy_loss_equals_pytorch(options, shape):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    rng = np.random.default_rng(0)
    logits, target = rng.standard_normal(shape).astype(np.float32), rng.integers(0, 4, (shape[0], *shape[2:]))
    results = []
    for library in (torch, fastnet):
        kwargs = dict(options)
        if kwargs.get("weight"):
            kwargs["weight"] = library.tensor([0.5, 1.0, 2.0, 0.1])
        x = library.tensor(logits).requires_grad_()
        loss = library.nn.CrossEntropyLoss(**kwargs)(x, library.tensor(target))
        loss.sum().backward()
        results.append((loss.detach().numpy(), x.grad.numpy()))
    for w, g in zip(*results, strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-5, atol=1e-6)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.ModuleList([nn.Linear(3, 3) for _ in range(2)])
        self.heads = nn.ModuleDict({"a": nn.Linear(3, 1), "b": nn.Linear(3, 2)})
        self.scale = nn.Parameter(fastnet.ones(1))
        self.register_buffer("steps", fastnet.zeros((), dtype=fastnet.int64))
        self.register_buffer("scratch", fastnet.zeros(2), persistent=False)
        self.tied = self.body[0]

    def forward(self, x):
        for layer in self.body:
            x = layer(x).relu()
        return self.scale * self.heads["b"](x)


def test_registration():
    net = Net()
    names = [n for n, _ in net.named_parameters()]
    assert names == [
        "scale",
        "body.0.weight",
        "body.0.bias",
        "body.1.weight",
        "body.1.bias",
        "heads.a.weight",
        "heads.a.bias",
        "heads.b.weight",
        "heads.b.bias",
    ]
    assert "tied.weight" in net.state_dict()
    assert "scratch" not in net.state_dict()
    assert [n for n, _ in net.named_buffers()] == ["steps", "scratch"]
    assert net.get_submodule("heads.b") is net.heads["b"]
    assert net.get_parameter("body.1.bias") is net.body[1].bias
    net.scale = None
    assert "scale" not in dict(net.named_parameters())
    with pytest.raises(TypeError):
        net.heads = 5
    with pytest.raises(AttributeError):
        _ = net.nothing
    with pytest.raises(AttributeError, match="__init__"):
        type("Late", (nn.Module,), {"__init__": lambda self: setattr(self, "p", nn.Parameter(fastnet.ones(1)))})()


def test_modes_moves_and_gradients():
    net = Net()
    net.eval()
    assert not net.heads["a"].training
    net.train()
    net.double()
    assert all(p.dtype is fastnet.float64 for p in net.parameters())
    assert net.steps.dtype is fastnet.int64
    net.float().requires_grad_(False)
    assert not any(p.requires_grad for p in net.parameters())
    net.requires_grad_()
    net(fastnet.ones(2, 3)).sum().backward()
    assert net.heads["a"].weight.grad is None
    assert net.scale.grad is not None
    net.zero_grad()
    assert net.scale.grad is None


def test_load_state_dict_is_strict_and_whole():
    net, other = Net(), Net()
    assert "matched" in repr(net.load_state_dict(other.state_dict()))
    np.testing.assert_array_equal(net.body[1].weight.detach().numpy(), other.body[1].weight.detach().numpy())
    state = net.state_dict()
    before = net.scale.item()
    bad = {**state, "extra": fastnet.ones(1), "scale": fastnet.ones(2)}
    del bad["heads.a.bias"]
    with pytest.raises(RuntimeError) as caught:
        net.load_state_dict(bad)
    for part in (
        'Unexpected key(s) in state_dict: "extra"',
        'Missing key(s) in state_dict: "heads.a.bias"',
        "size mismatch for scale",
    ):
        assert part in str(caught.value)
    assert net.scale.item() == before
    missing, unexpected = net.load_state_dict({"extra": fastnet.ones(1)}, strict=False)
    assert unexpected == ["extra"]
    assert "scale" in missing


def test_hooks():
    layer, seen = nn.Linear(2, 2), []
    handles = [
        layer.register_forward_pre_hook(lambda m, a: seen.append("before")),
        layer.register_forward_hook(lambda m, a, out: seen.append("after") or out * 2),
        layer.register_full_backward_hook(lambda m, gi, go: seen.append((gi[0].shape, go[0].shape))),
    ]
    x = fastnet.ones(3, 2, requires_grad=True)
    out = layer(x)
    out.sum().backward()
    assert seen == ["before", "after", ((3, 2), (3, 2))]
    for h in handles:
        h.remove()
    np.testing.assert_allclose(out.detach().numpy(), 2 * layer(x).detach().numpy())
    assert len(seen) == 3


def test_copies_are_independent():
    net = Net()
    twin = copy.deepcopy(net)
    with fastnet.no_grad():
        twin.scale.fill_(7)
    assert net.scale.item() == 1
    assert twin.tied is twin.body[0]


def test_containers():
    s = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 3))
    assert len(s) == 3
    assert isinstance(s[-1], nn.Linear)
    assert len(s[:2]) == 2
    s[1] = nn.Tanh()
    assert isinstance(s[1], nn.Tanh)
    s.append(nn.ReLU())
    del s[0]
    assert list(s.state_dict()) == ["1.weight", "1.bias"]
    m = nn.ModuleList([nn.Linear(1, 1)])
    m.extend([nn.ReLU(), nn.ReLU()])
    m.insert(0, nn.Identity())
    assert len(m) == 4
    with pytest.raises(IndexError):
        m[4]
    p = nn.ParameterList([fastnet.ones(1), fastnet.zeros(2)])
    assert [q.numel() for q in p] == [1, 2]
    assert len(list(nn.ParameterDict({"a": fastnet.ones(3)}).parameters())) == 1


def test_same_seed_same_parameters_under_every_implementation():
    states = []
    for mode in ("reference", "emulated"):
        with fastnet.kernels.use(mode):
            fastnet.manual_seed(4)
            states.append(nn.Linear(17, 5).state_dict())
    for k in states[0]:
        np.testing.assert_array_equal(states[0][k].numpy(), states[1][k].numpy())


def test_initialisation():
    fastnet.manual_seed(0)
    w = fastnet.empty(400, 300)
    n = w.numel()
    for fill, variance in (
        (nn.init.xavier_uniform_, 2 / 700),
        (nn.init.xavier_normal_, 2 / 700),
        (nn.init.kaiming_uniform_, 2 / 300),
        (nn.init.kaiming_normal_, 2 / 300),
    ):
        values = fill(w).numpy().astype(np.float64)
        assert abs(values.mean()) < 5 * (variance / n) ** 0.5
        assert abs(values.var() / variance - 1) < 5 * (2 / n) ** 0.5
    t = nn.init.trunc_normal_(w, std=2.0, a=-1, b=1).numpy()
    assert t.min() >= -1
    assert t.max() <= 1
    q = nn.init.orthogonal_(w, gain=2).numpy().astype(np.float64)
    np.testing.assert_allclose(q.T @ q, 4 * np.eye(300), atol=1e-4)
    assert nn.init.constant_(w, 3).numpy().min() == 3
    assert nn.init.eye_(fastnet.empty(2, 3)).tolist() == [[1, 0, 0], [0, 1, 0]]
    layer = nn.Linear(100, 50)
    assert np.abs(layer.weight.detach().numpy()).max() <= 0.1
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    for name, param in (("relu", None), ("leaky_relu", 0.2), ("tanh", None), ("linear", None), ("selu", None)):
        assert nn.init.calculate_gain(name, param) == pytest.approx(torch.nn.init.calculate_gain(name, param))


def test_clipping_equals_pytorch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    rng = np.random.default_rng(0)
    grads = [rng.standard_normal(s).astype(np.float32) for s in ((3, 4), (5,))]
    for norm, limit in ((2.0, 1.0), (1.0, 2.0), (float("inf"), 0.5), (2.0, 1e3)):
        results = []
        for library in (torch, fastnet):
            ps = [library.nn.Parameter(library.zeros(*g.shape)) for g in grads]
            for p, g in zip(ps, grads, strict=True):
                p.grad = library.tensor(g)
            total = library.nn.utils.clip_grad_norm_(ps, limit, norm)
            results.append([total.item(), *[p.grad.numpy() for p in ps]])
        for w, g in zip(*results, strict=True):
            np.testing.assert_allclose(g, w, rtol=1e-5)
    ps = [nn.Parameter(fastnet.zeros(3))]
    ps[0].grad = fastnet.tensor([-5.0, 0.5, 5.0])
    nn.utils.clip_grad_value_(ps, 1.0)
    assert ps[0].grad.tolist() == [-1, 0.5, 1]
    net = Net()
    vector = nn.utils.parameters_to_vector(net.parameters())
    nn.utils.vector_to_parameters(vector * 2, net.parameters())
    np.testing.assert_allclose(
        nn.utils.parameters_to_vector(net.parameters()).detach().numpy(), 2 * vector.detach().numpy()
    )


@pytest.mark.parametrize(
    "call",
    [
        lambda: nn.Linear(-1, 2),
        lambda: nn.Linear(2.5, 2),
        lambda: nn.Dropout(1.5),
        lambda: nn.Embedding(3, 2, padding_idx=5),
        lambda: nn.Linear(3, 2)(fastnet.ones(2, 4)),
        lambda: nn.Linear(3, 2)(fastnet.ones(2, 3, dtype=fastnet.float64)),
        lambda: nn.Linear(3, 2)(None),
        lambda: nn.Embedding(3, 2)(fastnet.tensor([3])),
        lambda: nn.Embedding(3, 2)(fastnet.tensor([0.5])),
        lambda: nn.CrossEntropyLoss()(fastnet.ones(2, 3), fastnet.tensor([0, 5])),
        lambda: nn.Parameter([1.0]),
        lambda: nn.Module()(1),
        lambda: nn.Sequential(nn.ReLU(), "layer"),
    ],
)
def test_bad_input(call):
    with pytest.raises((ValueError, TypeError, IndexError, NotImplementedError)):
        call()


def test_initialisation_says_what_pytorch_says():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    said = []
    for library in (torch, fastnet):
        init, lines = library.nn.init, []
        for call, *arguments in (
            (init.dirac_, library.empty(4, 2, 3)),
            (init.dirac_, library.empty(4, 2, 3, 2), 2),
            (init.dirac_, library.empty(3, 2)),
            (init.dirac_, library.empty(3, 2, 1), 2),
            (init.kaiming_normal_, library.zeros(3, 0)),
            (init.kaiming_uniform_, library.zeros(3, 2), 0, "both"),
            (init.xavier_normal_, library.zeros(3)),
            (init.trunc_normal_, library.zeros(1), 10.0, 0.0001, 2.0, 2.0),
            (init.eye, library.zeros(2, 3)),
            (init.constant, library.zeros(2), 3.0),
        ):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                try:
                    lines.append(call(*arguments).tolist())
                except ValueError as error:
                    lines.append(str(error))
            lines.append([w.category.__name__ for w in caught])
        said.append(lines)
    assert said[1] == said[0]
