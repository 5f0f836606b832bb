"""``Function``: a differentiable operation, and what it leaves for its backward.

``Function`` works on tensors, as PyTorch's. fastnet's own operations subclass ``ArrayFunction``, whose forward and
backward see the arrays themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from itertools import count
from typing import Any

import numpy as np

from fastnet.autograd import grad_mode
from fastnet.autograd.views import note_view, rebase

_numbers = count(1)
_Tensor: Any = None  # set by fastnet._tensor


class Context:
    """What a Function's forward leaves for its backward; also the node of the graph (``tensor.grad_fn``)."""

    # What few nodes change stands here: one is made at every recorded operation.
    _saved: tuple = ()
    _hooks: list[Callable] | None = None
    _freed = False
    _materialize = True
    _non_differentiable: tuple = ()
    _dirty: tuple = ()
    _after: dict | None = None
    _statics: tuple = ()  # the arguments that are no tensors, and those of integers
    _reconnect = False  # saved results are asked for with their history

    def __init__(self, function: type[Function], needs_input_grad: tuple[bool, ...]):
        self._function = function
        self.needs_input_grad = needs_input_grad
        self._versions: list[tuple[list[int], int]] = []
        self._origins: list[tuple[str, int] | None] = []  # of what is saved: which argument or result it is

    # What the engine uses; set by Function.apply when the operation is recorded.
    _edges: tuple[tuple[Any, int] | None, ...]
    _number: int
    _outputs: list[tuple[tuple[int, ...], Any, Any]]  # shape, NumPy dtype, array module of each output

    def name(self) -> str:
        """What a printed tensor calls this node: the operation's name, as PyTorch's."""
        return self._function._node_name(self)

    def __repr__(self) -> str:
        return f"<{self.name()}>"

    @property
    def next_functions(self) -> tuple:
        """The nodes that this one's gradients go to, each with which of its outputs it stands for."""
        return tuple((None, 0) if edge is None else edge for edge in self._edges)

    def register_hook(self, hook: Callable) -> Any:
        """Call ``hook(input_gradients, output_gradients)`` after this node's backward has run; what it returns replaces
        the former."""
        from fastnet._tensor import RemovableHandle

        if self._after is None:
            self._after = {}
        handle = RemovableHandle(self._after)
        self._after[handle._key] = hook
        return handle

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
        if self._reconnect and any(o is not None for o in self._origins):
            return tuple(
                t if o is None else _with_history(t, self, o[1])
                for t, o in zip(self._saved, self._origins, strict=True)
            )
        return self._saved

    def mark_non_differentiable(self, *tensors: Any) -> None:
        """Say which outputs have no gradient."""
        self._non_differentiable = tensors

    def mark_dirty(self, *tensors: Any) -> None:
        """Say which inputs forward changed in place; it must return them too."""
        self._dirty = tensors

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


def _with_history(result: Any, ctx: Context, index: int) -> Any:
    """What a Function's forward returned and kept, as the result that came of it."""
    out = _Tensor._wrap(result._data)
    out._node, out._output_index, out._requires_grad = ctx, index, True
    return out


class _Unrecorded:
    """Stands for a Context when nothing is recorded: takes attributes and forgets them."""

    def __init__(self, needs_input_grad: tuple[bool, ...]):
        self.needs_input_grad = needs_input_grad

    _saved: tuple = ()

    def save(self, *arrays: Any) -> None:
        pass

    save_for_backward = mark_non_differentiable = set_materialize_grads = save


class Accumulate:
    """The node of a leaf: adds what arrives to ``leaf.grad``."""

    __slots__ = ("_number", "after", "leaf")

    def __init__(self, leaf: Any):
        self.leaf = leaf
        self.after: dict | None = None  # hooks to run when the gradient has been added
        self._number = 0  # older than every operation: runs when all contributions have arrived

    @staticmethod
    def name() -> str:
        """What a printed graph calls this node."""
        return "AccumulateGrad"

    @property
    def variable(self) -> Any:
        """The leaf."""
        return self.leaf

    next_functions = ()

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

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Any) -> Any:
        """Where it is defined, ``forward`` takes no ctx, and this is called after it."""
        raise NotImplementedError("setup_context is not implemented.")

    @classmethod
    def _node_name(cls, ctx: Context) -> str:
        return cls.__name__ + "Backward"

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        """Run the operation and record it if an argument requires a gradient."""
        needs = tuple([grad_mode._enabled and isinstance(a, _Tensor) and a.requires_grad for a in args])
        recorded = True in needs
        ctx: Any = Context(cls, needs)
        with grad_mode.no_grad():
            if cls.setup_context is not Function.setup_context:
                outputs = cls.forward(*args, **kwargs)
                cls.setup_context(ctx, args, outputs)
            else:
                outputs = cls.forward(ctx, *args, **kwargs)
        single = not isinstance(outputs, tuple)
        results = []
        for out in (outputs,) if single else outputs:
            if isinstance(out, _Tensor):
                # An input returned as it came, or a leaf made inside, must not become this node's output itself.
                fresh = _Tensor._wrap(out._data)
                fresh._version_counter = out._version_counter
                out = fresh
            results.append(out)
        if recorded:
            given = list(outputs) if isinstance(outputs, tuple) else [outputs]
            ctx._origins = [next((("out", i) for i, o in enumerate(given) if o is s), None) for s in ctx._saved]
            _record(
                ctx, args, [r if isinstance(r, _Tensor) else None for r in results], cls._skip(ctx, outputs, single)
            )
        if ctx._dirty:
            _finish_dirty(ctx, (outputs,) if single else outputs, results)
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
        with grad_mode.no_grad():
            result = cls.backward(ctx, *tensors)
        if not isinstance(result, tuple):
            result = (result,)
        return tuple(r._data if isinstance(r, _Tensor) else r for r in result)


class ArrayFunction(Function):
    """A Function whose forward and backward see arrays in place of tensors: what fastnet's own operations are.

    ``view = True`` says that the output shares the first argument's memory, and so its version.
    """

    view = False
    node_name: str | None = None  # PyTorch's name of the node, where it is not that of the class

    @classmethod
    def _node_name(cls, ctx: Context) -> str:
        return cls.node_name or cls.__name__ + "Backward0"

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        arrays = []
        needs = []
        recorded = False
        enabled = grad_mode._enabled
        for a in args:
            if isinstance(a, _Tensor):
                arrays.append(a._data)
                need = enabled and a.requires_grad
                needs.append(need)
                recorded = recorded or need
            else:
                arrays.append(a)
                needs.append(False)
        ctx: Any = Context(cls, tuple(needs)) if recorded else _Unrecorded(tuple(needs))
        if cls.view:
            outputs = cls.forward(ctx, *arrays, **kwargs)
        else:
            with np.errstate(all="ignore"):  # infinities and NaN are results like others, as PyTorch has it
                outputs = cls.forward(ctx, *arrays, **kwargs)
        if type(outputs) is not tuple:
            result = _Tensor._wrap(outputs)
            if recorded:
                if ctx._saved:
                    cls._watch(ctx, args, arrays, (result,), (outputs,))
                _record(ctx, args, [result], [not result.dtype.is_floating_point])
            if cls.view:
                note_view(result, args[0], cls, arrays)
            return result
        results = [_Tensor._wrap(o) for o in outputs]
        if recorded:
            if ctx._saved:
                cls._watch(ctx, args, arrays, results, outputs)
            _record(ctx, args, results, [not r.dtype.is_floating_point for r in results])
        return tuple(results)

    @staticmethod
    def _watch(ctx: Context, args: Sequence, arrays: Sequence, results: Sequence, outputs: Sequence) -> None:
        """Note which saved arrays are inputs or outputs, and the versions of these."""
        for saved in ctx._saved:
            origin: tuple[str, int] | None = None
            for i, (a, array) in enumerate(zip(args, arrays, strict=True)):
                if array is saved:
                    origin = "constant", i
                    if isinstance(a, _Tensor):
                        ctx._versions.append((a._version_counter, a._version_counter[0]))
                        origin = "in", i
                    break
            else:
                for i, r in enumerate(results):
                    if outputs[i] is saved:  # which may be a number of NumPy's, where the result is an array
                        ctx._versions.append((r._version_counter, r._version_counter[0]))
                        origin = "out", i
            ctx._origins.append(origin)

    @classmethod
    def _run_backward(cls, ctx: Context, grads: list) -> tuple:
        result = cls.backward(ctx, *grads)
        return result if type(result) is tuple else (result,)


def _record(ctx: Context, args: Sequence, results: Sequence, skip: Sequence[bool]) -> None:
    edges: list = []
    statics: list = []
    for a, needed in zip(args, ctx.needs_input_grad, strict=True):
        edges.append(edge_of(a) if needed else None)
        if needed:
            a = None
        elif isinstance(a, _Tensor):
            a = a._data if a._data.dtype.kind in "iub" else None
        statics.append(a)
    ctx._edges, ctx._statics = tuple(edges), tuple(statics)
    ctx._number = next(_numbers)
    ctx._outputs = []  # what zeros are made of; no value is kept alive
    for i, r in enumerate(results):
        if r is None:
            ctx._outputs.append(((), None, None))
            continue
        x = r._data
        ctx._outputs.append((x.shape, x.dtype, np if isinstance(x, np.ndarray) else "cupy"))
        if not skip[i]:
            r._requires_grad = True
            r._node = ctx
            r._output_index = i


def _finish_dirty(ctx: Context, outputs: Sequence, results: list) -> None:
    """Give the inputs that a Function changed in place its history, and return them themselves."""
    for dirty in ctx._dirty:
        dirty._version_counter[0] += 1
        for i, out in enumerate(outputs):
            if out is dirty:
                if results[i]._node is not None:
                    rebase(dirty, results[i], "Function")
                results[i] = dirty
                break
        else:
            raise RuntimeError("mark_dirty: a tensor that was marked is no output of forward")


def once_differentiable(function: Callable) -> Callable:
    """For ``backward`` of a Function that cannot be differentiated itself: differentiating its gradients raises."""

    @wraps(function)
    def wrapped(ctx: Any, *grads: Any) -> Any:
        with grad_mode.no_grad():
            found = function(ctx, *grads)
        if not grad_mode._enabled or not any(isinstance(g, _Tensor) and g.requires_grad for g in grads):
            return found
        several = found if isinstance(found, tuple) else (found,)
        anchor = next(g for g in grads if isinstance(g, _Tensor) and g.requires_grad)
        barred = tuple(_OnceOnly.apply(f, anchor) if isinstance(f, _Tensor) else f for f in several)
        return barred if isinstance(found, tuple) else barred[0]

    return wrapped


class _OnceOnly(Function):
    """A gradient, and the error of differentiating it."""

    @staticmethod
    def forward(ctx: Any, x: Any, anchor: Any) -> Any:
        return x

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise RuntimeError("trying to differentiate twice a function that was marked with @once_differentiable")


FunctionCtx = Context
