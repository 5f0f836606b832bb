"""Reverse-mode differentiation on a tape.

A differentiable operation is a ``Function`` with static ``forward`` and ``backward``. Applying one runs ``forward``
and, if an input requires a gradient, leaves a node that knows its inputs' nodes; ``backward`` walks the nodes from the
newest to the oldest. Nodes are numbered as they are made, and a node is always newer than those it uses, so that order
is a topological one and needs neither recursion nor counting.

``Function`` works on tensors, as PyTorch's. fastnet's own operations subclass ``ArrayFunction``, whose forward and
backward see the arrays themselves.
"""

from __future__ import annotations

import heapq
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from itertools import count
from typing import Any

import numpy as np

_enabled = True
_numbers = count(1)


def is_grad_enabled() -> bool:
    """Whether operations are being recorded."""
    return _enabled


class _GradMode:
    """A context manager and decorator that sets whether operations are recorded."""

    _mode = True

    def __init__(self, function: Callable | None = None):
        self._function = function  # `@no_grad` without parentheses

    def __new__(cls, function: Callable | None = None) -> Any:
        instance = super().__new__(cls)
        return instance(function) if callable(function) else instance

    def __enter__(self) -> None:
        global _enabled
        self._before = _enabled
        _enabled = self._mode

    def __exit__(self, *exception: object) -> None:
        global _enabled
        _enabled = self._before

    def __call__(self, function: Callable) -> Callable:
        mode = type(self)

        @wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with mode():
                return function(*args, **kwargs)

        return wrapped


class no_grad(_GradMode):
    """Record nothing inside: ``with no_grad(): ...`` or ``@no_grad()``."""

    _mode = False


class inference_mode(no_grad):
    """As ``no_grad``: fastnet's tensors keep nothing that could be saved beyond that."""


class enable_grad(_GradMode):
    """Record operations inside, even within ``no_grad``."""

    _mode = True


class set_grad_enabled(_GradMode):
    """Set whether operations are recorded, from here on or, as a context manager, for a block."""

    def __new__(cls, mode: bool) -> Any:
        return object.__new__(cls)

    def __init__(self, mode: bool):
        global _enabled
        self._before = _enabled
        _enabled = bool(mode)

    def __enter__(self) -> None:
        pass


class Context:
    """What a Function's forward leaves for its backward; also the node of the graph (``tensor.grad_fn``)."""

    def __init__(self, function: type[Function], needs_input_grad: tuple[bool, ...]):
        self._function = function
        self.needs_input_grad = needs_input_grad
        self._saved: tuple = ()
        self._versions: list[tuple[list[int], int]] = []
        self._hooks: list[Callable] | None = None
        self._freed = False
        self._materialize = True
        self._non_differentiable: tuple = ()

    # What the engine uses; set by Function.apply when the operation is recorded.
    _edges: tuple[tuple[Any, int] | None, ...]
    _number: int
    _outputs: list[tuple[tuple[int, ...], Any, Any]]  # shape, NumPy dtype, array module of each output

    @property
    def name(self) -> str:
        return self._function.__name__ + "Backward"

    def __repr__(self) -> str:
        return f"<{self.name}>"

    def save(self, *arrays: Any) -> None:
        """Keep arrays for backward (ArrayFunction). Those that are inputs or outputs are checked for changes in
        place."""
        self._saved = arrays

    @property
    def saved(self) -> tuple:
        """The arrays kept by ``save``; RuntimeError if one was modified in place since."""
        self._check_versions()
        return self._saved

    def save_for_backward(self, *tensors: Any) -> None:
        """Keep tensors for backward (Function)."""
        self._saved = tensors
        self._versions = [(t._version_counter, t._version_counter[0]) for t in tensors if t is not None]

    @property
    def saved_tensors(self) -> tuple:
        """The tensors kept by ``save_for_backward``."""
        self._check_versions()
        return self._saved

    def mark_non_differentiable(self, *tensors: Any) -> None:
        """Say which outputs have no gradient."""
        self._non_differentiable = tensors

    def mark_dirty(self, *tensors: Any) -> None:
        """Unsupported: a Function of fastnet returns new tensors."""
        raise RuntimeError(
            "mark_dirty: a Function that changes its inputs in place is not supported; return a new tensor"
        )

    def set_materialize_grads(self, value: bool) -> None:
        """Whether missing output gradients arrive as zeros (the default) or as None."""
        self._materialize = bool(value)

    def _check_versions(self) -> None:
        if self._freed:
            raise RuntimeError(
                "Trying to backward through the graph a second time (or directly access saved tensors after they have "
                "already been freed). Specify retain_graph=True if you need to backward through the graph a "
                "second time."
            )
        for counter, version in self._versions:
            if counter[0] != version:
                raise RuntimeError(
                    "one of the variables needed for gradient computation has been modified by an inplace "
                    "operation: a "
                    f"value saved by {self._function.__name__} is at version {counter[0]}; expected version {version}"
                )


class _Unrecorded:
    """Stands for a Context when nothing is recorded: takes attributes and forgets them."""

    def __init__(self, needs_input_grad: tuple[bool, ...]):
        self.needs_input_grad = needs_input_grad

    def save(self, *arrays: Any) -> None:
        pass

    save_for_backward = mark_non_differentiable = set_materialize_grads = save


class Accumulate:
    """The node of a leaf: adds what arrives to ``leaf.grad``."""

    __slots__ = ("_number", "leaf")

    def __init__(self, leaf: Any):
        self.leaf = leaf
        self._number = 0  # older than every operation: runs when all contributions have arrived

    name = "AccumulateGrad"

    def __repr__(self) -> str:
        return "<AccumulateGrad>"


def edge_of(tensor: Any) -> tuple[Any, int]:
    """Where a gradient for this tensor goes: a node and which of its outputs."""
    if tensor._node is not None:
        return tensor._node, tensor._output_index
    if tensor._accumulate is None:
        tensor._accumulate = Accumulate(tensor)
    return tensor._accumulate, 0


class Function:
    """A differentiable operation on tensors, as ``torch.autograd.Function``.

    Subclass it with static methods ``forward(ctx, *args)`` and ``backward(ctx, *output_gradients)``; call it by
    ``MyFunction.apply(...)``. ``backward`` returns one gradient, or None, for each positional argument of forward.

    >>> import fastnet
    >>> class Square(fastnet.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         ctx.save_for_backward(x)
    ...         return x * x
    ...     @staticmethod
    ...     def backward(ctx, grad):
    ...         (x,) = ctx.saved_tensors
    ...         return 2 * x * grad
    >>> x = fastnet.tensor([3.0], requires_grad=True)
    >>> Square.apply(x).backward()
    >>> x.grad
    tensor([6.])
    """

    @staticmethod
    def forward(ctx: Any, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("You must implement the forward function for custom autograd.Function.")

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise NotImplementedError("You must implement the backward function for custom autograd.Function.")

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        """Run the operation and record it if an argument requires a gradient."""
        needs = tuple([_enabled and isinstance(a, _Tensor) and a.requires_grad for a in args])
        recorded = True in needs
        ctx: Any = Context(cls, needs)
        with no_grad():
            outputs = cls.forward(ctx, *args, **kwargs)
        single = not isinstance(outputs, tuple)
        results = []
        for out in (outputs,) if single else outputs:
            if isinstance(out, _Tensor):
                # An input returned as it came, or a leaf made inside, must not become this node's output itself.
                fresh = _Tensor._wrap(out._data)
                fresh._version_counter = out._version_counter
                if any(out is t for t in ctx._non_differentiable) or not fresh.dtype.is_floating_point:
                    out = fresh
                    results.append(out)
                    continue
                out = fresh
            results.append(out)
        if recorded:
            _record(
                ctx, args, [r if isinstance(r, _Tensor) else None for r in results], cls._skip(ctx, outputs, single)
            )
        return results[0] if single else tuple(results)

    @staticmethod
    def _skip(ctx: Context, outputs: Any, single: bool) -> list[bool]:
        return [
            not isinstance(o, _Tensor) or not o.dtype.is_floating_point or any(o is t for t in ctx._non_differentiable)
            for o in ((outputs,) if single else outputs)
        ]

    @classmethod
    def _run_backward(cls, ctx: Context, grads: list) -> tuple:
        tensors = [None if g is None else _Tensor._wrap(g) for g in grads]
        with no_grad():
            result = cls.backward(ctx, *tensors)
        if not isinstance(result, tuple):
            result = (result,)
        return tuple(r._data if isinstance(r, _Tensor) else r for r in result)


class ArrayFunction(Function):
    """A Function whose forward and backward see arrays in place of tensors: what fastnet's own operations are.

    ``view = True`` says that the output shares the first argument's memory, and so its version.
    """

    view = False

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        arrays = []
        needs = []
        recorded = False
        for a in args:
            if isinstance(a, _Tensor):
                arrays.append(a._data)
                need = _enabled and a.requires_grad
                needs.append(need)
                recorded = recorded or need
            else:
                arrays.append(a)
                needs.append(False)
        ctx: Any = Context(cls, tuple(needs)) if recorded else _Unrecorded(tuple(needs))
        outputs = cls.forward(ctx, *arrays, **kwargs)
        if type(outputs) is not tuple:
            result = _Tensor._wrap(outputs)
            if cls.view:
                result._version_counter = args[0]._version_counter
                result._base = args[0] if args[0]._base is None else args[0]._base
            if recorded:
                if ctx._saved:
                    cls._watch(ctx, args, arrays, (result,))
                _record(ctx, args, [result], [False])
            return result
        results = [_Tensor._wrap(o) for o in outputs]
        if recorded:
            if ctx._saved:
                cls._watch(ctx, args, arrays, results)
            _record(ctx, args, results, [not r.dtype.is_floating_point for r in results])
        return tuple(results)

    @staticmethod
    def _watch(ctx: Context, args: Sequence, arrays: Sequence, results: Sequence) -> None:
        """Note the versions of saved arrays that are inputs or outputs."""
        for saved in ctx._saved:
            for a, array in zip(args, arrays, strict=True):
                if array is saved and isinstance(a, _Tensor):
                    ctx._versions.append((a._version_counter, a._version_counter[0]))
                    break
            else:
                for r in results:
                    if r._data is saved:
                        ctx._versions.append((r._version_counter, r._version_counter[0]))

    @classmethod
    def _run_backward(cls, ctx: Context, grads: list) -> tuple:
        result = cls.backward(ctx, *grads)
        return result if type(result) is tuple else (result,)


def _record(ctx: Context, args: Sequence, results: Sequence, skip: Sequence[bool]) -> None:
    needs = ctx.needs_input_grad
    ctx._edges = tuple([edge_of(a) if needs[i] else None for i, a in enumerate(args)])
    ctx._number = next(_numbers)
    ctx._outputs = []
    for i, r in enumerate(results):
        if r is None:
            ctx._outputs.append(((), None, None))
            continue
        ctx._outputs.append((r._data.shape, r._data.dtype, r._data))
        if not skip[i]:
            r.requires_grad = True
            r._node = ctx
            r._output_index = i
    # Only the kind of array is needed to make zeros; keep no value alive.
    ctx._outputs = [
        (s, d, None if x is None else (np if isinstance(x, np.ndarray) else "cupy")) for s, d, x in ctx._outputs
    ]


def _zeros(shape: tuple, dtype: Any, module: Any) -> Any:
    if module == "cupy":
        import cupy as module
    return module.zeros(shape, dtype)


def _fits(grad: Any, shape: tuple, dtype: Any, name: str) -> Any:
    if grad.shape != shape:
        raise RuntimeError(
            f"Function {name} returned an invalid gradient: got shape {list(grad.shape)} but expected {list(shape)}"
        )
    return grad if grad.dtype == dtype else grad.astype(dtype)


def run_backward(
    roots: Sequence[tuple[Any, Any]], retain_graph: bool, inputs: Sequence[Any] | None = None, accumulate: bool = True
) -> list[Any]:
    """Send gradients (arrays) from root tensors to the leaves, or to ``inputs`` only.

    Returns the gradients of ``inputs`` (None where nothing arrived) when not accumulating.
    """
    pending: dict[Any, list] = {}
    queue: list[tuple[int, int, Any]] = []
    captured: dict[tuple[int, int], list[int]] = {}
    found: list[Any] = [None] * len(inputs or ())
    for i, t in enumerate(inputs or ()):
        node, index = edge_of(t)
        captured.setdefault((id(node), index), []).append(i)

    def send(edge: tuple[Any, int], grad: Any) -> None:
        node, index = edge
        if isinstance(grad, np.generic):  # NumPy's arithmetic makes scalars of arrays without dimensions
            grad = np.asarray(grad)
        slots = pending.get(node)
        if slots is None:
            slots = [None] * (1 if type(node) is Accumulate else len(node._outputs))
            pending[node] = slots
            heapq.heappush(queue, (-node._number, id(node), node))
        # Never added in place: the first contribution may be shared with other nodes.
        slots[index] = grad if slots[index] is None else slots[index] + grad

    for tensor, grad in roots:
        send(edge_of(tensor), grad)
    while queue:
        _, _, node = heapq.heappop(queue)
        grads = [np.asarray(g) if isinstance(g, np.generic) else g for g in pending.pop(node)]
        if type(node) is Accumulate:
            leaf = node.leaf
            grad = _apply_hooks(leaf._hooks, grads[0])
            for i in captured.get((id(node), 0), ()):
                found[i] = grad
            if accumulate and (inputs is None or (id(node), 0) in captured):
                del grads
                _accumulate(leaf, grad)
            continue
        if node._freed:
            node._check_versions()
        if node._hooks:
            for index, hooks, retained in node._hooks:
                if grads[index] is not None:
                    grads[index] = _apply_hooks(hooks, grads[index])
                    if retained is not None and accumulate:
                        tensor = retained()
                        if tensor is not None and tensor._retains_grad:
                            tensor.grad = _Tensor._wrap(grads[index].copy())
        for index, grad in enumerate(grads):
            for i in captured.get((id(node), index), ()):
                found[i] = grad
        if node._materialize:
            for i, (shape, dtype, module) in enumerate(node._outputs):
                if grads[i] is None and dtype is not None:
                    grads[i] = _zeros(shape, dtype, module)
        results = node._function._run_backward(node, grads)
        edges = node._edges
        if len(results) != len(edges) and not (
            len(results) > len(edges) and all(r is None for r in results[len(edges) :])
        ):
            raise RuntimeError(
                f"function {node.name} returned an incorrect number of gradients (expected {len(edges)}, got "
                f"{len(results)})"
            )
        for edge, grad in zip(edges, results, strict=False):
            if edge is None or grad is None:
                continue
            target, index = edge
            if type(target) is Accumulate:
                shape, dtype = target.leaf._data.shape, target.leaf._data.dtype
            else:
                shape, dtype, _ = target._outputs[index]
            if grad.shape != shape or grad.dtype != dtype:
                grad = _fits(grad, shape, dtype, node.name)
            send(edge, grad)
        if not retain_graph:
            node._saved = ()
            node._freed = True
        del results, grads
    return found


def _apply_hooks(hooks: dict | None, grad: Any) -> Any:
    if hooks:
        for hook in list(hooks.values()):
            with no_grad():
                result = hook(_Tensor._wrap(grad))
            if result is not None:
                if not isinstance(result, _Tensor):
                    raise TypeError(f"a gradient hook returned a {type(result).__name__}, expected a Tensor or None")
                grad = _fits(result._data, grad.shape, grad.dtype, "hook")
    return grad


def _accumulate(leaf: Any, grad: Any) -> None:
    if leaf.grad is None:
        # Keep the array itself only if nobody else holds it: our caller's and our own name, and getrefcount's.
        if grad.base is not None or sys.getrefcount(grad) > 3 or not grad.flags.c_contiguous:
            grad = grad.copy()
        leaf.grad = _Tensor._wrap(grad)
    else:
        leaf.grad = _Tensor._wrap(leaf.grad._data + grad)


def _root_gradient(tensor: Any, gradient: Any) -> Any:
    if not tensor.requires_grad:
        raise RuntimeError("element 0 of tensors does not require grad and does not have a grad_fn")
    if gradient is None:
        if tensor._data.size != 1:
            raise RuntimeError("grad can be implicitly created only for scalar outputs")
        if not tensor.dtype.is_floating_point:
            raise RuntimeError(f"grad can be implicitly created only for real scalar outputs but got {tensor.dtype}")
        from fastnet._device import namespace

        return namespace(tensor._data).ones(tensor._data.shape, tensor._data.dtype)
    if not isinstance(gradient, _Tensor):
        raise TypeError(f"gradients can be either Tensors or None, but got {type(gradient).__name__}")
    if gradient._data.shape != tensor._data.shape:
        raise RuntimeError(
            f"Mismatch in shape: grad_output[0] has a shape of {list(gradient.shape)} and output[0] has a shape "
            f"of {list(tensor.shape)}."
        )
    g = gradient._data
    return g if g.dtype == tensor._data.dtype else g.astype(tensor._data.dtype)


def _as_list(x: Any) -> list:
    return list(x) if isinstance(x, (list, tuple)) else [x]


def _refuse_double(create_graph: bool) -> None:
    if create_graph:
        raise RuntimeError("create_graph=True: backward of backward is not supported by fastnet")


def backward(
    tensors: Any,
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Any = None,
) -> None:
    """Add the gradients of ``tensors`` to the ``grad`` of the leaves they depend on, as ``torch.autograd.backward``."""
    _refuse_double(create_graph)
    roots = _as_list(tensors)
    given = [None] * len(roots) if grad_tensors is None else _as_list(grad_tensors)
    if len(given) != len(roots):
        raise RuntimeError(f"got {len(roots)} tensors and {len(given)} gradients")
    run_backward(
        [(t, _root_gradient(t, g)) for t, g in zip(roots, given, strict=True)],
        bool(retain_graph),
        None if inputs is None else _as_list(inputs),
    )


def grad(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple:
    """The gradients of ``outputs`` with respect to ``inputs``, accumulated nowhere, as ``torch.autograd.grad``."""
    _refuse_double(create_graph)
    roots, wanted = _as_list(outputs), _as_list(inputs)
    given = [None] * len(roots) if grad_outputs is None else _as_list(grad_outputs)
    for t in wanted:
        if not t.requires_grad:
            raise RuntimeError("One of the differentiated Tensors does not require grad")
    found = run_backward(
        [(t, _root_gradient(t, g)) for t, g in zip(roots, given, strict=True)], bool(retain_graph), wanted, False
    )
    for f in found:
        if f is None and not allow_unused:
            raise RuntimeError(
                "One of the differentiated Tensors appears to not have been used in the graph. "
                "Set allow_unused=True if this is the desired behavior."
            )
    return tuple(None if f is None else _Tensor._wrap(f) for f in found)


def gradcheck(
    function: Callable, inputs: Iterable[Any], *, eps: float = 1e-6, atol: float = 1e-5, rtol: float = 1e-3
) -> bool:
    """Compare gradients with central differences in float64.

    Args:
        function: takes the tensors of ``inputs``, returns a tensor or a tuple of tensors.
        inputs: tensors; those that require gradients must be float64.
        eps: step of the differences: their error is about eps^2 + 2^-53 / eps, some 1e-10 of the values' size.
        atol, rtol: what a gradient may differ by.

    Raises:
        AssertionError: naming the input, the element and both values.
    """
    inputs = list(inputs)
    wanted = [t for t in inputs if isinstance(t, _Tensor) and t.requires_grad]
    if not wanted or any(t.dtype.name != "float64" for t in wanted):
        raise ValueError("gradcheck: needs inputs that require gradients, all of them float64")
    outputs = [o for o in _as_list(function(*inputs)) if isinstance(o, _Tensor) and o.requires_grad]
    for o, out in enumerate(outputs):
        rng = np.random.default_rng(o)
        upstream = rng.standard_normal(out._data.shape)
        got = grad(out, wanted, _Tensor._wrap(np.asarray(upstream)), retain_graph=True, allow_unused=True)
        for n, t in enumerate(wanted):
            data = t._data
            numeric = np.zeros(data.shape)
            for index in np.ndindex(*data.shape):
                before = data[index].copy()
                values = []
                for step in (eps, -eps):
                    data[index] = before + step
                    with no_grad():
                        results = [
                            r
                            for r in _as_list(function(*inputs))
                            if isinstance(r, _Tensor) and r.dtype.is_floating_point
                        ]
                    values.append(np.sum(np.asarray(results[o]._data) * upstream))
                data[index] = before
                numeric[index] = (values[0] - values[1]) / (2 * eps)
            analytic = np.zeros(data.shape) if got[n] is None else np.asarray(got[n]._data)
            wrong = ~(np.abs(analytic - numeric) <= atol + rtol * np.abs(numeric))
            if wrong.any():
                where = tuple(int(i) for i in np.argwhere(wrong)[0])
                raise AssertionError(
                    f"gradcheck: output {o}, input {n}, element {where}: gradient {analytic[where]!r}, "
                    f"differences give {numeric[where]!r}"
                )
    return True


class _NoTensor:  # replaced when fastnet._tensor is imported
    pass


_Tensor: Any = _NoTensor


def _set_tensor_class(cls: type) -> None:
    global _Tensor
    _Tensor = cls
