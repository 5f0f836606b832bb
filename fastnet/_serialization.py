"""Saving and loading tensors: safetensors files, and plain values beside them as JSON in the file's metadata. Nothing
is ever unpickled."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fastnet import _dtypes
from fastnet._device import device as Device
from fastnet._tensor import Tensor

_LAYOUT = "fastnet.layout"  # metadata key: where tensors and plain values stand in what was saved
_PLAIN = (bool, int, float, str, type(None))
_NAMES = {
    "F32": np.float32,
    "F64": np.float64,
    "F16": np.float16,
    "BF16": _dtypes.bfloat16.numpy,
    "I32": np.int32,
    "I64": np.int64,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
_CODES = {np.dtype(v): k for k, v in _NAMES.items()}


def _flatten(obj: Any, path: str, tensors: dict[str, np.ndarray]) -> Any:
    """The layout of obj: tensors go to ``tensors`` by name."""
    if isinstance(obj, Tensor):
        name = path or "tensor"
        while name in tensors:
            name += "_"
        host = obj.detach()._host()
        tensors[name] = host if host.flags.c_contiguous else host.copy(order="C")
        return {"tensor": name}
    if isinstance(obj, Mapping):
        if not all(isinstance(k, (str, int)) for k in obj):
            raise TypeError(f"save: keys of {path or 'the mapping'} must be str or int")
        return {"dict": [[k, _flatten(v, f"{path}.{k}" if path else str(k), tensors)] for k, v in obj.items()]}
    if isinstance(obj, (list, tuple)):
        return {
            "tuple" if isinstance(obj, tuple) else "list": [
                _flatten(v, f"{path}.{i}" if path else str(i), tensors) for i, v in enumerate(obj)
            ]
        }
    if isinstance(obj, _PLAIN):
        return {"value": obj}
    raise TypeError(
        f"save: {path or 'the object'} is a {type(obj).__name__}; tensors, dicts, lists, tuples, numbers, "
        "strings, bools and None can be saved"
    )


def save(obj: Any, f: Any) -> None:
    """Write tensors, and plain containers and values around them, to a safetensors file.

    A state_dict is written under its own names, so that other programs read it. The file is written beside its place,
    synced and renamed: an interrupted save leaves the old file.

    Args:
        obj: a tensor, or dicts (str or int keys), lists and tuples of tensors, numbers, strings, bools and None.
        f: path.

    Raises:
        TypeError: obj holds something else; the message says where.
    """
    tensors: dict[str, np.ndarray] = {}
    layout = _flatten(obj, "", tensors)
    header: dict[str, Any] = {"__metadata__": {_LAYOUT: json.dumps(layout)}}
    start = 0
    for name, x in tensors.items():
        header[name] = {"dtype": _CODES[x.dtype], "shape": list(x.shape), "data_offsets": [start, start + x.nbytes]}
        start += x.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path = Path(os.fspath(f))
    handle, temporary = tempfile.mkstemp(dir=path.parent or ".", prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(len(text).to_bytes(8, "little"))
            out.write(text)
            for x in tensors.values():
                out.write(x.reshape(-1).view(np.uint8).data)
            out.flush()
            os.fsync(out.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def load(f: Any, map_location: Any = None) -> Any:
    """Read a safetensors file: what ``save`` wrote as it was, any other file as a dict of tensors.

    Args:
        f: path.
        map_location: device for the tensors; default the CPU.

    Raises:
        ValueError: not a safetensors file, or a truncated or damaged one; the message says what is wrong.
        FileNotFoundError: there is no such file.
    """
    from safetensors import SafetensorError, safe_open

    path = os.fspath(f)
    with open(path, "rb") as opened:
        head = opened.read(4)
    if head == b"PK\x03\x04":
        raise ValueError(
            f"load: {path} is a PyTorch zip file; fastnet reads safetensors: save it with safetensors.torch.save_file"
        )
    if head[:1] == b"\x80":
        raise ValueError(f"load: {path} is a pickle, which fastnet never reads")
    try:
        # The library checks the header: sizes, offsets without gaps or overlaps, dtypes. Views of its bytes are taken
        # here, because its NumPy side has no bfloat16.
        with safe_open(path, framework="numpy") as checked:
            metadata = checked.metadata() or {}
            names = list(checked.keys())
        raw = np.fromfile(path, np.uint8)
        length = int.from_bytes(raw[:8].tobytes(), "little")
        header = json.loads(raw[8 : 8 + length].tobytes())
    except (SafetensorError, ValueError, OSError, RecursionError) as error:
        raise ValueError(f"load: {path} is not a whole safetensors file: {error}") from None
    where = Device(map_location) if map_location is not None else None
    tensors = {}
    for name in names:
        entry = header[name]
        if entry["dtype"] not in _NAMES:
            raise ValueError(f"load: {path}: tensor {name!r} has dtype {entry['dtype']}, which fastnet has not")
        begin, end = entry["data_offsets"]
        array = np.empty(entry["shape"], _NAMES[entry["dtype"]])
        if array.nbytes != end - begin:
            raise ValueError(f"load: {path}: tensor {name!r} has {end - begin} bytes, expected {array.nbytes}")
        array.reshape(-1).view(np.uint8)[:] = raw[8 + length + begin : 8 + length + end]
        if array.dtype == np.bool_ and array.view(np.uint8).size and array.view(np.uint8).max() > 1:
            raise ValueError(f"load: {path}: tensor {name!r} holds bytes that are no bools")
        t = Tensor._wrap(array)
        tensors[name] = t if where is None else t.to(where)
    if _LAYOUT not in metadata:
        return tensors
    try:
        return _build(json.loads(metadata[_LAYOUT]), tensors)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"load: {path}: its layout is damaged: {error!r}") from None


def _build(layout: Any, tensors: dict[str, Tensor]) -> Any:
    ((kind, value),) = layout.items()
    if kind == "tensor":
        return tensors[value]
    if kind == "value":
        if not isinstance(value, _PLAIN):
            raise TypeError(f"a {type(value).__name__} where a plain value should be")
        return value
    if kind == "dict":
        return {k: _build(v, tensors) for k, v in value}
    if kind in ("list", "tuple"):
        items = [_build(v, tensors) for v in value]
        return items if kind == "list" else tuple(items)
    raise ValueError(f"unknown kind {kind!r}")
