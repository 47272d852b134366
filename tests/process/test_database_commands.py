"""Commands and their database: signals, other users, missing rights, missing tables."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import sqlalchemy as sa
from nkat_command import done, nkat, open_folder, started
from pg_children import join, start
from process_helpers import wait_for

from search.cli import main
from search.study.session import only_run
from storage.embedded.process import running_pid
from storage.engine import make_engine

pytestmark = [pytest.mark.process, pytest.mark.postgres]

SEARCH = """
study: small
n_trials: 2
lambda: counted
gate: {dataset: cifar10, threshold: 0.2}
datasets: [{name: cifar10, epochs: 1, limit: 200, validation: 100, synthetic: true}]
model: {embed_dim: 32, depth: 1}
train: {epochs: 1, batch_size: 20, warmup: 0, ema: 0}
space: {patch_size: [2, 4]}
"""
NOBODY = 65534


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder(SEARCH) as path:
        yield path


def told(folder: Path, *arguments: str, code: int = 2) -> str:
    """What a command says on stderr before it ends with that exit code."""
    ended = nkat(*arguments, folder=folder)
    assert ended.returncode == code, ended.stderr
    lines = ended.stderr.strip().splitlines()
    assert lines, ended.stdout
    assert lines[-1].startswith("nkat-search: ")
    return ended.stderr


def make(folder: Path, *where: str) -> None:
    done(nkat("create", "--config", "search.yaml", *where, folder=folder))


def server_pid(folder: Path) -> int:
    """The embedded server's pid, as soon as it runs."""
    data_dir = folder / "s/postgres"
    wait_for("the embedded server", lambda: running_pid(data_dir) is not None)
    pid = running_pid(data_dir)
    assert pid is not None
    return pid


def wait_until_gone(pid: int) -> None:
    def gone() -> bool:
        return not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie"

    wait_for(f"the end of process {pid}", gone, 20)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("command", [("status", "--watch"), ("create", "--config", "search.yaml")])
def test_a_signal_ends_the_command_and_its_server(
    folder: Path, command: tuple[str, ...], number: signal.Signals
) -> None:
    if command[0] != "create":
        make(folder, "--state-dir", "s")
    with started(*command, "--state-dir", "s", folder=folder) as process:
        # `create` is hit while it starts the server and waits for it.
        pid = server_pid(folder)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number, said
    assert said == ""
    wait_until_gone(pid)


def test_a_closed_terminal_stops_run_and_its_server(folder: Path) -> None:
    options = ("--config", "search.yaml", "--dashboard-port", "0", "--state-dir", "s")
    with started("run", *options, folder=folder) as run:
        pid = server_pid(folder)
        run.send_signal(signal.SIGHUP)
        run.communicate(timeout=90)
    assert run.returncode == 130
    wait_until_gone(pid)


def test_the_server_of_a_killed_command_is_stopped_by_the_next(folder: Path) -> None:
    make(folder, "--state-dir", "s")
    with started("status", "--watch", "--state-dir", "s", folder=folder) as watching:
        pid = server_pid(folder)
        watching.kill()
    assert psutil.pid_exists(pid)
    done(nkat("status", "--state-dir", "s", folder=folder))
    wait_until_gone(pid)


def _as_nobody(command: str, state_dir: str, heard: str) -> None:
    # Before the change of user, who may not be able to read the code.
    for module in ("search.study.session", "search.service.status", "search.export.best_file"):
        importlib.import_module(module)
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    with open(heard, "w") as sys.stderr:
        code = main([command, "--state-dir", state_dir])
    sys.exit(code)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
@pytest.mark.parametrize("command", ["status", "export"])
def test_the_search_of_another_user(folder: Path, command: str) -> None:
    make(folder, "--state-dir", "s")
    heard = folder / "heard"
    heard.touch(mode=0o666)
    heard.chmod(0o666)
    assert join(start(_as_nobody, command, str(folder / "s"), str(heard))) == [2]
    (line,) = heard.read_text().splitlines()
    assert "s/postgres belongs to user" in line


def test_a_database_user_without_rights(folder: Path, database_url: str) -> None:
    make(folder, "--storage", database_url)
    engine = make_engine(database_url)
    with engine.begin() as connection:
        connection.execute(sa.text("DROP ROLE IF EXISTS guest"))
        connection.execute(sa.text("CREATE ROLE guest LOGIN"))
    guest = ("--storage", database_url.replace("postgres@", "guest@"))
    try:
        for command in (("status",), ("worker", "--wait", "1"), ("export",)):
            said = told(folder, *command, *guest)
            assert "permission denied for table" in said
            assert len(said.splitlines()) == 1
        with engine.begin() as connection:
            connection.execute(sa.text("GRANT SELECT ON ALL TABLES IN SCHEMA public TO guest"))
        # Reading is enough to look, and not enough to work.
        done(nkat("status", *guest, folder=folder))
        assert "permission denied for table nkat_worker" in told(folder, "worker", *guest)
    finally:
        with engine.begin() as connection:
            connection.execute(sa.text("DROP OWNED BY guest"))
            connection.execute(sa.text("DROP ROLE guest"))
        engine.dispose()


@pytest.mark.parametrize("command", ["worker", "orchestrate"])
def test_waiting_for_tables_is_announced(
    folder: Path, empty_database_url: str, command: str
) -> None:
    said = told(folder, command, "--wait", "1", "--storage", empty_database_url, code=1)
    assert said.count("waiting up to 1 s") == 1
    assert "nkat-search create" in said


def test_a_second_run_says_that_the_other_is_there(folder: Path) -> None:
    with only_run(folder / "s"):
        said = told(folder, "run", "--config", "search.yaml", "--state-dir", "s")
    assert f"(pid {os.getpid()})" in said
    assert "--state-dir" in said
    with only_run(folder / "s"):
        pass  # free again


def test_a_study_name_that_is_too_long(folder: Path, database_url: str) -> None:
    (folder / "long.yaml").write_text(SEARCH.replace("study: small", f"study: {'x' * 600}"))
    said = told(folder, "create", "--config", "long.yaml", "--storage", database_url)
    assert "600 characters" in said
