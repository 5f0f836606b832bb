"""Reverse-mode differentiation on a tape.

A differentiable operation is a ``Function`` with static ``forward`` and ``backward``. Applying one runs ``forward``
and, if an input requires a gradient, leaves a node that knows its inputs' nodes; ``backward`` walks the nodes from the
newest to the oldest. Nodes are numbered as they are made, and a node is always newer than those it uses, so that order
is a topological one and needs neither recursion nor counting.
"""

from __future__ import annotations

import heapq
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnet.autograd import grad_mode
from fastnet.autograd.function import Accumulate, edge_of
from fastnet.errors import InputError, KindError

_Tensor: Any = None  # set by fastnet._tensor


def _zeros(shape: tuple, dtype: Any, module: Any) -> Any:
    if module == "cupy":
        import cupy as module
    return module.zeros(shape, dtype)


def _fits(grad: Any, shape: tuple, dtype: Any, name: str) -> Any:
    if grad.shape != shape:
        raise InputError(
            f"Function {name} returned an invalid gradient: got shape {list(grad.shape)} but expected {list(shape)}"
        )
    return grad if grad.dtype == dtype else grad.astype(dtype)


def run_backward(
    roots: Sequence[tuple[Any, Any]], retain_graph: bool, inputs: Sequence[Any] | None = None, accumulate: bool = True
) -> list[Any]:
    """Send gradients (arrays) from root tensors to the leaves, or to ``inputs`` only.

    Returns the gradients of ``inputs`` (None where nothing arrived) when not accumulating.
    """
    with np.errstate(all="ignore"):  # infinities and NaN are gradients like others, as PyTorch has it
        return _run(roots, retain_graph, inputs, accumulate)


def _run(
    roots: Sequence[tuple[Any, Any]], retain_graph: bool, inputs: Sequence[Any] | None, accumulate: bool
) -> list[Any]:
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
                for hook in list((node.after or {}).values()):
                    hook(leaf)
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
        if node._after:
            results = _hooked_results(node, results, grads)
        if _anomaly:
            _check_nan(node, results)
        if len(results) != len(edges) and not (
            len(results) > len(edges) and all(r is None for r in results[len(edges) :])
        ):
            raise InputError(
                f"function {node.name()} returned an incorrect number of gradients (expected {len(edges)}, got "
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
                grad = _fits(grad, shape, dtype, node.name())
            send(edge, grad)
        if not retain_graph:
            node._saved = ()
            node._freed = True
        del results, grads
    return found


_anomaly = False


class set_detect_anomaly:
    """Whether backward raises where a gradient is NaN, from here on or, as a context manager, for a block."""

    def __init__(self, mode: bool, check_nan: bool = True):
        global _anomaly
        self._before = _anomaly
        _anomaly = bool(mode and check_nan)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exception: object) -> None:
        global _anomaly
        _anomaly = self._before


class detect_anomaly(set_detect_anomaly):
    """Backward raises in this block where a gradient is NaN, naming the operation."""

    def __init__(self, check_nan: bool = True):
        super().__init__(True, check_nan)


def _check_nan(node: Any, results: tuple) -> None:
    for i, r in enumerate(results):
        if r is not None and bool((r != r).any()):
            raise RuntimeError(f"Function '{node.name()}' returned nan values in its {i}th output.")


def _hooked_results(node: Any, results: tuple, grads: list) -> tuple:
    """What a node's own hooks make of its results."""
    for hook in list(node._after.values()):
        wrapped = [tuple(None if g is None else _Tensor._wrap(g) for g in x) for x in (results, grads)]
        with grad_mode.no_grad():
            new = hook(*wrapped)
        if new is not None:
            new = new if isinstance(new, tuple) else (new,)
            results = tuple(g._data if isinstance(g, _Tensor) else g for g in new)
    return results


def _apply_hooks(hooks: dict | None, grad: Any) -> Any:
    if hooks:
        for hook in list(hooks.values()):
            with grad_mode.no_grad():
                result = hook(_Tensor._wrap(grad))
            if result is not None:
                if not isinstance(result, _Tensor):
                    raise KindError(f"a gradient hook returned a {type(result).__name__}, expected a Tensor or None")
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
            raise InputError("grad can be implicitly created only for scalar outputs")
        if not tensor.dtype.is_floating_point:
            raise KindError(f"grad can be implicitly created only for real scalar outputs but got {tensor.dtype}")
        from fastnet._device import namespace

        return namespace(tensor._data).ones(tensor._data.shape, tensor._data.dtype)
    if not isinstance(gradient, _Tensor):
        raise KindError(f"gradients can be either Tensors or None, but got {type(gradient).__name__}")
    if gradient._data.shape != tensor._data.shape:
        raise InputError(
            f"Mismatch in shape: grad_output[0] has a shape of {list(gradient.shape)} and output[0] has a shape "
            f"of {list(tensor.shape)}."
        )
    g = gradient._data
    return g if g.dtype == tensor._data.dtype else g.astype(tensor._data.dtype)


def _as_list(x: Any) -> list:
    return list(x) if isinstance(x, (list, tuple)) else [x]


def _run_recorded(
    roots: list, given: list, retain_graph: bool | None, inputs: list | None, accumulate: bool
) -> list[Any]:
    """``run_backward`` for ``create_graph=True``: gradients are tensors with histories."""
    from fastnet.autograd import recorded

    seeds = []
    for t, g in zip(roots, given, strict=True):
        array = _root_gradient(t, g)
        seeds.append((t, g if isinstance(g, _Tensor) and g._data is array else _Tensor._wrap(array)))
    return recorded.run(seeds, retain_graph is not False, inputs, accumulate)


def backward(
    tensors: Any,
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Any = None,
) -> None:
    """Add the gradients of ``tensors`` to the ``grad`` of the leaves they depend on, as ``torch.autograd.backward``."""
    roots = _as_list(tensors)
    given = [None] * len(roots) if grad_tensors is None else _as_list(grad_tensors)
    if len(given) != len(roots):
        raise InputError(f"got {len(roots)} tensors and {len(given)} gradients")
    if create_graph:
        _run_recorded(roots, given, retain_graph, None if inputs is None else _as_list(inputs), True)
        return
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
    only_inputs: bool = True,
    allow_unused: bool | None = None,
    is_grads_batched: bool = False,
    materialize_grads: bool = False,
) -> tuple:
    """The gradients of ``outputs`` with respect to ``inputs``, accumulated nowhere, as ``torch.autograd.grad``.

    Args:
        allow_unused: None in place of an error for an input that the outputs do not depend on.
        is_grads_batched: the first dimension of ``grad_outputs`` counts several; each gradient has it too.
        materialize_grads: zeros in place of that None.
    """
    if materialize_grads and allow_unused is False:
        raise InputError("Expected allow_unused to be True or not passed when materialize_grads=True, but got: False.")
    if is_grads_batched:
        return _batched(outputs, inputs, grad_outputs, retain_graph, create_graph, allow_unused, materialize_grads)
    roots, wanted = _as_list(outputs), _as_list(inputs)
    given = [None] * len(roots) if grad_outputs is None else _as_list(grad_outputs)
    for t in wanted:
        if not t.requires_grad:
            raise RuntimeError("One of the differentiated Tensors does not require grad")
    if create_graph:
        found = _run_recorded(roots, given, retain_graph, wanted, False)
    else:
        seeds = [(t, _root_gradient(t, g)) for t, g in zip(roots, given, strict=True)]
        arrays = run_backward(seeds, bool(retain_graph), wanted, False)
        found = [None if f is None else _Tensor._wrap(f) for f in arrays]
    for f in found:
        if f is None and not allow_unused and not materialize_grads:
            raise RuntimeError(
                "One of the differentiated Tensors appears to not have been used in the graph. "
                "Set allow_unused=True if this is the desired behavior."
            )
    if materialize_grads:
        from fastnet._device import namespace

        zeros = [_Tensor._wrap(namespace(t._data).zeros_like(t._data)) for t in wanted]
        found = [z if f is None else f for f, z in zip(found, zeros, strict=True)]
    return tuple(found)


def _batched(outputs: Any, inputs: Any, grad_outputs: Any, retain_graph: bool | None, *options: Any) -> tuple:
    """``grad`` for every entry of the first dimension of ``grad_outputs``, stacked."""
    from fastnet.ops.shape import stack

    create_graph, allow_unused, materialize = options
    given = _as_list(grad_outputs)
    count = next(len(g) for g in given if g is not None)
    rows = [
        grad(
            outputs,
            inputs,
            [None if g is None else g[i] for g in given],
            retain_graph or i < count - 1,
            create_graph,
            allow_unused=allow_unused,
            materialize_grads=materialize,
        )
        for i in range(count)
    ]
    return tuple(None if column[0] is None else stack(column) for column in zip(*rows, strict=True))
