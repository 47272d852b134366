"""An installed wheel, away from the clone: it brings its search files and works in any folder.

The wheel is installed into an environment of its own, which finds torch and the other
dependencies in this one's folder.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest
from nkat_command import LIMIT_S, ROOT, environment, open_folder

pytestmark = [pytest.mark.process, pytest.mark.postgres]

IN_THE_WHEEL = ("model", "storage", "search", "configs")
FILES = ("nkat_errors.py", "pyproject.toml", "README.md", "LICENSE")
SHIPPED = sorted(path.name for path in (ROOT / "configs").glob("*"))


def ran(*command: object, folder: Path) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in environment().items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=clean | {"TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The environment's folder of programs."""
    folder = tmp_path_factory.mktemp("wheel")
    clone, environ = folder / "clone", folder / "environment"
    # A copy: building leaves files beside the sources.
    for name in IN_THE_WHEEL:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, clone / name, symlinks=True, ignore=ignored)
    for name in FILES:
        shutil.copy(ROOT / name, clone)
    build = "import sys; from setuptools import build_meta as b; print(b.build_wheel(sys.argv[1]))"
    built = ran(sys.executable, "-c", build, folder, folder=clone)
    assert built.returncode == 0, built.stderr
    ran(sys.executable, "-m", "venv", "--without-pip", environ, folder=folder)
    (packages,) = environ.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    pip = [sys.executable, "-m", "pip", "--python", environ / "bin/python", "install"]
    (wheel,) = folder.glob("*.whl")
    done = ran(*pip, "--quiet", "--no-index", "--no-deps", wheel, folder=folder)
    assert done.returncode == 0, done.stderr
    shutil.rmtree(clone)
    return environ / "bin"


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder("") as path:
        (path / "search.yaml").unlink()
        yield path


def test_every_shipped_file_is_in_it(installed: Path, folder: Path) -> None:
    ask = (
        "import json, search; from search.file.shipped import shipped_file as f; "
        f"print(json.dumps([search.__file__, *(f(n).read_text() for n in {SHIPPED!r})]))"
    )
    code, *texts = json.loads(ran(installed / "python", "-c", ask, folder=folder).stdout)
    assert Path(code).is_relative_to(installed.parent)
    assert {"laptop.yaml", "search.schema.json", "search.yaml", "source.yaml"} <= set(SHIPPED)
    assert texts == [(ROOT / "configs" / name).read_text() for name in SHIPPED]


def test_init_rehearsal_and_export_in_an_empty_folder(installed: Path, folder: Path) -> None:
    nkat = installed / "nkat-search"
    assert ran(nkat, "init", "--laptop", folder=folder).returncode == 0
    assert (folder / "search.yaml").read_bytes() == (ROOT / "configs/laptop.yaml").read_bytes()
    assert (folder / "search.schema.json").exists()
    kept = folder / "kept"
    options = ("--trials", "4", "--workers", "1", "--epochs", "1", "--keep", kept)
    rehearsal = ran(nkat, "rehearse", *options, folder=folder)
    assert rehearsal.returncode == 0, rehearsal.stderr
    exported = ran(nkat, "export", "--state-dir", kept, folder=folder)
    assert exported.returncode == 0, exported.stderr
    assert "study: nkat-laptop" in (folder / "best.yaml").read_text()
