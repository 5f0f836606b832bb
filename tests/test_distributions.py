"""Distributions: log-probabilities, entropies and divergences with their gradients against PyTorch's; samples."""

import numpy as np
import pytest

import fastnet
from fastnet import distributions as D

CASES = {
    "Normal": ((lambda d, a, b: d.Normal(a, b.exp())), lambda rng: rng.standard_normal((4, 3))),
    "Categorical logits": ((lambda d, a, b: d.Categorical(logits=a)), lambda rng: rng.integers(0, 3, 4)),
    "Categorical probs": ((lambda d, a, b: d.Categorical(a.exp())), lambda rng: rng.integers(0, 3, (2, 4))),
    "Bernoulli logits": ((lambda d, a, b: d.Bernoulli(logits=a)), lambda rng: rng.integers(0, 2, (4, 3)) * 1.0),
    "Uniform": ((lambda d, a, b: d.Uniform(a - 3, a + b.exp())), lambda rng: rng.random((4, 3)) - 1.5),
    "Exponential": ((lambda d, a, b: d.Exponential(a.exp())), lambda rng: rng.random((2, 4, 3))),
    "Laplace": ((lambda d, a, b: d.Laplace(a, b.exp())), lambda rng: rng.standard_normal((4, 3))),
    "Cauchy": ((lambda d, a, b: d.Cauchy(a, b.exp())), lambda rng: rng.standard_normal((4, 3))),
    "Gumbel": ((lambda d, a, b: d.Gumbel(a, b.exp())), lambda rng: rng.standard_normal((4, 3))),
    "HalfNormal": ((lambda d, a, b: d.HalfNormal(b.exp())), lambda rng: rng.random((4, 3))),
    "LogNormal": ((lambda d, a, b: d.LogNormal(a, b.exp())), lambda rng: rng.random((4, 3)) + 0.1),
    "Independent": (
        (lambda d, a, b: d.Independent(d.Normal(a, b.exp()), 1)),
        lambda rng: rng.standard_normal((2, 4, 3)),
    ),
    "MultivariateNormal covariance": (
        (lambda d, a, b: d.MultivariateNormal(a, covariance(b))),
        lambda rng: rng.standard_normal((2, 4, 3)),
    ),
    "MultivariateNormal precision": (
        (lambda d, a, b: d.MultivariateNormal(a, precision_matrix=covariance(b))),
        lambda rng: rng.standard_normal((4, 3)),
    ),
    "MultivariateNormal scale": (
        (lambda d, a, b: d.MultivariateNormal(a, scale_tril=covariance(b).tril())),
        lambda rng: rng.standard_normal(3),
    ),
    "expanded": (
        (lambda d, a, b: d.Laplace(a[0], b[0].exp()).expand((4, 3))),
        lambda rng: rng.standard_normal((4, 3)),
    ),
    "expanded vectors": (
        (lambda d, a, b: d.MultivariateNormal(a[0], covariance(b)[0]).expand((4,))),
        lambda rng: rng.standard_normal((4, 3)),
    ),
    "expanded classes": ((lambda d, a, b: d.Categorical(logits=a[0]).expand((4,))), lambda rng: rng.integers(0, 3, 4)),
    "Bernoulli probs": ((lambda d, a, b: d.Bernoulli(a.sigmoid())), lambda rng: rng.integers(0, 2, (4, 3)) * 1.0),
}
# What has no formula for its divergence, in PyTorch or here.
WITHOUT_DIVERGENCE = {"Cauchy", "Gumbel"}
WITHOUT_MOMENTS = {"Cauchy", "Categorical logits", "Categorical probs", "expanded classes"}


def covariance(x):
    """Positive definite matrices (4, 3, 3) from (4, 3)."""
    outer = x.unsqueeze(-1) * x.unsqueeze(-2)
    return outer + 2 * (outer * 0 + 1) * (outer[0] * 0 + 1).tril().triu()


@pytest.mark.parametrize("case", CASES)
def test_equals_pytorch(case):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    make, draw = CASES[case]
    rng = np.random.default_rng(0)
    a, b, value = rng.standard_normal((4, 3)), rng.standard_normal((4, 3)), draw(rng)
    results = []
    for library in (torch, fastnet):
        x, y = (library.tensor(v, requires_grad=True) for v in (a, b))
        p, q = make(library.distributions, x, y), make(library.distributions, y, x)
        said = repr(p).replace("torch", "fastnet")  # before PyTorch has computed what it computes when asked
        parts = [p.log_prob(library.tensor(value)), p.entropy()]
        if case not in WITHOUT_DIVERGENCE:
            parts.append(library.distributions.kl_divergence(p, q))
        if case not in WITHOUT_MOMENTS:
            parts += [p.mean, p.variance, p.stddev]
        sum((i + 1) * part.sum() for i, part in enumerate(parts)).backward()
        grads = [t.grad.numpy() for t in (x, y) if t.grad is not None]
        results.append([*[t.detach().numpy() for t in parts], *grads, np.array(tuple(p.sample((2, 5)).shape))])
        results[-1].append(np.array(said))
    for w, g in zip(*results, strict=True):
        if w.dtype.kind == "U":
            assert str(g) == str(w) or str(w).endswith("()")  # PyTorch shows none of what it passes on
        else:
            np.testing.assert_allclose(g, w, rtol=1e-10, atol=1e-12)


def test_samples_have_their_frequencies():
    fastnet.manual_seed(0)
    n = 20000
    normal = D.Normal(fastnet.tensor([1.0, -2.0]), fastnet.tensor([0.5, 3.0])).sample((n,)).numpy()
    np.testing.assert_array_less(np.abs(normal.mean(0) - [1, -2]), 5 * np.array([0.5, 3]) / n**0.5)
    probs = np.array([[0.1, 0.6, 0.3], [0.5, 0.5, 0.0]])
    classes = D.Categorical(fastnet.tensor(probs)).sample((n,)).numpy()
    for row in range(2):
        share = np.bincount(classes[:, row], minlength=3) / n
        assert (np.abs(share - probs[row]) <= 5 * (probs[row] * (1 - probs[row]) / n) ** 0.5).all()
    ones = D.Bernoulli(fastnet.tensor([0.2, 1.0])).sample((n,)).numpy().mean(0)
    assert abs(ones[0] - 0.2) < 5 * (0.16 / n) ** 0.5
    assert ones[1] == 1
    loc = fastnet.zeros(3, requires_grad=True)
    D.Normal(loc, 1.0).rsample((5,)).sum().backward()
    assert loc.grad.tolist() == [5, 5, 5]
    assert not D.Normal(loc, 1.0).sample().requires_grad


def test_refuses():
    for call in (
        lambda: D.Normal(0.0, -1.0),
        lambda: D.Categorical(),
        lambda: D.Categorical(fastnet.ones(2), fastnet.ones(2)),
        lambda: D.Categorical(fastnet.tensor(1.0)),
        lambda: D.Bernoulli(fastnet.tensor(1.5)),
        lambda: D.Bernoulli(fastnet.tensor(0.5)).log_prob(fastnet.tensor(0.5)),
        lambda: D.Categorical(fastnet.ones(3)).log_prob(fastnet.tensor(3)),
        lambda: D.Normal(fastnet.zeros(3), 1.0).log_prob(fastnet.zeros(2)),
        lambda: D.Exponential(0.0),
        lambda: D.Exponential(1.0).log_prob(fastnet.tensor(-1.0)),
        lambda: D.Uniform(0.0, 1.0).log_prob(fastnet.tensor(1.5)),
        lambda: D.Laplace(0.0, 0.0),
        lambda: D.LogNormal(0.0, 1.0).log_prob(fastnet.tensor(0.0)),
        lambda: D.MultivariateNormal(fastnet.zeros(2)),
        lambda: D.MultivariateNormal(fastnet.zeros(2), fastnet.eye(2), scale_tril=fastnet.eye(2)),
        lambda: D.MultivariateNormal(fastnet.tensor(0.0), fastnet.eye(1)),
        lambda: D.MultivariateNormal(fastnet.zeros(2), fastnet.zeros(2)),
        lambda: D.MultivariateNormal(fastnet.zeros(2), scale_tril=-fastnet.eye(2)),
        lambda: D.MultivariateNormal(fastnet.zeros(2), fastnet.eye(2)).log_prob(fastnet.zeros(3)),
    ):
        with pytest.raises(ValueError, match=r"outside|specified|dimensional|shape|definite"):
            call()
    with pytest.raises(NotImplementedError):
        D.kl_divergence(D.Normal(0.0, 1.0), D.Bernoulli(0.5))
    with pytest.raises(ValueError, match="low>= high"):
        D.Uniform(1.0, 1.0)
    with pytest.raises(ValueError, match="reinterpreted_batch_ndims"):
        D.Independent(D.Normal(0.0, 1.0), 1)
    with pytest.raises(ValueError, match="not positive definite"):
        D.MultivariateNormal(fastnet.zeros(2), fastnet.tensor([[1.0, 2.0], [2.0, 1.0]]))
    with pytest.raises(TypeError, match="Distribution subclass"):
        D.register_kl(D.Normal, int)


SAMPLED = {
    "Uniform": lambda a, b: D.Uniform(a, a + b),
    "Exponential": lambda a, b: D.Exponential(b),
    "Laplace": lambda a, b: D.Laplace(a, b),
    "Gumbel": lambda a, b: D.Gumbel(a, b),
    "HalfNormal": lambda a, b: D.HalfNormal(b),
    "LogNormal": lambda a, b: D.LogNormal(a, b / 4),
    "Independent": lambda a, b: D.Independent(D.Normal(a, b), 1),
    "MultivariateNormal": lambda a, b: D.MultivariateNormal(a, fastnet.eye(2) + b.unsqueeze(-1) * b),
}


@pytest.mark.parametrize("name", SAMPLED)
def test_samples_have_their_moments(name):
    """Within five standard errors; a gradient reaches the parameters."""
    fastnet.manual_seed(1)
    a = fastnet.tensor([0.5, -1.0], requires_grad=True)
    b = fastnet.tensor([0.7, 1.5], requires_grad=True)
    distribution, n = SAMPLED[name](a, b), 20000
    values = distribution.rsample((n,))
    assert values.shape == (n, 2)
    values.sum().backward()
    assert b.grad.abs().sum() > 0
    x = values.detach().numpy().astype(np.float64)
    mean, variance = distribution.mean.detach().numpy(), distribution.variance.detach().numpy()
    fourth = ((x - mean) ** 4).mean(0)
    np.testing.assert_array_less(np.abs(x.mean(0) - mean), 5 * (variance / n) ** 0.5)
    np.testing.assert_array_less(np.abs(x.var(0) - variance), 5 * (fourth / n) ** 0.5)
    if name == "MultivariateNormal":
        np.testing.assert_allclose(np.cov(x.T), distribution.covariance_matrix.detach().numpy(), atol=0.15)
    sample = distribution.sample()
    assert sample.shape == (2,)
    assert not sample.requires_grad
    assert np.isfinite(distribution.log_prob(distribution.sample((1000,))).detach().numpy()).all()


@pytest.mark.parametrize("name", ["Uniform", "Exponential", "Laplace", "Cauchy"])
def test_distribution_functions_are_pytorchs(name):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    arguments = (1.5,) if name == "Exponential" else (0.0, 2.0)
    ours, theirs = (getattr(library.distributions, name)(*arguments) for library in (fastnet, torch))
    u = np.array([0.01, 0.3, 0.5, 0.99], np.float32)
    x = ours.icdf(fastnet.tensor(u))
    np.testing.assert_allclose(x.numpy(), theirs.icdf(torch.tensor(u)).numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ours.cdf(x).numpy(), u, rtol=1e-5)
    values = ours.sample((4000,)).numpy()
    assert abs((values < float(ours.icdf(fastnet.tensor(0.25)))).mean() - 0.25) < 5 * (0.1875 / 4000) ** 0.5


def test_a_divergence_of_ones_own():
    class Mine(D.Normal):
        pass

    p = Mine(0.0, 1.0)
    assert D.kl_divergence(p, p) == 0
    D.register_kl(Mine, D.Normal)(lambda p, q: fastnet.tensor(7.0))
    assert D.kl_divergence(p, D.Normal(0.0, 1.0)) == 7
    assert D.kl_divergence(D.Normal(0.0, 1.0), p) == 0
