"""`nkat-search backup` and `restore`: a search interrupted here is continued elsewhere."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nkat_command
import psutil
import psycopg2
import pytest
import sqlalchemy as sa
from nkat_command import TINY_TRAINING, nkat, open_folder, sentence, started
from process_helpers import wait_for

from storage.backup.move import RELEASED
from storage.board import Board
from storage.embedded import EmbeddedPostgres
from storage.engine import make_engine
from storage.records import AttemptRow
from storage.states import Attempt

pytestmark = [pytest.mark.process, pytest.mark.postgres]

SEARCH = (
    TINY_TRAINING
    + """
study: moved
cut_down: true
n_trials: 3
lambda: counted
gate: {dataset: cifar10, threshold: 0.01}
datasets:
  - {name: cifar10, epochs: 6, limit: 200, validation: 100, synthetic: true}
  - {name: mnist, limit: 100, validation: 50, synthetic: true}
  - {name: fashion_mnist, epochs: 20, limit: 100, validation: 50, synthetic: true}
space:
  patch_size: [2, 4]
  lr: {low: 1.0e-4, high: 1.0e-2, log: true}
service: {lease_s: 10, checkpoint_every_s: 0}
"""
)
RUN = ("run", "--config", "search.yaml", "--dashboard-port", "0")


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder(SEARCH, mode=0o711) as path:
        yield path


def done(folder: Path, *arguments: object, cold: bool = False) -> str:
    return nkat_command.done(nkat(*arguments, folder=folder, cold=cold))


def refused(folder: Path, *arguments: object) -> str:
    return sentence(nkat(*arguments, folder=folder))


def status(folder: Path, *where: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done(folder, "status", "--json", "--all", *where))
    return found


def run_until_stage_2_of_the_second_trial(folder: Path, state: str) -> None:
    """`run`, and then everything killed with SIGKILL."""
    checkpoints = folder / state / "checkpoints"

    def under_way() -> bool:
        # One after each of 6 epochs in stage 1 and 1 of MNIST; 20 of Fashion-MNIST follow.
        saved = checkpoints.glob("*/trial-000001/*.ckpt")
        return any(int(path.stem) > 8 for path in saved)

    with started(*RUN, "--state-dir", state, folder=folder) as run:
        try:
            wait_for("stage 2 of the second trial", under_way, 180)
        finally:
            # The worker first: its trial stays leased, as when the machine is switched off.
            family = psutil.Process(run.pid).children(recursive=True)
            for process in [*(p for p in family if "worker" in p.cmdline()), run, *family]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()


@pytest.mark.slow
def test_a_search_killed_here_is_continued_there(folder: Path) -> None:
    run_until_stage_2_of_the_second_trial(folder, "a")
    made = json.loads(
        done(folder, "backup", "moved.backup", "--with-checkpoints", "--state-dir", "a", "--json")
    )
    assert made["checkpoints"] > 0
    before = status(folder, "--state-dir", "a")
    shutil.rmtree(folder / "a")

    back = json.loads(done(folder, "restore", "moved.backup", "--state-dir", "b/c", "--json"))
    assert back["checkpoints"] == made["checkpoints"]
    restored = status(folder, "--state-dir", "b/c")
    assert restored["workers"] == []
    assert (restored["leased"], restored["running"]) == (0, 0)
    assert restored["lost"] == restored["failed_attempts"] == 0
    assert restored["waiting"] == before["waiting"] + before["running"]
    ended = {t["number"]: t for t in before["trials"] if t["state"] in ("COMPLETE", "PRUNED")}
    assert 0 in ended

    done(folder, *RUN, "--state-dir", "b/c")
    after = status(folder, "--state-dir", "b/c")
    assert after["done"] == after["budget"] == 3
    assert after["lost"] == 0
    trials = {trial["number"]: trial for trial in after["trials"]}
    for number, trial in ended.items():
        assert trials[number]["value"] == trial["value"]
        assert trials[number]["params"] == trial["params"]
    (moved,) = back["released"]["moved"]
    was = {trial["number"]: trial for trial in before["trials"]}[moved]
    assert trials[moved]["params"] == was["params"]
    first, second = attempts_at(moved, folder / "b/c/postgres")
    assert (first.outcome, first.reason) == (Attempt.HANDED_BACK, RELEASED)
    # From its checkpoint: stage 1 was not trained a second time.
    assert (second.outcome, second.first_stage) == (Attempt.COMPLETE, "2")


def attempts_at(number: int, data_dir: Path) -> list[AttemptRow]:
    with EmbeddedPostgres(data_dir=data_dir) as server:
        engine = make_engine(server.url)
        board = Board(engine=engine, study_name="moved")
        found = [attempt for attempt in board.attempts() if attempt.number == number]
        board.close()
        engine.dispose()
    return found


def test_restored_on_another_server_and_back(
    folder: Path, empty_database_url: str, database_url: str
) -> None:
    """From a database by URL into another, then into an embedded one."""
    there = ("--storage", empty_database_url)
    done(folder, "create", "--config", "search.yaml", "--storage", database_url)
    done(folder, "backup", "one", "--storage", database_url)
    done(folder, "restore", "one", *there)
    assert status(folder, *there)["budget"] == 3
    done(folder, "backup", "two", *there, cold=True)
    done(folder, "restore", "two", "--state-dir", "c", cold=True)
    assert status(folder, "--state-dir", "c")["study"] == "moved"


def test_what_is_refused(folder: Path, database_url: str, empty_database_url: str) -> None:
    here, there = ("--storage", database_url), ("--storage", empty_database_url)
    assert "nothing to back up" in refused(folder, "backup", "x", *here)
    assert not (folder / "x").exists()
    done(folder, "create", "--config", "search.yaml", *here)
    assert "cannot be written" in refused(folder, "backup", "no/folder", *here)
    done(folder, "backup", "good", *here)

    assert "no such file" in refused(folder, "restore", "missing", *there).lower()
    assert "not a backup" in refused(folder, "restore", "search.yaml", *there)
    assert "not a backup" in refused(folder, "restore", "search.yaml", "--state-dir", "new")
    assert not (folder / "new").exists()
    with tarfile.open(folder / "foreign.tar", "w") as tar:
        tar.add(folder / "search.yaml", "search.yaml")
    assert "not a backup" in refused(folder, "restore", "foreign.tar", *there)
    whole = (folder / "good").read_bytes()
    for size in (0, 100, 700, len(whole) // 2, len(whole) - 12_000):
        (folder / "short").write_bytes(whole[:size])
        told = refused(folder, "restore", "short", *there)
        assert "truncated" in told or "not a backup" in told
    flipped = bytearray(whole)
    flipped[whole.index(b"PGDMP") + 2000] ^= 1
    (folder / "flipped").write_bytes(flipped)
    assert "damaged" in refused(folder, "restore", "flipped", *there)
    for change in ({"tables": 99}, {"optuna_tables": "v9.0.0.a"}):
        with_summary(folder / "good", folder / "newer", change)
        told = refused(folder, "restore", "newer", *there)
        assert "newer nkat-search" in told or "install that Optuna" in told
    # None of these left anything behind.
    assert tables(empty_database_url) == []

    assert "is not empty" in refused(folder, "restore", "good", *here)
    user = psycopg2.connect(database_url.replace("+psycopg2", ""), application_name="nkat-worker")
    assert "in use (nkat-worker)" in refused(folder, "restore", "good", "--force", *here)
    user.close()
    engine = make_engine(database_url)
    board = Board(engine=engine, study_name="moved")
    board.set_state("pause", "after the backup")
    board.close()
    engine.dispose()
    done(folder, "restore", "good", "--force", *here)
    assert status(folder, *here)["state"] == "run"


def with_summary(source: Path, target: Path, change: dict[str, Any]) -> None:
    """A copy of a backup whose summary says something else."""
    with tarfile.open(source) as old, tarfile.open(target, "w") as new:
        for member in old.getmembers():
            file = old.extractfile(member)
            assert file is not None
            content = file.read()
            if member.name == "summary.json":
                content = json.dumps(json.loads(content) | change).encode()
                member.size = len(content)
            new.addfile(member, io.BytesIO(content))


def tables(url: str) -> list[str]:
    engine = make_engine(url)
    names = sa.inspect(engine).get_table_names()
    engine.dispose()
    return names
