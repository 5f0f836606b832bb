"""A table of calls that PyTorch and fastnet must answer alike. Each row: what it covers, and a function of (library,
inputs).

``I`` is where inputs come from: the same NumPy arrays as tensors of either library.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


class Inputs:
    """Inputs of one call, drawn in order from one seed."""

    def __init__(self, library: Any, dtype: str, grad: bool):
        self.lib, self.dtype, self.grad = library, dtype, grad
        self.rng = np.random.default_rng(7)
        self.made: list[Any] = []

    def _tensor(self, array: np.ndarray, grad: bool) -> Any:
        t = self.lib.tensor(
            array.tolist(), dtype=getattr(self.lib, self.dtype if grad is not None else str(array.dtype))
        )
        t = t.reshape(array.shape)
        if grad and self.grad:
            t = t.detach().requires_grad_(True)
            self.made.append(t)
        return t

    def __call__(self, *shape: int) -> Any:
        """Normal numbers, differentiable."""
        return self._tensor(self.rng.standard_normal(shape), True)

    def positive(self, *shape: int) -> Any:
        return self._tensor(self.rng.random(shape) + 0.5, True)

    def unit(self, *shape: int) -> Any:
        return self._tensor(self.rng.random(shape) * 1.8 - 0.9, True)

    def ints(self, *shape: int, low: int = 0, high: int = 5) -> Any:
        return self.lib.tensor(self.rng.integers(low, high, shape).tolist(), dtype=self.lib.int64).reshape(shape)

    def mask(self, *shape: int) -> Any:
        return self.lib.tensor((self.rng.random(shape) > 0.5).tolist(), dtype=self.lib.bool).reshape(shape)


Call = Callable[[Any, Inputs], Any]
DIFFERENTIABLE: dict[str, Call] = {
    # arithmetic
    "add": lambda t, I: I(2, 3) + I(2, 3),
    "add broadcast": lambda t, I: I(2, 1, 3) + I(4, 1),
    "add alpha": lambda t, I: t.add(I(3), I(3), alpha=2),
    "add scalar": lambda t, I: 1.5 + I(3),
    "sub": lambda t, I: I(2, 3) - I(3),
    "rsub": lambda t, I: 2 - I(3),
    "mul": lambda t, I: I(2, 3) * I(2, 1),
    "mul scalar": lambda t, I: I(3) * 3,
    "div": lambda t, I: I(2, 3) / I.positive(3),
    "rdiv": lambda t, I: 2 / I.positive(3),
    "pow scalar": lambda t, I: I(4) ** 3,
    "pow negative": lambda t, I: I.positive(4) ** -1.5,
    "pow tensor": lambda t, I: I.positive(4) ** I(4),
    "rpow": lambda t, I: 2 ** I(4),
    "remainder": lambda t, I: t.remainder(I(5), I.positive(5)),
    "fmod": lambda t, I: t.fmod(I(5), 0.7),
    "neg": lambda t, I: -I(3),
    "maximum": lambda t, I: t.maximum(I(3, 2), I(2)),
    "minimum": lambda t, I: t.minimum(I(3, 2), I(2)),
    "atan2": lambda t, I: t.atan2(I(5), I(5)),
    "lerp": lambda t, I: t.lerp(I(3), I(3), 0.3),
    "addcmul": lambda t, I: t.addcmul(I(3), I(3), I(3), value=0.5),
    "addcdiv": lambda t, I: t.addcdiv(I(3), I(3), I.positive(3), value=0.5),
    "where": lambda t, I: t.where(I.mask(3, 4), I(3, 4), I(4)),
    "where scalar": lambda t, I: t.where(I.mask(3), I(3), 0.5),
    "masked_fill": lambda t, I: I(3, 4).masked_fill(I.mask(3, 4), 2.0),
    "clamp": lambda t, I: t.clamp(I(9), -0.5, 0.7),
    "clamp min": lambda t, I: I(9).clamp(min=0),
    # pointwise mathematics
    **{
        name: (lambda t, I, name=name: getattr(t, name)(I(6)))
        for name in (
            "exp expm1 sin cos tan atan sinh cosh tanh sigmoid square abs relu floor ceil sign round trunc exp2"
        ).split()
    },
    **{
        name: (lambda t, I, name=name: getattr(t, name)(I.positive(6)))
        for name in "log log2 log10 log1p sqrt rsqrt reciprocal".split()
    },
    **{name: (lambda t, I, name=name: getattr(t, name)(I.unit(6))) for name in "asin acos".split()},
    # reductions
    "sum": lambda t, I: I(2, 3).sum(),
    "sum dim": lambda t, I: I(2, 3, 4).sum(dim=(0, 2)),
    "sum keepdim": lambda t, I: t.sum(I(2, 3), 1, keepdim=True),
    "mean": lambda t, I: I(2, 3).mean(),
    "mean dim": lambda t, I: I(2, 3).mean(-1),
    "var": lambda t, I: I(4, 5).var(dim=1),
    "var biased": lambda t, I: I(4, 5).var(dim=1, unbiased=False, keepdim=True),
    "std": lambda t, I: I(4, 5).std(),
    "prod": lambda t, I: I(2, 3).prod(),
    "prod dim": lambda t, I: I(2, 3).prod(dim=1),
    "max": lambda t, I: I(2, 5).max(),
    "max dim": lambda t, I: I(2, 5).max(dim=1).values,
    "min dim": lambda t, I: I(2, 5).min(dim=0, keepdim=True)[0],
    "amax": lambda t, I: I(2, 5).amax(dim=(0, 1)),
    "amin": lambda t, I: t.amin(I(2, 5), 1),
    "norm": lambda t, I: I(3, 4).norm(),
    "norm dim": lambda t, I: I(3, 4).norm(2, dim=1),
    "norm 1": lambda t, I: I(3, 4).norm(1),
    "norm 3": lambda t, I: I(3, 4).norm(3, dim=0),
    "logsumexp": lambda t, I: t.logsumexp(I(3, 4), dim=1),
    "cumsum": lambda t, I: t.cumsum(I(3, 4), dim=1),
    # shapes
    "view": lambda t, I: I(2, 6).view(3, -1) * 2,
    "reshape after transpose": lambda t, I: I(2, 6).t().reshape(4, 3) * I(4, 3),
    "transpose": lambda t, I: I(2, 3, 4).transpose(0, 2) * I(4, 3, 2),
    "permute": lambda t, I: I(2, 3, 4).permute(2, 0, 1) * I(4, 2, 3),
    "T": lambda t, I: I(2, 3).T * 2,
    "mT": lambda t, I: I(2, 3, 4).mT * 2,
    "movedim": lambda t, I: t.movedim(I(2, 3, 4), 0, 2) * 2,
    "flatten": lambda t, I: t.flatten(I(2, 3, 4), 1) * 2,
    "unflatten": lambda t, I: I(2, 6).unflatten(1, (2, 3)) * 2,
    "unsqueeze": lambda t, I: I(2, 3).unsqueeze(1) * I(2, 2, 3),
    "squeeze": lambda t, I: I(2, 1, 3).squeeze(1) * 2,
    "expand": lambda t, I: I(2, 1).expand(3, 2, 4) * I(3, 2, 4),
    "expand_as": lambda t, I: I(1, 4).expand_as(I(3, 4)) * 2,
    "repeat": lambda t, I: I(2, 3).repeat(2, 1, 2) * 2,
    "cat": lambda t, I: t.cat([I(2, 3), I(4, 3)], dim=0) * I(6, 3),
    "cat negative": lambda t, I: t.cat((I(2, 3), I(2, 1)), -1) * 2,
    "stack": lambda t, I: t.stack([I(2, 3), I(2, 3)], dim=1) * I(2, 2, 3),
    "chunk": lambda t, I: I(5, 4).chunk(2, dim=0)[1] * 2,
    "split": lambda t, I: I(5, 4).split([1, 3, 1])[1] * 2,
    "unbind": lambda t, I: I(3, 2).unbind(0)[1] * 2,
    "narrow": lambda t, I: I(5, 2).narrow(0, 1, 3) * 2,
    "select": lambda t, I: I(5, 2).select(0, 2) * 2,
    "tril": lambda t, I: t.tril(I(4, 4)),
    "triu": lambda t, I: t.triu(I(4, 4), 1),
    "diagonal": lambda t, I: t.diagonal(I(3, 4)) * 2,
    "diag": lambda t, I: t.diag(I(3)),
    "flip": lambda t, I: t.flip(I(2, 3), (1,)) * I(2, 3),
    "roll": lambda t, I: t.roll(I(2, 3), 1, 1) * I(2, 3),
    "repeat_interleave": lambda t, I: t.repeat_interleave(I(3, 2), 2, dim=0),
    "clone": lambda t, I: I(3).clone() * 2,
    "contiguous": lambda t, I: I(2, 3).t().contiguous() * 2,
    # indexing
    "index int": lambda t, I: I(3, 4)[1] * 2,
    "index slice": lambda t, I: I(5, 4)[1:4:2, :3] * 2,
    "index ellipsis none": lambda t, I: I(3, 4)[..., None, 1] * 2,
    "index tensor": lambda t, I: I(5, 4)[I.ints(6)] * 2,
    "index two tensors": lambda t, I: I(5, 5)[I.ints(6), I.ints(6)] * 2,
    "index mask": lambda t, I: I(3, 4)[t.tensor([[True, False, True, True]] * 3)] * 2,
    "index list": lambda t, I: I(5, 2)[[0, 3, 3]] * 2,
    "gather": lambda t, I: t.gather(I(5, 4), 0, I.ints(3, 4)) * 2,
    "scatter": lambda t, I: I(5, 3).scatter(0, t.tensor([[0, 1, 2], [3, 4, 0]]), I(2, 3)),
    "scatter_add": lambda t, I: I(5, 3).scatter_add(0, I.ints(4, 3), I(4, 3)),
    "index_select": lambda t, I: t.index_select(I(5, 4), 1, t.tensor([0, 2, 2])) * 2,
    "take_along_dim": lambda t, I: t.take_along_dim(I(5, 4), I.ints(2, 4), dim=0),
    "masked_select": lambda t, I: t.masked_select(I(3, 4), t.tensor([True, False, True, False])),
    "sort": lambda t, I: t.sort(I(3, 5), dim=1, descending=True)[0] * 2,
    "topk": lambda t, I: t.topk(I(3, 5), 2).values * 2,
    # products
    "matmul": lambda t, I: I(2, 3) @ I(3, 4),
    "matmul batched": lambda t, I: t.matmul(I(2, 1, 3, 4), I(5, 4, 2)),
    "matmul vector": lambda t, I: I(2, 3) @ I(3),
    "mm": lambda t, I: t.mm(I(2, 3), I(3, 2)),
    "bmm": lambda t, I: t.bmm(I(2, 3, 4), I(2, 4, 2)),
    "addmm": lambda t, I: t.addmm(I(4), I(2, 3), I(3, 4), beta=0.5, alpha=2),
    "outer": lambda t, I: t.outer(I(3), I(4)),
    **{
        f"einsum {e}": (lambda t, I, e=e, shapes=shapes: t.einsum(e, *[I(*s) for s in shapes]))
        for e, shapes in {
            "ij,jk->ik": [(2, 3), (3, 4)],
            "bij,bjk->bik": [(2, 3, 4), (2, 4, 5)],
            "i,i->": [(4,), (4,)],
            "i,j->ij": [(3,), (4,)],
            "ij->ji": [(2, 3)],
            "ii->": [(3, 3)],
            "ii->i": [(3, 3)],
            "ij->": [(2, 3)],
            "bhqd,bhkd->bhqk": [(2, 2, 3, 4), (2, 2, 5, 4)],
            "...ij,...jk->...ik": [(2, 3, 4), (4, 5)],
            "ij,jk,kl->il": [(2, 3), (3, 4), (4, 2)],
            "bn,anm,bm->ba": [(2, 3), (5, 3, 4), (2, 4)],
            "ij,kj": [(2, 3), (4, 3)],
            "ijk,j->ik": [(2, 3, 4), (3,)],
            "ij,ij->ij": [(2, 3), (2, 3)],
            "ij,k->i": [(2, 3), (4,)],
            "bij,bij->b": [(2, 3, 4), (2, 3, 4)],
            "ab,ab->a": [(2, 1), (2, 3)],
        }.items()
    },
    # functional
    "linear": lambda t, I: t.nn.functional.linear(I(2, 5, 3), I(4, 3), I(4)),
    "bilinear": lambda t, I: t.nn.functional.bilinear(I(2, 3), I(2, 4), I(5, 3, 4), I(5)),
    "embedding": lambda t, I: t.nn.functional.embedding(I.ints(2, 3), I(5, 4), padding_idx=1),
    "softmax": lambda t, I: t.nn.functional.softmax(I(3, 4), dim=1),
    "log_softmax": lambda t, I: t.nn.functional.log_softmax(I(3, 4), dim=0),
    "cross_entropy": lambda t, I: t.nn.functional.cross_entropy(I(4, 5), I.ints(4), label_smoothing=0.1),
    "nll_loss": lambda t, I: t.nn.functional.nll_loss(I(4, 5), I.ints(4), reduction="sum"),
    "mse_loss": lambda t, I: t.nn.functional.mse_loss(I(4, 5), I(4, 5)),
    "l1_loss": lambda t, I: t.nn.functional.l1_loss(I(4, 5), I(4, 5), reduction="none"),
    "smooth_l1_loss": lambda t, I: t.nn.functional.smooth_l1_loss(I(4, 5), I(4, 5), beta=0.5),
    "bce with logits": lambda t, I: t.nn.functional.binary_cross_entropy_with_logits(I(4, 5), I.positive(4, 5) - 0.5),
    "kl_div": lambda t, I: t.nn.functional.kl_div(I(4, 5), I.positive(4, 5), reduction="batchmean"),
    "leaky_relu": lambda t, I: t.nn.functional.leaky_relu(I(9), 0.2),
    "elu": lambda t, I: t.nn.functional.elu(I(9), 0.7),
    "gelu": lambda t, I: t.nn.functional.gelu(I(9)),
    "gelu tanh": lambda t, I: t.nn.functional.gelu(I(9), approximate="tanh"),
    "silu": lambda t, I: t.nn.functional.silu(I(9)),
    "mish": lambda t, I: t.nn.functional.mish(I(9)),
    "softplus": lambda t, I: t.nn.functional.softplus(I(9), 2.0),
    "hardswish": lambda t, I: t.nn.functional.hardswish(I(9) * 3),
    "logsigmoid": lambda t, I: t.nn.functional.logsigmoid(I(9)),
    "prelu": lambda t, I: t.nn.functional.prelu(I(2, 3, 4), I(3)),
    "pad": lambda t, I: t.nn.functional.pad(I(2, 3), (1, 2, -1, 1), value=0.5),
    "pad reflect": lambda t, I: t.nn.functional.pad(I(2, 3, 5), (2, 1), mode="reflect"),
    "pad replicate": lambda t, I: t.nn.functional.pad(I(2, 3, 5), (2, 1), mode="replicate"),
    "pad circular": lambda t, I: t.nn.functional.pad(I(2, 3, 5), (2, 1), mode="circular"),
    "normalize": lambda t, I: t.nn.functional.normalize(I(3, 4)),
    "cosine_similarity": lambda t, I: t.nn.functional.cosine_similarity(I(3, 4), I(3, 4)),
    # in place
    "add_": lambda t, I: (I(3) * 1).add_(I(3)),
    "mul_": lambda t, I: (I(3) * 1).mul_(I(3)),
    "setitem": lambda t, I: _assigned(I(4, 3) * 1, 1, I(3)),
    "setitem mask": lambda t, I: _assigned(I(3) * 1, t.tensor([True, False, True]), 2.0),
    "relu_": lambda t, I: (I(5) * 1).relu_(),
    "copy_": lambda t, I: t.zeros(2, 3, dtype=I(1).dtype).copy_(I(3)),
    "clamp_": lambda t, I: (I(9) * 1).clamp_(-0.5, 0.5),
}


def _assigned(x: Any, index: Any, value: Any) -> Any:
    x[index] = value
    return x


# Results without gradients: values and dtypes only.
PLAIN: dict[str, Call] = {
    "promote int float": lambda t, I: t.tensor([1, 2]) + t.tensor([0.5, 1.5]),
    "promote scalar float": lambda t, I: t.tensor([1, 2]) * 1.5,
    "promote 0-dim": lambda t, I: t.tensor([1, 2]) + t.tensor(1.5, dtype=t.float64),
    "promote 0-dim same category": lambda t, I: t.tensor([1.0], dtype=t.float16) + t.tensor(1.5, dtype=t.float64),
    "promote half bfloat16": lambda t, I: t.tensor([1.0], dtype=t.float16) + t.tensor([1.0], dtype=t.bfloat16),
    "promote bool int": lambda t, I: t.tensor([True]) + 1,
    "promote uint8 int": lambda t, I: t.tensor([200], dtype=t.uint8) + 100,
    "uint8 wraps": lambda t, I: t.tensor([200], dtype=t.uint8) + t.tensor([100], dtype=t.uint8),
    "int division": lambda t, I: t.tensor([7, -7]) / 2,
    "floor division": lambda t, I: t.tensor([7, -7]) // 2,
    "div trunc": lambda t, I: t.div(t.tensor([7, -7]), 2, rounding_mode="trunc"),
    "int remainder": lambda t, I: t.tensor([7, -7]) % 3,
    "int pow": lambda t, I: t.tensor([2, 3]) ** 2,
    "int pow float": lambda t, I: t.tensor([2, 3]) ** 0.5,
    "int sqrt": lambda t, I: t.sqrt(t.tensor([4, 9])),
    "int sum": lambda t, I: t.tensor([1, 2], dtype=t.int32).sum(),
    "bool sum": lambda t, I: t.tensor([True, True]).sum(),
    "bfloat16 sum": lambda t, I: t.ones(1000, dtype=t.bfloat16).sum(),
    "float16 mean": lambda t, I: t.full((3000,), 100.0, dtype=t.float16).mean(),
    "int compare": lambda t, I: t.tensor([1, 2]) > 1.5,
    "eq": lambda t, I: t.tensor([1.0, 2.0]) == t.tensor([1, 3]),
    "logical": lambda t, I: t.logical_and(t.tensor([1, 0]), t.tensor([2.0, 3.0])),
    "bitwise": lambda t, I: (t.tensor([6]) & t.tensor([3])) | 8,
    "invert": lambda t, I: ~t.tensor([True, False]),
    "invert int": lambda t, I: ~t.tensor([5, 0]),
    "argmax": lambda t, I: I(3, 4).argmax(),
    "argmax dim": lambda t, I: I(3, 4).argmax(dim=1, keepdim=True),
    "argmin": lambda t, I: t.argmin(I(3, 4), 0),
    "argsort": lambda t, I: t.argsort(I(3, 4), dim=1),
    "sort ints": lambda t, I: t.sort(t.tensor([3, 1, 2]))[1],
    "max indices": lambda t, I: I(3, 4).max(1)[1],
    "any": lambda t, I: t.tensor([[0, 1], [0, 0]]).any(dim=1),
    "all": lambda t, I: t.tensor([[1, 1], [0, 1]]).all(),
    "nonzero": lambda t, I: t.nonzero(t.tensor([[0, 1], [2, 0]])),
    "unique": lambda t, I: t.unique(t.tensor([3, 1, 3])),
    "bincount": lambda t, I: t.bincount(t.tensor([0, 2, 2])),
    "count_nonzero": lambda t, I: t.count_nonzero(t.tensor([[0, 1], [2, 3]]), dim=0),
    "one_hot": lambda t, I: t.nn.functional.one_hot(t.tensor([0, 2]), 4),
    "isnan": lambda t, I: t.isnan(t.tensor([1.0, float("nan")])),
    "isinf": lambda t, I: t.isinf(t.tensor([1.0, float("inf")])),
    "arange": lambda t, I: t.arange(1, 2, 0.3),
    "arange int": lambda t, I: t.arange(5, 0, -2),
    "linspace": lambda t, I: t.linspace(0, 1, 5),
    "eye": lambda t, I: t.eye(2, 3),
    "full": lambda t, I: t.full((2,), 3),
    "full float": lambda t, I: t.full((2,), 3.5),
    "zeros_like": lambda t, I: t.zeros_like(t.tensor([1, 2])),
    "new_zeros": lambda t, I: t.tensor([1.0], dtype=t.float64).new_zeros(2, 2),
    "tensor of floats": lambda t, I: t.tensor([1, 2.5]),
    "tensor of bools": lambda t, I: t.tensor([True, False]),
    "empty list": lambda t, I: t.tensor([]),
    "to int": lambda t, I: t.tensor([1.7, -1.7]).long(),
    "to half": lambda t, I: t.tensor([1.0001]).half(),
    "sum of nothing": lambda t, I: t.zeros(0, 3).sum(0),
    "matmul of nothing": lambda t, I: t.zeros(2, 0) @ t.zeros(0, 3),
    "int matmul": lambda t, I: t.tensor([[1, 2]]) @ t.tensor([[3], [4]]),
    "scalar tensor": lambda t, I: t.tensor(2.0) * 3,
    "clamp ints": lambda t, I: t.tensor([1, 5]).clamp(2, 4),
    "where scalars": lambda t, I: t.where(t.tensor([True, False]), 1.0, 0.0),
    "masked_fill inf": lambda t, I: t.zeros(2).masked_fill(t.tensor([True, False]), float("-inf")),
    "cat promotes": lambda t, I: t.cat([t.tensor([1]), t.tensor([0.5])]),
    "floor ints": lambda t, I: t.floor(t.tensor([1, 2])),
    "meshgrid": lambda t, I: t.meshgrid(t.arange(2), t.arange(3), indexing="ij")[1],
    "maximum nan": lambda t, I: t.maximum(t.tensor([1.0, float("nan")]), t.tensor([float("nan"), 1.0])),
    "relu nan": lambda t, I: t.relu(t.tensor([float("nan"), -1.0])),
    "softmax inf": lambda t, I: t.softmax(t.tensor([[float("-inf"), 0.0]]), 1),
    "round half": lambda t, I: t.round(t.tensor([0.5, 1.5, 2.5])),
    "var of one": lambda t, I: t.ones(1).var(),
    "mean of nothing": lambda t, I: t.zeros(0).mean(),
    "max int": lambda t, I: t.tensor([1, 9]).max(),
}

# Calls that both must refuse. API.md turns PyTorch's RuntimeError for shapes, dtypes and devices into ValueError or
# TypeError.
REFUSED: dict[str, Call] = {
    "add shapes": lambda t, I: I(2, 3) + I(2, 4),
    "matmul shapes": lambda t, I: I(2, 3) @ I(2, 3),
    "matmul dtypes": lambda t, I: t.ones(2, 2) @ t.ones(2, 2, dtype=t.float64),
    "mm rank": lambda t, I: t.mm(I(2), I(2, 2)),
    "reshape size": lambda t, I: I(2, 3).reshape(4),
    "reshape two unknown": lambda t, I: I(2, 3).reshape(-1, -1),
    "transpose dim": lambda t, I: I(2, 3).transpose(0, 2),
    "permute count": lambda t, I: I(2, 3).permute(0),
    "expand size": lambda t, I: I(2, 3).expand(2, 4),
    "squeeze dim": lambda t, I: I(2, 3).squeeze(5),
    "cat nothing": lambda t, I: t.cat([]),
    "cat shapes": lambda t, I: t.cat([I(2, 3), I(3, 2)]),
    "stack shapes": lambda t, I: t.stack([I(2), I(3)]),
    "index out of range": lambda t, I: I(3)[3],
    "index tensor out of range": lambda t, I: I(3)[t.tensor([0, 3])],
    "too many indices": lambda t, I: I(3)[0, 0],
    "index float": lambda t, I: I(3)[1.5],
    "mask shape": lambda t, I: I(3)[t.tensor([True, False])],
    "item of many": lambda t, I: I(3).item(),
    "bool of many": lambda t, I: bool(I(3)),
    "len of scalar": lambda t, I: len(t.tensor(1.0)),
    "backward of many": lambda t, I: I(3).backward(),
    "backward without grad": lambda t, I: t.ones(1).backward(),
    "backward twice": lambda t, I: [y.backward() for y in [(I(3) ** 2).sum()] for _ in range(2)],
    "requires_grad of int": lambda t, I: t.tensor([1], requires_grad=True),
    "numpy of grad": lambda t, I: I(3).numpy(),
    "leaf in place": lambda t, I: I(3).add_(1),
    "saved value changed": lambda t, I: _changed(t, I),
    "in place broadcast": lambda t, I: (I(3) * 1).add_(I(2, 3)),
    "in place dtype": lambda t, I: t.tensor([1, 2]).add_(0.5),
    "int mean": lambda t, I: t.tensor([1, 2]).mean(),
    "max of nothing": lambda t, I: t.zeros(0).max(),
    "argmax of nothing": lambda t, I: t.zeros(0).argmax(),
    "bool minus": lambda t, I: t.tensor([True]) - t.tensor([True]),
    "bitwise float": lambda t, I: t.tensor([1.0]) & 1,
    "split sizes": lambda t, I: I(5).split([2, 2]),
    "chunk 0": lambda t, I: I(5).chunk(0),
    "negative size": lambda t, I: t.zeros(-1),
    "arange step 0": lambda t, I: t.arange(0, 1, 0),
    "tensor of strings": lambda t, I: t.tensor(["a"]),
    "ragged tensor": lambda t, I: t.tensor([[1, 2], [3]]),
    "linear shapes": lambda t, I: t.nn.functional.linear(I(2, 3), I(4, 2)),
    "dropout p": lambda t, I: t.nn.functional.dropout(I(3), 1.5),
    "embedding index": lambda t, I: t.nn.functional.embedding(t.tensor([5]), I(5, 2)),
    "cross_entropy target": lambda t, I: t.nn.functional.cross_entropy(I(2, 3), t.tensor([0, 3])),
    "cross_entropy shape": lambda t, I: t.nn.functional.cross_entropy(I(2, 3), t.tensor([0, 1, 2])),
    "gather shape": lambda t, I: t.gather(I(3, 4), 0, t.tensor([0])),
    "gather index": lambda t, I: t.gather(I(3), 0, t.tensor([3])),
    "topk k": lambda t, I: t.topk(I(3), 4),
    "one_hot negative": lambda t, I: t.nn.functional.one_hot(t.tensor([-1]), 3),
    "masked_fill float mask": lambda t, I: I(3).masked_fill(t.ones(3), 1.0),
    "add None": lambda t, I: t.add(I(3), None),
    "exp of list": lambda t, I: t.exp([1.0]),
    "cat of tensor": lambda t, I: t.cat(I(3)),
    "int pow negative": lambda t, I: t.tensor([2]) ** -1,
    "int floor division by zero": lambda t, I: t.tensor([2]) // 0,
    "grad of unused": lambda t, I: t.autograd.grad(I(1).sum(), I(1)),
    "pad too long": lambda t, I: t.nn.functional.pad(I(3), (1, 1, 1, 1)),
    "einsum operands": lambda t, I: t.einsum("ij,jk->ik", I(2, 3)),
    "einsum sizes": lambda t, I: t.einsum("ij,jk->ik", I(2, 3), I(2, 3)),
    "einsum result": lambda t, I: t.einsum("ij->ik", I(2, 3)),
    "einsum rank": lambda t, I: t.einsum("ijk->i", I(2, 3)),
    "outer rank": lambda t, I: t.outer(I(2, 3), I(3)),
    "unknown device": lambda t, I: t.zeros(2, device="tpu"),
}


def _changed(t: Any, I: Inputs) -> None:
    x = I(3) * 1
    y = x * x
    x.add_(1)
    y.sum().backward()
