"""Writes the type stub of an extension from what the extension says of itself: `stub.py EXTENSION OUT.pyi`."""

import runpy
import sys
import tempfile
from pathlib import Path

# What signatures name. CuPy may be missing where a stub is read, and NumPy where it is written.
ARRAYS = ("numpy", "cupy")


def main(extension: Path, out: Path) -> None:
    name = extension.name.split(".")[0]
    sys.path.insert(0, str(extension.parent))
    with tempfile.TemporaryDirectory() as folder:
        sys.argv = ["pybind11-stubgen", name, "--output-dir", folder, "--exit-code"]
        sys.argv += ["--ignore-unresolved-names", "|".join(rf"{a}\..*" for a in ARRAYS)]
        try:
            runpy.run_module("pybind11_stubgen", run_name="__main__")
        except SystemExit as status:
            if status.code:
                raise
        lines = (Path(folder) / f"{name}.pyi").read_text().splitlines()
    missing = [f"import {a}" for a in ARRAYS if f"import {a}" not in lines]
    after = max(i for i, line in enumerate(lines) if line.startswith(("import ", "from "))) + 1
    out.write_text("\n".join([*lines[:after], *missing, *lines[after:]]) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
