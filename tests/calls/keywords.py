"""Arguments by name: sizes that may stand one after another, bounds of random integers."""

from __future__ import annotations

from calls import Call

DIFFERENTIABLE: dict[str, Call] = {
    "view(size=)": lambda t, I: I(2, 3).view(size=(3, 2)) * I(2),
    "reshape(shape=)": lambda t, I: t.reshape(I(2, 3), shape=(3, 2)) * I(2),
    "reshape(input=, shape=)": lambda t, I: t.reshape(input=I(2, 3), shape=(6,)) * 2,
    "expand(size=)": lambda t, I: I(2, 1).expand(size=(2, 3)) * I(3),
    "repeat(repeats=)": lambda t, I: I(2).repeat(repeats=(2, 2)) * I(4),
    "permute(dims=)": lambda t, I: t.permute(I(2, 3), dims=(1, 0)) * I(2),
    "tile(dims=)": lambda t, I: I(2).tile(dims=(2,)) * I(4),
    "flip(dims=)": lambda t, I: I(2, 3).flip(dims=(0, 1)) * I(3),
}

PLAIN: dict[str, Call] = {
    "zeros(size=)": lambda t, I: t.zeros(size=(2, 3)),
    "ones(size=)": lambda t, I: t.ones(size=[2], dtype=t.int64),
    "full(size=)": lambda t, I: t.full(size=(2,), fill_value=3.0),
    "new_zeros(size=)": lambda t, I: I(1).new_zeros(size=(2, 3)),
    "empty(size=)": lambda t, I: t.tensor(t.empty(size=(2, 3)).shape),
    "rand(size=)": lambda t, I: t.tensor(t.rand(size=(2, 3)).shape),
    "randn(size=)": lambda t, I: t.tensor(t.randn(size=(4,)).shape),
    "randint(high, size=)": lambda t, I: t.randint(1, size=(2,)),
    "randint(high=, size=)": lambda t, I: t.randint(high=1, size=(2,)),
    "randint(low, high, size=)": lambda t, I: t.randint(3, 4, size=(2,)),
    "randint_like(high)": lambda t, I: t.randint_like(I(3), 1),
    "randint_like(low, high)": lambda t, I: t.randint_like(I(3), 3, 4),
}

REFUSED: dict[str, Call] = {
    "zeros: sizes twice": lambda t, I: t.zeros(2, size=(3,)),
    "zeros: a number by name": lambda t, I: t.zeros(size=3),
    "randint: no bound": lambda t, I: t.randint(size=(2,)),
    "view: sizes twice": lambda t, I: I(2).view(2, size=(2,)),
}
