"""Collation: a list of items made one batch, and arrays made tensors."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, MutableMapping, MutableSequence, Sequence
from typing import Any

import numpy as np

from fastnet._dtypes import float64
from fastnet._tensor import Tensor
from fastnet.ops.creation import as_tensor, tensor
from fastnet.ops.shape import stack

default_collate_err_msg_format = (
    "default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; found {}"
)

np_str_obj_array_pattern = re.compile(r"[SaUO]")  # kinds of arrays that are no numbers


def rebuilt(container: Any, convert: Callable[[Any], Any]) -> Any:
    """A mapping, namedtuple or sequence of the same type with every value converted.

    Mutable containers are copied and filled, so that a type's other attributes stay; a type that can be neither filled
    nor made from its values becomes a dict or a list.
    """
    if isinstance(container, Mapping):
        return like_mapping(container, {k: convert(container[k]) for k in container})
    if isinstance(container, tuple) and hasattr(container, "_fields"):
        return type(container)(*[convert(v) for v in container])
    return like_sequence(container, [convert(v) for v in container])


def like_mapping(original: Any, values: dict) -> Any:
    """``values`` as a mapping of ``original``'s type."""
    try:
        if isinstance(original, MutableMapping):
            made = copy.copy(original)
            made.update(values)
            return made
        return type(original)(values)
    except TypeError:
        return values


def like_sequence(original: Any, values: list) -> Any:
    """``values`` as a sequence of ``original``'s type."""
    try:
        if isinstance(original, MutableSequence):
            made = copy.copy(original)
            for i, value in enumerate(values):
                made[i] = value
            return made
        return type(original)(values)
    except TypeError:
        return values


def default_convert(data: Any) -> Any:
    """Arrays and NumPy scalars as tensors, in nested containers too; anything else as it is: what a loader without
    batches does."""
    if isinstance(data, (Tensor, str, bytes)):
        return data
    if isinstance(data, (np.ndarray, np.generic)):
        return data if data.dtype.kind in "SaUO" else as_tensor(data)
    if isinstance(data, tuple) and not hasattr(data, "_fields"):
        return [default_convert(v) for v in data]
    if isinstance(data, (Mapping, Sequence)):
        return rebuilt(data, default_convert)
    return data


def _tensors(batch: Sequence[Any], *, collate_fn_map: Any = None) -> Tensor:
    return stack(list(batch), 0)


def _arrays(batch: Sequence[Any], *, collate_fn_map: Any = None) -> Any:
    if batch[0].dtype.kind in "SaUO":
        raise TypeError(default_collate_err_msg_format.format(batch[0].dtype))
    return collate([as_tensor(b) for b in batch], collate_fn_map=collate_fn_map)


def _numpy_scalars(batch: Sequence[Any], *, collate_fn_map: Any = None) -> Tensor:
    return as_tensor(np.asarray(batch))


def _floats(batch: Sequence[Any], *, collate_fn_map: Any = None) -> Tensor:
    return tensor(list(batch), dtype=float64)


def _ints(batch: Sequence[Any], *, collate_fn_map: Any = None) -> Tensor:
    return tensor(list(batch))


def _strings(batch: Sequence[Any], *, collate_fn_map: Any = None) -> Sequence[Any]:
    return batch


default_collate_fn_map: dict[Any, Callable] = {
    Tensor: _tensors,
    np.ndarray: _arrays,
    (np.bool_, np.number, np.object_): _numpy_scalars,
    float: _floats,
    int: _ints,
    str: _strings,
    bytes: _strings,
}


def collate(batch: Sequence[Any], *, collate_fn_map: Mapping[Any, Callable] | None = None) -> Any:
    """Items made one batch by a table from types, or tuples of them, to functions (batch, \\*, collate_fn_map).

    Mappings, namedtuples and sequences that are not in the table are batched entry by entry.

    Raises:
        TypeError: neither in the table nor a container.
        RuntimeError: sequences of unequal lengths.
    """
    first = batch[0]
    if collate_fn_map is not None:
        if type(first) in collate_fn_map:
            return collate_fn_map[type(first)](batch, collate_fn_map=collate_fn_map)
        for kind, function in collate_fn_map.items():
            if isinstance(first, kind):
                return function(batch, collate_fn_map=collate_fn_map)
    if isinstance(first, Mapping):
        return like_mapping(first, {k: collate([b[k] for b in batch], collate_fn_map=collate_fn_map) for k in first})
    if isinstance(first, tuple) and hasattr(first, "_fields"):
        return type(first)(*[collate(column, collate_fn_map=collate_fn_map) for column in zip(*batch, strict=False)])
    if isinstance(first, Sequence):
        if any(len(b) != len(first) for b in batch):
            raise RuntimeError("each element in list of batch should be of equal size")
        values = [collate(column, collate_fn_map=collate_fn_map) for column in zip(*batch, strict=True)]
        return values if isinstance(first, tuple) else like_sequence(first, values)
    raise TypeError(default_collate_err_msg_format.format(type(first)))


def default_collate(batch: Sequence[Any]) -> Any:
    """Items made one batch: tensors and arrays stacked, numbers made a tensor (floats float64), strings left a list,
    containers batched entry by entry.

    >>> default_collate([{"x": 1, "name": "a"}, {"x": 2, "name": "b"}])
    {'x': tensor([1, 2]), 'name': ['a', 'b']}
    """
    return collate(batch, collate_fn_map=default_collate_fn_map)
