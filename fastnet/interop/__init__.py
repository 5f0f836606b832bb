"""What other libraries need to know of fastnet's tensors, told to them when they are imported; none is needed here."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

_BACKENDS, _LAYERS = "einops._backends", "einops.layers.fastnet"


class _LoadThenRegister(Loader):
    """Loads einops' list of backends as its own loader does, then adds fastnet's."""

    def __init__(self, loader: Loader):
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        _register()


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == _LAYERS:
            return importlib.util.spec_from_file_location(fullname, Path(__file__).with_name("einops_layers.py"))
        if fullname == _BACKENDS:
            spec = importlib.machinery.PathFinder.find_spec(fullname, path)
            if spec is not None and spec.loader is not None:
                spec.loader = _LoadThenRegister(spec.loader)
            return spec
        return None


def _register() -> None:
    """einops asks every subclass of its backends' base whether a tensor is its own: defining one is enough."""
    from fastnet.interop import einops_backend as einops_backend


def install() -> None:
    """Have einops know fastnet's tensors (``einops.rearrange(x, ...)``) and ``einops.layers.fastnet``, whichever of
    the two is imported first."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    if _BACKENDS in sys.modules:
        _register()
