"""The command line as a user types it: real processes in a folder of their own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from warm_processes import run_command, warm_up

ROOT = Path(__file__).parents[2]
LIMIT_S = 300
"""Time for one command, on a busy machine."""
COLD = bool(os.environ.get("COLD_COMMANDS"))
"""Start every command as a shell does, imports and all (COLD_COMMANDS=1 make test)."""

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
    """This process's variables without nkat-search's own, and the given ones; a search has one
    worker unless these or its command say otherwise."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("NKAT_")}
    clean["NKAT_WORKERS"] = "1"
    return clean | ({"NKAT_STORAGE": storage} if storage else {}) | dict(env or {})


def nkat(
    *arguments: object,
    folder: Path = ROOT,
    storage: str | None = None,
    env: Mapping[str, str] | None = None,
    cold: bool = COLD,
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end; whatever happens, it shows no traceback.

    Args:
        cold: start it as a shell does; else in a process that has its imports already.
            Each command is started so at least once, here or by `started`.
    """
    variables = environment(storage=storage, env=env)
    if cold:
        ended = subprocess.run(
            command(*arguments),
            cwd=folder,
            env=variables,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    else:
        words = [str(argument) for argument in arguments]
        ended = run_command(words, folder=folder, env=variables, limit_s=LIMIT_S)
    assert "Traceback" not in ended.stderr, ended.stderr
    return ended


@contextmanager
def started(
    *arguments: object,
    folder: Path,
    storage: str | None = None,
    env: Mapping[str, str] | None = None,
    stdout: int = subprocess.DEVNULL,
    log: Path | None = None,
) -> Iterator[subprocess.Popen[str]]:
    """A command under way, to be sent signals; killed when the context ends.

    Args:
        stdout: `subprocess.PIPE` where its results are to be read.
        log: its messages go into that file; else they are to be read from its pipe.
    """
    warm_up()
    with ExitStack() as stack, signals_heard():
        process = subprocess.Popen(
            command(*arguments),
            cwd=folder,
            env=environment(storage=storage, env=env),
            stdout=stdout,
            stderr=stack.enter_context(log.open("w")) if log else subprocess.PIPE,
            text=True,
        )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()


@contextmanager
def signals_heard() -> Iterator[None]:
    """Commands started meanwhile are ended by SIGHUP and SIGINT, also when pytest runs under nohup
    or in a shell's background: an ignored signal stays ignored in the program that is started, a
    handled one does not."""
    numbers = (signal.SIGHUP, signal.SIGINT)
    before = {number: signal.signal(number, lambda _number, _frame: None) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
