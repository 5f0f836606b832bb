"""TransformerClassifier: padding changes nothing, and it learns what a bag of tokens cannot tell."""

import numpy as np
import pytest

import fastnet
from fastnet.models import TransformerClassifier
from fastnet.nn import functional as F

SIZES = dict(d_model=16, nhead=2, num_layers=2, dim_feedforward=32, max_length=12)


def test_padding_changes_nothing():
    fastnet.manual_seed(0)
    model = TransformerClassifier(9, 3, padding_idx=0, **SIZES).eval()
    short, long = [3, 1, 2], [4, 5, 6, 7, 8, 1]
    together = model(fastnet.tensor([short + [0] * 3, long])).detach().numpy()
    alone = [model(fastnet.tensor([s])).detach().numpy()[0] for s in (short, long)]
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5)


def test_it_learns_the_order_of_tokens():
    """Whether 1 stands before 2: the tokens are the same in both classes."""
    fastnet.manual_seed(1)
    model = TransformerClassifier(5, 2, dropout=0.0, **SIZES)
    rng = np.random.default_rng(0)
    x = np.array([rng.permutation([1, 2, 3, 3, 4, 4]) for _ in range(128)])
    y = (x == 1).argmax(1) < (x == 2).argmax(1)
    x, y = fastnet.tensor(x), fastnet.tensor(y.astype(np.int64))
    optimizer = fastnet.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(60):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (model(x).argmax(1) == y).float().mean().item() > 0.95


def test_errors():
    model = TransformerClassifier(5, 2, **SIZES)
    with pytest.raises(ValueError, match=r"shape \(1, 13\), expected \(N, T\) with T from 1 to max_length=12"):
        model(fastnet.zeros(1, 13, dtype=fastnet.int64))
