"""Backward with a history of its own, for ``create_graph=True``: gradients that can be differentiated again.

The backward of an operation is array code. Here it is given stand-ins for arrays: a ``Recorded`` holds a tensor, and
what array code does with it is done by fastnet's operations, which are recorded. What an operation kept for its
backward is told apart by where it came from: inputs and outputs get their history back, numbers and integer arrays are
constants, and anything else, an array computed from the inputs on the way, would be taken for a constant: such
operations have a rule of their own in ``fastnet.ops.second_order``, or raise.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from fastnet import _dtypes
from fastnet._tensor import Tensor
from fastnet.autograd import grad_mode
from fastnet.autograd.function import Accumulate, ArrayFunction, Context, Function, _numbers, edge_of


class NoRule(Exception):
    """Array code did what has no recorded form."""


def _bare(x: Any) -> Any:
    """An operand of array code as fastnet's operations take it."""
    if isinstance(x, Recorded):
        return x.tensor
    if isinstance(x, np.generic):
        return x.item()
    return Tensor._wrap(x) if hasattr(x, "dtype") else x


def _recorded(x: Any) -> Recorded:
    return Recorded(x if isinstance(x, Tensor) else _bare(x))


_UFUNCS = {
    "add": "add",
    "subtract": "sub",
    "multiply": "mul",
    "divide": "div",
    "true_divide": "div",
    "floor_divide": "floor_divide",
    "remainder": "remainder",
    "power": "pow",
    "negative": "neg",
    "absolute": "abs",
    "greater": "gt",
    "greater_equal": "ge",
    "less": "lt",
    "less_equal": "le",
    "equal": "eq",
    "not_equal": "ne",
    "arctan": "atan",
    "arcsin": "asin",
    "arccos": "acos",
    "logical_not": "logical_not",
    "invert": "logical_not",
    "bitwise_and": "logical_and",
    "bitwise_or": "logical_or",
    "matmul": "matmul",
}
_SAME = (
    "sign sqrt exp exp2 expm1 log log1p log2 log10 sin cos tan sinh cosh tanh square reciprocal floor ceil trunc isnan "
    "isfinite isinf logical_and logical_or maximum minimum"
).split()
_UFUNCS |= {name: name for name in _SAME}


def _apply(name: str, *operands: Any) -> Any:
    if name not in _UFUNCS:
        raise NoRule(name)
    method = _UFUNCS[name]
    import fastnet

    values = [_bare(o) for o in operands]
    if not any(isinstance(v, Tensor) for v in values):
        return getattr(np, name)(*values)
    if method in ("maximum", "minimum") and not all(isinstance(v, Tensor) for v in values):
        tensor = next(v for v in values if isinstance(v, Tensor))
        values = [v if isinstance(v, Tensor) else fastnet.full((), v, dtype=tensor.dtype) for v in values]
    return Recorded(getattr(fastnet, method)(*values))


class _Module:
    """What array code finds in place of NumPy."""

    pi, e, inf = np.pi, np.e, np.inf
    float32, float64, int64 = np.float32, np.float64, np.int64

    def __getattr__(self, name: str) -> Any:
        if name == "abs":
            name = "absolute"
        return lambda *operands: _apply(name, *operands)

    def where(self, condition: Any, a: Any, b: Any) -> Recorded:
        import fastnet

        a, b = _bare(a), _bare(b)
        if isinstance(condition, (bool, np.bool_)):  # of numbers
            chosen = a if condition else b
            return Recorded(chosen) if isinstance(chosen, Tensor) else self._number(chosen)
        if not isinstance(a, Tensor) and not isinstance(b, Tensor):
            return Recorded(fastnet.where(_bare(condition), float(a), float(b)))
        return Recorded(fastnet.where(_bare(condition), a, b))

    def _number(self, x: Any) -> Recorded:
        import fastnet

        return Recorded(fastnet.full((), float(x), device=self._device))

    def asarray(self, x: Any, dtype: Any = None) -> Recorded:
        x = _bare(x)
        x = Recorded(x) if isinstance(x, Tensor) else self._number(x)
        return x if dtype is None else x.astype(dtype)

    ascontiguousarray = asarray

    def zeros_like(self, x: Any) -> Recorded:
        import fastnet

        return Recorded(fastnet.zeros_like(_bare(x)))

    def ones_like(self, x: Any) -> Recorded:
        import fastnet

        return Recorded(fastnet.ones_like(_bare(x)))

    def ones(self, shape: Any, dtype: Any) -> Recorded:
        import fastnet

        return Recorded(fastnet.ones(tuple(shape), dtype=_dtypes.as_dtype(dtype), device=self._device))

    def broadcast_to(self, x: Any, shape: Any) -> Recorded:
        return Recorded(_bare(x).expand(*shape))

    def moveaxis(self, x: Any, source: Any, target: Any) -> Recorded:
        return Recorded(_bare(x).movedim(source, target))

    def swapaxes(self, x: Any, a: int, b: int) -> Recorded:
        return Recorded(_bare(x).transpose(a, b))

    def expand_dims(self, x: Any, axis: int) -> Recorded:
        return Recorded(_bare(x).unsqueeze(axis))

    def squeeze(self, x: Any, axis: int) -> Recorded:
        return Recorded(_bare(x).squeeze(axis))

    def flip(self, x: Any, axes: Any) -> Recorded:
        return Recorded(_bare(x).flip(axes))

    def roll(self, x: Any, shifts: Any, axes: Any) -> Recorded:
        return Recorded(_bare(x).roll(shifts, axes))

    def triu(self, x: Any, k: int = 0) -> Recorded:
        return Recorded(_bare(x).triu(k))

    def tril(self, x: Any, k: int = 0) -> Recorded:
        return Recorded(_bare(x).tril(k))

    def clip(self, x: Any, low: float, high: float) -> Recorded:
        return Recorded(_bare(x).clamp(low, high))

    def split(self, x: Any, parts: int, axis: int) -> list[Recorded]:
        return [Recorded(t) for t in _bare(x).chunk(parts, axis)]

    def concatenate(self, xs: Any, axis: int = 0) -> Recorded:
        import fastnet

        return Recorded(fastnet.cat([_bare(x) for x in xs], axis))

    def eye(self, n: int, dtype: Any) -> Recorded:
        import fastnet

        return Recorded(fastnet.eye(n, dtype=_dtypes.as_dtype(dtype), device=self._device))

    @property
    def linalg(self) -> SimpleNamespace:
        import fastnet

        return SimpleNamespace(inv=lambda x: Recorded(fastnet.linalg.inv(_bare(x))))

    def sum(self, x: Any, axis: Any = None, keepdims: bool = False) -> Recorded:
        return _recorded(x).sum(axis=axis, keepdims=keepdims)

    def __init__(self, device: Any):
        self._device = device


class Recorded:
    """An array to array code, a tensor underneath."""

    __slots__ = ("tensor",)
    __array_priority__ = 2000

    def __init__(self, tensor: Tensor):
        self.tensor = tensor

    recorded_module = property(lambda self: _Module(self.tensor.device))
    shape = property(lambda self: self.tensor._data.shape)
    dtype = property(lambda self: self.tensor._data.dtype)
    ndim = property(lambda self: self.tensor._data.ndim)
    size = property(lambda self: self.tensor._data.size)
    itemsize = property(lambda self: self.tensor._data.itemsize)

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise NoRule("an array of its values")

    def __iter__(self) -> Any:
        raise NoRule("iteration")

    def __bool__(self) -> bool:
        raise NoRule("a truth value")

    def __array_ufunc__(self, ufunc: Any, method: str, *operands: Any, **options: Any) -> Recorded:
        if method != "__call__" or options:
            raise NoRule(f"{ufunc.__name__}.{method}")
        return _apply(ufunc.__name__, *operands)

    def __array_function__(self, function: Any, types: Any, args: tuple, kwargs: dict) -> Recorded:
        return getattr(self.recorded_module, function.__name__)(*args, **kwargs)

    def astype(self, dtype: Any, copy: bool = True) -> Recorded:
        return Recorded(self.tensor.to(_dtypes.as_dtype(dtype)))

    def copy(self, order: str = "C") -> Recorded:
        return self

    def reshape(self, *shape: Any) -> Recorded:
        return Recorded(self.tensor.reshape(*shape))

    def transpose(self, *axes: Any) -> Recorded:
        return Recorded(self.tensor.permute(*axes))

    def swapaxes(self, a: int, b: int) -> Recorded:
        return Recorded(self.tensor.transpose(a, b))

    @property
    def T(self) -> Recorded:
        return Recorded(self.tensor.permute(*range(self.ndim - 1, -1, -1)))

    def sum(self, axis: Any = None, keepdims: bool = False, dtype: Any = None) -> Recorded:
        axes = tuple(range(self.ndim)) if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
        if not axes or not self.ndim:
            return self
        kept = self.tensor.dtype if dtype is None else _dtypes.as_dtype(dtype)
        if not self.tensor.dtype.is_floating_point:  # counts
            kept = _dtypes.int64
        return Recorded(self.tensor.sum(axes, keepdim=keepdims, dtype=kept))

    def __getitem__(self, index: Any) -> Recorded:
        bare = tuple(_bare(i) for i in index) if isinstance(index, tuple) else _bare(index)
        return Recorded(self.tensor[bare])

    def __setitem__(self, index: Any, value: Any) -> None:
        raise NoRule("an assignment")

    def __neg__(self) -> Recorded:
        return _apply("negative", self)

    def __invert__(self) -> Recorded:
        return _apply("invert", self)


def _operator(name: str, reflected: bool) -> Any:
    if reflected:
        return lambda self, other: _apply(name, other, self)
    return lambda self, other: _apply(name, self, other)


for _symbol, _name in {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "true_divide",
    "floordiv": "floor_divide",
    "mod": "remainder",
    "pow": "power",
    "and": "bitwise_and",
    "or": "bitwise_or",
    "matmul": "matmul",
}.items():
    setattr(Recorded, f"__{_symbol}__", _operator(_name, False))
    setattr(Recorded, f"__r{_symbol}__", _operator(_name, True))
for _symbol, _name in {
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
    "eq": "equal",
    "ne": "not_equal",
}.items():
    setattr(Recorded, f"__{_symbol}__", _operator(_name, False))


# ---- what an operation kept -----------------------------------------------------------------------------------------


def attached(array: Any, edge: tuple[Any, int] | None) -> Tensor:
    """An array that is the value of what an edge leads to, with that history."""
    if edge is not None and type(edge[0]) is Accumulate and edge[0].leaf._data is array:
        return edge[0].leaf
    out = Tensor._wrap(array)
    if edge is not None:
        node, out._output_index = edge
        out._requires_grad = True
        if type(node) is Accumulate:
            out._accumulate = node
        else:
            out._node = node
    return out


def linked(array: Any, edges: Sequence[tuple[Any, int] | None], rule: Any) -> Tensor:
    """An array computed from several tensors, given by their edges, as a tensor with that history: ``rule`` takes the
    gradient of it to theirs."""
    out = Tensor._wrap(array)
    if not any(e is not None for e in edges):
        return out
    ctx = Context(Linked, tuple(e is not None for e in edges))
    ctx.rule = rule  # type: ignore[attr-defined]
    ctx._edges, ctx._number = tuple(edges), next(_numbers)
    ctx._outputs = [(array.shape, array.dtype, np if isinstance(array, np.ndarray) else "cupy")]
    out._requires_grad, out._node, out._output_index = True, ctx, 0
    return out


class Linked(Function):
    """See ``linked``."""

    @classmethod
    def _run_backward(cls, ctx: Any, grads: list) -> tuple:
        with grad_mode.no_grad():
            found = ctx.rule(Tensor._wrap(grads[0]))
        return tuple(None if f is None else f._data for f in found)


class Kept:
    """An operation's context, to the recorded form of its backward."""

    def __init__(self, ctx: Context):
        self._ctx = ctx

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._ctx, name)
        if _holds_floats(value):
            raise NoRule(f"the array {name}, which was computed from its inputs")
        return value

    @property
    def edges(self) -> tuple:
        """Where the gradient of each argument goes, None where it has none."""
        return self._ctx._edges

    def static(self, i: int) -> Any:
        """Argument i, which was no tensor or one of integers."""
        return self._ctx._statics[i]

    def raw(self, name: str) -> Any:
        """An attribute as it is."""
        return getattr(self._ctx, name)

    @property
    def arrays(self) -> tuple:
        """What was kept, as it is."""
        return self._ctx.saved

    def input(self, i: int, array: Any) -> Tensor:
        """Argument i, whose value is ``array``."""
        return attached(array, self._ctx._edges[i])

    @property
    def tensors(self) -> list:
        """What was kept: tensors with their histories; NoRule for an array computed on the way."""
        found = []
        for array, origin in zip(self._ctx.saved, self._ctx._origins, strict=True):
            if array is None or (isinstance(array, (int, float)) and not isinstance(array, np.generic)):
                found.append(array)
            elif origin is not None and origin[0] == "constant":
                found.append(array if not getattr(array, "shape", ()) else Tensor._wrap(array))
            elif origin is None and not _holds_floats(array):
                found.append(Tensor._wrap(array))
            elif origin is None:
                raise NoRule("an array which was computed from its inputs")
            else:
                kind, i = origin
                array = np.asarray(array) if isinstance(array, np.generic) else array
                found.append(attached(array, self._ctx._edges[i] if kind == "in" else (self._ctx, i)))
        return found

    @property
    def saved(self) -> tuple:
        return tuple(Recorded(t) if isinstance(t, Tensor) else t for t in self.tensors)


def _holds_floats(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return any(_holds_floats(v) for v in value)
    if isinstance(value, dict):
        return any(_holds_floats(v) for v in value.values())
    return hasattr(value, "shape") and value.dtype.kind in "fV"


def _differentiated(node: Context, grads: list) -> tuple:
    """The gradients of a node's arguments, as tensors."""
    function = node._function
    if function is Linked:
        return tuple(node.rule(grads[0]))  # type: ignore[attr-defined]
    if not issubclass(function, ArrayFunction):
        node._reconnect = True
        try:
            found = function.backward(node, *grads)
        finally:
            node._reconnect = False
        return found if isinstance(found, tuple) else (found,)
    from fastnet.ops import second_order

    kept: Any = Kept(node)
    try:
        for cls in function.__mro__:
            if cls in second_order.RULES:
                node._check_versions()
                found = second_order.RULES[cls](kept, *grads)
                break
        else:
            found = function.backward(kept, *[None if g is None else Recorded(g) for g in grads])
    except (NoRule, AttributeError, ImportError, TypeError) as why:
        raise RuntimeError(
            f"derivative for {node.name()} is not implemented with create_graph=True: its backward uses {why}"
        ) from why
    found = found if isinstance(found, tuple) else (found,)
    return tuple(f.tensor if isinstance(f, Recorded) else f for f in found)


# ---- the walk ------------------------------------------------------------------------------------------------------


def _needed(roots: Sequence[Any], wanted: set) -> set | None:
    """The nodes from which a wanted edge can be reached, by id; the wanted ones themselves only for others."""
    reaches: dict[int, bool] = {}
    stack = [(edge_of(t)[0], False) for t in roots]
    while stack:
        node, done = stack.pop()
        edges = [e for e in getattr(node, "_edges", ()) if e is not None]
        if done:
            reaches[id(node)] = any((id(n), i) in wanted or reaches.get(id(n), False) for n, i in edges)
        elif id(node) not in reaches:
            reaches[id(node)] = False
            stack.append((node, True))
            stack += [(n, False) for n, _ in edges if id(n) not in reaches]
    return {key for key, value in reaches.items() if value}


def run(
    roots: Sequence[tuple[Any, Tensor]], retain_graph: bool, inputs: Sequence[Any] | None, accumulate: bool
) -> list[Any]:
    """``engine.run_backward`` with tensors in place of arrays, recorded."""
    from fastnet.autograd import engine

    pending: dict[Any, list] = {}
    queue: list[tuple[int, int, Any]] = []
    captured: dict[tuple[int, int], list[int]] = {}
    found: list[Any] = [None] * len(inputs or ())
    for i, t in enumerate(inputs or ()):
        node, index = edge_of(t)
        captured.setdefault((id(node), index), []).append(i)
    needed = None if inputs is None else _needed([t for t, _ in roots], set(captured))

    def send(edge: tuple[Any, int], grad: Tensor) -> None:
        node, index = edge
        if needed is not None and id(node) not in needed and (id(node), index) not in captured:
            return
        slots: Any = pending.get(node)
        if slots is None:
            slots = [None] * (1 if type(node) is Accumulate else len(node._outputs))
            pending[node] = slots
            heapq.heappush(queue, (-node._number, id(node), node))
        slots[index] = grad if slots[index] is None else slots[index] + grad

    with grad_mode.enable_grad(), np.errstate(all="ignore"):
        for tensor, grad in roots:
            send(edge_of(tensor), grad)
        while queue:
            _, _, node = heapq.heappop(queue)
            grads = pending.pop(node)
            if type(node) is Accumulate:
                leaf = node.leaf
                grad = _hooked(leaf._hooks, grads[0])
                for i in captured.get((id(node), 0), ()):
                    found[i] = grad
                if accumulate and (inputs is None or (id(node), 0) in captured):
                    leaf.grad = grad if leaf.grad is None else leaf.grad + grad
                    for hook in list((node.after or {}).values()):
                        hook(leaf)
                continue
            node._check_versions()
            for index, hooks, retained in node._hooks or ():
                if grads[index] is not None:
                    grads[index] = _hooked(hooks, grads[index])
                    tensor = retained() if retained is not None and accumulate else None
                    if tensor is not None and tensor._retains_grad:
                        tensor.grad = grads[index]
            for index, grad in enumerate(grads):
                for i in captured.get((id(node), index), ()):
                    found[i] = grad
            if needed is not None and id(node) not in needed:
                continue
            if node._materialize:
                for i, (shape, dtype, module) in enumerate(node._outputs):
                    if grads[i] is None and dtype is not None:
                        grads[i] = Tensor._wrap(engine._zeros(shape, dtype, module))
            results = _differentiated(node, grads)
            for hook in list((node._after or {}).values()):
                new = hook(tuple(results), tuple(grads))
                if new is not None:
                    results = new if isinstance(new, tuple) else (new,)
            for edge, grad in zip(node._edges, results, strict=False):
                if edge is not None and grad is not None:
                    target, index = edge
                    if type(target) is Accumulate:
                        shape, dtype = target.leaf._data.shape, target.leaf._data.dtype
                    else:
                        shape, dtype, _ = target._outputs[index]
                    if grad._data.shape != shape:
                        raise RuntimeError(
                            f"Function {node.name()} returned an invalid gradient: got shape {list(grad.shape)} but "
                            f"expected {list(shape)}"
                        )
                    send(edge, grad if grad._data.dtype == dtype else grad.to(_dtypes.as_dtype(dtype)))
            if not retain_graph:
                node._saved, node._freed = (), True
    return found


def _hooked(hooks: dict | None, grad: Tensor) -> Tensor:
    for hook in list((hooks or {}).values()):
        new = hook(grad)
        if new is not None:
            if not isinstance(new, Tensor):
                raise TypeError(f"a gradient hook returned a {type(new).__name__}, expected a Tensor or None")
            grad = new
    return grad
