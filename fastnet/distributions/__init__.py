"""Distributions with their samples, log-probabilities, entropies and divergences, by torch.distributions' names."""

from fastnet.distributions.bernoulli import Bernoulli
from fastnet.distributions.categorical import Categorical
from fastnet.distributions.cauchy import Cauchy
from fastnet.distributions.distribution import Distribution
from fastnet.distributions.exponential import Exponential
from fastnet.distributions.gumbel import Gumbel
from fastnet.distributions.half_normal import HalfNormal
from fastnet.distributions.independent import Independent
from fastnet.distributions.kl import kl_divergence, register_kl
from fastnet.distributions.laplace import Laplace
from fastnet.distributions.log_normal import LogNormal
from fastnet.distributions.multivariate_normal import MultivariateNormal
from fastnet.distributions.normal import Normal
from fastnet.distributions.uniform import Uniform

__all__ = [
    "Bernoulli",
    "Categorical",
    "Cauchy",
    "Distribution",
    "Exponential",
    "Gumbel",
    "HalfNormal",
    "Independent",
    "Laplace",
    "LogNormal",
    "MultivariateNormal",
    "Normal",
    "Uniform",
    "kl_divergence",
    "register_kl",
]
