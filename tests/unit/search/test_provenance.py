"""Where results come from, also where little is known."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from search.provenance import NOT_INSTALLED, code_version

ROOT = Path(__file__).parents[3]


def test_a_source_tree_that_was_not_installed_has_a_version(tmp_path: Path) -> None:
    # A copy beside no installation's metadata, and -S: without the installed packages.
    (tmp_path / "search").mkdir()
    for name in ("__init__.py", "provenance.py"):
        shutil.copy(ROOT / "search" / name, tmp_path / "search" / name)
    script = "from search.provenance import code_version; print(code_version())"
    done = subprocess.run(
        [sys.executable, "-S", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": "", "NKAT_REVISION": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == NOT_INSTALLED


def test_the_revision_of_an_image_is_part_of_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NKAT_REVISION", "0123456789ab")
    assert code_version().endswith("+g0123456789ab")
