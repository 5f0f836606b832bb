"""The surface of Tensor beyond the core: special functions, statistics, scatters, splits and stacks, linear algebra."""

from __future__ import annotations

from typing import Any

from calls import Call, Inputs


def _index(t: Any, *values: int) -> Any:
    return t.tensor(list(values))


def _changed(x: Any, change: Any) -> Any:
    change(x)
    return x


SPECIAL = "erf erfc sinc asinh deg2rad rad2deg frac i0 nan_to_num positive square abs sinh"
POSITIVE = "lgamma sqrt log10"
UNIT = "erfinv atanh"
INPLACE = (
    "abs_ ceil_ cos_ erf_ exp_ exp2_ expm1_ floor_ neg_ round_ sigmoid_ sign_ sin_ sinc_ square_ tan_ tanh_ "
    "trunc_ frac_"
)

DIFFERENTIABLE: dict[str, Call] = {
    **{f"tensor {n}": (lambda t, I, n=n: getattr(t, n)(I(2, 5))) for n in SPECIAL.split()},
    **{f"tensor {n}": (lambda t, I, n=n: getattr(I.positive(6), n)()) for n in POSITIVE.split()},
    **{f"tensor {n}": (lambda t, I, n=n: getattr(t, n)(I.unit(6))) for n in UNIT.split()},
    **{f"tensor {n}": (lambda t, I, n=n: getattr(I(6) * 1, n)()) for n in INPLACE.split()},
    "acosh": lambda t, I: t.acosh(I.positive(6) + 1),
    "logit": lambda t, I: t.logit(I.positive(6) / 2),
    "logit eps": lambda t, I: t.logit(I.positive(6) - 0.4, eps=0.2),
    "mvlgamma": lambda t, I: t.mvlgamma(I.positive(4) + 2, 2),
    # two operands
    "hypot": lambda t, I: t.hypot(I(3, 4), I(4)),
    "copysign": lambda t, I: t.copysign(I(5), I(5)),
    "copysign scalar": lambda t, I: I(5).copysign(-1.0),
    "logaddexp": lambda t, I: t.logaddexp(I(3, 4), I(3, 1)),
    "logaddexp2": lambda t, I: t.logaddexp2(I(5), I(5)),
    "xlogy": lambda t, I: t.xlogy(I(5), I.positive(5)),
    "fmax": lambda t, I: t.fmax(I(5), I(5)),
    "fmin": lambda t, I: t.fmin(I(5), I(5)),
    "float_power": lambda t, I: t.float_power(I.positive(5), 1.5),
    "rsub again": lambda t, I: t.rsub(I(5), I(5), alpha=2),
    "ldexp": lambda t, I: t.ldexp(I(5), I.ints(5)),
    "dist": lambda t, I: t.dist(I(3, 4), I(3, 4), 3),
    "lerp tensor": lambda t, I: t.lerp(I(6), I(6), I(6)),
    "lerp beyond half": lambda t, I: t.lerp(I(6), I(6), 0.8),
    "clamp tensors": lambda t, I: t.clamp(I(3, 4), I(4) - 0.5, I(4) + 0.5),
    "clamp_min": lambda t, I: I(9).clamp_min(0.1),
    "clamp_max": lambda t, I: t.clamp_max(I(9), I(9)),
    "div floor": lambda t, I: t.div(I(5), I.positive(5), rounding_mode="floor") + I(5),
    "threshold": lambda t, I: t.threshold(I(9), 0.1, 20.0),
    # statistics
    "median": lambda t, I: I(3, 5).median(),
    "median dim": lambda t, I: I(3, 5).median(dim=1).values,
    "nanmedian dim": lambda t, I: t.nanmedian(I(3, 4), 0, keepdim=True)[0],
    "mode": lambda t, I: I(3, 5).mode(dim=0)[0],
    "kthvalue": lambda t, I: t.kthvalue(I(3, 5), 2, dim=1).values,
    "quantile": lambda t, I: t.quantile(I(3, 5).float() if I.dtype == "bfloat16" else I(3, 5), 0.3, dim=1),
    "quantile all": lambda t, I: t.quantile(I(3, 5).double(), 0.61),
    "nansum": lambda t, I: t.nansum(I(3, 5), 1),
    "nanmean": lambda t, I: I(3, 5).nanmean(dim=0, keepdim=True),
    "aminmax": lambda t, I: t.aminmax(I(3, 5), dim=1)[1],
    "std_mean": lambda t, I: sum(t.std_mean(I(3, 5), dim=1)),
    "var_mean": lambda t, I: sum(t.var_mean(I(3, 5), 0, correction=0)),
    "std dims": lambda t, I: I(2, 3, 4).std(dim=(0, 2), keepdim=True),
    "cov": lambda t, I: t.cov(I(3, 6)),
    "corrcoef": lambda t, I: t.corrcoef(I(3, 6)),
    "norm 0.5": lambda t, I: I.positive(3, 4).norm(0.5, dim=1),
    "norm inf": lambda t, I: I(3, 4).norm(float("inf")),
    # running
    "cumprod": lambda t, I: t.cumprod(I(3, 4), dim=1),
    "cumprod zero": lambda t, I: t.cumprod(I(3, 4) * t.tensor([1.0, 0.0, 1.0, 1.0]).to(I(1).dtype), dim=1),
    "cummax": lambda t, I: t.cummax(I(3, 4), dim=1).values,
    "cummin": lambda t, I: I(3, 4).cummin(0)[0],
    "logcumsumexp": lambda t, I: t.logcumsumexp(I(3, 4), dim=1),
    "diff": lambda t, I: t.diff(I(3, 5), n=2),
    "diff prepend": lambda t, I: t.diff(I(3, 5), dim=0, prepend=I(1, 5), append=I(2, 5)),
    "trapezoid": lambda t, I: t.trapezoid(I(3, 5), dx=0.5),
    "trapezoid places": lambda t, I: t.trapezoid(I(3, 5), I(5)),
    "cumulative_trapezoid": lambda t, I: t.cumulative_trapezoid(I(3, 5), dim=0),
    # writing at indices
    "index_add": lambda t, I: I(4, 3).index_add(0, _index(t, 1, 3, 1), I(3, 3), alpha=2),
    "index_add_": lambda t, I: (I(4, 3) * 1).index_add_(1, _index(t, 2, 0), I(4, 2)),
    "index_copy": lambda t, I: I(4, 3).index_copy(0, _index(t, 1, 3), I(2, 3)),
    "index_fill": lambda t, I: I(4, 3).index_fill(1, _index(t, 0, 2), 0.5),
    "index_put": lambda t, I: I(4, 3).index_put((_index(t, 0, 2), _index(t, 1, 1)), I(2)),
    "index_put accumulate": lambda t, I: I(4, 3).index_put((_index(t, 0, 0),), I(2, 3), accumulate=True),
    "masked_scatter": lambda t, I: I(2, 3).masked_scatter(t.tensor([True, False, True]), I(6)),
    "take": lambda t, I: t.take(I(3, 4), t.tensor([[0, 5], [-1, 5]])),
    "put": lambda t, I: t.put(I(3, 4), _index(t, 1, 7), I(2)),
    "put_ accumulate": lambda t, I: (I(3, 4) * 1).put_(_index(t, 1, 1), I(2), accumulate=True),
    "select_scatter": lambda t, I: I(3, 4).select_scatter(I(3), 1, 2),
    "slice_scatter": lambda t, I: I(5, 4).slice_scatter(I(2, 4), 0, 1, 5, 2),
    "diagonal_scatter": lambda t, I: I(3, 4).diagonal_scatter(I(3), 1),
    **{
        f"scatter_reduce {reduce} {own}": (
            lambda t, I, reduce=reduce, own=own: I(4, 3).scatter_reduce(
                0, t.tensor([[0, 1, 2], [0, 1, 3], [2, 1, 0]]), I(3, 3), reduce, include_self=own
            )
        )
        for reduce in ("sum", "prod", "mean", "amax", "amin")
        for own in (True, False)
    },
    # shapes
    "unfold method": lambda t, I: I(3, 7).unfold(1, 3, 2) * 2,
    "as_strided": lambda t, I: t.as_strided(I(12), (3, 2), (2, 3), 1) * 2,
    "rot90": lambda t, I: t.rot90(I(2, 3, 4), 1, (0, 2)) * 2,
    "rot90 back": lambda t, I: t.rot90(I(2, 3), -1) * 2,
    "fliplr": lambda t, I: t.fliplr(I(2, 3)) * I(2, 3),
    "flipud": lambda t, I: t.flipud(I(2, 3)) * I(2, 3),
    "ravel": lambda t, I: I(2, 3).t().ravel() * I(6),
    "adjoint": lambda t, I: I(2, 3, 4).adjoint() * 2,
    "squeeze two": lambda t, I: I(1, 3, 1).squeeze((0, 2)) * 2,
    "column_stack": lambda t, I: t.column_stack([I(3), I(3, 2)]) * 2,
    "dstack": lambda t, I: t.dstack([I(2, 3), I(2, 3)]) * 2,
    "hstack numbers": lambda t, I: t.hstack([I(), I()]) * 2,
    "block_diag": lambda t, I: t.block_diag(I(2, 3), I(2), I()) * 2,
    "cartesian_prod": lambda t, I: t.cartesian_prod(I(2), I(3)) * 2,
    "combinations": lambda t, I: t.combinations(I(4), 2) * 2,
    "meshgrid": lambda t, I: sum(t.meshgrid(I(3), I(4), indexing="xy")),
    "broadcast_tensors": lambda t, I: sum(t.broadcast_tensors(I(3, 1), I(4))),
    "tensor_split": lambda t, I: t.tensor_split(I(7, 2), 3)[1] * 2,
    "tensor_split at": lambda t, I: I(7, 2).tensor_split((2, 5))[1] * 2,
    "hsplit": lambda t, I: t.hsplit(I(2, 6), 3)[2] * 2,
    "vsplit": lambda t, I: I(4, 2).vsplit([1])[1] * 2,
    "split_with_sizes": lambda t, I: I(5, 2).split_with_sizes([2, 3])[1] * 2,
    "diag_embed": lambda t, I: t.diag_embed(I(2, 3), 1) * 2,
    "diag_embed dims": lambda t, I: t.diag_embed(I(2, 3), dim1=0, dim2=2) * 2,
    "diagflat": lambda t, I: t.diagflat(I(2, 2), -1) * 2,
    "swapdims": lambda t, I: I(2, 3).swapdims(0, 1) * 2,
    "atleast_3d": lambda t, I: t.atleast_3d(I(3)) * 2,
    "sum_to_size": lambda t, I: I(2, 3, 4).sum_to_size(3, 1) * 2,
    "T three": lambda t, I: I(2, 3, 4).mT * 2,
    "numbers among index arrays": lambda t, I: I(2, 3, 4)[0, :, _index(t, 1, 3)] * 2,
    "numbers and arrays assigned": lambda t, I: _changed(
        I(2, 3, 4) * 1, lambda x: x.__setitem__((1, slice(None), _index(t, 1, 3)), I(3, 2))
    ),
    "index by nested lists": lambda t, I: I(3, 4)[[0, 2], [1, 3]] * 2,
    "fill_diagonal_": lambda t, I: (I(3, 4) * 1).fill_diagonal_(2.0),
    # products
    "addmv": lambda t, I: t.addmv(I(3), I(3, 4), I(4), beta=0.5, alpha=2),
    "addr": lambda t, I: t.addr(I(3, 4), I(3), I(4), alpha=0.5),
    "baddbmm": lambda t, I: t.baddbmm(I(2, 3, 2), I(2, 3, 4), I(2, 4, 2), beta=0.5),
    "addbmm": lambda t, I: t.addbmm(I(3, 2), I(2, 3, 4), I(2, 4, 2)),
    "tensordot": lambda t, I: t.tensordot(I(2, 3, 4), I(4, 3, 2), dims=([1, 2], [1, 0])),
    "tensordot number": lambda t, I: t.tensordot(I(2, 3, 4), I(3, 4, 2), dims=2),
    "inner": lambda t, I: t.inner(I(2, 3), I(4, 3)),
    "vdot": lambda t, I: t.vdot(I(4), I(4)),
    "kron": lambda t, I: t.kron(I(2, 3), I(3, 2)),
    "trace": lambda t, I: t.trace(I(3, 4)),
    "cross": lambda t, I: t.cross(I(2, 3), I(2, 3), dim=1),
    "linalg.cross": lambda t, I: t.linalg.cross(I(2, 3), I(1, 3)),
    "chain_matmul": lambda t, I: t.linalg.multi_dot([I(2, 3), I(3, 4), I(4, 2)]),
    "linalg.norm": lambda t, I: t.linalg.norm(I(3, 4)),
    "linalg.norm matrix": lambda t, I: t.linalg.norm(I(3, 4), 1),
    "linalg.vector_norm": lambda t, I: t.linalg.vector_norm(I(3, 4), 3, dim=1),
    "linalg.matrix_norm": lambda t, I: t.linalg.matrix_norm(I(2, 3, 4), float("inf")),
}

# Only in dtypes that LAPACK and PyTorch have.
_FULL: dict[str, Call] = {
    "cdist": lambda t, I: t.cdist(I(2, 3), I(4, 3)),
    "cdist 1": lambda t, I: t.cdist(I(2, 3), I(4, 3), p=1.0),
    "pdist": lambda t, I: t.pdist(I(4, 3)),
    "linalg.inv": lambda t, I: t.linalg.inv(I(3, 3)),
    "linalg.det": lambda t, I: t.linalg.det(I(2, 3, 3)),
    "linalg.slogdet": lambda t, I: t.linalg.slogdet(I(3, 3))[1],
    "linalg.solve": lambda t, I: t.linalg.solve(I(3, 3), I(3, 2)),
    "linalg.cholesky": lambda t, I: t.linalg.cholesky((lambda a: a @ a.mT + 3 * t.eye(3, dtype=a.dtype))(I(3, 3))),
    "linalg.svdvals": lambda t, I: t.linalg.svdvals(I(3, 4)),
    "linalg.norm nuc": lambda t, I: t.linalg.norm(I(3, 4), "nuc"),
    "matrix_power": lambda t, I: t.matrix_power(I(3, 3), 3),
}
DIFFERENTIABLE |= {
    name: (lambda t, I, call=call: call(t, _Wide(I)) if I.dtype == "bfloat16" else call(t, I))
    for name, call in _FULL.items()
}


class _Wide:
    """Inputs of a 16-bit dtype as float32."""

    def __init__(self, inputs: Inputs):
        self._inputs = inputs

    def __call__(self, *shape: int) -> Any:
        return self._inputs(*shape).float()


NAN, INF = float("nan"), float("inf")
PLAIN: dict[str, Call] = {
    # predicates and bits
    "isposinf": lambda t, I: t.isposinf(t.tensor([1.0, INF, -INF, NAN])),
    "isneginf": lambda t, I: t.isneginf(t.tensor([1.0, INF, -INF, NAN])),
    "isreal": lambda t, I: t.isreal(I(3)),
    "signbit": lambda t, I: t.signbit(t.tensor([-0.0, 0.0, -1.0])),
    "sign nan": lambda t, I: t.sign(t.tensor([NAN, -INF, 0.0])),
    "shift left": lambda t, I: t.tensor([1, -3, 5]) << 2,
    "shift right": lambda t, I: t.tensor([1, -3, 500]) >> t.tensor([1, 1, 70]),
    "gcd": lambda t, I: t.gcd(t.tensor([12, -8, 0]), t.tensor([18, 12, 5])),
    "lcm": lambda t, I: t.lcm(t.tensor([4, 6]), t.tensor([6, 9])),
    "heaviside": lambda t, I: t.heaviside(t.tensor([-1.0, 0.0, 2.0]), t.tensor(0.5)),
    "nextafter": lambda t, I: t.nextafter(t.tensor([1.0]), t.tensor([2.0])),
    "nan_to_num": lambda t, I: t.nan_to_num(t.tensor([NAN, INF, -INF, 1.0]), 2.0, posinf=3.0),
    "fmax nan": lambda t, I: t.fmax(t.tensor([NAN, 1.0]), t.tensor([2.0, NAN])),
    "isin": lambda t, I: t.isin(t.tensor([[1, 2], [3, 4]]), t.tensor([2, 4, 9])),
    "isin inverted": lambda t, I: t.isin(t.tensor([1, 2]), 2, invert=True),
    "int powers": lambda t, I: t.tensor([2, -1, 1]) ** t.tensor([-1, -3, -2]),
    "square bool": lambda t, I: t.square(t.tensor([True, False])),
    "sub alpha uint8": lambda t, I: t.sub(t.tensor([1, 2]), t.tensor([3, 4], dtype=t.uint8), alpha=-1),
    "logical_and_": lambda t, I: t.tensor([1, 0, 3]).logical_and_(t.tensor([1, 1, 0])),
    "eq_": lambda t, I: t.tensor([1, 0, 3]).eq_(3),
    "add_ wraps": lambda t, I: t.tensor([250], dtype=t.uint8).add_(10),
    "frexp": lambda t, I: t.frexp(t.tensor([3.0, -0.25, 0.0]))[1],
    "sgn": lambda t, I: t.sgn(t.tensor([-2.0, 0.0, 3.0])),
    "digamma": lambda t, I: t.digamma(t.tensor([0.5, 0.0, -0.0, 3.0])),
    "polygamma": lambda t, I: t.polygamma(1, t.tensor([0.5, 3.0])),
    "vander": lambda t, I: t.vander(I(3), 3, increasing=True),
    # counting and order
    "bincount again": lambda t, I: t.bincount(_index(t, 1, 3, 1), minlength=6),
    "bincount weights": lambda t, I: t.bincount(_index(t, 1, 3, 1), t.tensor([0.5, 1.0, 2.0])),
    "histc": lambda t, I: t.histc(I(50), 7, -1, 1),
    "histc all": lambda t, I: t.histc(I(50), 5),
    "histogram": lambda t, I: t.histogram(I(50), 4)[0],
    "searchsorted": lambda t, I: t.searchsorted(_index(t, 1, 3, 5), t.tensor([[0, 3], [4, 9]])),
    "searchsorted right rows": lambda t, I: t.searchsorted(
        t.tensor([[1, 3], [2, 4]]), t.tensor([[3], [2]]), side="right"
    ),
    "bucketize": lambda t, I: t.bucketize(t.tensor([0.5, 3.0]), t.tensor([1.0, 3.0]), right=True),
    "unique dim": lambda t, I: t.unique(t.tensor([[2, 1], [0, 1], [2, 1]]), dim=0),
    "unique inverse": lambda t, I: t.unique(t.tensor([3, 1, 3]), return_inverse=True)[1],
    "unique_consecutive": lambda t, I: t.unique_consecutive(t.tensor([1, 1, 2, 1]), return_counts=True)[1],
    "argwhere": lambda t, I: t.argwhere(t.tensor([[0, 1], [2, 0]])),
    "msort": lambda t, I: t.msort(I(4, 2)),
    "median even nan": lambda t, I: t.median(t.tensor([[1.0, NAN, 3.0], [4.0, 2.0, 8.0]]), 1)[0],
    "nanmedian": lambda t, I: t.nanmedian(t.tensor([1.0, NAN, 3.0, 2.0])),
    "mode values": lambda t, I: t.mode(t.tensor([[2, 1, 2], [3, 3, 1]]))[0],
    "mode indices": lambda t, I: t.mode(t.tensor([[2, 1, 2], [3, 3, 1]]))[1],
    "quantiles": lambda t, I: t.quantile(I(3, 5), t.tensor([0.1, 0.5, 1.0]), dim=1, keepdim=True),
    "quantile higher": lambda t, I: t.quantile(I(3, 5), 0.4, interpolation="higher"),
    "nanquantile": lambda t, I: t.nanquantile(t.tensor([[1.0, NAN, 3.0], [4.0, 2.0, 8.0]]), 0.5, dim=1),
    "cummax indices": lambda t, I: t.cummax(t.tensor([1, 3, 3, 2]), 0)[1],
    "cumsum bool": lambda t, I: t.tensor([True, True]).cumsum(0),
    "argmax of equals": lambda t, I: t.tensor([1, 3, 3]).argmax(),
    "sum dtype": lambda t, I: t.tensor([1, 2], dtype=t.uint8).sum(dtype=t.int32),
    "sum empty": lambda t, I: t.zeros(0, 3).sum(0),
    "max empty rows": lambda t, I: t.zeros(0, 3).max(1)[0],
    "all empty": lambda t, I: t.zeros(0).all(),
    "axis keepdims": lambda t, I: t.sum(I(2, 3), axis=1, keepdims=True),
    # making
    "tril_indices": lambda t, I: t.tril_indices(3, 4, 1),
    "triu_indices": lambda t, I: t.triu_indices(3, 4, -1),
    "hann_window": lambda t, I: t.hann_window(8),
    "hamming_window": lambda t, I: t.hamming_window(7, periodic=False),
    "blackman_window": lambda t, I: t.blackman_window(5) + 1,
    "range": lambda t, I: t.arange(0.5, 3),
    "arange int64 of floats": lambda t, I: t.arange(0.5, 3.7, dtype=t.int64),
    "scalar_tensor": lambda t, I: t.scalar_tensor(3),
    "frombuffer": lambda t, I: t.frombuffer(bytearray(range(8)), dtype=t.int32),
    "new_full": lambda t, I: I(2).new_full((2, 2), 3),
    "new_tensor": lambda t, I: I(2).new_tensor([1, 2]),
    "new_zeros int": lambda t, I: t.tensor([1]).new_zeros(2, 3),
    "FloatTensor": lambda t, I: t.FloatTensor([1, 2]),
    "LongTensor": lambda t, I: t.LongTensor([[1, 2]]),
    "Tensor": lambda t, I: t.Tensor([[1, 2]]),
    "broadcast_shapes": lambda t, I: t.zeros(t.broadcast_shapes((2, 1), (3,))),
    "out": lambda t, I: t.add(t.ones(2), 1, out=t.empty(2, dtype=t.float64)),
    "out resized": lambda t, I: t.mul(t.ones(2, 3), 2, out=t.empty(0)),
    "out of two": lambda t, I: t.max(I(2, 3), 1, out=(t.empty(2), t.empty(2, dtype=t.int64)))[0],
    "unravel_index": lambda t, I: t.stack(t.unravel_index(t.tensor([5, 7]), (2, 4))),
    "view dtype": lambda t, I: t.tensor([1.0, 2.0]).view(t.int32),
    "view dtype narrower": lambda t, I: t.tensor([1, 2]).view(t.uint8),
    "resize_": lambda t, I: t.arange(6).resize_(2, 2),
    "matrix_rank": lambda t, I: t.linalg.matrix_rank(t.ones(3, 3)),
    "pinv": lambda t, I: t.linalg.pinv(t.tensor([[2.0, 0.0], [0.0, 4.0], [0.0, 0.0]])),
    "eigvalsh": lambda t, I: t.linalg.eigvalsh(t.tensor([[2.0, 1.0], [1.0, 2.0]])),
    "qr": lambda t, I: t.linalg.qr(t.tensor([[2.0, 1.0], [1.0, 2.0]]))[1].abs(),
    "promote clamp": lambda t, I: t.tensor([1, 5]).clamp(max=2.5),
    "clamp mixed": lambda t, I: t.tensor([1, 5]).clamp(t.tensor(0.5), 3),
    "index true": lambda t, I: I(3)[True],
    "index negative step of lists": lambda t, I: I(5)[[-1, 0]],
    "index 0-d": lambda t, I: I(3, 2)[t.tensor(1)],
    "setitem broadcast": lambda t, I: _changed(t.zeros(3, 4), lambda x: x.__setitem__((slice(1, None), 0), 2)),
    "setitem bool": lambda t, I: _changed(t.zeros(2, 2), lambda x: x.__setitem__(x == 0, 5.0)),
    "setitem list": lambda t, I: _changed(t.zeros(3), lambda x: x.__setitem__([0, 2], t.tensor([1.0, 2.0]))),
    "scatter multiply": lambda t, I: t.ones(3).scatter(0, t.tensor([0, 0]), 3.0, reduce="multiply"),
}

REFUSED: dict[str, Call] = {
    "abs of bool": lambda t, I: t.abs(t.tensor([True])),
    "minus bool": lambda t, I: I(1) - t.tensor([True]),
    "maximum of a number": lambda t, I: t.maximum(I(2), 1.0),
    "logical_and of a number": lambda t, I: t.logical_and(I(2), 1),
    "pow negative number": lambda t, I: t.tensor([2]) ** -1,
    "isclose dtypes": lambda t, I: t.isclose(t.ones(1), t.ones(1, dtype=t.float64)),
    "hypot of ints": lambda t, I: t.hypot(t.tensor([1]), t.tensor([1])),
    "gcd of floats": lambda t, I: t.gcd(I(2), I(2)),
    "argmax of bool": lambda t, I: t.tensor([True]).argmax(),
    "kthvalue 0": lambda t, I: t.kthvalue(I(3), 0),
    "quantile beyond 1": lambda t, I: t.quantile(I(3), 1.5),
    "quantile of ints": lambda t, I: t.quantile(t.tensor([1, 2]), 0.5),
    "median of nothing": lambda t, I: t.zeros(2, 0).median(1),
    "index_add sizes": lambda t, I: I(3).index_add(0, _index(t, 0, 1), I(3)),
    "index_copy out of range": lambda t, I: t.zeros(3).index_copy(0, _index(t, 3), t.ones(1)),
    "scatter_reduce unknown": lambda t, I: I(3).scatter_reduce(0, _index(t, 0), I(1), "middle"),
    "masked_scatter too few": lambda t, I: t.zeros(3).masked_scatter(t.tensor([True] * 3), t.ones(2)),
    "take out of range": lambda t, I: t.take(I(3), _index(t, 3)),
    "unfold too wide": lambda t, I: I(3).unfold(0, 4, 1),
    "as_strided beyond": lambda t, I: I(4).as_strided((3, 3), (2, 2)),
    "view of another size": lambda t, I: I(6).view(4, 2),
    "hsplit uneven": lambda t, I: t.hsplit(I(2, 5), 2),
    "fliplr of a vector": lambda t, I: t.fliplr(I(3)),
    "rot90 of a vector": lambda t, I: t.rot90(I(3)),
    "tensordot sizes": lambda t, I: t.tensordot(I(2, 3), I(2, 3), 1),
    "inv of a singular matrix": lambda t, I: t.linalg.inv(t.zeros(2, 2)),
    "inv not square": lambda t, I: t.linalg.inv(I(2, 3)),
    "cross not three": lambda t, I: t.cross(I(2), I(2), dim=0),
    "cdist columns": lambda t, I: t.cdist(I(2, 3), I(2, 4)),
    "in place wider dtype": lambda t, I: t.tensor([1]).add_(1.5),
    "in place wider shape": lambda t, I: t.ones(1, 3).add_(t.ones(2, 3)),
    "out of a lower kind": lambda t, I: t.add(t.ones(2), 1, out=t.empty(2, dtype=t.int64)),
    "out with gradients": lambda t, I: t.add(I(2), 1, out=t.empty(2)),
    "grad of another shape": lambda t, I: setattr(I(2), "grad", t.ones(3)),
    "grad no tensor": lambda t, I: setattr(I(2), "grad", 1.0),
    "item of two": lambda t, I: I(2).item(),
    "bool of two": lambda t, I: bool(I(2)),
    "index out of range again": lambda t, I: I(3)[3],
    "index by floats": lambda t, I: I(3)[t.tensor([0.5])],
    "negative step": lambda t, I: I(3)[::-1],
    "mask of another shape": lambda t, I: I(3)[t.tensor([True, False])],
    "setitem shape": lambda t, I: t.zeros(3).__setitem__(slice(None), t.ones(2)),
    "Size of strings": lambda t, I: t.Size(["a"]),
    "iinfo of floats": lambda t, I: t.iinfo(t.float32),
    "finfo of ints": lambda t, I: t.finfo(t.int32),
    "as index": lambda t, I: [1, 2][I(1)],
    "contains a string": lambda t, I: "a" in I(2),
}
