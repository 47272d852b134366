"""`nkat-search run` as a user types it: real training, real Postgres, best.yaml, and again."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import pytest
from nkat_command import TINY_TRAINING, nkat, started
from process_helpers import wait_for

from model.network.cost import model_cost
from search.export.best_reading import load_best
from storage.board import Board
from storage.engine import make_engine
from storage.searches import list_searches

pytestmark = [pytest.mark.process, pytest.mark.postgres]

SEARCH = (
    TINY_TRAINING
    + """
study: tiny
cut_down: true
n_trials: 3
lambda: counted
gate: {dataset: cifar10, threshold: 0.2}
datasets:
  - {name: cifar10, epochs: 3, limit: 600, validation: 200, synthetic: true}
  - {name: mnist, limit: 200, validation: 100, synthetic: true}
  - {name: fashion_mnist, limit: 200, validation: 100, synthetic: true}
  - {name: emnist_letters, limit: 200, validation: 104, synthetic: true}
space:
  patch_size: [2, 4]
  lr: {low: 1.0e-6, high: 1.0e-2, log: true}
service: {lease_s: 10, checkpoint_every_s: 0}
"""
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "search.yaml").write_text(SEARCH)
    return tmp_path


@pytest.mark.slow
def test_a_whole_search_ends_with_a_best_yaml_that_trains_to_the_same_scores(
    folder: Path, database_url: str
) -> None:
    made = nkat("create", "--config", "search.yaml", folder=folder, storage=database_url)
    assert made.returncode == 0, made.stderr
    # One that learns and one that cannot: both sides of the gate are seen.
    engine = make_engine(database_url)
    board = Board(engine=engine, study_name="tiny")
    for lr in (5e-3, 1e-6):
        params = {"patch_size": 2, "lr": lr}
        board.with_study("enqueue", lambda study, p=params: study.enqueue_trial(p))  # type: ignore[misc]
    run = ("run", "--config", "search.yaml", "--dashboard-port", "0")
    done = nkat(*run, folder=folder, storage=database_url)
    assert done.returncode == 0, done.stderr
    assert "SYNTHETIC" in done.stderr
    assert "CUT DOWN" in done.stderr
    assert re.search(r"about \d+ s a trial so far: about .+ for 2 more", done.stderr)
    assert "going on" not in done.stderr
    recalculate, report, dashboard = done.stdout.partition("\nnext:\n")[2].splitlines()
    assert recalculate.split()[:3] == ["nkat-search", "recalculate", "best.yaml"]
    assert "report --study tiny --storage $NKAT_STORAGE" in report
    assert dashboard.split()[:2] == ["nkat-search", "dashboard"]

    counts = board.counts()
    assert counts.complete + counts.pruned == 3
    by_number = {row.number: row for row in board.trials()}
    assert by_number[0].state == "COMPLETE"
    assert by_number[1].state == "PRUNED"
    assert by_number[1].user_attrs["gate_passed"] is False
    board.close()
    engine.dispose()

    best = load_best(folder / "best.yaml")
    assert best.cut_down
    assert any("synthetic" in note for note in best.provenance.notes)
    model, _ = best.configuration()
    assert (
        model_cost(model.for_images(image_size=32, channels=3, classes=10)).parameters
        == best.network.parameters
    )
    again = nkat("train", "--config", "best.yaml", "--json", folder=folder)
    assert again.returncode == 0, again.stderr
    trained = json.loads(again.stdout)
    # The same seed, threads and machine: the same weights, so the same scores.
    assert trained["recorded_global_tpe_score"] == pytest.approx(best.scores.global_tpe_score)
    assert trained["global_tpe_score"] == pytest.approx(best.scores.global_tpe_score)

    # Typed again, a finished search only shows its table; here it runs its best trial again.
    (folder / "search.yaml").write_text(SEARCH + "finalists: {count: 1, runs: 2}\n")
    repeated = nkat(*run, folder=folder, storage=database_url)
    assert repeated.returncode == 0, repeated.stderr
    again_best = load_best(folder / "best.yaml")
    assert (again_best.params, again_best.scores) == (best.params, best.scores)
    assert again_best.finalists is not None
    assert [one.trial for one in again_best.finalists.ranked] == [best.provenance.trial]
    assert f"trial {best.provenance.trial} wins" in " ".join(repeated.stdout.split())

    # A second study begins with what the first one found, and ends with it.
    (folder / "best.yaml").rename(folder / "first.yaml")
    early = nkat(
        *run, "--force-new", "--enqueue", "first.yaml", "--from-study", "tiny",
        "--stop-at", "0.01", folder=folder, storage=database_url,
    )  # fmt: skip
    assert early.returncode == 0, early.stderr
    assert "ended early: trial 0 reached a Global TPE score of" in early.stderr
    assert load_best(folder / "best.yaml").params == best.params
    wrong = nkat(*run, "--from-study", "tinny", folder=folder, storage=database_url)
    assert wrong.returncode == 2
    assert "tinny" in wrong.stderr


@pytest.mark.slow
def test_ctrl_c_ends_cleanly_and_the_same_command_goes_on(folder: Path, database_url: str) -> None:
    lines = SEARCH.splitlines(keepends=True)
    two_sets = [line for line in lines if "fashion" not in line and "letters" not in line]
    (folder / "search.yaml").write_text("".join(two_sets))
    run = ("run", "--config", "search.yaml", "--dashboard-port", "0")
    engine = make_engine(database_url)
    with started(*run, "--grace", "10", folder=folder, storage=database_url) as first:
        wait_for("the study", lambda: bool(list_searches(engine)), 120)
        board = Board(engine=engine, study_name="tiny")
        wait_for("a trial under way", lambda: board.counts().running > 0, 120)
        first.send_signal(signal.SIGINT)
        _, said = first.communicate(timeout=60)
    assert first.returncode == 130
    assert "stopping: epochs under way may end, at most 10 s" in said
    assert board.counts().running == 0
    second = nkat(*run, folder=folder, storage=database_url)
    assert second.returncode in (0, 1), second.stderr  # 1: nothing happened to pass
    assert "going on, 0 of 3 done" in second.stderr
    counts = board.counts()
    assert counts.done == 3
    assert counts.lost == counts.failed_attempts == 0
    board.close()
    engine.dispose()


def test_another_file_under_the_same_name_is_refused_with_the_difference(
    folder: Path, database_url: str
) -> None:
    made = nkat("create", "--config", "search.yaml", folder=folder, storage=database_url)
    assert made.returncode == 0, made.stderr
    (folder / "other.yaml").write_text(SEARCH.replace("threshold: 0.2", "threshold: 0.3"))
    refused = nkat(
        "run", "--config", "other.yaml", "--dashboard-port", "0",
        folder=folder, storage=database_url,
    )  # fmt: skip
    assert refused.returncode == 2
    assert "0.3" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_missing_data_folder_is_one_sentence_and_exit_code_2(
    folder: Path, database_url: str
) -> None:
    (folder / "real.yaml").write_text(SEARCH.replace(", synthetic: true", ""))
    refused = nkat(
        "run", "--config", "real.yaml", "--data-dir", "nowhere", "--dashboard-port", "0",
        folder=folder, storage=database_url,
    )  # fmt: skip
    assert refused.returncode == 2
    assert "nowhere" in refused.stderr
    assert "Traceback" not in refused.stderr
