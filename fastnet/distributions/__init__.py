"""Normal, Categorical and Bernoulli distributions, by the names and formulas of torch.distributions."""

from fastnet.distributions.bernoulli import Bernoulli
from fastnet.distributions.categorical import Categorical
from fastnet.distributions.distribution import Distribution
from fastnet.distributions.kl import kl_divergence
from fastnet.distributions.normal import Normal

__all__ = ["Bernoulli", "Categorical", "Distribution", "Normal", "kl_divergence"]
