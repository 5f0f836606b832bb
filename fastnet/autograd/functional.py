"""Jacobians and products with them, as ``torch.autograd.functional``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastnet.autograd.engine import grad


def _leaves(inputs: Any) -> tuple[list, bool]:
    single = not isinstance(inputs, (tuple, list))
    return [t.detach().requires_grad_() for t in ([inputs] if single else inputs)], single


def vjp(func: Callable, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> tuple:
    """``func(*inputs)`` and the product of ``v`` with its Jacobian.

    >>> import fastnet
    >>> x = fastnet.tensor([1.0, 2.0])
    >>> fastnet.autograd.functional.vjp(lambda x: x * x, x, fastnet.ones(2))[1]
    tensor([2., 4.])
    """
    from fastnet.autograd.grad_mode import enable_grad
    from fastnet.ops.creation import zeros_like

    leaves, single = _leaves(inputs)
    with enable_grad():
        out = func(*leaves)
    outputs = [out] if not isinstance(out, (tuple, list)) else list(out)
    given = None if v is None else ([v] if not isinstance(v, (tuple, list)) else list(v))
    found = grad(outputs, leaves, given, create_graph=create_graph, allow_unused=True)
    found = tuple(zeros_like(x) if g is None else g for g, x in zip(found, leaves, strict=True))
    plain = tuple(o.detach() for o in outputs)
    return (plain[0] if not isinstance(out, (tuple, list)) else plain), (found[0] if single else found)


def jacobian(func: Callable, inputs: Any, create_graph: bool = False, strict: bool = False) -> Any:
    """The Jacobian of ``func`` at ``inputs``: shape of the output, then that of the input.

    >>> import fastnet
    >>> fastnet.autograd.functional.jacobian(lambda x: x * x, fastnet.tensor([1.0, 3.0]))
    tensor([[2., 0.],
            [0., 6.]])
    """
    from fastnet.autograd.grad_mode import enable_grad
    from fastnet.ops.creation import zeros, zeros_like
    from fastnet.ops.shape import stack

    leaves, single = _leaves(inputs)
    with enable_grad():
        out = func(*leaves)
    outputs = [out] if not isinstance(out, (tuple, list)) else list(out)
    result = []
    for o in outputs:
        rows: list[list] = [[] for _ in leaves]
        for i in range(o.numel()):
            pick = zeros_like(o).detach()
            pick.view(-1)[i] = 1
            found = grad(o, leaves, pick, retain_graph=True, create_graph=create_graph, allow_unused=True)
            for row, g, x in zip(rows, found, leaves, strict=True):
                row.append(zeros_like(x) if g is None else g)
        result.append(
            tuple(
                stack(row).reshape(*o.shape, *x.shape) if row else zeros(*o.shape, *x.shape, dtype=o.dtype)
                for row, x in zip(rows, leaves, strict=True)
            )
        )
    shaped = [r[0] if single else r for r in result]
    return shaped[0] if not isinstance(out, (tuple, list)) else tuple(shaped)
