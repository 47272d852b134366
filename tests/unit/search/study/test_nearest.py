"""Which trial came nearest, and the sentence that says how near."""

from __future__ import annotations

import pytest

from search.file.load import parse_search_text
from search.objective.judge import Judge, infeasible
from search.score.tpe_score import Lambdas, weight
from search.study.nearest import best_at_the_gate, nearest, none_passed
from search.study.past import Past
from search.study.trial_attributes import TrialAttributes
from search.study.trial_record import TrialRecord
from search.study.verdict import Effort, Ending, SetResult, Verdict

SEARCH = parse_search_text("""\
study: small
n_trials: 4
gate: {dataset: cifar10, threshold: 0.6}
datasets: [cifar10, mnist]
space: {depth: {low: 5, high: 9}}
""")


def judge(lam: float = 20.0) -> Judge:
    return Judge(search=SEARCH, lambdas=Lambdas(theory=lam, counted=20, parameters=8.0))


def record(number: int, verdict: Verdict | None, state: str = "pruned") -> TrialRecord:
    assert verdict is not None
    return TrialRecord(
        number=number,
        state=state,
        value=None,
        params={},
        outcome=verdict.outcome,
        attributes=TrialAttributes(verdict=verdict, facts=None),
    )


def failed(number: int, accuracy: float, lam: float = 20.0) -> TrialRecord:
    results = {"cifar10": SetResult(accuracy=accuracy, weights="raw")}
    return record(number, judge(lam).after_set(results, Effort(), Past()))


NO_MEMORY = record(
    9, judge().cannot_train({}, Effort(), ending=Ending.OUT_OF_MEMORY, reason="8 GB are too few")
)
RUNNING = TrialRecord(number=8, state="running", value=None, params={})


def test_the_smallest_distance_to_the_gate_counts_not_the_accuracy() -> None:
    # At lambda 30 an accuracy of 0.75 is worth less than 0.70 at lambda 20.
    trials = [failed(0, 0.5), failed(1, 0.75, lam=30), failed(2, 0.70), NO_MEMORY, RUNNING]
    found = nearest(trials)
    assert found is not None
    assert found.number == 2
    gate = best_at_the_gate(trials)
    assert gate is not None
    assert gate.accuracy_needed == pytest.approx(0.6 * weight(20))
    assert gate.margin == pytest.approx(0.70 / weight(20) - 0.6)
    assert gate.short() == ("best gate margin -0.0706 (trial 2: accuracy 0.7000, needs 0.7933)")


def test_the_earliest_of_equals() -> None:
    found = nearest([failed(5, 0.5), failed(3, 0.5), failed(4, 0.5)])
    assert found is not None
    assert found.number == 3


def test_the_sentence_has_the_arithmetic() -> None:
    assert none_passed([failed(0, 0.5), failed(2, 0.70), RUNNING]) == (
        "none of 2 ended trials passed the gate: trial 2 came nearest: its local TPE score on "
        "cifar10 is 0.5294, 0.0706 below the gate of 0.60; that takes an accuracy of 0.60 * "
        "log10(1 + 20) = 0.7933, and it reached 0.7000 (9.33 points short)"
    )


def test_a_trial_that_passed_and_ended_early_is_nearest() -> None:
    results = {"cifar10": SetResult(accuracy=0.9, weights="raw")}
    diverged = judge().cannot_train(results, Effort(), ending=Ending.DIVERGED, reason="NaN")
    said = none_passed([failed(0, 0.79), record(1, diverged)])
    assert "trial 1 passed the gate" in said
    assert said.endswith("ended early: could not be trained on mnist: NaN")


def test_where_nothing_was_measured_the_last_outcome_is_told() -> None:
    draw = record(3, infeasible(SEARCH, "1024 tokens are more than limits.tokens = 256"))
    assert nearest([NO_MEMORY, draw, RUNNING]) is None
    said = none_passed([NO_MEMORY, draw, RUNNING])
    assert said.startswith("none of 2 ended trials was trained on the gate's data set")
    assert said.endswith("infeasible: 1024 tokens are more than limits.tokens = 256")
