"""Benchmarks: what the kernels cost, against their peers. `fastnet bench [OP ...]`, `python -m benchmarks.gpu`."""

import importlib.util as _util
import sys as _sys
from pathlib import Path as _Path

_root = _Path(__file__).resolve().parents[1]


def _prefer_installed() -> None:
    """In a checkout without extensions built in place, measure the package that is installed, not its bare sources.

    Python puts the checkout first on the path of `python -m benchmarks`.
    """
    package = _root / "fastnet"
    if "fastnet" in _sys.modules or not package.is_dir() or any(package.glob("_emulated*")):
        return
    before = list(_sys.path)
    _sys.path[:] = [p for p in before if _Path(p or ".").resolve() != _root]
    if _util.find_spec("fastnet") is None:  # nothing is installed: the sources can still run the references
        _sys.path[:] = before


_prefer_installed()
