"""The embedded server: started, joined, killed, moved into deep folders, restarted."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import sqlalchemy as sa
from pg_children import join, start

from nkat_errors import BadInput
from storage.embedded import EmbeddedPostgres, programs
from storage.embedded.account import Account
from storage.engine import make_engine
from storage.optuna_internals import optuna_storage
from storage.schema import ensure_schema

pytestmark = pytest.mark.postgres

FAST = {"fsync": "off"}


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the server's user can reach (pytest's own is closed to it)."""
    path = Path(tempfile.mkdtemp(prefix="nkat-embedded-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def _ask(url: str, question: str) -> object:
    engine = make_engine(url)
    with engine.begin() as connection:
        answer = connection.execute(sa.text(question))
        value = answer.scalar() if answer.returns_rows else None
    engine.dispose()
    return value


def _gone(pid: int) -> None:
    deadline = time.monotonic() + 20
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, f"process {pid} still lives"
        time.sleep(0.02)


def test_data_survive_and_the_last_to_leave_stops_it(folder: Path) -> None:
    with EmbeddedPostgres(data_dir=folder / "pg", settings=FAST) as server:
        _ask(server.url, "CREATE TABLE kept AS SELECT 42 AS answer")
        with EmbeddedPostgres(data_dir=folder / "pg") as joined:
            assert joined.pid == server.pid
            assert _ask(joined.url, "SHOW max_connections") == "300"
        assert server.pid is not None
        # Only this user gets in, and no port is open.
        assert _ask(server.url, "SHOW listen_addresses") == ""
        assert (folder / "pg").stat().st_mode & 0o077 == 0
        pid = server.pid
    _gone(pid)
    first = EmbeddedPostgres(data_dir=folder / "pg", settings=FAST).__enter__()
    with EmbeddedPostgres(data_dir=folder / "pg") as server:
        # Who started it may leave first: `status --watch` ends while a search runs.
        first.__exit__(None, None, None)
        assert _ask(server.url, "SELECT answer FROM kept") == 42
        assert server.pid is not None
        pid = server.pid
    _gone(pid)


def test_kill_nine_of_the_server_and_a_reused_pid(folder: Path) -> None:
    with EmbeddedPostgres(data_dir=folder / "pg", settings=FAST) as server:
        _ask(server.url, "CREATE TABLE kept AS SELECT 42 AS answer")
        assert server.pid is not None
        pid = server.pid
        os.kill(pid, signal.SIGKILL)
        _gone(pid)
        assert server.pid is None
        # In a container the next process may well have the number of the dead one.
        lock = folder / "pg" / "postmaster.pid"
        lines = lock.read_text().splitlines()
        lock.write_text("\n".join([str(os.getpid()), *lines[1:]]))
        server.restart()
        assert _ask(server.url, "SELECT answer FROM kept") == 42


USER_THAT_IS_KILLED = """
import os, signal, sys
from pathlib import Path
from storage.embedded import EmbeddedPostgres
server = EmbeddedPostgres(data_dir=Path(sys.argv[1]), settings={"fsync": "off"}).__enter__()
print(server.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_next_user_stops_the_server_of_a_killed_one(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", USER_THAT_IS_KILLED, str(folder / "pg")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -9, done.stderr
    pid = int(done.stdout)
    assert psutil.pid_exists(pid)
    with EmbeddedPostgres(data_dir=folder / "pg") as server:
        assert server.pid == pid
    _gone(pid)


START_AND_COUNT = """
import sys
from pathlib import Path
from storage.embedded import EmbeddedPostgres
with EmbeddedPostgres(data_dir=Path(sys.argv[1]), settings={"fsync": "off"}) as server:
    print(server.pid, flush=True)
    sys.stdin.readline()
"""


@pytest.mark.process
def test_several_first_starts_at_once(folder: Path) -> None:
    children = [
        subprocess.Popen(
            [sys.executable, "-c", START_AND_COUNT, str(folder / "pg")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    said = {int(child.stdout.readline()) for child in children if child.stdout}
    (pid,) = said
    for child in children:
        assert psutil.pid_exists(pid)
        child.communicate("\n")
    assert [child.returncode for child in children] == [0, 0, 0]
    _gone(pid)


def test_path_too_long_for_a_socket(folder: Path) -> None:
    deep = folder / ("deep" * 20) / ("deeper" * 20) / "pg"
    deep.parent.parent.mkdir(mode=0o711)
    deep.parent.mkdir(mode=0o711)
    with EmbeddedPostgres(data_dir=deep, settings=FAST) as server:
        assert _ask(server.url, "SELECT 1") == 1
        socket_folder = Path(str(sa.make_url(server.url).query["host"]))
        assert socket_folder.stat().st_mode & 0o077 == 0
    shutil.rmtree(socket_folder)


@pytest.mark.parametrize(
    "name",
    [
        "a+b",
        "a&b",
        "a%20b",
        "a b",
        "a#b?c=d",
        "{braces}",
        "a,b",
        'a"b',
        "it's",
        "back\\slash",
        "$HOME`x`",
    ],
)
def test_any_characters_in_the_path(folder: Path, name: str) -> None:
    with EmbeddedPostgres(data_dir=folder / name / "pg", settings=FAST) as server:
        assert _ask(server.url, "SELECT 1") == 1
        engine = make_engine(server.url)
        ensure_schema(engine)  # Optuna reads the address in its own way
        optuna_storage(engine).remove_session()
        engine.dispose()


def test_killed_while_making_the_folder(folder: Path) -> None:
    (folder / "pg.new").mkdir()
    (folder / "pg.new" / "half").write_text("made")
    with EmbeddedPostgres(data_dir=folder / "pg", settings=FAST) as server:
        assert _ask(server.url, "SELECT 1") == 1
    assert not (folder / "pg.new").exists()


def test_folders_that_cannot_be(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "full").mkdir(mode=0o711)
    (folder / "full" / "letter.txt").write_text("somebody's")
    with pytest.raises(BadInput, match="neither empty nor a database"):
        EmbeddedPostgres(data_dir=folder / "full").__enter__()
    assert (folder / "full" / "letter.txt").exists()

    (folder / "old").mkdir(mode=0o711)
    (folder / "old" / "PG_VERSION").write_text("12\n")
    with pytest.raises(BadInput, match="made by Postgres 12"):
        EmbeddedPostgres(data_dir=folder / "old").__enter__()

    (folder / "file").write_text("in the way")
    with pytest.raises(BadInput, match="cannot be made"):
        EmbeddedPostgres(data_dir=folder / "file" / "pg").__enter__()

    monkeypatch.setattr(programs, "SERVER_VERSION", "99")  # a wheel without programs for us
    with pytest.raises(BadInput, match="no embedded Postgres for"):
        EmbeddedPostgres(data_dir=folder / "pg").__enter__()


def test_folder_that_the_server_cannot_reach(folder: Path) -> None:
    closed = folder / "closed"
    closed.mkdir()
    # Root passes everywhere, but the user that its server runs as does not.
    root = os.geteuid() == 0
    closed.chmod(0o700 if root else 0)
    told = "refuses to run as root" if root else "cannot be made"
    with pytest.raises(BadInput, match=told):
        EmbeddedPostgres(data_dir=closed / "pg").__enter__()
    closed.chmod(0o700)


def _as_ordinary_user(folder: str) -> None:
    if os.geteuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    with EmbeddedPostgres(data_dir=Path(folder) / "pg", settings=FAST) as server:
        assert _ask(server.url, "SELECT 1") == 1
        server.restart()
        assert _ask(server.url, "SELECT 1") == 1


@pytest.mark.process
def test_ordinary_user(folder: Path) -> None:
    if os.geteuid() == 0:
        os.chown(folder, 65534, 65534)
    assert join(start(_as_ordinary_user, str(folder))) == [0]
    assert (folder / "pg" / "PG_VERSION").stat().st_uid != 0


def test_programs_hidden_in_roots_home_are_copied(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a virtual environment under /root, where the server's user cannot look."""
    server = EmbeddedPostgres(data_dir=folder / "pg", settings=FAST)
    real = Account.can_use

    def blind(self: Account, path: Path) -> bool:
        return path.name != "postgres" and real(self, path)

    monkeypatch.setattr(Account, "can_use", blind)
    with server:
        assert _ask(server.url, "SELECT 1") == 1
        assert server.pid is not None
        program = Path(psutil.Process(server.pid).exe())
    copied = folder in program.parents
    assert copied == (os.geteuid() == 0)
