"""The type stubs of the extensions: written by the build, true, and shipped with the package."""

import ast
import importlib
import re
from pathlib import Path

import pytest

from fastnet import _build_info


def extensions():
    for name in ("_cuda", "_emulated"):
        try:
            yield importlib.import_module(f"fastnet.{name}")
        except ImportError:
            continue


@pytest.mark.parametrize("extension", list(extensions()), ids=lambda e: e.__name__)
def test_stub_says_what_the_extension_has(extension):
    stub = Path(extension.__file__).with_name(extension.__name__.split(".")[-1] + ".pyi")
    assert stub.exists() == (not _build_info.without_stubs), _build_info.without_stubs
    if not stub.exists():
        return
    tree = ast.parse(stub.read_text())
    named = {n.name: n for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
    assert set(named) == {n for n in dir(extension) if not n.startswith("_")}
    for name, node in named.items():
        if isinstance(node, ast.FunctionDef):
            # pybind11 puts the signature on the first line of the docstring
            signature = re.match(r"(\w+)\((.*)\) -> ", getattr(extension, name).__doc__)
            wanted = re.findall(r"(?:^|, )(\w+): ", signature[2])
            assert [a.arg for a in (*node.args.args, *node.args.kwonlyargs)] == wanted, name


def test_the_package_is_typed():
    import fastnet

    assert Path(fastnet.__file__).with_name("py.typed").exists()
