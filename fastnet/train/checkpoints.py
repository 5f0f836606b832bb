"""Checkpoints of a run: tensors in a safetensors file, everything else in a JSON file beside it.

``step_00000120.safetensors`` is written first, ``step_00000120.json`` last; each to a temporary file that is synced and
renamed. A checkpoint exists once its JSON file does, so that a run that is killed at any moment leaves whole ones only.
The JSON file lists name, dtype, shape and CRC-32 of every tensor, and has a CRC-32 of its own contents. Nothing is ever
unpickled. At the end of an epoch the name is ``step_00000120_end``: the one written before it stays whole meanwhile.
"""

from __future__ import annotations

import json
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from fastnet import _serialization as files
from fastnet._tensor import Tensor

FORMAT = 1
KEPT = 2  # how many checkpoints a folder keeps
_NAME = re.compile(r"step_(\d{8,18})(_end)?\.json")


class CheckpointError(ValueError):
    """A checkpoint that is truncated, damaged, forged, or another run's; the message names file and key."""


def write(folder: Path, step: int, state: Any, *, end: bool = False) -> Path:
    """Write a checkpoint of nested dicts, lists and plain values with tensors in them, and drop all others but the one
    before it. ``end``: after the last step of an epoch and all that follows it.

    Later ones than this go first: of another run, or of one that went on from an older checkpoint. They would be taken
    for the newest.

    Returns:
        The JSON file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, np.ndarray] = {}
    layout = files._flatten(state, "", tensors)
    body = {
        "format": FORMAT,
        "step": step,
        "tensors": {
            name: {"dtype": files._CODES[x.dtype], "shape": list(x.shape), "crc32": _crc_of(x)}
            for name, x in tensors.items()
        },
        "state": layout,
    }
    path = folder / f"step_{step:08}{'_end' * end}.json"
    for other in _listed(folder):
        if _place(other) >= _place(path):  # its own JSON file too: its tensors are about to change
            other.unlink()
    files.save({name: Tensor._wrap(x) for name, x in tensors.items()}, path.with_suffix(".safetensors"))
    text = json.dumps({"crc32": _crc(body), **body})
    files._write_file(path, lambda out: out.write(text.encode()))
    _drop_others(folder)
    return path


def _drop_others(folder: Path) -> None:
    """Remove older checkpoints and what interrupted writes left."""
    kept = {p.stem for p in _listed(folder)[-KEPT:]}
    # A JSON file goes before its tensors: it says that they are there.
    for path in sorted(folder.iterdir(), key=lambda p: p.suffix != ".json"):
        stem = path.name.lstrip(".").split(".")[0]
        if re.fullmatch(r"step_\d+(_end)?", stem) and (path.name.startswith(".") or stem not in kept):
            path.unlink(missing_ok=True)


def _listed(folder: Path) -> list[Path]:
    """The checkpoints of a folder, the newest last."""
    return sorted((p for p in folder.iterdir() if _NAME.fullmatch(p.name)), key=_place)


def _place(path: Path) -> tuple[int, str]:
    """Of a checkpoint among others: its step, and whether it is an epoch's end."""
    found = _NAME.fullmatch(path.name)
    assert found is not None
    return int(found[1]), found[2] or ""


def find(where: Path) -> Path:
    """A checkpoint's JSON file: ``where`` itself, or the newest in the folder, or in its folder ``checkpoints``.

    Raises:
        FileNotFoundError: there is none.
    """
    if where.is_file():
        return where
    for folder in (where / "checkpoints", where):
        if folder.is_dir() and (listed := _listed(folder)):
            return listed[-1]
    raise FileNotFoundError(f"there is no checkpoint in {where}")


def read(path: Path) -> Any:
    """What ``write`` was given.

    Raises:
        CheckpointError: the files are not a whole checkpoint; the message names file and key, and the checkpoint before
            it, if that is there.
    """
    try:
        body = _read_json(path)
        tensors = _read_tensors(path.with_suffix(".safetensors"), body["tensors"])
        try:
            return files._build(body["state"], tensors)
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError, RuntimeError) as error:
            raise CheckpointError(f"{path}: key 'state' is damaged: {error!r:.200}") from None
    except CheckpointError as error:
        raise CheckpointError(f"{error}{_advice(path)}") from None


def _advice(path: Path) -> str:
    listed = _listed(path.parent)
    at = listed.index(path) if path in listed else 0
    return f"; the checkpoint before it is {listed[at - 1]}" if at else ""


def _read_json(path: Path) -> dict[str, Any]:
    try:
        body = json.loads(path.read_bytes(), object_pairs_hook=files._once)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a whole JSON file: {error}") from None
    if not isinstance(body, dict):
        raise CheckpointError(f"{path}: expected a JSON object, got a {type(body).__name__}")
    for key, kind in (("crc32", int), ("format", int), ("step", int), ("tensors", dict), ("state", dict)):
        if type(body.get(key)) is not kind:
            raise CheckpointError(f"{path}: key {key!r} is missing or no {kind.__name__}")
    if body["format"] != FORMAT:
        raise CheckpointError(f"{path}: key 'format' is {body['format']}, this version reads {FORMAT}")
    crc = body.pop("crc32")
    if _crc(body) != crc:
        raise CheckpointError(f"{path}: key 'crc32' does not fit the file's contents: the file is damaged")
    return body


def _read_tensors(path: Path, listed: dict[str, Any]) -> dict[str, Tensor]:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from None
    if cut := _cut_off(raw, listed):
        raise CheckpointError(f"{path}: truncated: {len(raw)} bytes, which end before or within {cut!r}")
    try:
        found = files._read_safetensors(raw, lambda memory, _: memory)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from None
    if not isinstance(found, dict) or not all(isinstance(x, Tensor) for x in found.values()):
        raise CheckpointError(f"{path}: holds something else than tensors by name")
    for name in found.keys() ^ listed.keys():
        where = "is not listed in the JSON file" if name in found else "is missing"
        raise CheckpointError(f"{path}: tensor {name!r} {where}")
    for name, entry in listed.items():
        array = found[name]._data
        wanted = {"dtype": files._CODES[array.dtype], "shape": list(array.shape), "crc32": _crc_of(array)}
        for key in wanted:
            if not isinstance(entry, dict) or entry.get(key) != wanted[key]:
                raise CheckpointError(f"{path}: tensor {name!r} is damaged: its {key} is not what the JSON file says")
    return found


def _cut_off(raw: bytes, listed: dict[str, Any]) -> str | None:
    """The first tensor that a truncated file lacks, in whole or in part, as the safetensors header has them."""
    if len(raw) < 8:
        return next(iter(listed), "the header")
    end = 8 + int.from_bytes(raw[:8], "little")
    if end > len(raw):
        return next(iter(listed), "the header")
    try:
        header = json.loads(raw[8:end])
        ends = [(v["data_offsets"][1], k) for k, v in header.items() if k != "__metadata__"]
        return next((k for stop, k in sorted(ends) if end + stop > len(raw)), None)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, RecursionError):
        return None  # damaged otherwise: the reader says how


def _crc(body: Any) -> int:
    return zlib.crc32(json.dumps(body, sort_keys=True).encode())


def _crc_of(x: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(x).reshape(-1).view(np.uint8).data)
