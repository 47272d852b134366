"""Saved device time: each part against its own counterfactual, no second twice."""

from __future__ import annotations

from dataclasses import replace

import pytest

from search.file.load import parse_search_text
from search.objective.judge import Judge
from search.score.tpe_score import Lambdas
from search.study.past import Past
from search.study.saved import saved_hours
from search.study.trial_attributes import TrialAttributes
from search.study.trial_record import TrialRecord
from search.study.verdict import Effort, Ending, RungStop, SetResult

SEARCH = parse_search_text("""\
study: small
n_trials: 40
gate: {dataset: cifar10, threshold: 0.5}
datasets: [cifar10, mnist, fashion_mnist]
space: {depth: {low: 5, high: 9}}
""")
JUDGE = Judge(search=SEARCH, lambdas=Lambdas(theory=20.0, counted=28.0, parameters=8.4))


def trial(number: int, *accuracies: float, seconds: tuple[float, float]) -> TrialRecord:
    names = ("cifar10", "mnist", "fashion_mnist")
    results = {
        n: SetResult(accuracy=a, weights="raw") for n, a in zip(names, accuracies, strict=False)
    }
    effort = Effort(epochs=9, seconds_stage1=seconds[0], seconds_stage2=seconds[1])
    verdict = JUDGE.after_set(results, effort, Past(best_global=2.0))
    assert verdict is not None
    return TrialRecord(
        number=number,
        state="complete" if verdict.complete else "pruned",
        value=verdict.value,
        params={},
        attributes=TrialAttributes(verdict=verdict, facts=None),
    )


COMPLETE = [
    trial(0, 0.8, 0.9, 0.9, seconds=(10.0, 20.0)),
    trial(1, 0.8, 0.9, 0.9, seconds=(30.0, 60.0)),
]
GATED = trial(2, 0.4, seconds=(100.0, 0.0))
BOUNDED = trial(3, 0.8, 0.9, seconds=(20.0, 25.0))


def test_a_trial_is_measured_by_its_own_stage_1() -> None:
    found = saved_hours([*COMPLETE, GATED, BOUNDED])
    assert found.stage2_ratio == pytest.approx(2.0)
    gate, bound = found.by["gate"], found.by["bound"]
    assert (gate.stopped, gate.hours) == (1, pytest.approx(200 / 3600))
    assert (bound.stopped, bound.hours) == (1, pytest.approx((2 * 20 - 25) / 3600))
    assert found.hours == pytest.approx(215 / 3600)
    assert found.spent_hours == pytest.approx((30 + 90 + 100 + 45) / 3600)
    assert "2.00 times its stage 1" in gate.counterfactual
    assert "gate 0.056 (1), bound 0.004 (1)" in found.sentence()
    assert found.to_dict()["by"]["gate"]["counterfactual"] == gate.counterfactual


def test_a_rung_saves_the_rest_of_stage_1_and_the_gate_its_stage_2() -> None:
    stop = RungStop(epoch=3, epochs=12, score=0.3, expected=0.4, at_most=0.45, trials=9)
    verdict = replace(
        JUDGE.cannot_train({}, Effort(seconds_stage1=5.0), ending=Ending.DIVERGED, reason=""),
        ending=Ending.RUNG,
        rung=stop,
    )
    at_rung = replace(GATED, attributes=TrialAttributes(verdict=verdict, facts=None))
    found = saved_hours([*COMPLETE, at_rung])
    assert {name: part.stopped for name, part in found.by.items()} == {
        "rungs": 1,
        "gate": 0,
        "bound": 0,
    }
    assert found.by["rungs"].hours == pytest.approx(15 / 3600)  # 9 more epochs
    assert found.by["gate"].hours == pytest.approx(2 * 20 / 3600)  # twice its whole stage 1
    # Without a complete trial the rungs' part is known, the gate's is not.
    alone = saved_hours([at_rung])
    assert (alone.hours, alone.by["rungs"].hours) == (None, pytest.approx(15 / 3600))
    assert "rungs 0.004 (1), gate ? (0)" in alone.sentence()


def test_a_rung_because_of_the_best_score_saves_stage_2_for_the_bound() -> None:
    stop = RungStop(epoch=2, epochs=4, score=0.6, expected=0.65, at_most=0.66, trials=9)
    verdict = replace(
        JUDGE.cannot_train({}, Effort(seconds_stage1=5.0), ending=Ending.DIVERGED, reason=""),
        ending=Ending.RUNG,
        rung=stop,
        bound=0.68,
        to_beat=0.69,
    )
    at_rung = replace(GATED, attributes=TrialAttributes(verdict=verdict, facts=None))
    by = saved_hours([*COMPLETE, at_rung]).by
    assert [by[name].hours for name in ("rungs", "gate", "bound")] == [
        pytest.approx(5 / 3600),
        0.0,
        pytest.approx(2 * 10 / 3600),
    ]
    assert (by["rungs"].stopped, by["bound"].stopped) == (1, 0)


def test_without_a_complete_trial_it_is_not_known() -> None:
    found = saved_hours([GATED])
    assert (found.hours, found.by["gate"].hours, found.by["bound"].hours) == (None, None, 0.0)
    assert "gate ? (1)" in found.sentence()
    assert "known once a trial is complete" in found.sentence()


def test_nothing_stopped_nothing_saved() -> None:
    assert saved_hours([]).sentence() == saved_hours(COMPLETE).sentence() == ""
    running = replace(GATED, state="running", attributes=None)
    assert saved_hours([*COMPLETE, running]).stopped == 0


def test_a_longer_stage_2_than_expected_saves_nothing_negative() -> None:
    slow = trial(4, 0.8, 0.9, seconds=(1.0, 500.0))
    assert saved_hours([*COMPLETE, slow]).by["bound"].hours == 0.0
