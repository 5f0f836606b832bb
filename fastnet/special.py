"""Special functions, as ``torch.special``."""

from fastnet._checks import checked as _checked
from fastnet.ops import bessel as _bessel
from fastnet.ops import elementwise as _elementwise
from fastnet.ops import pointwise as _pointwise
from fastnet.ops import reductions as _reductions
from fastnet.ops import softmax as _softmax
from fastnet.ops import special as _special

_NAMES = {
    _elementwise: "exp2 expm1 log1p round",
    _reductions: "logsumexp",
    _softmax: "log_softmax softmax",
    _bessel: (
        "airy_ai bessel_j0 bessel_j1 bessel_y0 bessel_y1 entr erfcx i0e i1 i1e log_ndtr modified_bessel_i0 "
        "modified_bessel_i1 modified_bessel_k0 modified_bessel_k1 ndtr ndtri scaled_modified_bessel_k0 "
        "scaled_modified_bessel_k1 spherical_bessel_j0 xlog1py zeta"
    ),
    _special: "digamma erf erfc erfinv i0 logit polygamma sinc xlogy",
}
for _module, _names in _NAMES.items():
    for _name in _names.split():
        globals()[_name] = _checked(getattr(_module, _name))
expit = _checked(_pointwise.sigmoid)
gammainc, gammaincc = _checked(_bessel.igamma), _checked(_bessel.igammac)
gammaln = _checked(_special.lgamma)
psi = _checked(_special.digamma)
multigammaln = _checked(_special.mvlgamma)

__all__ = [*" ".join(_NAMES.values()).split(), "expit", "gammainc", "gammaincc", "gammaln", "multigammaln", "psi"]
