"""Divergences of distributions."""

from __future__ import annotations

from fastnet._tensor import Tensor
from fastnet.distributions.bernoulli import Bernoulli
from fastnet.distributions.categorical import Categorical
from fastnet.distributions.distribution import Distribution
from fastnet.distributions.normal import Normal
from fastnet.nn import functional as F


def kl_divergence(p: Distribution, q: Distribution) -> Tensor:
    """The Kullback-Leibler divergence of p from q, both of one kind.

    Raises:
        NotImplementedError: p and q are of different kinds.
    """
    if isinstance(p, Normal) and isinstance(q, Normal):
        ratio = (p.scale / q.scale) ** 2
        return 0.5 * (ratio + ((p.loc - q.loc) / q.scale) ** 2 - 1 - ratio.log())
    if isinstance(p, Categorical) and isinstance(q, Categorical):
        return (p.probs * (p.logits - q.logits)).sum(-1)
    if isinstance(p, Bernoulli) and isinstance(q, Bernoulli):
        one = p.probs * (F.softplus(-q.logits) - F.softplus(-p.logits))
        return one + (1 - p.probs) * (F.softplus(q.logits) - F.softplus(p.logits))
    raise NotImplementedError(
        f"No KL(p || q) is implemented for p type {type(p).__name__} and q type {type(q).__name__}"
    )
