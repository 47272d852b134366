"""Finding a data set by name: the user's folder, else a download, else a clear sentence."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import platformdirs

from model.data.errors import DataUnavailable
from model.data.info import Dataset
from model.data.prepared import read_prepared
from model.known_sets import KNOWN_SETS
from nkat_errors import BadInput

Progress = Callable[[str], None]
"""Is told, in one line, what takes long."""

DATA_DIR_VARIABLE = "NKAT_DATA_DIR"
CACHE_DIR_VARIABLE = "NKAT_CACHE_DIR"


def load_dataset(
    name: str,
    *,
    data_dir: Path | None,
    cache_dir: Path | None = None,
    synthetic: bool = False,
    progress: Progress | None = None,
) -> Dataset:
    """One data set; its test images stay unread.

    Looked for in this order: `data_dir`/NAME.npz; the cache, filled by a download on
    the first use; nothing else.  A synthetic set is rendered only when asked for.

    Args:
        name: a known name (`model/known_sets.py`) or any NAME with a NAME.npz.
        data_dir: the user's folder; None means $NKAT_DATA_DIR, if that is set.
        cache_dir: where downloads are kept; None means $NKAT_CACHE_DIR, else the
            user's cache folder.
        synthetic: render it instead of reading real images.
        progress: told what takes long.

    Raises:
        DataUnavailable: there is no such file and it cannot be downloaded.
        BadInput: no such folder, a damaged file, a name that cannot be one.
    """
    require_name(name)
    if synthetic:
        from model.data.synthetic import synthetic_dataset

        return synthetic_dataset(name)
    path = find_prepared(name, data_dir=data_dir)
    if path is not None:
        return read_prepared(path, name=name, source="prepared")
    return read_prepared(
        cached_file(name, cache_dir=cache_dir, data_dir=data_dir, progress=progress),
        name=name,
        source="downloaded",
    )


def require_name(name: str) -> None:
    """A data set's name is a plain file name: no folders, no suffix."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise BadInput(
            f"data set {name!r}: a name is letters, digits, '_', '.' and '-' "
            "(the file is NAME.npz in the data folder)"
        )


def resolve_data_dir(data_dir: Path | None) -> Path | None:
    """The user's folder, checked to exist; None when none was named anywhere."""
    named = data_dir or os.environ.get(DATA_DIR_VARIABLE)
    if not named:
        return None
    folder = _expanded(named)
    try:
        there = folder.is_dir()
    except OSError:  # a name too long for the file system, for one
        there = False
    if not there:
        raise BadInput(
            f"data folder {folder} does not exist: correct --data-dir ({DATA_DIR_VARIABLE}), or "
            "leave it out to let the sets be downloaded"
        )
    return folder


def resolve_cache_dir(cache_dir: Path | None) -> Path:
    """Where downloads are kept (created when needed, not here)."""
    named = cache_dir or os.environ.get(CACHE_DIR_VARIABLE)
    return _expanded(named) if named else platformdirs.user_cache_path("nkat-search")


def _expanded(named: Path | str) -> Path:
    try:
        return Path(named).expanduser()
    except RuntimeError as error:
        raise BadInput(f"folder {named}: there is no such user") from error


def find_prepared(name: str, *, data_dir: Path | None) -> Path | None:
    """The user's NAME.npz, if there is one."""
    folder = resolve_data_dir(data_dir)
    if folder is None:
        return None
    path = folder / f"{name}.npz"
    return path if path.exists() else None


def cached_file(
    name: str,
    *,
    cache_dir: Path | None,
    data_dir: Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """The cache's NAME.npz, downloaded first when it is not there yet."""
    known = KNOWN_SETS.get(name)
    if known is None or not known.downloadable:
        folder = resolve_data_dir(data_dir)
        where = f"no {name}.npz in {folder}" if folder else "no data folder was named"
        downloadable = ", ".join(key for key, one in KNOWN_SETS.items() if one.downloadable)
        raise DataUnavailable(
            f"data set {name!r}: {where} and it cannot be downloaded; put {name}.npz into a "
            f"folder and name that with --data-dir ({DATA_DIR_VARIABLE}), or use one that can be "
            f"downloaded ({downloadable})"
        )
    folder = resolve_cache_dir(cache_dir)
    path = folder / f"{name}.npz"
    if not path.exists():
        # torchvision and torch are needed for a download only.
        from model.data.download import download

        looked_in = resolve_data_dir(data_dir)
        download(name, folder=folder, looked_in=looked_in, progress=progress)
    return path
