"""Searches: made once, gone on with, refused with the difference, resized, listed."""

from __future__ import annotations

import optuna
import pytest
from pg_children import STUDY, new_search
from sqlalchemy import Engine

from nkat_errors import BadInput
from search.file.load import parse_search_text
from search.study.create import create_study, settled_in_study
from storage.board import Board
from storage.errors import SearchDiffers
from storage.optuna_internals import optuna_storage
from storage.records import Claim
from storage.searches import create_search, list_searches, load_search

pytestmark = pytest.mark.postgres

TEXT = "study: a\nn_trials: 5\nseed: 0\n"


def test_record_keeps_what_was_given(engine: Engine) -> None:
    made = create_search(
        engine,
        study_name="a",
        search_text=TEXT,
        search_hash="h",
        budget=5,
        versions={"git": "abc"},
    )
    assert made.created
    again = load_search(engine, "a")
    assert (again.search_text, again.search_hash, again.budget) == (TEXT, "h", 5)
    assert again.versions["git"] == "abc"
    assert set(again.versions) == {"git", "postgres"}
    assert again.created_at.utcoffset() is not None
    assert not again.created


def test_same_hash_goes_on_and_may_resize(engine: Engine) -> None:
    new_search(engine, 3)
    new_search(engine, 5)
    assert load_search(engine, STUDY).budget == 5
    new_search(engine, 2)
    assert load_search(engine).budget == 2
    assert len(list_searches(engine)) == 1


def test_first_trials_are_entered_once_and_worked_on_first(engine: Engine) -> None:
    points = [{"x": 0.25}, {"x": 0.75}]
    new_search(engine, 3, first_trials=points[:1])
    new_search(engine, 3, first_trials=points)
    board = Board(engine=engine, study_name=STUDY)
    worker = board.register_worker(host="h", pid=1, device="cpu")
    drawn = []
    for _ in range(3):
        claim = board.claim(worker, optuna.samplers.RandomSampler(seed=0))
        assert isinstance(claim, Claim)
        drawn.append(board.suggest(claim, lambda trial: trial.suggest_float("x", 0, 1)))
    assert drawn[:2] == [0.25, 0.75]
    assert drawn[2] not in (0.25, 0.75)
    new_search(engine, 3, first_trials=points)  # nothing waits any more: nothing new is made
    study = optuna.load_study(study_name=STUDY, storage=optuna_storage(engine))
    assert len(study.trials) == 3
    board.close()


def test_what_may_change_between_runs_is_stored(engine: Engine) -> None:
    for text in (TEXT, TEXT + "service: {lease_s: 30}\n"):
        found = create_search(engine, study_name="a", search_text=text, search_hash="h", budget=5)
        assert found.search_text == load_search(engine, "a").search_text == text


def test_other_file_is_refused_with_the_difference(engine: Engine) -> None:
    create_search(engine, study_name="a", search_text=TEXT, search_hash="h", budget=5)
    changed = TEXT.replace("seed: 0", "seed: 1")
    with pytest.raises(SearchDiffers) as caught:
        create_search(engine, study_name="a", search_text=changed, search_hash="h2", budget=9)
    message = str(caught.value)
    assert "-seed: 0" in message
    assert "+seed: 1" in message
    assert "study: a" not in message  # only what differs, with one line around it
    assert "--force-new" in message
    assert load_search(engine, "a").budget == 5


def test_force_new_finds_the_next_free_name(engine: Engine) -> None:
    storage = optuna_storage(engine)
    optuna.create_study(study_name="a-2", storage=storage)  # somebody's own
    storage.remove_session()
    names = [
        create_search(
            engine,
            study_name="a",
            search_text=TEXT,
            search_hash=f"h{i}",
            budget=1,
            force_new=True,
        ).study_name
        for i in range(3)
    ]
    assert names == ["a", "a-3", "a-4"]
    assert [record.study_name for record in list_searches(engine)] == names[::-1]
    assert load_search(engine).study_name == "a-4"


def test_no_search(engine: Engine) -> None:
    with pytest.raises(BadInput, match="there is no search in this database"):
        load_search(engine)
    new_search(engine, 1)
    with pytest.raises(BadInput, match="there is 'a study'"):
        Board(engine=engine, study_name="other")


def test_study_deleted_through_the_dashboard_is_made_anew(engine: Engine) -> None:
    new_search(engine, 3)
    old = load_search(engine)
    storage = optuna_storage(engine)
    optuna.delete_study(study_name=STUDY, storage=storage)
    storage.remove_session()
    new_search(engine, 2)
    fresh = load_search(engine)
    assert fresh.budget == 2
    assert fresh.study_id != old.study_id
    assert fresh.salt != old.salt


def test_names_that_do_not_fit(engine: Engine) -> None:
    new_search(engine, 1, study_name="x" * 512)
    for name, force_new in (("x" * 600, False), ("", False), ("x" * 512, True)):
        with pytest.raises(BadInput, match=r"characters: it must have 1\.\.512") as caught:
            new_search(engine, 1, study_name=name, force_new=force_new)
        assert len(str(caught.value)) < 150
    assert len(list_searches(engine)) == 1


@pytest.mark.parametrize("budget", [0, -1, 10**9])
def test_impossible_budget(engine: Engine, budget: int) -> None:
    with pytest.raises(BadInput, match="budget"):
        create_search(engine, study_name="a", search_text="", search_hash="h", budget=budget)
    assert list_searches(engine) == []


def test_a_study_goes_on_with_the_sets_it_has(engine: Engine) -> None:
    asked = parse_search_text(
        "study: stands-in\nn_trials: 2\ngate: {dataset: mnist, threshold: 0.1}\n"
        "datasets: [{name: mnist}, {name: emnist_letters, alternatives: [sd19_letters]}]\n"
        "train: {epochs: 2, warmup: 1}\nspace: {depth: [2, 3]}\n"
    )
    assert settled_in_study(engine, asked, force_new=False) is None
    mnist, letters = asked.datasets
    had = letters.model_copy(
        update={"name": "sd19_letters", "alternatives": (), "stand_in_for": "emnist_letters"}
    )
    create_study(engine, asked.with_datasets((mnist, had)))
    again = settled_in_study(engine, asked, force_new=False)
    assert again is not None
    assert again.search_file.names == ("mnist", "sd19_letters")
    assert not create_study(engine, again.search_file).created
    assert settled_in_study(engine, asked, force_new=True) is None
