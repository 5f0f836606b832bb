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
    "Bernoulli probs": ((lambda d, a, b: d.Bernoulli(a.sigmoid())), lambda rng: rng.integers(0, 2, (4, 3)) * 1.0),
}


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
        parts = [p.log_prob(library.tensor(value)), p.entropy(), library.distributions.kl_divergence(p, q)]
        sum((i + 1) * part.sum() for i, part in enumerate(parts)).backward()
        grads = [t.grad.numpy() for t in (x, y) if t.grad is not None]
        results.append([*[t.detach().numpy() for t in parts], *grads, np.array(tuple(p.sample((2, 5)).shape))])
        results[-1].append(np.array(said))
    for w, g in zip(*results, strict=True):
        if w.dtype.kind == "U":
            assert str(g) == str(w)
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
    ):
        with pytest.raises(ValueError, match=r"outside|specified|dimensional|shape"):
            call()
    with pytest.raises(NotImplementedError):
        D.kl_divergence(D.Normal(0.0, 1.0), D.Bernoulli(0.5))
