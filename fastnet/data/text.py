"""Text as characters: a vocabulary, chunks to learn from, a text that every Python has."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastnet._tensor import Tensor
from fastnet.ops.creation import from_numpy

# Modules of the standard library, written in Python, with much prose in their docstrings.
_MODULES = (
    "abc argparse ast asyncio.base_events asyncio.events asyncio.locks asyncio.queues asyncio.streams asyncio.tasks "
    "base64 bdb bisect calendar cmd code codecs collections concurrent.futures._base concurrent.futures.process "
    "configparser contextlib copy csv ctypes.util dataclasses datetime decimal difflib dis doctest email.charset "
    "email.headerregistry email.header email.message email.policy email.utils enum filecmp fnmatch fractions ftplib "
    "functools getopt gettext glob graphlib gzip heapq hmac html.parser http.client http.cookiejar http.server imaplib "
    "importlib.abc importlib.metadata importlib.util inspect ipaddress json json.decoder json.encoder linecache locale "
    "logging logging.config logging.handlers lzma mailbox mimetypes modulefinder multiprocessing.managers "
    "multiprocessing.pool numbers optparse os pathlib pdb pickle pickletools pkgutil platform plistlib poplib pprint "
    "profile pstats pydoc queue random reprlib sched secrets selectors shelve shlex shutil smtplib socket socketserver "
    "sqlite3.dbapi2 ssl statistics string subprocess sysconfig tarfile tempfile textwrap threading timeit tokenize "
    "trace traceback tracemalloc turtle types typing unittest.case unittest.loader unittest.mock unittest.suite "
    "urllib.parse urllib.request urllib.robotparser uuid warnings wave weakref xml.dom.minidom xml.etree.ElementTree "
    "xmlrpc.client xmlrpc.server zipfile"
)


def python_docs(size: int = 300_000) -> str:
    """The docstrings of Python's own library, one after another: English prose about programming.

    The same for the same version of Python.

    Args:
        size: characters at most.
    """
    parts, total = [], 0
    for name in _MODULES.split():
        for text in _docstrings(name):
            parts.append(text)
            total += len(text) + 2
        if total >= size:
            break
    if not parts:
        raise ValueError("python_docs: this Python comes without its library's sources: give a text file")
    return "\n\n".join(parts)[:size]


def _docstrings(module: str) -> Iterator[str]:
    """A module's docstrings of two lines and more, ASCII only, in the order of the source."""
    try:
        spec = importlib.util.find_spec(module)
        origin = spec.origin if spec else None
        if origin is None or not origin.endswith(".py"):
            return
        with open(origin, encoding="utf-8") as f:
            tree = ast.parse(f.read())
    except (ImportError, OSError):  # a module that this Python lacks
        return
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = inspect.cleandoc(ast.get_docstring(node) or "")
            if "\n" in text and text.isascii() and text.replace("\n", "").isprintable():
                yield text


def read_text(path: Any) -> str:
    """A UTF-8 text file's characters; line ends become newlines.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no UTF-8 text.
    """
    path = os.fspath(path)
    try:
        with open(path, encoding="utf-8") as f:
            return f.read()
    except UnicodeDecodeError as error:
        raise ValueError(f"read_text: {path} is not UTF-8 text: {error}") from None


class Characters:
    """The characters of a text, each with a number, in the order of their code points.

    >>> vocabulary = Characters("hello")
    >>> vocabulary.encode("hole"), len(vocabulary)
    (array([1, 3, 2, 0]), 4)
    >>> vocabulary.decode([1, 0, 2, 2, 3])
    'hello'
    """

    def __init__(self, text: str):
        self.characters = "".join(sorted(set(text)))
        self._numbers = {c: i for i, c in enumerate(self.characters)}

    def __len__(self) -> int:
        return len(self.characters)

    def encode(self, text: str) -> np.ndarray:
        """(T,) int64; KeyError where a character is not in the vocabulary."""
        return np.array([self._numbers[c] for c in text], np.int64)

    def decode(self, numbers: Any) -> str:
        """The text of numbers."""
        return "".join(self.characters[int(i)] for i in numbers)


class Chunks:
    """A text's chunks of ``length`` characters, each with the same one character on: a data set of (x, y), both
    (length,) int64. What is left at the end is not used."""

    def __init__(self, numbers: np.ndarray, length: int):
        self.count = (len(numbers) - 1) // length
        if self.count < 1:
            raise ValueError(f"Chunks: the text has {len(numbers)} characters, expected more than length={length}")
        end = self.count * length
        self.x = from_numpy(numbers[:end].reshape(-1, length).copy())
        self.y = from_numpy(numbers[1 : end + 1].reshape(-1, length).copy())

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        return self.x[i], self.y[i]


class Streams:
    """A text cut into ``batch_size`` strips that are read side by side: batch after batch (x, y), both (batch_size,
    length) int64, goes on where the one before it ended. y is x one character on. What is left at the end is not used.
    """

    def __init__(self, numbers: np.ndarray, batch_size: int, length: int):
        strip = (len(numbers) - 1) // batch_size
        self.length, self.count = length, strip // length
        if self.count < 1:
            raise ValueError(
                f"Streams: the text has {len(numbers)} characters, expected more than batch_size={batch_size} times "
                f"length={length}"
            )
        end = strip * batch_size
        self.x = from_numpy(numbers[:end].reshape(batch_size, strip).copy())
        self.y = from_numpy(numbers[1 : end + 1].reshape(batch_size, strip).copy())

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, self.count * self.length, self.length):
            yield self.x[:, start : start + self.length], self.y[:, start : start + self.length]
