"""Published weights by their address, as torch.hub and torch.utils.model_zoo fetch them."""

from __future__ import annotations

import os
import re
import urllib.parse
from pathlib import Path
from typing import Any

from fastnet._serialization import load
from fastnet.data.download import download

__all__ = ["HASH_REGEX", "download_url_to_file", "get_dir", "load_state_dict_from_url", "set_dir", "urlparse"]

# Names of torch.hub that files which fetch weights themselves import from it.
HASH_REGEX = re.compile(r"-([a-f0-9]*)\.")  # the checksum in ``name-<digits>.ext``
urlparse = urllib.parse.urlparse

_directory: Path | None = None


def get_dir() -> str:
    """The folder of what was fetched: ``set_dir``'s, else ``hub`` in ``$FASTNET_HOME`` or in the user's cache."""
    if _directory is not None:
        return str(_directory)
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    return str(Path(os.environ.get("FASTNET_HOME", cache / "fastnet")) / "hub")


def set_dir(d: Any) -> None:
    """Keep what is fetched from now on in this folder."""
    global _directory
    _directory = Path(d).expanduser()


def download_url_to_file(url: str, dst: Any, hash_prefix: str | None = None, progress: bool = True) -> None:
    """Fetch a file, over one that is there.

    Args:
        url: http, https or file.
        dst: the file's path.
        hash_prefix: how its SHA-256 has to begin, 8 hexadecimal digits or more; None: any.
        progress: without effect.

    Raises:
        OSError: it cannot be fetched or written.
        ValueError: its checksum is another.
    """
    Path(dst).unlink(missing_ok=True)
    download(url, dst, hash_prefix)


def load_state_dict_from_url(
    url: str,
    model_dir: Any = None,
    map_location: Any = None,
    progress: bool = True,
    check_hash: bool = False,
    file_name: str | None = None,
    weights_only: bool = True,
) -> Any:
    """Fetch a file of weights unless it is there already, and load it.

    Args:
        url: http, https or file.
        model_dir: the file's folder, None for ``checkpoints`` in ``get_dir()``.
        map_location: as ``load``'s.
        progress: without effect.
        check_hash: whether the digits in the file's name, ``name-<digits>.ext``, are to begin its SHA-256.
        file_name: the name to keep it under, None for the address's.
        weights_only: tensors and plain containers only are ever loaded.

    Raises:
        OSError: it cannot be fetched.
        ValueError: its checksum is wrong, or the name has none.
    """
    folder = Path(get_dir()) / "checkpoints" if model_dir is None else Path(model_dir)
    path = folder / (file_name or Path(urlparse(url).path).name)
    digits = re.search(r"-([a-f0-9]{8,64})\.", path.name)
    if check_hash and not digits:
        raise ValueError(f"load_state_dict_from_url: the name {path.name!r} has no checksum")
    if not path.exists():
        download(url, path, digits[1] if check_hash and digits else None)
    return load(path, map_location=map_location)
