"""Where results come from, also where little is known."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from search.provenance import NOT_INSTALLED, code_version

ROOT = Path(__file__).parents[3]


def test_a_source_tree_that_was_not_installed_has_a_version() -> None:
    # -S: without the installed packages, ours among them.
    script = "from search.provenance import code_version; print(code_version())"
    done = subprocess.run(
        [sys.executable, "-S", "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(NOT_INSTALLED)


def test_the_revision_of_an_image_is_part_of_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NKAT_REVISION", "0123456789ab")
    assert code_version().endswith("+g0123456789ab")
