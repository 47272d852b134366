"""`nkat-search rehearse`: faults of every kind, and a checker that can say no."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from nkat_command import nkat, open_folder, sentence, started
from optuna.trial import FrozenTrial, TrialState, create_trial
from process_helpers import service, wait_for
from sqlalchemy import Engine, text

from search.file.load import parse_search_text
from search.file.search_file import SearchFile
from search.file.sections import FinalistsSection
from search.objective.simulated_trainer import Rehearsal
from search.rehearsal.faults import parse_rates
from search.rehearsal.promises import Promise, Silence, check_promises
from storage.board import Board
from storage.engine import make_engine
from storage.searches import load_search

pytestmark = [pytest.mark.process, pytest.mark.postgres]

SEARCH = """
study: rehearsed
title: "[bold]b[/bold] [/]"
n_trials: 6
lambda: counted
gate: {dataset: cifar10, threshold: 0.05}
datasets: [{name: cifar10}, {name: mnist}]
space:
  depth: {low: 5, high: 9}
  temperature: {low: 0.6, high: 1.0}
"""
FAULTS = "kill=0.2,term=0.2,stall=0.2,kill_child=0.3,drop=0.3,oom=0.25,nan=0.15,crash=0.03"
ALL_PROMISES = 6


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder(SEARCH) as path:
        yield path


def under_way(folder: Path, *arguments: str) -> AbstractContextManager[subprocess.Popen[str]]:
    line = ("rehearse", "--config", "search.yaml", *arguments)
    here = {"TMPDIR": str(folder)}
    return started(*line, folder=folder, env=here, stdout=subprocess.PIPE)


def rehearse(folder: Path, *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, report, messages."""
    line = ("rehearse", "--config", "search.yaml", "--json", *arguments)
    ended = nkat(*line, folder=folder, env={"TMPDIR": str(folder)})
    return ended.returncode, json.loads(ended.stdout), ended.stderr


def write_table(path: Path, shift: float = 0.0) -> None:
    """Accuracies that fall with depth, written in one go."""
    fresh = path.with_suffix(".new")
    with fresh.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["depth", "temperature", "accuracy_cifar10", "accuracy_mnist"])
        for depth in range(5, 10):
            writer.writerow([depth, 0.8, 0.9 - depth / 100 - shift, 0.99 - depth / 1000 - shift])
    fresh.replace(path)


def postgres_of(folder: Path) -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.name() == "postgres" and process.cwd().startswith(str(folder)):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def workers_of(folder: Path) -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            if str(folder) in " ".join(process.cmdline()) and "worker" in process.cmdline():
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


@pytest.mark.slow
def test_every_fault_fires_and_every_promise_holds(folder: Path) -> None:
    options = ["--trials", "30", "--workers", "3", "--seed", "5", "--faults", FAULTS]
    code, report, messages = rehearse(folder, *options, "--lease-s", "2", "--epoch-s", "0.01")
    broken = [p for p in report["promises"] if not p["held"]]
    assert not broken
    assert len(report["promises"]) == ALL_PROMISES
    assert code == 0, messages
    assert set(report["faults"]) >= {"kill", "term", "stall", "kill_child", "drop"}
    assert report["trials"] == 30
    assert report["folder"] is None  # nothing to look at, so nothing is left
    assert not list(folder.glob("nkat-rehearsal-*"))


def test_finalists_are_run_again_and_it_ends_exactly(folder: Path) -> None:
    with (folder / "search.yaml").open("a") as file:
        # without a bound every trial is complete, in whatever order they end
        file.write("finalists: {count: 3, runs: 2}\nbound: {kind: off}\n")
    faults = ["--faults", "kill=0.2,term=0.2,kill_child=0.2", "--lease-s", "2"]
    options = ["--trials", "8", "--workers", "3", "--seed", "2", "--epoch-s", "0.02", *faults]
    code, report, messages = rehearse(folder, *options)
    assert code == 0, messages
    budget = report["promises"][0]
    assert budget["text"] == "exactly 8 trials + 6 repeats count"
    assert budget["counts"].endswith(" + 6 repeats = 14")
    assert report["trials"] == 8


@pytest.mark.slow
def test_faults_of_the_training_itself_are_recorded(folder: Path) -> None:
    keep = folder / "kept"
    keep.mkdir(mode=0o755)
    faults = "oom=0.3,nan=0.3,crash=0.25"  # accidents are drawn anew each time
    options = ["--trials", "14", "--seed", "1", "--faults", faults, "--epoch-s", "0"]
    code, report, messages = rehearse(folder, *options, "--keep", str(keep))
    assert code == 0, messages
    assert report["folder"] == str(keep)
    logs = "".join(path.read_text() for path in (keep / "logs").iterdir())
    for words in ("the network does not fit", "rehearsed NaN", "rehearsed accident"):
        assert words in logs


@pytest.mark.slow
def test_a_table_answers_and_a_table_that_changes_is_found_out(folder: Path) -> None:
    table = folder / "table.csv"
    write_table(table)
    options = ["--table", str(table), "--workers", "1", "--epoch-s", "0"]
    code, report, messages = rehearse(folder, *options, "--trials", "4")
    assert code == 0, messages
    assert report["trials"] == 4

    # The worker has read it; the checker will read another: a result that is not its own.
    options += ["--trials", "12", "--epoch-s", "0.1", "--json"]
    with under_way(folder, *options) as process:
        wait_for(
            "the first trial",
            lambda: any("trial 0" in log.read_text() for log in folder.glob("nkat-*/logs/*.log")),
        )
        write_table(table, shift=0.05)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 1
    report = json.loads(out)
    (broken,) = [p for p in report["promises"] if not p["held"]]
    assert broken["text"] == "each result belongs to its own parameters"
    assert broken["counts"] == "12 of 12 differ"
    kept = Path(report["folder"])
    assert str(kept) in err
    assert (kept / "logs/worker-0.log").exists()


def test_bad_faults_and_a_bad_table_are_bad_input(folder: Path) -> None:
    (folder / "table.csv").write_text("depth,accuracy_cifar10\n5,0.5\n")
    for arguments, words in (
        (["--faults", "kil=0.1"], "kill_child"),
        (["--faults", "kill=nan"], "0..1"),
        (["--table", str(folder / "table.csv")], "'temperature'"),
    ):
        line = ("rehearse", "--config", "search.yaml", *arguments)
        assert words in sentence(nkat(*line, folder=folder))
    assert parse_rates("none") == {}
    assert parse_rates("all")["restart"] > 0


def test_ctrl_c_ends_it_and_leaves_nothing_running(folder: Path) -> None:
    with under_way(folder, "--trials", "500", "--epoch-s", "0.05") as process:
        wait_for("the workers", lambda: len(workers_of(folder)) >= 2)
        time.sleep(1.0)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in err
    assert not workers_of(folder)
    assert not postgres_of(folder)
    assert not list(folder.glob("nkat-rehearsal-*"))


# --- the checker itself ---------------------------------------------------------------


class Rehearsed:
    """A study that a rehearsal left, to be tampered with."""

    plan = Rehearsal(epoch_s=0.0)

    def __init__(self, engine: Engine, search: SearchFile) -> None:
        self.engine = engine
        self.search = search
        self.board = Board(engine=engine, study_name=search.study)

    def sql(self, statement: str) -> None:
        with self.engine.begin() as connection:
            connection.execute(text(statement))

    def add(self, trial: FrozenTrial) -> None:
        self.board.with_study("tamper", lambda study: study.add_trial(trial))

    def check(self, silence: Silence | None = None) -> tuple[Promise, ...]:
        promises, _ = check_promises(
            board=self.board,
            search=self.search,
            plan=self.plan,
            silence=silence or Silence(lease_s=2.0),
        )
        return promises

    def broken(self, silence: Silence | None = None) -> list[int]:
        """Numbers of the promises, 1 to 6, that the checker calls broken."""
        return [n for n, p in enumerate(self.check(silence), 1) if not p.held]


@pytest.fixture
def rehearsed(database_url: str, tmp_path: Path) -> Iterator[Rehearsed]:
    search = parse_search_text(SEARCH.replace("study: rehearsed", "study: tested"))
    with service(database_url, tmp_path, search, Rehearsed.plan) as tested:
        worker = tested.start()
        tested.wait_until_done()
        worker.wait(60)
    engine = make_engine(database_url)
    assert load_search(engine, "tested").budget == 6
    made = Rehearsed(engine, search)
    yield made
    made.board.close()
    engine.dispose()


def test_each_promise_can_be_found_broken(rehearsed: Rehearsed) -> None:
    """One study, tampered with and put right again, so that each finding is its own."""
    assert rehearsed.broken() == []
    plain = rehearsed.search
    rehearsed.search = replace(plain, finalists=FinalistsSection())
    assert rehearsed.broken() == [1]  # nobody ran its finalists
    rehearsed.search = plain
    assert rehearsed.broken(Silence(lease_s=2.0, longest_s=9.0)) == [2]

    rehearsed.sql("UPDATE nkat_attempt SET first_stage = '1', stage = '2'")
    rehearsed.sql("UPDATE nkat_attempt SET attempt = 2, outcome = 'lost' WHERE trial_number = 3")
    rehearsed.sql(
        "INSERT INTO nkat_attempt (token, study_name, trial_id, trial_number, attempt, ticket_id, "
        "worker_id, started_at, ended_at, outcome, stage, first_stage) SELECT gen_random_uuid(), "
        "study_name, trial_id, trial_number, 1, ticket_id, worker_id, started_at, ended_at, "
        "'complete', '2', '1' FROM nkat_attempt WHERE trial_number = 3"
    )
    assert rehearsed.broken() == [6]
    rehearsed.sql("UPDATE nkat_attempt SET outcome = 'complete' WHERE trial_number = 3")
    assert rehearsed.broken() == [3, 6]  # two results for one trial
    rehearsed.sql("DELETE FROM nkat_attempt WHERE trial_number = 3 AND attempt = 2")
    assert rehearsed.broken() == []

    rehearsed.sql("UPDATE nkat_attempt SET outcome = 'handed_back' WHERE trial_number = 2")
    assert rehearsed.broken() == [3, 4]
    rehearsed.sql("UPDATE nkat_attempt SET outcome = 'complete' WHERE trial_number = 2")

    key = "key = 'accuracy_mnist'"
    rehearsed.sql(f"UPDATE trial_user_attributes SET value_json = '0.123' WHERE {key}")
    assert rehearsed.broken() == [5]


def test_an_extra_trial_from_outside_breaks_budget_and_account(rehearsed: Rehearsed) -> None:
    values: Any = rehearsed.board.trials()[0]
    extra = create_trial(state=TrialState.FAIL, user_attrs={"outcome": "somebody's"})
    rehearsed.add(extra)
    assert rehearsed.broken() == [4]  # a trial that nobody accounts for
    study_trial = rehearsed.board.with_study("read", lambda s: s.get_trials()[values.number])
    rehearsed.add(study_trial)
    assert rehearsed.broken() == [1, 3, 4]
    rehearsed.sql("UPDATE trials SET state = 'RUNNING' WHERE number = 0")
    assert rehearsed.broken() == [2, 3, 4]
