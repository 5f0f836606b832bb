"""What CuPy has: its names, the arguments each takes, the loops of its ufuncs. Read once from an installed CuPy, which
imports without a GPU, into ``tests/golden/cupy.json``: ``PYTHONPATH=tests python -m made_up_cupy.table``. Where CuPy is
installed the suite reads it again and compares.
"""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

PATH = Path(__file__).resolve().parents[1] / "golden" / "cupy.json"
MODULES = ("cupy", "cupy.linalg", "cupy.lib.stride_tricks", "cupyx", "cupyx.scipy.special")


def _signature(function: Any) -> str | None:
    """``(a, axis=None)``: names and defaults, as CuPy's Python code or the first line of a compiled one's docstring
    has them; None where there is neither."""
    try:
        found = inspect.signature(function)
    except (TypeError, ValueError):
        line = (function.__doc__ or "").strip().splitlines()
        written = re.match(r"[\w.]+\((.*)\)", line[0]) if line else None
        if written is None:
            return None
        bare = [re.sub(r"^(?:[\w.]+ )+(?=[\w*])", "", part.strip()) for part in written[1].split(",") if part.strip()]
        return f"({', '.join(bare)})"
    empty = inspect.Parameter.empty
    plain = []
    for p in found.parameters.values():
        default = p.default
        if default is not empty and not isinstance(default, (bool, int, float, str, tuple, type(None))):
            default = getattr(default, "__name__", None)  # a dtype: numpy.float64, float
        plain.append(p.replace(annotation=empty, default=default))
    return str(found.replace(parameters=plain, return_annotation=empty))


def read() -> dict[str, Any]:
    """The table of the CuPy that is installed."""
    import importlib

    import cupy

    table: dict[str, Any] = {"version": cupy.__version__, "functions": {}, "ufuncs": {}, "values": {}}
    for name in MODULES:
        module = importlib.import_module(name)
        functions, ufuncs, values = {}, {}, []
        for key in sorted(k for k in vars(module) if not k.startswith("_")):
            value = getattr(module, key)
            if isinstance(value, cupy.ufunc):
                ufuncs[key] = " ".join(value.types)
            elif type(value).__name__ == "_GUFunc" or (callable(value) and not inspect.isclass(value)):
                if getattr(value, "__module__", None) not in ("functools", "typing"):
                    functions[key] = _signature(value)
            elif not inspect.ismodule(value):
                values.append(key)
        table["functions"][name], table["ufuncs"][name], table["values"][name] = functions, ufuncs, values
    from cupy._core._routines_math import _clip
    from cupy._sorting.search import _where_ufunc

    # What cupy.where and cupy.clip call.
    table["ufuncs"]["behind functions"] = {"where": " ".join(_where_ufunc.types), "clip": " ".join(_clip.types)}
    of_arrays = {}
    for key in sorted(k for k in dir(cupy.ndarray) if not k.startswith("_")):
        value = getattr(cupy.ndarray, key)
        of_arrays[key] = _signature(value) if callable(value) else None
    special = ("add", "and", "bool", "floordiv", "index", "contains", "round", "matmul", "pow", "divmod", "iter", "len")
    table["ndarray"] = of_arrays
    table["operators"] = {name: hasattr(cupy.ndarray, f"__{name}__") for name in special}
    return table


def load() -> dict[str, Any]:
    """The table as it was read."""
    return json.loads(PATH.read_text())


if __name__ == "__main__":
    PATH.write_text(json.dumps(read(), indent=0, sort_keys=True) + "\n")
