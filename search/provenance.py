"""Where a result came from: code, packages and data, as far as it can be known."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("torch", "torchvision", "optuna", "numpy", "sqlalchemy", "triton")
"""Whose versions can change a score or its record."""

REVISION_VARIABLE = "NKAT_REVISION"
"""The git commit of an image's code, set when the image is built."""

NOT_INSTALLED = "0+source"
"""The version of a source tree that is run as it lies there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSource:
    """One data set as a worker found it.

    Args:
        name: the search file's.
        source: what model.data says of it: `prepared`, `torchvision`, `synthetic`, ...
        train_size: its training images, before any limit or validation split.
        checksum: SHA-256 of its arrays, hexadecimal.
        stand_in_for: the set it replaced, if any.
    """

    name: str
    source: str
    train_size: int
    checksum: str
    stand_in_for: str | None = None


def code_version(folder: Path | None = None) -> str:
    """The package's version, and the git commit of the image or checkout it runs from.

    It reads the files as they are now: a process that goes on for long asks once, when it
    starts.

    Args:
        folder: of the code; this package's own by default.
    """
    version = _version()
    baked_in = os.environ.get(REVISION_VARIABLE, "unknown")
    if baked_in not in ("", "unknown"):
        return f"{version}+g{baked_in}"
    root = folder or Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():  # an installed copy may lie inside another checkout
        return version
    try:
        commit = _git(root, "rev-parse", "--short=12", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return version
    return f"{version}+g{commit}{'.changed' if changed else ''}"


def _version() -> str:
    try:
        return importlib.metadata.version("nkat-search")
    except importlib.metadata.PackageNotFoundError:
        return NOT_INSTALLED


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *arguments],
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
    )
    return done.stdout.strip()


def package_versions() -> dict[str, str]:
    """Versions of Python and of `PACKAGES`, those that are installed."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
