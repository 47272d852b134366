"""`pause`, `resume` and `stop`, as another terminal gives them."""

from __future__ import annotations

import subprocess
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from nkat_command import TINY_TRAINING, started
from process_helpers import wait_for
from report_searches import GOOD, report_search, told
from sqlalchemy import Engine

from search.cli import main
from search.file.sections import FinalistsSection
from search.service.gate_watch import GateWatch
from search.study.finalists import enter_finalists
from storage.board import Board
from storage.searches import load_search
from storage.states import Command

pytestmark = [pytest.mark.process, pytest.mark.postgres]

SEARCH = (
    TINY_TRAINING.replace("epochs: 1", "epochs: 2")
    + """
study: steered
n_trials: 500
lambda: counted
gate: {dataset: cifar10, threshold: 0.01}
datasets: [{name: cifar10, limit: 200, validation: 100, synthetic: true}]
space: {lr: {low: 1.0e-5, high: 1.0e-2, log: true}}
service: {lease_s: 2}
"""
)


def test_each_says_what_happens_and_where_it_is_shown(
    engine: Engine, database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*arguments: str) -> str:
        assert main([*arguments, "--storage", database_url]) == 0
        return " ".join(capsys.readouterr().out.split())

    with told(engine, report_search(trials=20)) as one:
        assert "reported is paused, 20 of 20 trials to go" in said("pause", "--reason", "lunch")
        assert one.board.state() == (Command.PAUSE, "lunch")
        assert "pause (lunch); `nkat-search resume` lets it go on" in said("status")
        assert said("resume") == "study reported runs, 20 of 20 trials to go"
        assert one.board.state() == (Command.RUN, "")
        assert "resume" not in said("status")
        assert "each worker ends with the trial that it has" in said("stop")
        assert one.board.state() == (Command.STOP, "by hand")
        one.board.retire_worker(one.worker, "gone")
        assert "no worker is there: start `nkat-search run` or `worker`" in said("resume")


def test_a_search_that_is_done_is_left_alone(
    engine: Engine, database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with told(engine, report_search(trials=1)) as one:
        one.end({"cifar10": 0.7})
        assert main(["pause", "--storage", database_url]) == 0
        assert "is done: all of its 1 trials count" in capsys.readouterr().out
        assert one.board.state() == (Command.RUN, "")


def test_a_search_whose_finalists_run_again_can_still_be_paused(
    engine: Engine, database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    search = replace(report_search(trials=1), finalists=FinalistsSection(count=1, runs=2))
    with told(engine, search) as one:
        one.end(GOOD)
        watch = GateWatch(one.board)
        watch.look(one.board.counts())
        assert enter_finalists(one.board, search) == 2
        assert main(["pause", "--storage", database_url]) == 0
        assert "2 of 1 trials + 2 repeats to go" in capsys.readouterr().out
        assert one.board.state() == (Command.PAUSE, "by hand")
        assert main(["resume", "--storage", database_url]) == 0
        one.end(GOOD)
        watch.look(one.board.counts())
    assert set(watch.ended) == {0, 1}  # what metrics and trackers are told of


def test_run_waits_while_it_is_paused_and_ends_when_it_is_stopped(
    engine: Engine, database_url: str, tmp_path: Path
) -> None:
    (tmp_path / "search.yaml").write_text(SEARCH)
    command = ("run", "--dashboard-port", "0")
    with (
        started(*command, folder=tmp_path, storage=database_url) as run,
        closing(_board(engine)) as board,
    ):
        wait_for("a trial", lambda: board.counts().done > 0)
        assert main(["pause", "--storage", database_url]) == 0
        wait_for("the pause", lambda: board.counts().leased == 0)
        paused_at = board.counts().done
        with pytest.raises(subprocess.TimeoutExpired):
            run.wait(2)  # four beats
        assert board.counts().done == paused_at
        assert main(["resume", "--storage", database_url]) == 0
        wait_for("another trial", lambda: board.counts().done > paused_at)
        assert main(["stop", "--storage", database_url]) == 0
        _, said = run.communicate(timeout=60)
    assert run.returncode == 130
    assert "the search is paused (by hand): `nkat-search resume` lets it go on" in said
    assert (tmp_path / "best.yaml").exists()


def _board(engine: Engine) -> Board:
    wait_for("the study", lambda: _made(engine))
    return Board(engine=engine, study_name="steered")


def _made(engine: Engine) -> bool:
    try:
        return load_search(engine).study_name == "steered"
    except Exception:  # not yet
        return False
