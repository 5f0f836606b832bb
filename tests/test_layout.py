"""The rules of the house: where things lie, and who may use what."""

import ast
import inspect
import re
from pathlib import Path

import pytest

from fastnet import kernels, reference

ROOT = Path(__file__).resolve().parent.parent
CSRC = ROOT / "csrc"
FAMILIES = sorted(p.parent.name for p in CSRC.glob("*/*_bindings.cpp") if p.parent.name != "bindings")
# The wrappers of instructions, their twins, and the emulator: no operations, so other rules.
SOURCES = sorted(p for p in CSRC.rglob("*") if p.suffix in {".h", ".cuh", ".cu", ".cpp", ".cc"})
# column_sum has no operation of its own: it computes the gradients of biases in the other families' operations.
# optim: fastnet.optim calls it through the optimizer; augment: fastnet.data.augment, which has no gradient.
WITHOUT_OPS = {"augment", "reduction", "optim"}


def code(path: Path) -> str:
    text = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.S)
    return re.sub(r"//[^\n]*", "", text)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_has_all_its_files(family):
    wanted = [CSRC / family / (family + end) for end in (".h", "_config.h", ".cu", "_bindings.cpp")]
    wanted += [ROOT / "fastnet" / part / f"{family}.py" for part in ("kernels", "reference")]
    wanted += [ROOT / "tests" / f"test_{family}.py"]
    if family not in WITHOUT_OPS:
        wanted += [ROOT / "fastnet" / "ops" / f"{family}.py"]
    assert [str(p.relative_to(ROOT)) for p in wanted if not p.is_file()] == []


def test_there_are_families():
    assert len(SOURCES) > len(FAMILIES) >= 7


def test_kernels_and_reference_have_the_same_functions():
    def signatures(module):
        functions = {n: getattr(module, n) for n in module.__all__ if n not in ("available", "trace", "use")}
        return {
            n: [(p.name, p.kind, p.default) for p in inspect.signature(f).parameters.values()]
            for n, f in functions.items()
        }

    assert signatures(kernels) == signatures(reference)


@pytest.mark.parametrize(
    ("pattern", "allowed"),
    [
        (r"\basm\b", ("ptx", "emulator")),
        (r"pybind11", ("bindings", "_bindings.cpp", "emulator")),
        (r"<<<", ("gpu.h",)),
        (r"(?<!extern )__shared__", ("gpu.h", "ptx", "emulator")),
    ],
)
def test_only_where_it_belongs(pattern, allowed):
    found = [str(p.relative_to(CSRC)) for p in SOURCES if re.search(pattern, code(p))]
    assert [f for f in found if not (f.split("/")[0] in allowed or f.endswith(allowed))] == []


@pytest.mark.parametrize(("package", "forbidden"), [("reference", ("kernels", "ops", "nn")), ("nn", ("reference",))])
def test_imports(package, forbidden):
    found = []
    for path in (ROOT / "fastnet" / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom):  # "from fastnet import kernels" is fastnet.kernels
                names = [f"fastnet.{a.name}" for a in node.names] if node.module == "fastnet" else [node.module or ""]
            names += [a.name for a in node.names] if isinstance(node, ast.Import) else []
            for name in set(names) - {"fastnet.kernels._arrays"}:  # checks of arguments, which both share
                if name.split(".")[:1] == ["fastnet"] and name.split(".")[1:2] in [[f] for f in forbidden]:
                    found.append(f"{path.name}: {name}")
    assert found == []


@pytest.mark.parametrize("module", [kernels, reference])
def test_every_public_function_says_what_it_does(module):
    assert [n for n in module.__all__ if not (getattr(module, n).__doc__ or "").strip()] == []
