"""Distributions with their samples, log-probabilities, entropies and divergences, by torch.distributions' names."""

import sys

from fastnet.distributions import constraints, counts, gamma, transforms
from fastnet.distributions.bernoulli import Bernoulli
from fastnet.distributions.categorical import Categorical
from fastnet.distributions.cauchy import Cauchy
from fastnet.distributions.counts import (
    Binomial,
    Geometric,
    Multinomial,
    OneHotCategorical,
    OneHotCategoricalStraightThrough,
    Poisson,
)
from fastnet.distributions.distribution import Distribution
from fastnet.distributions.exponential import Exponential
from fastnet.distributions.gamma import Beta, Chi2, Dirichlet, Gamma, StudentT
from fastnet.distributions.gumbel import Gumbel
from fastnet.distributions.half_normal import HalfNormal
from fastnet.distributions.independent import Independent
from fastnet.distributions.kl import kl_divergence, register_kl
from fastnet.distributions.laplace import Laplace
from fastnet.distributions.log_normal import LogNormal
from fastnet.distributions.multivariate_normal import MultivariateNormal
from fastnet.distributions.normal import Normal
from fastnet.distributions.transformed_distribution import TransformedDistribution
from fastnet.distributions.transforms import (
    AbsTransform,
    AffineTransform,
    CatTransform,
    ComposeTransform,
    CumulativeDistributionTransform,
    ExpTransform,
    IndependentTransform,
    LowerCholeskyTransform,
    PositiveDefiniteTransform,
    PowerTransform,
    ReshapeTransform,
    SigmoidTransform,
    SoftmaxTransform,
    SoftplusTransform,
    StackTransform,
    StickBreakingTransform,
    TanhTransform,
    Transform,
    identity_transform,
)
from fastnet.distributions.uniform import Uniform

__all__ = [
    "AbsTransform",
    "AffineTransform",
    "Bernoulli",
    "Beta",
    "Binomial",
    "CatTransform",
    "Categorical",
    "Cauchy",
    "Chi2",
    "ComposeTransform",
    "CumulativeDistributionTransform",
    "Dirichlet",
    "Distribution",
    "ExpTransform",
    "Exponential",
    "Gamma",
    "Geometric",
    "Gumbel",
    "HalfNormal",
    "Independent",
    "IndependentTransform",
    "Laplace",
    "LogNormal",
    "LowerCholeskyTransform",
    "Multinomial",
    "MultivariateNormal",
    "Normal",
    "OneHotCategorical",
    "OneHotCategoricalStraightThrough",
    "Poisson",
    "PositiveDefiniteTransform",
    "PowerTransform",
    "ReshapeTransform",
    "SigmoidTransform",
    "SoftmaxTransform",
    "SoftplusTransform",
    "StackTransform",
    "StickBreakingTransform",
    "StudentT",
    "TanhTransform",
    "Transform",
    "TransformedDistribution",
    "Uniform",
    "constraints",
    "identity_transform",
    "kl_divergence",
    "register_kl",
    "transforms",
]

# torch.distributions' modules, for files that import from them.
for _name, _module in {
    "beta": gamma,
    "binomial": counts,
    "chi2": gamma,
    "dirichlet": gamma,
    "geometric": counts,
    "multinomial": counts,
    "one_hot_categorical": counts,
    "poisson": counts,
    "studentT": gamma,
}.items():
    sys.modules[f"{__name__}.{_name}"] = _module
    globals()[_name] = _module
