"""Views and their history: what an operation in place does to the graph.

A view remembers its base, the tensor that owns the memory, and the steps from it: the operations with their arguments.
Changing a view in place changes the base, so the base gets a new node, ``CopySlices``, whose gradient goes to the
base's old history outside the view, and to the new value's history inside. A view whose base has a new node since takes
its own history anew, by the steps from the base, when somebody asks for it. That is PyTorch's way.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnet.autograd import grad_mode


class _Context:
    """Takes what a forward leaves for its backward, and forgets it."""

    needs_input_grad = (False,) * 8

    def save(self, *arrays: Any) -> None:
        pass


class View:
    """Where a view comes from."""

    __slots__ = ("base", "node", "recorded", "steps")

    def __init__(self, base: Any, steps: tuple, recorded: bool):
        self.base = base
        self.steps = steps  # ((class of the operation, its arguments after the first), ...)
        self.recorded = recorded  # made while operations were being recorded
        self.node = base._node  # the base's history that the view's own is made from


def note_view(result: Any, source: Any, function: Any, arrays: list) -> None:
    """Note that ``result``, of an operation on ``source``, shares its memory; it may not, where a shape needs a
    copy."""
    of, to = source._data, result._data
    # Of arrays that are not contiguous, some shapes are copies.
    if isinstance(of, np.ndarray):
        if not of.flags.c_contiguous and of.size and not np.may_share_memory(of, to):
            return
    elif not of.flags.c_contiguous and of.size and of.data.mem is not to.data.mem:
        return
    result._version_counter = source._version_counter
    step = (function, tuple(arrays[1:]))
    from_base = source._view
    if from_base is None:
        result._view = View(source, (step,), grad_mode._enabled)
    else:
        result._view = View(from_base.base, (*from_base.steps, step), grad_mode._enabled and from_base.recorded)


def walk(steps: tuple, array: Any) -> Any:
    """The view of an array that the steps lead to."""
    for function, arguments in steps:
        array = function.forward(_Context(), array, *arguments)
    return array


def refresh(tensor: Any) -> None:
    """Bring the history of a view up to that of its base."""
    view = tensor._view
    base = view.base
    if base._node is view.node or not view.recorded:
        return
    view.node = base._node
    with grad_mode.enable_grad():
        fresh = base
        for function, arguments in view.steps:
            fresh = function.apply(fresh, *arguments)
    if not _same_memory(fresh._data, tensor._data):
        raise RuntimeError(
            "this tensor is a view of one that was transposed or reshaped in place and then modified in place: its "
            "history cannot be told; make the view anew"
        )
    tensor._node, tensor._output_index, tensor._requires_grad = fresh._node, fresh._output_index, fresh._requires_grad
    if tensor._hooks is not None:
        tensor._watch_node()


def _same_memory(a: Any, b: Any) -> bool:
    """Whether two arrays are the same elements in the same order."""
    if a.shape != b.shape or a.strides != b.strides:
        return a.size == 0 and a.shape == b.shape
    return a.ctypes.data == b.ctypes.data if isinstance(a, np.ndarray) else a.data.ptr == b.data.ptr


def check_in_place(target: Any) -> None:
    """RuntimeError where a recorded modification in place has no meaning."""
    view = target._view
    if view is None:
        if target._requires_grad and target._node is None:
            raise RuntimeError("a leaf Variable that requires grad is being used in an in-place operation.")
        return
    base = view.base
    if base._requires_grad and base._node is None:
        raise RuntimeError("a view of a leaf Variable that requires grad is being used in an in-place operation.")
    if base._requires_grad and not view.recorded:
        raise RuntimeError(
            "A view was created in no_grad mode and is being modified inplace with grad mode enabled. Move both the "
            "view and the inplace operation inside the no_grad block, or both outside."
        )


def recorded_in_place(target: Any, *others: Any) -> bool:
    """Whether an operation that changes ``target`` in place, from ``others`` too, is recorded.

    Raises:
        RuntimeError: it would be, but has no meaning (``check_in_place``).
    """
    if not grad_mode._enabled:
        return False
    view = target._view
    recorded = target._requires_grad if view is None else view.base._requires_grad or target.requires_grad
    if not recorded:
        for other in others:
            if getattr(other, "requires_grad", False) is True:
                recorded = True
                break
    if recorded:
        check_in_place(target)
    return recorded


def check_overlap(target: Any) -> None:
    """RuntimeError for memory in which several elements are one (an expanded tensor)."""
    data = target._data
    if 0 in data.strides and any(s == 0 and n > 1 for s, n in zip(data.strides, data.shape, strict=True)):
        raise RuntimeError(
            "unsupported operation: more than one element of the written-to tensor refers to a single memory "
            "location. Please clone() the tensor before performing the operation."
        )


def rebase(target: Any, result: Any, name: str) -> None:
    """Give ``target``, whose memory has been written, the history of ``result``: to its base too where it is a view."""
    check_in_place(target)
    view = target._view
    if view is None:
        target._node, target._output_index, target._requires_grad = (
            result._node,
            result._output_index,
            result._requires_grad,
        )
        if target._hooks is not None:
            target._watch_node()
        return
    from fastnet.autograd.copy_slices import CopySlices

    base = view.base
    new = CopySlices.apply(base, view.steps, result)
    base._node, base._output_index, base._requires_grad = new._node, new._output_index, new._requires_grad
    if base._hooks is not None:
        base._watch_node()
    view.recorded = True
    refresh(target)
