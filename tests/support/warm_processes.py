"""Processes that are there at once: children of one that has imported what they need.

A command spends up to two seconds of CPU on imports, and the tests run hundreds of
commands.  Python's fork server imports once, and each child is a copy of it, a real
process with a pid, an exit code and signals of its own.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        # Every command, which brings in torch, Optuna and SQLAlchemy.
        "search.cli.recalculate",
        "search.dashboard.server",
        "search.rehearsal.run",
        "search.report.page",
        "search.retrain.comparison",
        "search.retrain.recalculation",
        "search.retrain.verification",
        "search.score.describe",
        "search.service.run",
        "search.service.status",
        "search.worker.serve",
        "storage.backup",
        # What those import when they are used; torch's optimisers bring in its compiler.
        "alembic.command",
        "model.data.synthetic",
        "model.network.vit",
        "optuna.samplers._tpe.sampler",
        "pandas",
        "psycopg2.extras",
        "rich.live",
        "rich.table",
        "search.objective.torch_trainer",
        "sqlalchemy.dialects.postgresql.psycopg2",
        "torch._dynamo",
        # `python -m pytest -n 0`: each child imports its parent's main module.
        "pytest",
    ]
)


@functools.cache
def warm_up() -> None:
    """Returns when the imports are done (once, 3 seconds of CPU): whoever watches something
    that goes on meanwhile calls it before that starts."""
    process = CONTEXT.Process(target=os.getpid)
    process.start()
    process.join()
    process.close()


def run_command(
    arguments: Sequence[str], *, folder: Path, env: Mapping[str, str], limit_s: float
) -> subprocess.CompletedProcess[str]:
    """Runs a command of nkat-search to its end in such a process.

    Args:
        arguments: what follows `nkat-search`.
        folder: the one it is typed in.
        env: all of its variables.
        limit_s: it is killed after that time.
    """
    with tempfile.TemporaryDirectory(prefix="nkat-said-") as name:
        said = Path(name)
        process = CONTEXT.Process(target=_command, args=(list(arguments), folder, dict(env), said))
        process.start()
        process.join(limit_s)
        if process.is_alive():
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(list(arguments), limit_s)
        assert process.exitcode is not None
        out, err = ((said / stream).read_text() for stream in ("out", "err"))
        ended = subprocess.CompletedProcess(list(arguments), process.exitcode, out, err)
        process.close()
    return ended


def _command(arguments: list[str], folder: Path, env: dict[str, str], said: Path) -> None:
    for stream, number in (("out", 1), ("err", 2)):
        file = os.open(said / stream, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    tempfile.tempdir = None  # its parent's TMPDIR
    sys.argv[:] = ["nkat-search", *arguments]
    from search.cli import main

    sys.exit(main())
