"""Gamma and its kin, counts, transforms of random values, constraints: against PyTorch's; samples by their moments."""

import numpy as np
import pytest

import fastnet
from fastnet import distributions as D

RNG = np.random.default_rng(0)
A, B = RNG.random((4, 3)) + 0.5, RNG.random((4, 3)) + 0.5
SHARES = RNG.dirichlet(np.ones(3), 4)
COUNTS = np.array([[0.0, 2, 3], [5, 0, 0], [1, 1, 3], [2, 2, 1]])
VECTORS = np.eye(3)[[0, 2, 1, 1]]

CASES = {
    "Gamma": (lambda d, a, b: d.Gamma(a, b), A * 2),
    "Chi2": (lambda d, a, b: d.Chi2(a), A * 2),
    "Beta": (lambda d, a, b: d.Beta(a, b), A / 2),
    "Dirichlet": (lambda d, a, b: d.Dirichlet(a), SHARES),
    "StudentT": (lambda d, a, b: d.StudentT(a + 2, b, a), A),
    "StudentT with heavy tails": (lambda d, a, b: d.StudentT(a, b), A),
    "Geometric": (lambda d, a, b: d.Geometric(a / 2), COUNTS),
    "Geometric logits": (lambda d, a, b: d.Geometric(logits=a), COUNTS),
    "Poisson": (lambda d, a, b: d.Poisson(a), COUNTS),
    "Binomial": (lambda d, a, b: d.Binomial(5, a / 2), COUNTS),
    "Binomial logits": (lambda d, a, b: d.Binomial(5, logits=a), COUNTS),
    "Multinomial": (lambda d, a, b: d.Multinomial(5, a), COUNTS),
    "OneHotCategorical": (lambda d, a, b: d.OneHotCategorical(logits=a), VECTORS),
    "expanded Gamma": (lambda d, a, b: d.Gamma(a[0], b[0]).expand((4, 3)), A),
    "expanded Dirichlet": (lambda d, a, b: d.Dirichlet(a[0]).expand((4,)), SHARES),
    "expanded Binomial": (lambda d, a, b: d.Binomial(5, a[0] / 2).expand((4, 3)), COUNTS),
    "Independent Beta": (lambda d, a, b: d.Independent(d.Beta(a, b), 1), A / 2),
}
WITHOUT_DIVERGENCE = {"StudentT", "StudentT with heavy tails", "Multinomial"}
WITHOUT_ENTROPY = {"Poisson"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", CASES)
def test_equals_pytorch(case):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    make, value = CASES[case]
    results = []
    for library in (torch, fastnet):
        x, y = (library.tensor(v, requires_grad=True) for v in (A, B))
        p, q = make(library.distributions, x, y), make(library.distributions, y, x)
        said = repr(p).replace("torch", "fastnet")
        parts = [p.log_prob(library.tensor(value)), p.mean, p.variance, p.stddev]
        if case not in WITHOUT_ENTROPY:
            parts.append(p.entropy())
        if case not in WITHOUT_DIVERGENCE:
            parts.append(library.distributions.kl_divergence(p, q))
        finite = [library.where(library.isfinite(part), part, library.zeros_like(part)) for part in parts]
        sum((i + 1) * part.sum() for i, part in enumerate(finite)).backward()
        grads = [t.grad.numpy() for t in (x, y) if t.grad is not None]
        shape = np.array(tuple(p.sample((2, 5)).shape))
        results.append([*[t.detach().numpy() for t in parts], *grads, shape, np.array(said)])
    for w, g in zip(*results, strict=True):
        if w.dtype.kind == "U":
            assert str(g) == str(w) or str(w).endswith("()")  # PyTorch shows none of what it passes on
        else:
            np.testing.assert_allclose(g, w, 1e-6, 1e-9)


MOMENTS = {
    "Gamma below 1": lambda n: D.Gamma(fastnet.full((n,), 0.3), 2.0),
    "Gamma": lambda n: D.Gamma(fastnet.full((n,), 4.0), 0.5),
    "Beta": lambda n: D.Beta(fastnet.full((n,), 2.0), 0.7),
    "StudentT": lambda n: D.StudentT(fastnet.full((n,), 7.0), 1.0, 2.0),
    "Poisson of a small rate": lambda n: D.Poisson(fastnet.full((n,), 2.5)),
    "Poisson of a large rate": lambda n: D.Poisson(fastnet.full((n,), 40.0)),
    "Binomial": lambda n: D.Binomial(9, fastnet.full((n,), 0.3)),
    "Geometric": lambda n: D.Geometric(fastnet.full((n,), 0.3)),
}


@pytest.mark.parametrize("case", MOMENTS)
def test_samples_have_the_moments(case):
    fastnet.manual_seed(1)
    n = 20000
    p = MOMENTS[case](n)
    x = p.sample().numpy().astype(np.float64)
    mean, variance = (float(m.reshape(-1)[0]) for m in (p.mean, p.variance))
    fourth = ((x - mean) ** 4).mean()
    assert abs(x.mean() - mean) < 5 * (variance / n) ** 0.5
    assert abs(((x - mean) ** 2).mean() - variance) < 5 * (fourth / n) ** 0.5


@pytest.mark.parametrize("concentration", [0.2, 1.0, 6.0])
def test_gamma_samples_move_with_the_concentration(concentration):
    """PyTorch's gradient at the same samples, which it approximates to about 1e-3 (1e-2 for small ones)."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    fastnet.manual_seed(0)
    a = fastnet.full((2000,), concentration, dtype=fastnet.float64, requires_grad=True)
    x = D.Gamma(a, 1.0).rsample()
    x.sum().backward()
    want = torch._standard_gamma_grad(
        torch.full((2000,), concentration, dtype=torch.float64), torch.tensor(x.detach().numpy())
    )
    np.testing.assert_allclose(a.grad.numpy(), want.numpy(), 2e-2, 1e-6)
    assert abs(a.grad.mean().item() - 1) < 0.1  # the mean is the concentration


TRANSFORMS = {
    "exp": (lambda d: d.ExpTransform(), A),
    "power": (lambda d: d.PowerTransform(2.5), A),
    "sigmoid": (lambda d: d.SigmoidTransform(), A - 1),
    "tanh": (lambda d: d.TanhTransform(), A - 1),
    "softplus": (lambda d: d.SoftplusTransform(), A - 1),
    "affine": (lambda d: d.AffineTransform(1.0, -2.0), A),
    "affine of vectors": (lambda d: d.AffineTransform(1.0, 3.0, event_dim=1), A),
    "stick breaking": (lambda d: d.StickBreakingTransform(), A - 1),
    "independent": (lambda d: d.IndependentTransform(d.ExpTransform(), 1), A),
    "reshape": (lambda d: d.ReshapeTransform((4, 3), (2, 6)), A),
    "composed": (lambda d: d.ComposeTransform([d.AffineTransform(0.5, 2.0), d.ExpTransform()]), A),
    "composed of vectors": (lambda d: d.ComposeTransform([d.ExpTransform(), d.AffineTransform(0.0, 2.0, 1)]), A),
    "inverse": (lambda d: d.ExpTransform().inv, A),
    "cat": (lambda d: d.CatTransform([d.ExpTransform(), d.SigmoidTransform()], 1, [1, 2]), A),
    "stack": (lambda d: d.StackTransform([d.ExpTransform(), d.TanhTransform(), d.SigmoidTransform()], 1), A),
    "distribution function": (lambda d: d.CumulativeDistributionTransform(d.Normal(0.0, 1.0)), A),
    "none": (lambda d: d.transforms.identity_transform, A),
}


@pytest.mark.parametrize("case", TRANSFORMS)
def test_transforms_equal_pytorch(case):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    make, value = TRANSFORMS[case]
    results = []
    for library in (torch, fastnet):
        transform = make(library.distributions)
        x = library.tensor(value, requires_grad=True)
        y = transform(x)
        change = transform.log_abs_det_jacobian(x, y)
        back = transform.inv(y.detach() * 1)
        (y.sum() + change.sum()).backward()
        results.append(
            [
                *[t.detach().numpy() for t in (y, change, back, x.grad)],
                np.array([transform.bijective, transform.domain.event_dim, transform.codomain.event_dim]),
                transform.codomain.check(y).numpy(),
                np.array(tuple(change.shape)),
            ]
        )
    for w, g in zip(*results, strict=True):
        np.testing.assert_allclose(g, w, 1e-9, 1e-12)


def test_softmax_and_matrices():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    for make in (
        lambda t: t.distributions.SoftmaxTransform()(t.tensor(A)),
        lambda t: t.distributions.AbsTransform()(t.tensor(A - 1)),
        lambda t: t.distributions.LowerCholeskyTransform()(t.tensor(A[:3])),
        lambda t: t.distributions.PositiveDefiniteTransform()(t.tensor(A[:3])),
        lambda t: t.distributions.PositiveDefiniteTransform().inv(
            t.tensor(A[:3] @ A[:3].T + 3 * np.eye(3)),
        ),
    ):
        np.testing.assert_allclose(make(fastnet).numpy(), make(torch).numpy(), 1e-10)


TRANSFORMED = {
    "squashed normal": lambda d, a, b: d.TransformedDistribution(d.Normal(a, b), [d.TanhTransform(cache_size=1)]),
    "log normal": lambda d, a, b: d.TransformedDistribution(d.Normal(a, b), d.ExpTransform()),
    "logistic": lambda d, a, b: d.TransformedDistribution(
        d.Uniform(a * 0, a * 0 + 1), [d.SigmoidTransform().inv, d.AffineTransform(loc=a, scale=b)]
    ),
    "vectors": lambda d, a, b: d.TransformedDistribution(d.Normal(a, b), d.StickBreakingTransform()),
    "independent": lambda d, a, b: d.TransformedDistribution(d.Independent(d.Normal(a, b), 1), d.ExpTransform()),
    "expanded": lambda d, a, b: d.TransformedDistribution(d.Normal(a[0], b[0]), d.ExpTransform()).expand((4, 3)),
}


@pytest.mark.parametrize("case", TRANSFORMED)
def test_transformed_distributions_equal_pytorch(case):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    value = {"vectors": RNG.dirichlet(np.ones(4), 4), "squashed normal": A / 2}.get(case, A)
    results = []
    for library in (torch, fastnet):
        x, y = (library.tensor(v, requires_grad=True) for v in (A, B))
        p = TRANSFORMED[case](library.distributions, x, y)
        log_prob = p.log_prob(library.tensor(value))
        log_prob.sum().backward()
        sample = p.rsample((5,))
        assert sample.requires_grad
        shapes = [*sample.shape, *p.batch_shape, *p.event_shape, *p.sample().shape]
        parts = [log_prob.detach().numpy(), x.grad.numpy(), y.grad.numpy(), np.array(shapes)]
        if case in ("log normal", "logistic"):
            parts += [p.cdf(library.tensor(value)).detach().numpy(), p.icdf(library.tensor(value / 3)).detach().numpy()]
        results.append(parts)
    for w, g in zip(*results, strict=True):
        np.testing.assert_allclose(g, w, 1e-7, 1e-9)


def test_constraints_equal_pytorch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    matrix = np.array([[[2.0, 0.0], [1.0, 3.0]], [[2.0, 1.0], [1.0, 3.0]], [[1.0, 2.0], [2.0, 1.0]]])
    numbers = np.array([-1.0, 0.0, 0.5, 1.0, 2.0, np.nan])

    def answers(t):
        c = t.distributions.constraints
        for name in "boolean nonnegative_integer positive_integer real positive nonnegative unit_interval".split():
            yield getattr(c, name).check(t.tensor(numbers))
        for made in (c.greater_than(0.0), c.less_than(1.0), c.interval(0, 1), c.half_open_interval(0, 1)):
            yield made.check(t.tensor(numbers))
        yield c.integer_interval(0, 1).check(t.tensor(numbers))
        yield c.simplex.check(t.tensor(np.concatenate([SHARES, COUNTS])))
        yield c.one_hot.check(t.tensor(np.concatenate([VECTORS, COUNTS])))
        yield c.real_vector.check(t.tensor(A))
        yield c.multinomial(5).check(t.tensor(COUNTS))
        for name in "lower_triangular lower_cholesky positive_definite symmetric square".split():
            yield getattr(c, name).check(t.tensor(matrix))

    for w, g in zip(answers(torch), answers(fastnet), strict=True):
        np.testing.assert_array_equal(g.numpy(), w.numpy())


REFUSED = {
    "Gamma of a negative rate": lambda t: t.distributions.Gamma(1.0, -1.0),
    "Beta beyond 1": lambda t: t.distributions.Beta(1.0, 1.0).log_prob(t.tensor(1.5)),
    "Dirichlet of a number": lambda t: t.distributions.Dirichlet(t.tensor(1.0)),
    "Dirichlet of what does not add up": lambda t: t.distributions.Dirichlet(t.ones(2)).log_prob(t.ones(2)),
    "Geometric of both": lambda t: t.distributions.Geometric(t.tensor(0.5), t.tensor(0.5)),
    "Poisson of a fraction": lambda t: t.distributions.Poisson(1.0).log_prob(t.tensor(0.5)),
    "Binomial of more than there are": lambda t: t.distributions.Binomial(2, t.tensor(0.5)).log_prob(t.tensor(3.0)),
    "Multinomial of several totals": lambda t: t.distributions.Multinomial(t.tensor([1, 2]), t.ones(2)),
    "no transform": lambda t: t.distributions.TransformedDistribution(t.distributions.Normal(0.0, 1.0), 3),
    "reshape to another number": lambda t: t.distributions.ReshapeTransform((2, 3), (4,)),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_as_pytorch_refuses(case):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    kinds = []
    for t in (torch, fastnet):
        with pytest.raises((ValueError, NotImplementedError)) as caught:
            REFUSED[case](t)
        kinds.append(caught.type)
    assert issubclass(kinds[1], kinds[0])


def test_paths():
    from fastnet.distributions.beta import Beta
    from fastnet.distributions.studentT import StudentT

    from fastnet.distributions.gamma import Gamma
    from fastnet.distributions.transformed_distribution import TransformedDistribution
    from fastnet.distributions.transforms import TanhTransform

    assert (Beta, Gamma, StudentT, TanhTransform) == (D.Beta, D.Gamma, D.StudentT, D.TanhTransform)
    assert TransformedDistribution is D.TransformedDistribution
