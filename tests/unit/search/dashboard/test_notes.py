"""Notes for optuna-dashboard: one sentence first, nothing that breaks the Markdown."""

from __future__ import annotations

from dataclasses import replace

import optuna
import pytest
from optuna_dashboard import get_note, save_note

from search.dashboard.notes import (
    Best,
    name_the_metric,
    study_note,
    trial_note,
    write_study_note,
    write_trial_note,
)
from search.file.load import parse_search_text
from search.objective.judge import Judge
from search.provenance import DataSource
from search.score.tpe_score import Lambdas
from search.study.past import Past
from search.study.trial_attributes import TrialAttributes, TrialFacts
from search.study.trial_record import TrialRecord
from search.study.verdict import Effort, SetResult

SEARCH = parse_search_text("""\
study: small
n_trials: 4
gate: {dataset: cifar10, threshold: 0.6}
datasets: [cifar10, mnist]
space: {depth: {low: 5, high: 9}}
""")
FACTS = TrialFacts(parameters=8_011_222, tokens=16, device="a card")


def trial(
    accuracies: dict[str, float], *, attempt: int = 1, facts: TrialFacts = FACTS
) -> TrialRecord:
    """Trial 3 as Optuna has it."""
    judge = Judge(search=SEARCH, lambdas=Lambdas(theory=20.0, counted=28.0, parameters=8.0))
    verdict = judge.after_set(
        {name: SetResult(accuracy=a, weights="ema") for name, a in accuracies.items()},
        Effort(epochs=40),
        Past(),
    )
    assert verdict is not None
    return TrialRecord(
        number=3,
        state="complete" if verdict.complete else "pruned",
        value=verdict.value,
        params={},
        outcome=verdict.outcome,
        attributes=TrialAttributes(verdict=verdict, facts=facts, attempt=attempt),
    )


def test_the_first_line_says_what_happened_and_why() -> None:
    first, *rest = trial_note(trial({"cifar10": 0.5701})).split("\n\n")
    assert first.startswith("**Trial 3: failed the gate: local TPE score 0.4312 on cifar10")
    assert first.endswith("(margin -0.1688); accuracy 0.5701, needed 0.7933.**")
    assert "Gate **failed**: local TPE score 0.4312, threshold 0.6000, margin -0.1688." in rest
    assert "| cifar10 | 0.5701 | 0.4312 | ema |" in rest[1]
    assert "8,011,222" in rest[2]
    assert "epochs trained: 40" in rest[2]


def test_retries_are_told() -> None:
    assert "It took 3 attempts." in trial_note(trial({"cifar10": 0.5}, attempt=3))


def test_a_trial_that_left_nothing_still_gets_its_sentence() -> None:
    bare = TrialRecord(number=7, state="fail", value=None, params={})
    assert trial_note(bare) == "**Trial 7: is fail.**"


def test_checksums_are_short_and_scores_come_first() -> None:
    checksum = "0123456789ab" + "c" * 52
    letters = DataSource(
        name="sd19", source="prepared", train_size=11_919, checksum=checksum, stand_in_for="emnist"
    )
    text = trial_note(trial({"cifar10": 0.8, "mnist": 0.9}, facts=replace(FACTS, data=(letters,))))
    listed = text.split("\n\n")[-1].splitlines()
    assert listed[:2] == ["- Global TPE score: 0.6429", "- mean accuracy: 0.8500"]
    assert listed[-1] == (
        "- data: sd19, stands in for emnist, prepared, 11,919 images, sha256 0123456789ab..."
    )


def test_outside_text_cannot_break_out_of_its_line() -> None:
    outcome = "failed: <img src=x>\n# not a heading | `x` **y**"
    text = trial_note(TrialRecord(number=1, state="fail", value=None, params={}, outcome=outcome))
    assert "\n" not in text
    assert "\\<img" in text
    assert "\\*\\*y" in text


def test_the_study_note_holds_counts_and_the_file_as_given() -> None:
    text = study_note(
        title="Round 2",
        budget=50,
        counts={"done": 12, "complete": 5, "pruned": 7, "lost": 1},
        state="run",
        search_text="title: x\n# ```` a comment with a fence\n",
        best=Best(number=4, value=0.612),
    )
    first = text.split("\n\n")[0]
    assert first == (
        "**Round 2 runs: 12 of 50 trials count, the best Global TPE score is 0.6120 (trial 4).**"
    )
    assert "12 done, 5 complete, 7 pruned, 1 lost" in text
    assert "`````yaml\ntitle: x\n# ```` a comment with a fence\n`````" in text
    assert "cut-down" not in text


def test_the_cut_down_form_says_so() -> None:
    text = study_note(title="t", budget=1, counts={}, state="done", search_text="", cut_down=True)
    assert "cut-down" in text
    assert "no trial has passed the gate" in text


@pytest.fixture
def study() -> optuna.Study:
    return optuna.create_study(direction="maximize")


def test_notes_land_where_the_dashboard_reads_them(study: optuna.Study) -> None:
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    long_text = "é" * 5000  # more than one stored part
    assert write_study_note(study, long_text)
    assert not write_study_note(study, long_text), "an unchanged note is not written again"
    assert get_note(study) == long_text
    assert write_study_note(study, "short")
    assert get_note(study) == "short"
    trials = study.trials
    assert write_trial_note(study, trials[0]._trial_id, "first")
    assert write_trial_note(study, trials[1]._trial_id, "second")
    attrs = study._storage.get_study_system_attrs(study._study_id)
    assert attrs[f"dashboard:{trials[0]._trial_id}:note_str:0"] == "first"
    assert attrs[f"dashboard:{trials[1]._trial_id}:note_str:0"] == "second"


def test_a_finished_trials_note_can_be_rewritten(study: optuna.Study) -> None:
    trial = study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
    save_note(trial, "by hand")
    study.tell(trial, 0.5)
    assert write_trial_note(study, trial._trial_id, "by us")
    assert get_note(trial) == "by us"


def test_the_dashboards_axes_get_the_metrics_name(study: optuna.Study) -> None:
    name_the_metric(study)
    name_the_metric(study)
    assert study.metric_names == ["Global TPE score"]
