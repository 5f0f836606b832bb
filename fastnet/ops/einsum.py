"""Einstein sums, by transposition and batched matrix products."""

from __future__ import annotations

import math
from typing import Any

from fastnet._tensor import Tensor
from fastnet.errors import InputError, KindError
from fastnet.ops._operands import cast, check_tensor, result_type
from fastnet.ops.arithmetic import mul
from fastnet.ops.matmul import matmul
from fastnet.ops.reductions import sum as sum_over
from fastnet.ops.shape import diagonal, permute, reshape, unsqueeze


def outer(input: Tensor, vec2: Tensor) -> Tensor:
    """The product of every element of one vector with every element of another."""
    check_tensor("outer", input)
    check_tensor("outer", vec2, "vec2")
    for name, t in (("input", input), ("vec2", vec2)):
        if t.dim() != 1:
            raise InputError(f"outer: {name} has shape {tuple(t.shape)}, expected a vector")
    return mul(unsqueeze(input, 1), vec2)


def _parse(equation: str, operands: list[Tensor]) -> tuple[list[str], str]:
    """The labels of every operand and of the result; an ellipsis becomes upper-case letters that the equation does not
    use."""
    equation = equation.replace(" ", "")
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    if len(terms) != len(operands):
        raise InputError(f"einsum: the equation {equation!r} has {len(terms)} operands, {len(operands)} were given")
    spare = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if c not in equation]
    longest = 0
    for term, t in zip(terms, operands, strict=True):
        named = term.replace("...", "")
        if not named.isalpha() and named:
            raise InputError(f"einsum: {term!r} has characters that are no labels")
        extra = t.dim() - len(named)
        if extra < 0 or (extra and "..." not in term):
            raise InputError(
                f"einsum: {term!r} names {len(named)} dimensions, the operand has {t.dim()}: {tuple(t.shape)}"
            )
        longest = max(longest, extra if "..." in term else 0)
    ellipsis = "".join(spare[:longest])
    labels = []
    for term, t in zip(terms, operands, strict=True):
        extra = t.dim() - len(term.replace("...", ""))
        labels.append(term.replace("...", ellipsis[longest - extra :] if extra else ""))
    if arrow:
        result = right.replace("...", ellipsis)
    else:
        seen = "".join(labels)
        result = ellipsis + "".join(sorted(c for c in set(seen) if seen.count(c) == 1 and c not in ellipsis))
    if len(set(result)) != len(result) or any(c not in "".join(labels) for c in result):
        raise InputError(f"einsum: the result {right!r} repeats a label or names one that no operand has")
    return labels, result


def _without_repeats(t: Tensor, labels: str) -> tuple[Tensor, str]:
    """A label twice in one operand means its diagonal, which goes last."""
    for c in dict.fromkeys(labels):
        while labels.count(c) > 1:
            i = labels.index(c)
            j = labels.index(c, i + 1)
            if t.shape[i] != t.shape[j]:
                raise InputError(f"einsum: label {c!r} stands for sizes {t.shape[i]} and {t.shape[j]}")
            t = diagonal(t, 0, i, j)
            labels = labels.replace(c, "") + c * (labels.count(c) - 1)
    return t, labels


def _aligned(t: Tensor, labels: str, wanted: str) -> Tensor:
    """t with its dimensions in the order of ``wanted``, of size 1 where it has none."""
    t = permute(t, *[labels.index(c) for c in wanted if c in labels])
    for i, c in enumerate(wanted):
        if c not in labels:
            t = unsqueeze(t, i)
    return t


def _summed(t: Tensor, labels: str, keep: set[str]) -> tuple[Tensor, str]:
    """t summed over the labels that are not kept."""
    dropped = tuple(i for i, c in enumerate(labels) if c not in keep)
    return (sum_over(t, dropped), "".join(c for c in labels if c in keep)) if dropped else (t, labels)


def _pair(a: Tensor, la: str, b: Tensor, lb: str, keep: set[str]) -> tuple[Tensor, str]:
    """The contraction of two operands over the labels that nobody needs any more."""
    a, la = _summed(a, la, keep.union(lb))
    b, lb = _summed(b, lb, keep.union(la))
    if a.dtype is not b.dtype:  # a sum of small integers is int64
        common = result_type(a, b)
        a, b = cast(a, common), cast(b, common)
    both = [c for c in la if c in lb]
    sizes = {c: max(a.shape[la.index(c)] if c in la else 1, b.shape[lb.index(c)] if c in lb else 1) for c in la + lb}
    # A size of 1 stands for any: such labels are multiplied by broadcasting, not contracted.
    summed = "".join(c for c in both if c not in keep and a.shape[la.index(c)] == b.shape[lb.index(c)])
    batch = "".join(c for c in both if c in keep or c not in summed)
    rows, cols = "".join(c for c in la if c not in both), "".join(c for c in lb if c not in both)
    left = _aligned(a, la, batch + rows + summed)
    right = _aligned(b, lb, batch + summed + cols)

    def merged(t: Tensor, *groups: int) -> Tensor:
        shape, at = list(t.shape[: len(batch)]), len(batch)
        for n in groups:
            shape.append(math.prod(t.shape[at : at + n]))
            at += n
        return reshape(t, tuple(shape))

    product = matmul(merged(left, len(rows), len(summed)), merged(right, len(summed), len(cols)))
    shape = [*product.shape[: len(batch)], *(sizes[c] for c in rows), *(sizes[c] for c in cols)]
    return _summed(reshape(product, tuple(shape)), batch + rows + cols, keep)


def einsum(equation: str, *operands: Any) -> Tensor:
    """Products of elements summed over the labels that the result does not name, as ``torch.einsum``.

    Operands are contracted from left to right, each pair as one batched matrix product.

    >>> import fastnet
    >>> fastnet.einsum("ij,jk->ik", fastnet.ones(2, 3), fastnet.ones(3, 2))
    tensor([[3., 3.],
            [3., 3.]])

    Raises:
        ValueError: the equation does not fit the operands.
    """
    if not isinstance(equation, str):
        raise KindError(f"einsum: equation is a {type(equation).__name__}, expected a string")
    tensors = list(operands[0]) if len(operands) == 1 and isinstance(operands[0], (list, tuple)) else list(operands)
    if not tensors:
        raise InputError("einsum: at least one operand is needed")
    for t in tensors:
        check_tensor("einsum", t, "operands")
    all_labels, result = _parse(equation, tensors)
    sizes: dict[str, int] = {}
    for i, (t, labels) in enumerate(zip(tensors, all_labels, strict=True)):
        tensors[i], all_labels[i] = _without_repeats(t, labels)
        for c, n in zip(all_labels[i], tensors[i].shape, strict=True):
            if sizes.setdefault(c, n) != n and 1 not in (n, sizes[c]):
                raise InputError(f"einsum: label {c!r} stands for sizes {sizes[c]} and {n} in {equation!r}")
            sizes[c] = max(sizes[c], n)
    out, labels = tensors[0], all_labels[0]
    for i in range(1, len(tensors)):
        keep = set(result).union(*all_labels[i + 1 :])
        out, labels = _pair(out, labels, tensors[i], all_labels[i], keep)
    out, labels = _summed(out, labels, set(result))
    return permute(out, *[labels.index(c) for c in result])
