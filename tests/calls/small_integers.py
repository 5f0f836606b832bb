"""int8 and int16: constructors, arithmetic that wraps, promotion, reductions, products, indices that are refused."""

from __future__ import annotations

from calls import Call

_DTYPES = ("int8", "int16")


def _rows(name: str, call: Call) -> dict[str, Call]:
    return {f"{d} {name}": (lambda t, I, d=d: call(t, _Small(t, I, getattr(t, d)))) for d in _DTYPES}


class _Small:
    """Inputs of a small integer dtype."""

    def __init__(self, library, inputs, dtype):
        self.library, self.inputs, self.dtype = library, inputs, dtype

    def __call__(self, *shape, low=-100, high=100):
        return self.inputs.ints(*shape, low=low, high=high).to(self.dtype)


PLAIN: dict[str, Call] = {
    **_rows("tensor", lambda t, I: t.tensor([1, -2, 3], dtype=I.dtype)),
    **_rows("full", lambda t, I: t.full((2,), -3, dtype=I.dtype)),
    **_rows("arange", lambda t, I: t.arange(5, dtype=I.dtype)),
    **_rows("of a wider number", lambda t, I: t.tensor([300, 70000, -129]).to(I.dtype)),
    **_rows("add, wrapped", lambda t, I: I(3, 4) + I(3, 4)),
    **_rows("add number", lambda t, I: I(3, 4) + 300),
    **_rows("add float", lambda t, I: I(3, 4) + 0.5),
    **_rows("add uint8", lambda t, I: I(4) + t.arange(4, dtype=t.uint8)),
    **_rows("mul int32", lambda t, I: I(4) * t.arange(4, dtype=t.int32)),
    **_rows("div", lambda t, I: I(4) / I(4, low=1)),
    **_rows("floor_divide", lambda t, I: I(9) // I(9, low=1)),
    **_rows("remainder", lambda t, I: I(9) % 7),
    **_rows("pow", lambda t, I: I(9) ** 3),
    **_rows("shifts", lambda t, I: (I(9) << 3) + (I(9) >> 1)),
    **_rows("bits", lambda t, I: (~I(9)) ^ (I(9) & I(9)) | 3),
    **_rows("sum", lambda t, I: I(3, 4).sum(1)),
    **_rows("mean of floats", lambda t, I: I(3, 4).float().mean()),
    **_rows("max", lambda t, I: I(3, 4).max(1).values),
    **_rows("sort", lambda t, I: I(9).sort().values),
    **_rows("cumsum", lambda t, I: I(9).cumsum(0)),
    **_rows("exp", lambda t, I: I(4, low=0, high=3).exp()),
    **_rows("matmul", lambda t, I: I(3, 4) @ I(4, 2)),
    **_rows("where", lambda t, I: t.where(I(9) > 0, I(9), 0)),
    **_rows("clamp", lambda t, I: I(9).clamp(-5, 5)),
    **_rows("cat", lambda t, I: t.cat([I(2), t.ones(1, dtype=t.int32)])),
    **_rows("view of int32", lambda t, I: t.arange(3, dtype=t.int32).view(I.dtype)),
    **_rows("iinfo", lambda t, I: t.tensor([t.iinfo(I.dtype).min, t.iinfo(I.dtype).max])),
    **_rows("scatter_add", lambda t, I: t.zeros(3, dtype=I.dtype).scatter_add(0, t.tensor([1, 1, 0]), I(3))),
    "char": lambda t, I: t.tensor([1.7, -2.7]).char(),
    "short": lambda t, I: t.tensor([1.7, -2.7]).short(),
    "CharTensor": lambda t, I: t.CharTensor([1, 2]),
    "ShortTensor": lambda t, I: t.ShortTensor([1, 2]),
}

REFUSED: dict[str, Call] = {
    **_rows("as indices", lambda t, I: t.arange(3)[t.tensor([1], dtype=I.dtype)]),
    **_rows("as gather's index", lambda t, I: t.arange(3).gather(0, t.tensor([1], dtype=I.dtype))),
    **_rows("in place from floats", lambda t, I: I(3).add_(0.5)),
    **_rows("with gradients", lambda t, I: I(3).requires_grad_()),
}
