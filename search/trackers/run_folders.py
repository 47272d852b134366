"""A folder per study, in it one per trial: for trackers that keep files.

A trial's folder is written beside its place, with another name, and moved there.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

PARTIAL = ".partial"
"""End of the name of a folder that is being written."""


def clear(folder: Path) -> None:
    """Makes the study's folder, and removes what a kill left half written."""
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(f"*{PARTIAL}"):
        shutil.rmtree(left)


def known(folder: Path) -> Collection[int]:
    """Numbers of the trials that are there."""
    names = (path.name.removeprefix("trial-") for path in folder.glob("trial-*"))
    return {int(name) for name in names if name.isdecimal()}


@contextmanager
def written(folder: Path, name: str) -> Iterator[Path]:
    """A new folder to write a trial into; it gets its name when all went well."""
    partial = folder / f"{name}{PARTIAL}"
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir()
    yield partial
    partial.replace(folder / name)
