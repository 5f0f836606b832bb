"""Fetching a file, on request alone: nothing in fastnet downloads anything by itself."""

from __future__ import annotations

import hashlib
import os
import urllib.request
from pathlib import Path
from typing import Any


def download(url: str, path: Any, sha256: str | None) -> Path:
    """Fetch ``url`` to ``path`` if it is not there yet, and check it.

    The file appears under its name only once it is whole and right.

    Args:
        url: http, https or file.
        path: of the file; its folder is made.
        sha256: the checksum that the file has to have, 64 hexadecimal digits or the first 8 or more; None: any.

    Returns:
        The path.

    Raises:
        OSError: it cannot be fetched or written.
        ValueError: its checksum is another (of a file that was there before, too; it is left alone).
    """
    path = Path(path)
    wanted = "" if sha256 is None else sha256.lower()
    if sha256 is not None and (not 8 <= len(wanted) <= 64 or set(wanted) - set("0123456789abcdef")):
        raise ValueError(f"download: sha256 is {sha256!r:.80}, expected 8 to 64 hexadecimal digits")
    if not url.startswith(("http://", "https://", "file://")):
        raise ValueError(f"download: url is {url!r:.200}, expected http, https or file")
    if path.exists():
        with path.open("rb") as f:
            found = _digest(f)
        if not found.startswith(wanted):
            raise ValueError(f"download: {path} is there already, with SHA-256 {found}, expected {wanted}")
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    digest = hashlib.sha256()
    try:
        with urllib.request.urlopen(url, timeout=60) as source, partial.open("wb") as f:
            while piece := source.read(1 << 20):
                digest.update(piece)
                f.write(piece)
        if not digest.hexdigest().startswith(wanted):
            raise ValueError(f"download: {url} has SHA-256 {digest.hexdigest()}, expected {wanted}: nothing was kept")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _digest(f: Any) -> str:
    digest = hashlib.sha256()
    while piece := f.read(1 << 20):
        digest.update(piece)
    return digest.hexdigest()
