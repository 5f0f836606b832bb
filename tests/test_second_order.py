"""Gradients of gradients: every differentiable row of the table of calls against PyTorch, and the uses models make of
them: gradient penalties, steps that are differentiated, derivatives by coordinates."""

import re

import numpy as np
import pytest
from calls import DIFFERENTIABLE, Inputs

import fastnet
from fastnet import autograd, nn

# What says that it has none: kernels and decompositions without a composed form.
WITHOUT = re.compile(
    "derivative for (AddNorm|Conv2dBatchNorm|Copysign|CumExtreme|Cumprod|DepthMaximum|GridSample|I0e?|I1e?|Igammac?|LU|"
    "Lgamma|LinearCrossEntropy|LogCumSumExp|Log_ndtr|MatrixExponential|Picked|Polygamma|QR|ScatterReduce|SingularValues|"
    "Unpool|Xlog1py|Zeta)Backward0 is not implemented with create_graph=True"
)


def second(library, case):
    """First and second gradients of a row, both of products with fixed vectors."""
    inputs = Inputs(library, "float64", grad=True)
    out = DIFFERENTIABLE[case](library, inputs)
    rng = np.random.default_rng(1)

    def fixed(like):
        values = rng.standard_normal(tuple(like.shape)).tolist()
        return library.tensor(values, dtype=like.dtype).reshape(like.shape)

    first = library.autograd.grad((out * fixed(out)).sum(), inputs.made, create_graph=True, allow_unused=True)
    total = sum((g * fixed(g)).sum() for g in first if g is not None)
    again = [None] * len(first)
    if getattr(total, "requires_grad", False):
        again = library.autograd.grad(total, inputs.made, allow_unused=True)
    return [
        np.zeros(tuple(x.shape)) if g is None else np.array(g.detach().tolist()).reshape(tuple(x.shape))
        for part in (first, again)
        for g, x in zip(part, inputs.made, strict=True)
    ]


def attempt(case):
    """What ``second`` gives, or what the error says."""
    try:
        return second(fastnet, case), None
    except RuntimeError as error:
        return None, str(error)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", DIFFERENTIABLE)
def test_second_gradients_equal_pytorch(case):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    try:
        want = second(torch, case)
    except (RuntimeError, NotImplementedError) as error:
        pytest.skip(f"PyTorch has none: {error}")
    got, error = attempt(case)
    if error is not None:
        assert WITHOUT.match(error)
        return
    for w, g in zip(want, got, strict=True):
        np.testing.assert_allclose(g, w, 1e-7, 1e-9)


def test_most_rows_have_second_gradients():
    answered = 0
    for case in list(DIFFERENTIABLE)[::10]:
        answered += attempt(case)[1] is None
    assert answered > 0.8 * len(list(DIFFERENTIABLE)[::10])


def both(build, run):
    """The same numbers from PyTorch's module and, with its weights, fastnet's."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    torch.manual_seed(0)
    theirs = build(torch).double()
    ours = build(fastnet).double()
    ours.load_state_dict({k: fastnet.tensor(v.numpy()) for k, v in theirs.state_dict().items()})
    for w, g in zip(run(torch, theirs), run(fastnet, ours), strict=True):
        np.testing.assert_allclose(g, w, 1e-6, 1e-9)


def penalty(t, critic):
    """WGAN-GP (Gulrajani et al. 2017): the norm of the critic's gradient at images, pulled to 1."""
    x = t.linspace(-1, 1, 2 * 3 * 8 * 8, dtype=t.float64).reshape(2, 3, 8, 8).requires_grad_()
    score = critic(x)
    (g,) = t.autograd.grad(score, x, t.ones_like(score), create_graph=True, retain_graph=True, only_inputs=True)
    loss = ((g.reshape(2, -1).norm(2, dim=1) - 1) ** 2).mean()
    loss.backward()
    return [loss.detach().numpy(), *[p.grad.numpy() for p in critic.parameters() if p.grad is not None]]


def test_gradient_penalty_of_a_convolutional_critic():
    def build(t):
        n = t.nn
        return n.Sequential(
            n.Conv2d(3, 4, 3, 2, 1),
            n.LeakyReLU(0.2),
            n.Conv2d(4, 6, 3, padding=1, groups=2),
            n.InstanceNorm2d(6, affine=True),
            n.Tanh(),
            n.MaxPool2d(2),
            n.Flatten(),
            n.Linear(24, 1),
        )

    both(build, penalty)


def test_gradient_penalty_through_norms_and_upsampling():
    def build(t):
        n = t.nn
        return n.Sequential(
            n.ConvTranspose2d(3, 4, 4, 2, 1),
            n.BatchNorm2d(4),
            n.ELU(),
            n.Upsample(scale_factor=2, mode="nearest"),
            n.GroupNorm(2, 4),
            n.SiLU(),
            n.AvgPool2d(4),
            n.Flatten(),
            n.LayerNorm(256),
            n.GELU(),
            n.Linear(256, 1),
        )

    both(build, penalty)


def test_a_differentiated_step():
    """MAML (Finn et al. 2017): the loss after a step of gradient descent, by the weights before it."""

    def run(t, model):
        rng = np.random.default_rng(0)
        x, y = t.tensor(rng.standard_normal((2, 5, 4))), t.tensor(rng.integers(0, 3, (2, 5)))
        weights = dict(model.named_parameters())
        loss = t.nn.functional.cross_entropy(t.func.functional_call(model, weights, (x[0],)), y[0])
        found = t.autograd.grad(loss, list(weights.values()), create_graph=True)
        fast = {name: w - 0.4 * g for (name, w), g in zip(weights.items(), found, strict=True)}
        after = t.nn.functional.cross_entropy(t.func.functional_call(model, fast, (x[1],)), y[1], label_smoothing=0.1)
        after.backward()
        return [after.detach().numpy(), *[p.grad.numpy() for p in model.parameters()]]

    both(lambda t: t.nn.Sequential(t.nn.Linear(4, 6), t.nn.ReLU(), t.nn.Linear(6, 3)), run)


def test_laplacian_of_a_network():
    """Derivatives by coordinates, twice, and then by the weights, as networks that solve equations take them."""

    def run(t, model):
        x = t.linspace(-1, 1, 14, dtype=t.float64).reshape(7, 2).requires_grad_()
        u = model(x)
        (first,) = t.autograd.grad(u.sum(), x, create_graph=True)
        laplacian = sum(t.autograd.grad(first[:, i].sum(), x, create_graph=True)[0][:, i] for i in range(2))
        ((laplacian + u[:, 0]) ** 2).mean().backward()
        return [laplacian.detach().numpy(), *[p.grad.numpy() for p in model.parameters()]]

    both(lambda t: t.nn.Sequential(t.nn.Linear(2, 8), t.nn.Tanh(), t.nn.Linear(8, 1)), run)


def test_attention_layer():
    def run(t, layer):
        x = t.linspace(-1, 1, 24, dtype=t.float64).reshape(1, 3, 8).requires_grad_()
        out = t.nn.functional.scaled_dot_product_attention(*layer(x).chunk(3, -1), is_causal=True)
        (g,) = t.autograd.grad(out.square().sum(), x, create_graph=True)
        g.square().sum().backward()
        return [g.detach().numpy(), x.grad.numpy(), layer.weight.grad.numpy()]

    both(lambda t: t.nn.Linear(8, 24), run)


def test_third_derivative_and_accumulation():
    x = fastnet.tensor([0.5, 1.0], dtype=fastnet.float64, requires_grad=True)
    y = x.sin().sum()
    for wanted in (np.cos, lambda v: -np.sin(v), lambda v: -np.cos(v)):
        (g,) = autograd.grad(y, x, create_graph=True)
        np.testing.assert_allclose(g.detach().numpy(), wanted(x.detach().numpy()), 1e-12)
        y = g.sum()
    z = (x**3).sum()
    z.backward(create_graph=True)
    assert x.grad.requires_grad
    (h,) = autograd.grad(x.grad.sum(), x)
    np.testing.assert_allclose(h.numpy(), 6 * x.detach().numpy())


def test_functions_of_users():
    class Cube(autograd.Function):
        @staticmethod
        def forward(ctx, x):
            out = x**3
            ctx.save_for_backward(x, out)
            return out

        @staticmethod
        def backward(ctx, grad):
            x, out = ctx.saved_tensors
            return grad * 3 * out / x

    x = fastnet.tensor([2.0, 3.0], requires_grad=True)
    (g,) = autograd.grad(Cube.apply(x).sum(), x, create_graph=True)
    (h,) = autograd.grad(g.sum(), x)
    np.testing.assert_allclose(h.numpy(), [12, 18], 1e-6)

    class Once(autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        @autograd.function.once_differentiable
        def backward(ctx, grad):
            return grad * 2

    (g,) = autograd.grad((Once.apply(x) ** 2).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        g.sum().backward()


def test_a_value_changed_in_place_is_found():
    x = fastnet.ones(3, requires_grad=True)
    y = x * 1
    z = y.exp()
    z.add_(1)
    with pytest.raises(RuntimeError, match="inplace"):
        autograd.grad(z.sum(), x, create_graph=True)


def test_what_a_derivative_does_not_need_may_change_in_place():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    for t in (torch, fastnet):
        x = t.ones(2, 2, requires_grad=True)
        scores = (x * 2) / 4
        scores.masked_fill_(t.tensor([[True, False], [False, False]]), -1.0)
        square = x**2
        square += 1
        h = x * 1
        y = h * 3
        h.add_(1)
        (scores.sum() + square.sum() + y.sum() + h.sum()).backward()
        assert x.grad.tolist() == [[6.0, 6.5], [6.5, 6.5]]


def test_the_error_names_the_operation():
    lstm = nn.LSTM(3, 2)
    x = fastnet.ones(4, 1, 3, requires_grad=True)
    with pytest.raises(RuntimeError, match=r"derivative for .*Lstm.* is not implemented with create_graph=True"):
        autograd.grad(lstm(x)[0].sum(), x, create_graph=True)


@pytest.mark.parametrize("name", ["hessian", "vhp", "hvp", "jvp", "jacobian"])
def test_functional_equals_pytorch(name):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")

    def run(t):
        a = t.tensor([[0.5, -1.0, 2.0]], dtype=t.float64)
        b = t.tensor([1.5, 0.3], dtype=t.float64)
        f = t.autograd.functional
        number = lambda x, y: (x**3).sum() * y.prod() + (x.sin() @ x.t()).sum()  # noqa: E731
        if name == "hessian":
            return [h for row in f.hessian(number, (a, b)) for h in row] + [f.hessian(lambda x: (x**4).sum(), a)]
        if name in ("vhp", "hvp"):
            value, products = getattr(f, name)(number, (a, b), (t.ones_like(a), b))
            return [value, *products]
        if name == "jvp":
            value, product = f.jvp(lambda x: x.sin() * x.sum(), a, t.ones_like(a))
            return [value, product]
        return list(f.jacobian(lambda x, y: x.t() * y, (a, b)))

    for w, g in zip(run(torch), run(fastnet), strict=True):
        np.testing.assert_allclose(g.numpy(), w.numpy(), 1e-10, 1e-14)
