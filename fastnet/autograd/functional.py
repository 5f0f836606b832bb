"""Jacobians and products with them, as ``torch.autograd.functional``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastnet.autograd.engine import grad


def _leaves(inputs: Any, connected: bool = False) -> tuple[list, bool]:
    """The inputs as tensors that require gradients: with ``connected`` those that do so keep their history."""
    single = not isinstance(inputs, (tuple, list))
    tensors = [inputs] if single else inputs
    return [t.view_as(t) if connected and t.requires_grad else t.detach().requires_grad_() for t in tensors], single


def vjp(func: Callable, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> tuple:
    """``func(*inputs)`` and the product of ``v`` with its Jacobian.

    >>> import fastnet
    >>> x = fastnet.tensor([1.0, 2.0])
    >>> fastnet.autograd.functional.vjp(lambda x: x * x, x, fastnet.ones(2))[1]
    tensor([2., 4.])
    """
    from fastnet.autograd.grad_mode import enable_grad
    from fastnet.ops.creation import zeros_like

    leaves, single = _leaves(inputs, create_graph)
    with enable_grad():
        out = func(*leaves)
    outputs = [out] if not isinstance(out, (tuple, list)) else list(out)
    given = None if v is None else ([v] if not isinstance(v, (tuple, list)) else list(v))
    found = grad(outputs, leaves, given, create_graph=create_graph, allow_unused=True)
    found = tuple(zeros_like(x) if g is None else g for g, x in zip(found, leaves, strict=True))
    plain = tuple(o if create_graph else o.detach() for o in outputs)
    return (plain[0] if not isinstance(out, (tuple, list)) else plain), (found[0] if single else found)


def jacobian(
    func: Callable,
    inputs: Any,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    strategy: str = "reverse-mode",
) -> Any:
    """The Jacobian of ``func`` at ``inputs``: shape of the output, then that of the input.

    >>> import fastnet
    >>> fastnet.autograd.functional.jacobian(lambda x: x * x, fastnet.tensor([1.0, 3.0]))
    tensor([[2., 0.],
            [0., 6.]])
    """
    from fastnet.autograd.grad_mode import enable_grad
    from fastnet.ops.creation import zeros, zeros_like
    from fastnet.ops.shape import stack

    leaves, single = _leaves(inputs, create_graph)
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


def hessian(
    func: Callable,
    inputs: Any,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    outer_jacobian_strategy: str = "reverse-mode",
) -> Any:
    """The second derivatives of ``func``, which returns one number, at ``inputs``: for one tensor of shape s a tensor
    of shape s + s, for several a tuple of tuples.

    >>> import fastnet
    >>> hessian(lambda x: (x**3).sum(), fastnet.tensor([1.0, 2.0]))
    tensor([[ 6.,  0.],
            [ 0., 12.]])
    """
    from fastnet.ops.creation import zeros_like
    from fastnet.ops.shape import stack

    leaves, single = _leaves(inputs, create_graph)
    first = _first_gradients(func, leaves)
    rows = []
    for g in first:
        columns: list[list] = [[] for _ in leaves]
        for i in range(g.numel()):
            found: Any = [None] * len(leaves)
            if g.requires_grad:
                found = grad(g.reshape(-1)[i], leaves, retain_graph=True, create_graph=create_graph, allow_unused=True)
            for column, h, x in zip(columns, found, leaves, strict=True):
                column.append(zeros_like(x) if h is None else h)
        rows.append(
            tuple(
                stack(column).reshape(*g.shape, *x.shape) if column else zeros_like(x).reshape(*g.shape, *x.shape)
                for column, x in zip(columns, leaves, strict=True)
            )
        )
    return rows[0][0] if single else tuple(rows)


def _first_gradients(func: Callable, leaves: list) -> list:
    """The gradients of a function that returns one number, recorded."""
    from fastnet.autograd.grad_mode import enable_grad
    from fastnet.ops.creation import zeros_like

    with enable_grad():
        out = func(*leaves)
    if out.numel() != 1:
        raise RuntimeError(
            f"The Tensor returned by the function given to hessian should contain a single element, got {out.numel()}"
        )
    if not out.requires_grad:
        return [zeros_like(x) for x in leaves]
    found = grad(out.reshape(()), leaves, create_graph=True, allow_unused=True)
    return [zeros_like(x) if g is None else g for g, x in zip(found, leaves, strict=True)]


def vhp(func: Callable, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> tuple:
    """``func(*inputs)``, one number, and the product of ``v`` with its matrix of second derivatives.

    >>> import fastnet
    >>> vhp(lambda x: (x**3).sum(), fastnet.tensor([1.0, 2.0]), fastnet.ones(2))[1]
    tensor([ 6., 12.])
    """
    from fastnet.autograd.grad_mode import enable_grad
    from fastnet.ops.creation import ones_like, zeros_like

    leaves, single = _leaves(inputs, create_graph)
    given = [ones_like(x) for x in leaves] if v is None else _listed(v)
    first = _first_gradients(func, leaves)
    with enable_grad():
        total: Any = sum((g * w).sum() for g, w in zip(first, given, strict=True))
    found: Any = [None] * len(leaves)
    if total.requires_grad:
        found = grad(total, leaves, create_graph=create_graph, allow_unused=True)
    found = tuple(zeros_like(x) if h is None else h for h, x in zip(found, leaves, strict=True))
    value = func(*leaves)
    return (value if create_graph else value.detach()), (found[0] if single else found)


hvp = vhp  # the matrix is symmetric


def jvp(func: Callable, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> tuple:
    """``func(*inputs)`` and the product of its Jacobian with ``v``: by backward twice, of the product with a vector
    that counts as a variable.

    >>> import fastnet
    >>> jvp(lambda x: x * x, fastnet.tensor([1.0, 3.0]), fastnet.tensor([1.0, 1.0]))[1]
    tensor([2., 6.])
    """
    from fastnet.autograd.grad_mode import enable_grad
    from fastnet.ops.creation import ones_like, zeros_like

    leaves, _ = _leaves(inputs, create_graph)
    given = [ones_like(x) for x in leaves] if v is None else _listed(v)
    if v is None and any(x.numel() != 1 for x in leaves):
        raise RuntimeError("The vector v can only be None if the input to the user-provided function is one number")
    for w, x in zip(given, leaves, strict=True):
        if w.shape != x.shape:
            raise RuntimeError(f"v has invalid size: should be {list(x.shape)} but got {list(w.shape)}")
    with enable_grad():
        out = func(*leaves)
        outputs = _listed(out)
        products = []
        for o in outputs:
            product: Any = zeros_like(o)
            if o.requires_grad:
                u = zeros_like(o).detach().requires_grad_()
                back = grad(o, leaves, u, retain_graph=True, create_graph=True, allow_unused=True)
                total = sum((g * w).sum() for g, w in zip(back, given, strict=True) if g is not None)
                if getattr(total, "requires_grad", False):
                    found = grad(total, u, retain_graph=True, create_graph=create_graph, allow_unused=True)[0]
                    product = zeros_like(o) if found is None else found
            products.append(product)
    plain = tuple(o if create_graph else o.detach() for o in outputs)
    single = not isinstance(out, (tuple, list))
    return (plain[0] if single else plain), (products[0] if single else tuple(products))


def _listed(x: Any) -> list:
    return list(x) if isinstance(x, (tuple, list)) else [x]
