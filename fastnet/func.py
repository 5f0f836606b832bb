"""Transforms of functions, as ``torch.func``: their gradients, Jacobians and products with them, and a function mapped
over a batch. And a module called with given parameters.

Gradients are those of ``autograd``; nested, they are recorded (``create_graph``). ``vmap`` calls the function once for
each entry of the batch and stacks the results.
"""

from __future__ import annotations

import builtins
import copy
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from fastnet import autograd
from fastnet._tensor import Tensor
from fastnet.autograd.function import edge_of
from fastnet.nn.module import Module
from fastnet.nn.utils import stateless
from fastnet.ops.creation import zeros, zeros_like
from fastnet.ops.shape import stack
from fastnet.utils._pytree import tree_flatten, tree_map, tree_unflatten

__all__ = [
    "functional_call",
    "grad",
    "grad_and_value",
    "hessian",
    "jacfwd",
    "jacrev",
    "jvp",
    "stack_module_state",
    "vjp",
    "vmap",
]


def functional_call(
    module: Module,
    parameter_and_buffer_dicts: dict[str, Tensor] | Sequence[dict[str, Tensor]],
    args: Any = None,
    kwargs: dict[str, Any] | None = None,
    *,
    tie_weights: bool = True,
    strict: bool = False,
) -> Any:
    """``module(*args, **kwargs)`` with other tensors in place of parameters and buffers, whose gradients flow to them.

    Args:
        module: what is called; afterwards it is as it was.
        parameter_and_buffer_dicts: tensors by their names in ``named_parameters`` and ``named_buffers``, in one
            dictionary or several without a name in common.
        args: a tuple of arguments, or one argument.
        kwargs: keyword arguments.
        tie_weights: what is given under one name of a shared parameter stands for its other names, too.
        strict: every parameter and buffer must be given, and nothing else.

    Raises:
        ValueError: no dictionaries, a name in two of them, or two values for one tied parameter.
        RuntimeError: with strict, names that are missing or unexpected.
        TypeError: a value is no Tensor.

    >>> import fastnet
    >>> layer = fastnet.nn.Linear(2, 1)
    >>> weights = {"weight": fastnet.ones(1, 2), "bias": fastnet.zeros(1)}
    >>> functional_call(layer, weights, fastnet.tensor([3.0, 4.0])).tolist()
    [7.0]
    """
    if isinstance(parameter_and_buffer_dicts, dict):
        given = parameter_and_buffer_dicts
    elif isinstance(parameter_and_buffer_dicts, Sequence):
        if not all(isinstance(d, dict) for d in parameter_and_buffer_dicts):
            raise ValueError("Expected all elements of parameter_and_buffer_dicts to be dictionaries")
        given = {}
        for part in parameter_and_buffer_dicts:
            twice = sorted(given.keys() & part.keys())
            if twice:
                raise ValueError(f"{twice} appeared in multiple dictionaries; behavior of functional call is ambiguous")
            given.update(part)
    else:
        raise ValueError(
            "Expected parameter_and_buffer_dicts to be a dict, or a list/tuple of dicts, but got "
            f"{type(parameter_and_buffer_dicts).__name__}"
        )
    return stateless.call(module, given, args, kwargs, tie_weights=tie_weights, strict=strict)


def stack_module_state(models: Sequence[Module]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parameters and the buffers of modules of one class, each stacked along a new first dimension.

    Raises:
        RuntimeError: no modules, or of several classes or modes.
    """
    if len(models) == 0:
        raise RuntimeError("stack_module_state: Expected at least one model, got 0.")
    if len({m.training for m in models}) > 1 or len({type(m) for m in models}) > 1:
        raise RuntimeError(
            "stack_module_state: Expected all models to be of one class, all training or all evaluating."
        )
    found: list[dict[str, Any]] = []
    for named in ("named_parameters", "named_buffers"):
        columns = [dict(getattr(m, named)()) for m in models]
        stacked = {}
        for name, first in columns[0].items():
            parts = stack([c[name] for c in columns]).detach()
            stacked[name] = parts.requires_grad_() if first.requires_grad else parts
        found.append(stacked)
    return found[0], found[1]


# ---- gradients -----------------------------------------------------------------------------------------------------


def _own(tree: Any) -> Any:
    """Tensors of this transform's own: those that an outer one differentiates stay connected to it."""

    def own(t: Any) -> Any:
        if not isinstance(t, Tensor):
            raise TypeError(f"expected tensors to differentiate by, got {type(t).__name__}")
        return t.view_as(t) if t.requires_grad else t.detach().requires_grad_()

    with autograd.enable_grad():
        return tree_map(own, tree)


def _others(outputs: list[Tensor], own: list[Tensor]) -> bool:
    """Whether outputs depend on anything that requires a gradient beside ``own``, or that ``own`` is made of."""
    leaves = {id(edge_of(t)[0]) for t in own if t._node is None}
    seen, waiting = set(), [edge_of(t)[0] for t in outputs if t.requires_grad]
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        edges = getattr(node, "_edges", None)
        if edges is None:
            if id(node) not in leaves:
                return True
            continue
        waiting += [e[0] for e in edges if e is not None]
    return False


def _gradients(outputs: list, own: list, cotangents: list | None, recorded: bool) -> list:
    kept = [(o, None if cotangents is None else cotangents[i]) for i, o in enumerate(outputs) if o.requires_grad]
    if not kept or not own:
        return [zeros_like(t) for t in own]
    given = None if cotangents is None else [c for _, c in kept]
    found = autograd.grad([o for o, _ in kept], own, given, retain_graph=True, create_graph=recorded, allow_unused=True)
    return [zeros_like(t) if g is None else g for g, t in zip(found, own, strict=True)]


def _split(argnums: int | tuple[int, ...], args: tuple) -> tuple[Any, tuple]:
    """What to differentiate by, a tree of this transform's own tensors, and all arguments with it in its places."""
    places = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    if not places:
        raise RuntimeError("argnums must be non-empty")
    for place in places:
        if not -len(args) <= place < len(args):
            raise RuntimeError(f"Got argnum={place}, but only {len(args)} positional inputs")
    new = list(args)
    for place in places:
        new[place] = _own(args[place])
    chosen = tuple(new[place] for place in places)
    return (chosen[0] if isinstance(argnums, int) else chosen), tuple(new)


def _plain(tree: Any, recorded: bool) -> Any:
    """Results that have no history unless somebody outside asks for it."""
    return tree if recorded else tree_map(lambda t: t.detach() if isinstance(t, Tensor) else t, tree)


def grad_and_value(func: Callable, argnums: int | tuple[int, ...] = 0, has_aux: bool = False) -> Callable:
    """A function that gives the gradients of ``func`` and its value: (gradients, value), with ``has_aux`` (gradients,
    (value, aux)).

    >>> import fastnet
    >>> grad_and_value(lambda x: (x * x).sum())(fastnet.tensor([1.0, 3.0]))
    (tensor([2., 6.]), tensor(10.))
    """

    @wraps(func)
    def transformed(*args: Any, **kwargs: Any) -> Any:
        outside = autograd.is_grad_enabled()
        own, new = _split(argnums, args)
        with autograd.enable_grad():
            out, aux = func(*new, **kwargs), None
            if has_aux:
                if not isinstance(out, tuple) or len(out) != 2:
                    raise RuntimeError(
                        "grad_and_value(f)(*args): output of function f should be a tuple: (output, aux)"
                    )
                out, aux = out
            if not isinstance(out, Tensor):
                raise RuntimeError(
                    f"grad_and_value(f)(*args): Expected f(*args) to return a Tensor, got {type(out).__name__}"
                )
            if out.dim() != 0:
                raise RuntimeError(
                    "grad_and_value(f)(*args): Expected f(*args) to return a scalar tensor, got tensor with "
                    f"{out.dim()} dims. Maybe you wanted to use the vjp or jacrev APIs instead?"
                )
            flat, spec = tree_flatten(own)
            recorded = outside and _others([out], flat)
            found = tree_unflatten(_gradients([out], flat, None, recorded), spec)
        value = _plain((out, aux) if has_aux else out, recorded)
        return found, value

    return transformed


def grad(func: Callable, argnums: int | tuple[int, ...] = 0, has_aux: bool = False) -> Callable:
    """A function that gives the gradients of ``func``, which returns one number, by the arguments named; with
    ``has_aux`` (gradients, aux) of a func that returns (number, aux).

    >>> import fastnet
    >>> grad(grad(lambda x: x.sin()))(fastnet.tensor(0.0))
    tensor(-0.)
    """

    @wraps(func)
    def transformed(*args: Any, **kwargs: Any) -> Any:
        found, value = grad_and_value(func, argnums, has_aux)(*args, **kwargs)
        return (found, value[1]) if has_aux else found

    return transformed


def vjp(func: Callable, *primals: Any, has_aux: bool = False) -> tuple:
    """``func(*primals)`` and a function that takes cotangents, in the shape of its results, to their products with the
    Jacobians by each of ``primals``; with ``has_aux`` also what func returns second.

    >>> import fastnet
    >>> out, back = vjp(lambda x: x * x, fastnet.tensor([1.0, 3.0]))
    >>> back(fastnet.ones(2))
    (tensor([2., 6.]),)
    """
    outside = autograd.is_grad_enabled()
    own = _own(primals)
    with autograd.enable_grad():
        out, aux = func(*own), None
        if has_aux:
            out, aux = out
    flat, spec = tree_flatten(own)
    outputs, out_spec = tree_flatten(out)
    recorded = outside and _others(outputs, flat)

    def back(*cotangents: Any, retain_graph: bool = True, create_graph: bool | None = None) -> Any:
        given, given_spec = tree_flatten(cotangents[0] if len(cotangents) == 1 else cotangents)
        if len(given) != len(outputs):
            raise RuntimeError(
                "Expected pytree structure of cotangents to be the same as pytree structure of outputs to the "
                f"function. cotangents: {given_spec}, primal output: {out_spec}"
            )
        again = recorded or (autograd.is_grad_enabled() and any(g.requires_grad for g in given))
        with autograd.enable_grad():
            found = _gradients(outputs, flat, given, again if create_graph is None else create_graph)
        found = tree_unflatten(found, spec)
        return found

    value = _plain(out, recorded)
    return (value, back, _plain(aux, recorded)) if has_aux else (value, back)


def jvp(func: Callable, primals: tuple, tangents: tuple, *, strict: bool = False, has_aux: bool = False) -> tuple:
    """``func(*primals)`` and the product of its Jacobian with ``tangents``: by backward twice.

    >>> import fastnet
    >>> jvp(lambda x: x * x, (fastnet.tensor([1.0, 3.0]),), (fastnet.ones(2),))
    (tensor([1., 9.]), tensor([2., 6.]))
    """
    if not isinstance(primals, tuple) or not isinstance(tangents, tuple):
        raise RuntimeError("jvp(f, primals, tangents): Expected primals and tangents to be tuples")
    outside = autograd.is_grad_enabled()
    own = _own(primals)
    flat, _ = tree_flatten(own)
    directions, _ = tree_flatten(tangents)
    if [tuple(t.shape) for t in flat] != [tuple(t.shape) for t in directions]:
        raise RuntimeError("jvp(f, primals, tangents): Expected primals and tangents to have the same shapes")
    with autograd.enable_grad():
        out, aux = func(*own), None
        if has_aux:
            out, aux = out
        outputs, out_spec = tree_flatten(out)
        recorded = outside and (_others(outputs, flat) or any(d.requires_grad for d in directions))
        products = []
        for o in outputs:
            u = zeros_like(o).detach().requires_grad_()
            back = _gradients([o], flat, [u], True)
            total = builtins.sum((g * d).sum() for g, d in zip(back, directions, strict=True))
            products.append(_gradients([total], [u], None, recorded)[0])
    product = tree_unflatten(products, out_spec)
    value = _plain(out, recorded)
    return (value, product, _plain(aux, recorded)) if has_aux else (value, product)


def jacrev(
    func: Callable,
    argnums: int | tuple[int, ...] = 0,
    *,
    has_aux: bool = False,
    chunk_size: int | None = None,
    _preallocate_and_copy: bool = False,
) -> Callable:
    """A function that gives the Jacobian of ``func``: for each of its results and of the arguments named, a tensor of
    the result's shape, then that of the argument.

    >>> import fastnet
    >>> jacrev(lambda x: x * x)(fastnet.tensor([1.0, 3.0]))
    tensor([[2., 0.],
            [0., 6.]])
    """

    @wraps(func)
    def transformed(*args: Any, **kwargs: Any) -> Any:
        outside = autograd.is_grad_enabled()
        own, new = _split(argnums, args)
        with autograd.enable_grad():
            out, aux = func(*new, **kwargs), None
            if has_aux:
                out, aux = out
            flat, spec = tree_flatten(own)
            outputs, out_spec = tree_flatten(out)
            recorded = outside and _others(outputs, flat)
            found = []
            for o in outputs:
                rows: list[list] = [[] for _ in flat]
                for i in range(o.numel()):
                    for row, g in zip(rows, _gradients([o.reshape(-1)[i]], flat, None, recorded), strict=True):
                        row.append(g)
                shapes = [(*o.shape, *t.shape) for t in flat]
                blocks = [
                    stack(row).reshape(*shape) if row else zeros(*shape, dtype=o.dtype, device=o.device)
                    for row, shape in zip(rows, shapes, strict=True)
                ]
                found.append(tree_unflatten(blocks, spec))
            jacobian = found[0] if isinstance(out, Tensor) else tree_unflatten(found, out_spec)
        return (jacobian, _plain(aux, recorded)) if has_aux else jacobian

    return transformed


def jacfwd(
    func: Callable, argnums: int | tuple[int, ...] = 0, has_aux: bool = False, *, randomness: str = "error"
) -> Callable:
    """As ``jacrev``."""
    return jacrev(func, argnums, has_aux=has_aux)


def hessian(func: Callable, argnums: int | tuple[int, ...] = 0) -> Callable:
    """A function that gives the second derivatives of ``func``.

    >>> import fastnet
    >>> hessian(lambda x: (x**3).sum())(fastnet.tensor([1.0, 2.0]))
    tensor([[ 6.,  0.],
            [ 0., 12.]])
    """
    return jacrev(jacrev(func, argnums), argnums)


# ---- batches -------------------------------------------------------------------------------------------------------


def _dims_of(in_dims: Any, tree: Any) -> list:
    """One dimension for every leaf of a tree, from a tree of them that may stop earlier."""
    if in_dims is None or isinstance(in_dims, int):
        return [in_dims] * len(tree_flatten(tree)[0])
    if isinstance(in_dims, dict) and isinstance(tree, dict):
        return [d for key in tree for d in _dims_of(in_dims[key], tree[key])]
    if isinstance(in_dims, (tuple, list)) and isinstance(tree, (tuple, list)) and len(in_dims) == len(tree):
        return [d for sub, part in zip(in_dims, tree, strict=True) for d in _dims_of(sub, part)]
    raise ValueError(f"vmap: in_dims is not compatible with the structure of inputs, got {in_dims!r}")


def vmap(
    func: Callable, in_dims: Any = 0, out_dims: Any = 0, randomness: str = "error", *, chunk_size: int | None = None
) -> Callable:
    """A function that maps ``func`` over a dimension of its arguments.

    Args:
        func: takes and returns tensors, or trees of them.
        in_dims: which dimension of the arguments to map over, None for none: one for all, or a tree of them.
        out_dims: where the dimension stands in the results: one for all, or a tree of them.
        randomness: "error", "different" or "same": every call draws new numbers, with "same" the same ones.
        chunk_size: changes nothing: entries are computed one after the other.

    >>> import fastnet
    >>> vmap(fastnet.dot)(fastnet.ones(2, 3), fastnet.ones(2, 3))
    tensor([3., 3.])
    """
    if randomness not in ("error", "different", "same"):
        raise RuntimeError(f"Only allowed values for randomness are 'error', 'different', or 'same'. Got {randomness}")

    @wraps(func)
    def transformed(*args: Any, **kwargs: Any) -> Any:
        flat, spec = tree_flatten(args)
        dims = _dims_of(in_dims, args)
        named, named_spec = tree_flatten(kwargs)
        for t, d in zip(flat, dims, strict=True):
            if d is not None and not isinstance(t, Tensor):
                raise ValueError(f"vmap: Got in_dim={d} for an input but the input is of type {type(t).__name__}")
        sizes = {t.shape[d] for t, d in zip(flat, dims, strict=True) if d is not None}
        of_names = [isinstance(t, Tensor) and t.dim() > 0 for t in named]
        sizes |= {t.shape[0] for t, mapped in zip(named, of_names, strict=True) if mapped}
        if len(sizes) != 1:
            if not sizes:
                raise ValueError("vmap: at least one input must be mapped over, got in_dims of None alone")
            raise ValueError(f"vmap: Expected all tensors to have the same size in the mapped dimension, got {sizes}")
        (size,) = sizes
        results = []
        state = _random_state() if randomness == "same" else None
        for i in range(size):
            if state is not None:
                state()
            parts = [t if d is None else t.select(d, i) for t, d in zip(flat, dims, strict=True)]
            more = [t[i] if mapped else t for t, mapped in zip(named, of_names, strict=True)]
            results.append(func(*tree_unflatten(parts, spec), **tree_unflatten(more, named_spec)))
        if not results:
            raise RuntimeError("vmap: the mapped dimension has size 0")
        rows = [tree_flatten(r) for r in results]
        out_spec = rows[0][1]
        for row in rows:
            if any(not isinstance(t, Tensor) for t in row[0]):
                raise ValueError(
                    f"vmap({getattr(func, '__name__', 'f')}, ...): `{getattr(func, '__name__', 'f')}` must only return "
                    "Tensors"
                )
        places = _dims_of(out_dims, results[0])
        columns = zip(*[row[0] for row in rows], strict=True)
        stacked = [
            parts[0] if place is None else stack(parts, place) for parts, place in zip(columns, places, strict=True)
        ]
        return tree_unflatten(stacked, out_spec)

    return transformed


def _random_state() -> Callable:
    """A function that sets the default generator back to where it stands now."""
    from fastnet._random import get_rng_state, set_rng_state

    kept = copy.deepcopy(get_rng_state())
    return lambda: set_rng_state(kept)
