"""Whether a checkpoint fits a run, before anything of the run is touched; errors name the key that does not."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np

from fastnet._tensor import Tensor
from fastnet.optim.optimizer import Optimizer
from fastnet.train.checkpoints import CheckpointError


def check(
    path: Path, saved: Any, mine: dict[str, Any], parts: dict[str, Any], batches: int, totals: int, row: type
) -> None:
    """Compare a checkpoint with the run's own snapshot.

    Args:
        path: for messages.
        saved: what the checkpoint holds.
        mine: ``Run.snapshot()`` of the run that is to go on.
        parts: the run's parts.
        batches: how many a pass of its loader has.
        totals: how many totals it keeps.
        row: the dataclass of its epochs.

    Raises:
        CheckpointError: names the first key that does not fit.
    """
    try:
        _same_keys("", saved, mine)
        run = saved["run"]
        _same_keys("run", run, mine["run"])
        for key in ("kind", "precision", "accumulate"):
            _equal(f"run.{key}", run[key], mine["run"][key])
        _options(run["options"], mine["run"]["options"])
        for name, part in parts.items():
            if part is None and saved[name] is not None:
                raise CheckpointError(f"{name} is in the checkpoint, and this run has none")
            if part is not None and saved[name] is None:
                raise CheckpointError(f"{name} is not in the checkpoint, and this run has one")
        for name, part in parts.items():
            if part is None:
                continue
            if isinstance(part, Optimizer):
                _optimizer(name, saved[name], mine[name], part)
            else:
                _alike(name, saved[name], mine[name])
        _rows(run["epochs"], row)
        _tensor("run.step_losses", run["step_losses"], np.float64, 1)
        for key in ("flops_per_step", "seconds"):
            _number(f"run.{key}", run[key])
        if not isinstance(run["warnings"], list) or not all(isinstance(w, str) for w in run["warnings"]):
            raise CheckpointError("run.warnings is no list of texts")
        if saved["place"] is not None:
            _place(saved["place"], batches, totals)
            _alike("place.start", saved["place"]["start"], mine["random"])
        _alike("random", saved["random"], mine["random"])
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def _same_keys(name: str, saved: Any, mine: dict[str, Any]) -> None:
    if not isinstance(saved, dict):
        raise CheckpointError(f"{name or 'the state'} is a {type(saved).__name__}, expected keys and values")
    prefix = f"{name}." if name else ""
    for key in mine:
        if key not in saved:
            raise CheckpointError(f"{prefix}{key} is missing")
    for key in saved:
        if key not in mine:
            raise CheckpointError(f"{prefix}{key} is in the checkpoint, and this run has no such key")


def _same(saved: Any, mine: Any) -> bool:
    """Whether plain values are the same, and of the same types within lists: a forged one may hold anything."""
    if type(saved) is not type(mine) or isinstance(saved, Tensor):
        return False
    if isinstance(mine, (list, tuple)):
        return len(saved) == len(mine) and all(map(_same, saved, mine))
    return saved == mine


def _equal(name: str, saved: Any, mine: Any) -> None:
    if not _same(saved, mine):
        raise CheckpointError(f"{name} is {saved!r:.100} in the checkpoint, {mine!r:.100} in this run")


def _options(saved: Any, mine: dict[str, Any]) -> None:
    _same_keys("run.options", saved, mine)
    for key, value in mine.items():
        other = saved[key]
        as_list = list(value) if isinstance(value, tuple) else value
        _equal(f"run.options.{key}", list(other) if isinstance(other, tuple) else other, as_list)


def _number(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise CheckpointError(f"{name} is {value!r:.100}, expected a number")


def _tensor(name: str, value: Any, dtype: Any, dims: int) -> None:
    if not isinstance(value, Tensor) or value._data.dtype != dtype or value.dim() != dims:
        got = f"{value.dtype} of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise CheckpointError(f"{name} is {got}, expected {np.dtype(dtype).name} of {dims} dimensions")


def _rows(rows: Any, row: type) -> None:
    if not isinstance(rows, list):
        raise CheckpointError(f"run.epochs is a {type(rows).__name__}, expected a list")
    names = {f.name: 0.0 for f in dataclasses.fields(row)}
    for i, values in enumerate(rows):
        _same_keys(f"run.epochs.{i}", values, names)
        for key, value in values.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise CheckpointError(f"run.epochs.{i}.{key} is {value!r:.100}, expected a number")
        _equal(f"run.epochs.{i}.epoch", values["epoch"], i + 1)


def _place(place: Any, batches: int, totals: int) -> None:
    _same_keys("place", place, dict.fromkeys(("start", "before", "totals", "seconds", "carried")))
    _tensor("place.before", place["before"], np.uint8, 2)
    taken, width = place["before"].shape
    if width != 16 or taken > batches:
        raise CheckpointError(
            f"place.before has shape ({taken}, {width}), expected (n, 16) with n up to {batches}, a pass's batches"
        )
    if not isinstance(place["totals"], list) or len(place["totals"]) != totals:
        raise CheckpointError(f"place.totals is {place['totals']!r:.100}, expected {totals} numbers")
    for i, value in enumerate(place["totals"]):
        if not isinstance(value, float):
            raise CheckpointError(f"place.totals.{i} is {value!r:.100}, expected a number")
    _number("place.seconds", place["seconds"])


def _alike(name: str, saved: Any, mine: Any) -> None:
    """The same keys and kinds of values, and tensors of the same shapes and dtypes. None goes with anything."""
    if isinstance(mine, Tensor):
        if not isinstance(saved, Tensor):
            raise CheckpointError(f"{name} is a {type(saved).__name__} in the checkpoint, a tensor in this run")
        if (saved.shape, saved.dtype) != (mine.shape, mine.dtype):
            raise CheckpointError(
                f"{name} is {saved.dtype} of shape {tuple(saved.shape)} in the checkpoint, {mine.dtype} of shape "
                f"{tuple(mine.shape)} in this run"
            )
    elif isinstance(mine, dict):
        _same_keys(name, saved, mine)
        for key, value in mine.items():
            _alike(f"{name}.{key}", saved[key], value)
    elif isinstance(mine, (list, tuple)):
        if not isinstance(saved, (list, tuple)) or len(saved) != len(mine):
            raise CheckpointError(f"{name} is {saved!r:.100}, expected {len(mine)} values")
        for i, value in enumerate(mine):
            _alike(f"{name}.{i}", saved[i], value)
    elif mine is not None and saved is not None and _kind(saved) is not _kind(mine):
        raise CheckpointError(f"{name} is {saved!r:.100}, expected a {type(mine).__name__} such as {mine!r:.100}")


def _kind(value: Any) -> type:
    return float if isinstance(value, (int, float)) and not isinstance(value, bool) else type(value)


def _optimizer(name: str, saved: Any, mine: dict[str, Any], optimizer: Optimizer) -> None:
    _same_keys(name, saved, {"state": 0, "param_groups": 0})
    groups = saved["param_groups"]
    if not isinstance(groups, list) or len(groups) != len(mine["param_groups"]):
        raise CheckpointError(f"{name}.param_groups: expected {len(mine['param_groups'])} groups")
    for i, group in enumerate(mine["param_groups"]):
        label = f"{name}.param_groups.{i}"
        _same_keys(label, groups[i], group)
        for key, value in group.items():
            if key == "params":
                _equal(f"{label}.params", groups[i][key], value)
            else:
                _alike(f"{label}.{key}", groups[i][key], value)
    shapes = {}
    for group, own in zip(mine["param_groups"], optimizer.param_groups, strict=True):
        shapes.update(zip(group["params"], (p.shape for p in own["params"]), strict=True))
    if not isinstance(saved["state"], dict):
        raise CheckpointError(f"{name}.state is a {type(saved['state']).__name__}, expected parameters' states")
    for index, state in saved["state"].items():
        if index not in shapes or not isinstance(state, dict):
            raise CheckpointError(f"{name}.state.{index} is no state of a parameter of this run")
        for key, value in state.items():
            fits = value is None or (isinstance(value, Tensor) and value.shape in ((), (1,), shapes[index]))
            if not fits or (isinstance(value, Tensor) and not value.dtype.is_floating_point):
                got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                raise CheckpointError(
                    f"{name}.state.{index}.{key} is {got}, expected the parameter's shape, {tuple(shapes[index])}"
                )


def copied(state: Any) -> Any:
    """A deep copy of a snapshot: its tensors do not change with the run."""
    if isinstance(state, Tensor):
        return state.detach().clone()
    if isinstance(state, dict):
        return {k: copied(v) for k, v in state.items()}
    return type(state)(map(copied, state)) if type(state) in (list, tuple) else state


def placed(value: Any, device: Any) -> Any:
    """Tensors of nested lists and tuples on a device."""
    if isinstance(value, Tensor):
        return value.to(device)
    return type(value)(placed(v, device) for v in value) if type(value) in (list, tuple) else value
