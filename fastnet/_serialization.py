"""Saving and loading tensors: safetensors files, and plain values beside them as JSON in the file's metadata; PyTorch's
zip files are read too. Nothing is ever unpickled."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fastnet import _dtypes
from fastnet._device import device as Device
from fastnet._tensor import Size, Tensor
from fastnet._torch_zip import check_metadata, is_key, read_torch_zip

_LAYOUT = "fastnet.layout"  # metadata key: where tensors and plain values stand in what was saved
_PLAIN = (bool, int, float, str, type(None))
_NAMES = {
    "F32": np.float32,
    "F64": np.float64,
    "F16": np.float16,
    "BF16": _dtypes.bfloat16.numpy,
    "I8": np.int8,
    "I16": np.int16,
    "I32": np.int32,
    "I64": np.int64,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
_CODES = {np.dtype(v): k for k, v in _NAMES.items()}


def _flatten(obj: Any, path: str, tensors: dict[str, np.ndarray]) -> Any:
    """The layout of obj: tensors go to ``tensors`` by name."""

    def inside(key: Any, value: Any) -> Any:
        return _flatten(value, f"{path}.{key}" if path else str(key), tensors)

    if isinstance(obj, Tensor):
        name = path or "tensor"
        while name in tensors:
            name += "_"
        host = obj.detach()._host()
        tensors[name] = host if host.flags.c_contiguous else host.copy(order="C")
        return {"tensor": name}
    if isinstance(obj, Mapping):
        for k in obj:
            if not is_key(k):
                raise TypeError(f"save: keys of {path or 'the mapping'} must be str or int of 32 bits, got {k!r:.40}")
        if isinstance(obj, Counter):
            return {"counter": [[k, inside(k, v)] for k, v in obj.items()]}
        items = [[k, inside(k, v)] for k, v in obj.items()]
        if not isinstance(obj, OrderedDict):
            return {"dict": items}
        metadata = getattr(obj, "_metadata", None)  # versions of the modules of a state_dict
        return {"ordered": items if metadata is None else [*items, [None, inside("_metadata", metadata)]]}
    if isinstance(obj, (list, tuple)):
        kind = "size" if isinstance(obj, Size) else "tuple" if isinstance(obj, tuple) else "list"
        return {kind: [inside(i, v) for i, v in enumerate(obj)]}
    if isinstance(obj, _dtypes.dtype):
        return {"dtype": obj.name}
    if isinstance(obj, Device):
        return {"device": str(obj)}
    if isinstance(obj, _PLAIN):
        return {"value": obj}
    raise TypeError(
        f"save: {path or 'the object'} is a {type(obj).__name__}; tensors, dicts, lists, tuples, numbers, "
        "strings, bools and None can be saved"
    )


def save(
    obj: Any,
    f: Any,
    pickle_module: Any = None,
    pickle_protocol: int = 2,
    _use_new_zipfile_serialization: bool = True,
) -> None:
    """Write tensors, and plain containers and values around them, to a safetensors file.

    A state_dict is written under its own names, so that other programs read it; what is no tensor stands as JSON in the
    file's metadata. Values are kept, not who shares memory or requires a gradient. A path is written beside its place,
    synced and renamed: an interrupted save leaves the old file.

    Args:
        obj: a tensor, or dicts (str or int keys), lists and tuples of tensors, numbers, strings, bools, None, sizes,
            dtypes and devices: state_dicts of modules, optimizers and schedules, and what holds several.
        f: path, or a file opened for writing in binary.
        pickle_module, pickle_protocol, _use_new_zipfile_serialization: taken, and nothing is pickled.

    Raises:
        TypeError: obj holds something else; the message says where.
    """
    tensors: dict[str, np.ndarray] = {}
    try:
        layout = json.dumps(_flatten(obj, "", tensors))
    except RecursionError:
        raise ValueError("save: containers are nested too deeply, or hold themselves") from None
    header: dict[str, Any] = {"__metadata__": {_LAYOUT: layout}}
    start = 0
    for name, x in tensors.items():
        header[name] = {"dtype": _CODES[x.dtype], "shape": list(x.shape), "data_offsets": [start, start + x.nbytes]}
        start += x.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)

    def write(out: Any) -> None:
        out.write(len(text).to_bytes(8, "little"))
        out.write(text)
        for x in tensors.values():
            out.write(x.reshape(-1).view(np.uint8).data)

    if hasattr(f, "write"):
        write(f)
    else:
        _write_file(Path(os.fspath(f)), write)


def _write_file(path: Path, write: Callable[[Any], None]) -> None:
    """Have a file written in full or not at all."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as out:
            write(out)
            out.flush()
            os.fsync(out.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk, too: a renamed file survives the power going."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that sync no folders
            raise
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def load(
    f: Any, map_location: Any = None, pickle_module: Any = None, *, weights_only: bool | None = None, mmap: Any = None
) -> Any:
    """Read what ``save`` wrote, any other safetensors file as a dict of tensors, or a file of ``torch.save``.

    Of PyTorch's files those in its zip format are read, by an interpreter of fastnet's own that admits tensors,
    parameters, dicts, lists, tuples, sizes, dtypes, devices, numbers, strings, bools and None. Whatever else a file
    names is refused by that name; nothing is ever unpickled or run. Tensors that shared memory share it again.

    Args:
        f: path, or a file opened for reading in binary, seekable.
        map_location: where tensors go: a device; a dict from the devices they were saved from to others; or a function
            of (memory as a tensor of one dimension on the CPU, name of the device it was saved from) that returns the
            tensor where it is wanted, or None. Default: where they were saved from, in safetensors files the CPU.
        pickle_module: None: nothing is unpickled.
        weights_only: without effect: a file is read as strictly either way.
        mmap: without effect.

    Raises:
        ValueError: neither kind of file, or a truncated, damaged or forged one, or one that holds something else; the
            message says what.
        RuntimeError: tensors were saved from a GPU, and there is none: give map_location="cpu".
        FileNotFoundError: there is no such file.
    """
    if pickle_module is not None:
        raise ValueError("load: nothing is unpickled, so that pickle_module must be None")
    place = _placing(map_location)
    if hasattr(f, "read"):
        return _load(f, "the file", place)
    with open(f, "rb") as opened:
        return _load(opened, os.fspath(f), place)


def _placing(map_location: Any) -> Callable[[Tensor, str], Tensor]:
    """A function that moves memory saved from a device to where ``map_location`` says."""
    if map_location is not None and not callable(map_location) and not isinstance(map_location, Mapping):
        where = Device(map_location)
        return lambda memory, saved_from: memory.to(where)

    def place(memory: Tensor, saved_from: str) -> Tensor:
        if callable(map_location):
            placed = map_location(memory, saved_from)
            if placed is not None:
                if not isinstance(placed, Tensor) or (placed.shape, placed.dtype) != (memory.shape, memory.dtype):
                    raise TypeError("load: map_location returned something else than the memory it was given, moved")
                return placed
        target = saved_from
        if isinstance(map_location, Mapping):
            target = map_location.get(saved_from, saved_from)
        try:
            return memory.to(Device(target))
        except RuntimeError as error:
            raise RuntimeError(
                f"load: tensors were saved from {saved_from!r:.40}: {error}; give map_location='cpu'"
            ) from None

    return place


def _load(file: Any, name: str, place: Callable[[Tensor, str], Tensor]) -> Any:
    begin = file.tell()
    head = file.read(16)
    file.seek(begin)
    try:
        if head[:4] == b"PK\x03\x04":
            return read_torch_zip(file, place)
        # A pickle begins with 0x80, and so does every sixteenth size of a safetensors header, before its "{".
        if head[:1] == b"\x80" and not (head[4:8] == bytes(4) and head[8:9] == b"{"):
            older = head.startswith(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.")
            kind = "of PyTorch's format before 1.6, a row of pickles" if older else "a pickle"
            raise ValueError(
                f"it is {kind}, which fastnet never reads: load it in PyTorch and save it again with torch.save (its "
                "zip format, the default) or safetensors.torch.save_file"
            )
        return _read_safetensors(file.read(), place)
    except ValueError as error:
        raise ValueError(f"load: {name}: {error}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object's pairs as a dict; ValueError if a name stands twice."""
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a name stands twice")
    return made


def _read_safetensors(raw: bytes, place: Callable[[Tensor, str], Tensor]) -> Any:
    from safetensors import SafetensorError, deserialize

    try:
        # The library checks the header: sizes, offsets without gaps or overlaps, dtypes.
        entries = deserialize(raw)
        header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")], object_pairs_hook=_once)
    except (SafetensorError, ValueError, RecursionError) as error:
        raise ValueError(f"not a whole safetensors file: {error}") from None
    tensors = {}
    for name, entry in entries:
        if entry["dtype"] not in _NAMES:
            raise ValueError(f"tensor {name!r} has dtype {entry['dtype']}, which fastnet has not")
        array = np.frombuffer(entry["data"], _NAMES[entry["dtype"]])  # a bytearray of its own
        if array.dtype == np.bool_ and array.size and array.view(np.uint8).max() > 1:
            raise ValueError(f"tensor {name!r} holds bytes that are no bools")
        tensors[name] = Tensor._wrap(place(Tensor._wrap(array), "cpu")._data.reshape(entry["shape"]))
    metadata = header.get("__metadata__") or {}
    if _LAYOUT not in metadata:
        return tensors
    try:
        return _build(json.loads(metadata[_LAYOUT], object_pairs_hook=_once), tensors)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError, RuntimeError) as error:
        raise ValueError(f"its layout is damaged: {error!r:.200}") from None


def _build(layout: Any, tensors: dict[str, Tensor]) -> Any:
    ((kind, value),) = layout.items()
    if kind == "tensor":
        return tensors[value]
    if kind == "value":
        if not isinstance(value, _PLAIN):
            raise TypeError(f"a {type(value).__name__} where a plain value should be")
        return value
    if kind in ("dict", "ordered", "counter"):
        return _build_mapping(kind, value, tensors)
    if kind in ("list", "tuple", "size"):
        items = [_build(v, tensors) for v in value]
        if kind == "size" and not all(type(n) is int for n in items):
            raise TypeError("a size that is no integer")
        return items if kind == "list" else tuple(items) if kind == "tuple" else Size(items)
    if kind == "dtype":
        return {d.name: d for d in _dtypes.ALL}[value]
    if kind == "device":
        return Device(value)
    raise ValueError(f"unknown kind {kind!r:.40}")


def _build_mapping(kind: str, items: Any, tensors: dict[str, Tensor]) -> Any:
    made: Any = {"dict": dict, "ordered": OrderedDict, "counter": Counter}[kind]()
    for key, value in items:
        built = _build(value, tensors)
        if key is None and kind == "ordered" and not hasattr(made, "_metadata"):
            check_metadata(built)
            made._metadata = built
            continue
        if not is_key(key) or key in made:
            raise KeyError(key)
        if kind == "counter" and type(built) is not int:
            raise TypeError("a count that is no integer")
        made[key] = built
    return made
