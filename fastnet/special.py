"""Special functions, as ``torch.special``."""

from fastnet._checks import checked as _checked
from fastnet.ops import arithmetic as _arithmetic
from fastnet.ops import pointwise as _pointwise
from fastnet.ops import reductions as _reductions
from fastnet.ops import softmax as _softmax
from fastnet.ops import special as _special

_NAMES = {
    _arithmetic: "exp2 expm1 log1p round",
    _reductions: "logsumexp",
    _softmax: "log_softmax softmax",
    _special: "digamma erf erfc erfinv i0 logit polygamma sinc xlogy",
}
for _module, _names in _NAMES.items():
    for _name in _names.split():
        globals()[_name] = _checked(getattr(_module, _name))
expit = _checked(_pointwise.sigmoid)
gammaln = _checked(_special.lgamma)
psi = _checked(_special.digamma)
multigammaln = _checked(_special.mvlgamma)

__all__ = [*" ".join(_NAMES.values()).split(), "expit", "gammaln", "multigammaln", "psi"]
