"""The command line as a user types it: real processes in a folder of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIMIT_S = 300
"""Time for one command, on a busy machine."""

TINY_TRAINING = """
model: {embed_dim: 32, depth: 1, dropout_attn: 0.0, dropout_embed: 0.0, conv_stem: tiny}
train: {epochs: 1, batch_size: 20, warmup: 0, ema: 0, randaugment_ops: 0, mixup: 0, cutmix: 0,
        cutout: 0, crop_padding: 0}
"""
"""Sections of a search file: an epoch on some hundred images takes a fraction of a second."""


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "search", *map(str, arguments)]


def environment(
    *, storage: str | None = None, env: Mapping[str, str] | None = None
) -> dict[str, str]:
    """This process's variables without nkat-search's own, and the given ones."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("NKAT_")}
    return clean | ({"NKAT_STORAGE": storage} if storage else {}) | dict(env or {})


def nkat(
    *arguments: object,
    folder: Path = ROOT,
    storage: str | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end; whatever happens, it shows no traceback."""
    ended = subprocess.run(
        command(*arguments),
        cwd=folder,
        env=environment(storage=storage, env=env),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert "Traceback" not in ended.stderr, ended.stderr
    return ended


def started(*arguments: object, folder: Path, storage: str | None = None) -> subprocess.Popen[str]:
    """A command under way; its messages are to be read, its results are not."""
    return subprocess.Popen(
        command(*arguments),
        cwd=folder,
        env=environment(storage=storage),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def done(ended: subprocess.CompletedProcess[str]) -> str:
    """What a command that succeeded has written."""
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def sentence(ended: subprocess.CompletedProcess[str], code: int = 2) -> str:
    """The one sentence of a command that ended with `code`."""
    assert ended.returncode == code, ended.stderr
    (line,) = ended.stderr.strip().splitlines()
    assert line.startswith("nkat-search: ")
    return line


@contextmanager
def open_folder(search_text: str, *, mode: int = 0o755) -> Iterator[Path]:
    """A folder with that search.yaml, which the embedded server's user can reach.

    Not pytest's own: as root the server runs as another user, who may not look into it.
    """
    path = Path(tempfile.mkdtemp(prefix="nkat-test-"))
    path.chmod(mode)
    (path / "search.yaml").write_text(search_text)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
