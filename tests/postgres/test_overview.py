"""Studies in a list, side by side, as rows an epoch, deleted; the same for notebooks."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from io import StringIO

import pandas as pd
import pytest
from nkat_command import LIMIT_S, ROOT, command, environment
from report_searches import GOOD, report_search, told
from sqlalchemy import Engine, text

from nkat_errors import BadInput
from search import notebook
from search.cli import main
from search.exit_codes import EXIT_BAD_INPUT
from search.score.tpe_score import local_tpe_score
from storage.searches import create_search, delete_search, list_searches

pytestmark = pytest.mark.postgres


@pytest.fixture
def said(capsys, database_url, monkeypatch, tmp_path):
    """Runs a command in this process; what it printed, and its exit code."""
    monkeypatch.setenv("NKAT_STORAGE", database_url)
    monkeypatch.delenv("NKAT_STATE_DIR", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, code: int = 0) -> str:
        assert main(list(arguments)) == code
        out, err = capsys.readouterr()
        return out if code == 0 else err

    return run


@pytest.fixture
def two(engine: Engine) -> None:
    """`first` with two trials that passed, two that did not and one under way; `second`."""
    with told(engine, report_search(trials=40, study="first")) as one:
        one.end(GOOD)
        one.end(GOOD | {"mnist": 0.995})
        one.end({"cifar10": 0.7})
        one.end({"cifar10": 0.6})
        one.claim()
        one.board.retire_worker(one.worker, "done")
    with told(engine, report_search(trials=2, study="second", title="Other")) as one:
        one.end(GOOD | {"mnist": 1.0})
        one.end({"cifar10": 0.7})
        one.board.retire_worker(one.worker, "done")


@pytest.mark.usefixtures("two")
def test_list(said):
    second, first = json.loads(said("study", "list", "--json"))
    assert (first["name"], first["done"], first["budget"]) == ("first", 4, 40)
    assert (second["name"], second["state"], second["complete"]) == ("second", "done", 1)
    mean = sum((GOOD | {"mnist": 1.0}).values()) / 4
    assert second["best"] == pytest.approx(local_tpe_score(mean, 20))
    assert second["workers"] == 0
    table = said("study", "list")
    assert table.index("second") < table.index("first")
    assert "2 of 2" in table


def test_an_empty_database_has_no_study(said):
    assert "no study" in said("study", "list")
    assert "there is no search in this database" in said("study", "show", code=EXIT_BAD_INPUT)


@pytest.mark.usefixtures("two")
def test_every_epoch_as_csv(said):
    frame = pd.read_csv(StringIO(said("study", "show", "first", "--csv")))
    assert sorted(frame["trial"].unique()) == list(range(5))
    trial = frame[frame["trial"] == 0]
    assert trial["stage"].tolist() == [1] * 5 + [2] * 3
    assert trial["dataset"].tolist()[4:] == ["cifar10", "mnist", "fashion_mnist", "sd19_letters"]
    assert trial["epoch"].tolist()[:5] == [1, 2, 3, 4, 5]
    assert trial["epoch"].isna().tolist() == [False] * 5 + [True] * 3
    assert trial["accuracy"].iloc[4] == pytest.approx(GOOD["cifar10"])
    assert trial["tpe_score"].iloc[-1] == pytest.approx(trial["global_tpe_score"].iloc[-1])
    assert {"patch_size", "conv_stem", "depth", "temperature"} <= set(frame.columns)
    plain = json.loads(said("study", "show", "first", "--json"))
    assert plain["epochs"]["0"][0]["epoch"] == 1
    assert plain["best_trial"] == 1
    status = json.loads(said("status", "--study", "first", "--all", "--json"))
    by_number = {row["number"]: row["epochs"] for row in status["trials"]}
    assert by_number[0] == plain["epochs"]["0"]
    assert "reports" not in status["trials"][0]
    assert "Global TPE score" in said("study", "show", "first")
    assert "one of the two" in said("study", "show", "--csv", "--json", code=EXIT_BAD_INPUT)


@pytest.mark.usefixtures("two")
def test_compare(said):
    found = json.loads(said("study", "compare", "first", "second", "--json"))
    rows = {row["what"]: (row["first"], row["second"]) for row in found["rows"]}
    assert rows["trials"] == (4, 2)
    assert rows["share that passed all"] == (0.5, 0.5)
    assert rows["accuracy on mnist"] == (0.995, 1.0)
    assert found["best_trials"][0]["trial"] == 1
    assert "-n_trials: 40" in found["difference"]
    assert "+n_trials: 2" in found["difference"]
    table = said("study", "compare", "first", "second")
    assert "best Global TPE score" in table
    assert "+title: Other" in table
    assert "equal" in said("study", "compare", "first", "first")


def test_a_study_without_a_complete_trial_is_not_compared(said, engine):
    with told(engine, report_search(study="bare")):
        pass
    line = said("study", "compare", "bare", "bare", code=EXIT_BAD_INPUT)
    assert "study bare has no complete trial to compare" in line
    line = said("study", "compare", "bare", "bear", code=EXIT_BAD_INPUT)
    assert "there is no search 'bear'" in line
    assert "No trial" in said("study", "show", "bare")
    frame = pd.read_csv(StringIO(said("study", "show", "bare", "--csv")))
    assert frame.empty
    with notebook.open_study(study="bare") as study:
        assert study.trials().empty
        assert study.epochs().empty
        with pytest.raises(BadInput, match="no complete trial"):
            study.best()


@pytest.mark.usefixtures("two")
def test_delete_takes_everything(said, engine, tmp_path):
    with notebook.open_study(study="first") as study:
        store = study._session.checkpoints(tmp_path / "kept")
    store.save(3, b"x")
    other = tmp_path / "kept" / "someone-else"
    other.mkdir()
    line = said("study", "delete", "first", code=EXIT_BAD_INPUT)
    assert "give --yes" in line
    assert len(list_searches(engine)) == 2
    told_so = said("study", "delete", "first", "--yes", "--checkpoint-dir", str(tmp_path / "kept"))
    assert "deleted: study first, checkpoints of 1 trial" in told_so
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["someone-else"]
    assert [record.study_name for record in list_searches(engine)] == ["second"]
    with engine.connect() as connection:
        for table in ("nkat_attempt", "nkat_ticket", "nkat_worker", "nkat_search"):
            left = connection.execute(
                text(f"SELECT count(*) FROM {table} WHERE study_name = 'first'")
            ).scalar_one()
            assert left == 0, table
        assert connection.execute(text("SELECT count(*) FROM studies")).scalar_one() == 1
        trials = connection.execute(text("SELECT count(*) FROM trials")).scalar_one()
        assert trials == 2
    assert "there is no search 'first'" in said("study", "delete", "first", code=EXIT_BAD_INPUT)
    again = create_search(engine, study_name="first", search_text="", search_hash="h", budget=3)
    assert (again.created, again.budget) == (True, 3)


def test_a_study_that_is_worked_on_is_not_deleted(said, engine):
    with told(engine, report_search(study="busy")) as one:
        one.claim()
        line = said("study", "delete", "busy", "--yes", code=EXIT_BAD_INPUT)
    assert "study busy is worked on by here, pid" in line
    assert len(list_searches(engine)) == 1
    with pytest.raises(BadInput, match="no search 'nobody'"):
        delete_search(engine, "nobody")


def test_delete_asks_whoever_sits_there(engine, database_url, tmp_path):
    with told(engine, report_search(study="first")) as one:
        one.board.retire_worker(one.worker, "done")
    for answer, left in (("n", 1), ("y", 0)):
        ours, theirs = pty.openpty()
        child = subprocess.Popen(
            command("study", "delete", "first", "--checkpoint-dir", tmp_path),
            stdin=theirs,
            stdout=theirs,
            stderr=subprocess.PIPE,
            env=environment(storage=database_url),
            cwd=ROOT,
            text=True,
        )
        os.close(theirs)
        os.write(ours, f"{answer}\n".encode())
        _, err = child.communicate(timeout=LIMIT_S)
        os.close(ours)
        assert child.returncode == (2 if left else 0), err
        assert len(list_searches(engine)) == left
        assert ("study first was not deleted" in err) == bool(left)


def test_a_study_of_another_version_is_listed_and_can_be_deleted(said, engine):
    create_search(engine, study_name="old", search_text="colour: red", search_hash="h", budget=3)
    (line,) = json.loads(said("study", "list", "--json"))
    assert (line["name"], line["budget"]) == ("old", 3)
    assert "colour" in said("study", "show", "old", code=EXIT_BAD_INPUT)
    assert "deleted: study old" in said("study", "delete", "old", "--yes")
    assert list_searches(engine) == []
