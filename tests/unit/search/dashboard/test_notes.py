"""Notes for optuna-dashboard: one sentence first, nothing that breaks the Markdown."""

from __future__ import annotations

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

FAILED = {
    "outcome": "failed the gate: local TPE score 0.4312 on cifar10 is below 0.60 (margin -0.1688)",
    "gate_score": 0.4312,
    "gate_margin": -0.1688,
    "gate_passed": False,
    "accuracy_cifar10": 0.5701,
    "tpe_cifar10": 0.4312,
    "weights_cifar10": "ema",
    "parameters": 8_011_222,
    "epochs": 40.0,  # JSON may give a float back
}


def test_the_first_line_says_what_happened_and_why() -> None:
    first, *rest = trial_note(number=3, state="pruned", user_attrs=FAILED).split("\n\n")
    assert first.startswith("**Trial 3: failed the gate: local TPE score 0.4312 on cifar10")
    assert first.endswith("(margin -0.1688).**")
    assert "Gate **failed**: local TPE score 0.4312, threshold 0.6000, margin -0.1688." in rest
    assert "| cifar10 | 0.5701 | 0.4312 | ema |" in rest[1]
    assert "8,011,222" in rest[2]
    assert "epochs trained: 40" in rest[2]


def test_retries_are_told() -> None:
    assert "It took 3 attempts." in trial_note(
        number=0, state="complete", user_attrs=FAILED, attempts=3
    )


def test_a_trial_that_left_nothing_still_gets_its_sentence() -> None:
    assert trial_note(number=7, state="fail", user_attrs={}) == "**Trial 7: is fail.**"


def test_checksums_are_short_and_scores_come_first() -> None:
    checksum = "0123456789ab" + "c" * 52
    text = trial_note(
        number=1,
        state="complete",
        user_attrs={
            "data_note": f"cifar10: prepared, sha256 {checksum}; mnist: synthetic",
            "global_tpe_score": 0.5,
            "epochs": 3,
        },
    )
    listed = text.split("\n\n")[-1].splitlines()
    assert listed == [
        "- Global TPE score: 0.5000",
        "- epochs trained: 3",
        "- data: cifar10: prepared, sha256 0123456789ab...; mnist: synthetic",
    ]


def test_outside_text_cannot_break_out_of_its_line() -> None:
    text = trial_note(
        number=1,
        state="fail",
        user_attrs={"outcome": "failed: <img src=x>\n# not a heading | `x` **y**"},
    )
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
    assert "| done | complete | pruned | lost |" in text
    assert "| 12 | 5 | 7 | 1 |" in text
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
