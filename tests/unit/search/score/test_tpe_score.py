"""TPE score arithmetic against every number of the specification's section 2."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.config import ModelConfig
from nkat_errors import BadInput
from search.score.explain import SOURCE_FORECAST, SOURCE_TARGETS, explain, sentences
from search.score.gate import Gate
from search.score.tpe_score import (
    accuracy_needed,
    consistency,
    generalization,
    global_bound,
    global_tpe_score,
    lambda_for,
    lambda_theory,
    lambdas,
    largest_score,
    local_tpe_score,
    robustness,
    score_all,
    weight,
)

FORECAST = [accuracy for accuracy, _ in SOURCE_TARGETS.values()]


def test_lambda_20_weighs_1_3222():
    assert weight(20) == pytest.approx(1.3222, abs=5e-5)


def test_gate_needs_0_7933():
    assert accuracy_needed(0.60, 20) == pytest.approx(0.7933, abs=5e-5)


def test_target_needs_0_9256():
    assert accuracy_needed(0.70, 20) == pytest.approx(0.9256, abs=5e-5)


def test_largest_score_is_0_7563():
    assert largest_score(20) == pytest.approx(0.7563, abs=5e-5)


def test_forecast_contradicts_its_own_formula():
    assert FORECAST == [0.91, 0.87, 0.75, 0.60]
    assert global_tpe_score(FORECAST, 20) == pytest.approx(0.592, abs=5e-4)
    assert lambda_for(SOURCE_FORECAST, sum(FORECAST) / 4) == pytest.approx(11.2, abs=0.05)
    assert global_tpe_score(FORECAST, 11.2) == pytest.approx(0.72, abs=5e-3)


@pytest.mark.parametrize(
    ("name", "accuracy", "score"),
    [
        ("mnist", 0.91, 0.69),
        ("fashion_mnist", 0.87, 0.67),
        ("emnist_letters", 0.75, 0.60),
        ("cifar10", 0.60, 0.45),
    ],
)
def test_source_targets(name, accuracy, score):
    assert SOURCE_TARGETS[name] == (accuracy, score)


@pytest.mark.parametrize(
    ("stem", "dim", "expected"),
    [
        ("off", 384, 20.0),
        ("tiny", 384, 20.0),
        ("small", 384, 22.0),
        ("tiny", 512, 20 * (1 + math.log(512 / 384))),
        ("small", 448, 22 * (1 + math.log(448 / 384))),
    ],
)
def test_theory_reading(stem, dim, expected):
    assert lambda_theory(conv_stem=stem, embed_dim=dim) == pytest.approx(expected)


def test_three_readings_of_one_network():
    found = lambdas(ModelConfig(depth=5, conv_stem="small"), parameters=8_400_000)
    assert (found.theory, found.counted, found.parameters) == pytest.approx((22.0, 20.0, 8.4))
    assert found.of("counted") == 20.0


def test_earlier_best_model_had_lambda_20():
    assert lambdas(ModelConfig(depth=5), parameters=1).counted == 20


@pytest.mark.parametrize("lam", [0.0, -0.5, -3.0, math.nan, math.inf])
def test_no_score_without_a_positive_lambda(lam):
    with pytest.raises(BadInput, match="lambda > 0"):
        local_tpe_score(0.5, lam)


def test_narrow_networks_have_no_theory_score():
    assert lambda_theory(conv_stem="tiny", embed_dim=141) < 0
    assert lambda_theory(conv_stem="tiny", embed_dim=142) > 0


def test_consistency_is_one_minus_population_deviation():
    assert consistency([0.5, 0.7]) == pytest.approx(0.9)
    assert consistency([0.4, 0.4, 0.4]) == 1
    assert consistency([0.5, None, 0.7, math.nan]) == pytest.approx(0.9)
    assert math.isnan(consistency([None, math.nan]))


def test_robustness_counts_valid_sets():
    assert robustness([0.5, None, 0.7, math.nan]) == 0.5
    assert robustness([0.5, 0.0, 0.1, 0.2]) == 0.75
    assert robustness([]) == 0


def test_generalization_is_the_worst_set_and_a_missing_one_is_0():
    assert generalization([0.5, 0.3, 0.7]) == 0.3
    assert generalization([0.5, None]) == 0


def test_a_missing_set_is_not_left_out_of_the_mean():
    assert global_tpe_score([0.8, None], 20) == pytest.approx(0.4 / weight(20))
    assert global_tpe_score([0.8, math.nan], 20) == pytest.approx(0.4 / weight(20))


def test_score_all():
    scores = score_all({"cifar10": 0.8, "mnist": None}, 20)
    assert scores.local == {"cifar10": pytest.approx(0.8 / weight(20)), "mnist": None}
    assert (scores.robustness, scores.generalization, scores.consistency) == (0.5, 0.0, 1.0)


def test_bound_is_reached_by_perfect_sets():
    assert global_bound([0.8], sets=4, lam=20) == pytest.approx(3.8 / 4 / weight(20))
    assert global_bound([0.8, 1, 1, 1], sets=4, lam=20) == global_bound([0.8], sets=4, lam=20)


accuracies = st.floats(0.01, 1)


@given(st.lists(accuracies, min_size=1, max_size=4), st.floats(0.1, 100))
def test_bound_never_lies_below_what_is_reached(values, lam):
    for known in range(len(values) + 1):
        bound = global_bound(values[:known], sets=len(values), lam=lam)
        assert bound >= global_tpe_score(values, lam) - 1e-9


@given(accuracies, st.floats(0.1, 100))
def test_needed_accuracy_inverts_the_score(accuracy, lam):
    score = local_tpe_score(accuracy, lam)
    assert accuracy_needed(score, lam) == pytest.approx(accuracy)
    assert lambda_for(score, accuracy) == pytest.approx(lam, rel=1e-6)


@pytest.mark.parametrize(
    ("score", "passed"), [(0.6, True), (0.61, True), (0.5999, False), (None, False)]
)
def test_gate(score, passed):
    verdict = Gate(threshold=0.6).judge(score)
    assert verdict.passed is passed
    assert verdict.margin == pytest.approx((score or 0) - 0.6)
    assert verdict.constraint == -verdict.margin
    assert (verdict.constraint <= 0) is passed


def test_gate_grades_nan_as_the_worst_finite_score():
    verdict = Gate(threshold=0.6).judge(math.nan)
    assert (verdict.passed, verdict.score, verdict.constraint) == (False, 0.0, 0.6)


def test_explanation_says_what_cannot_be_reached():
    found = explain(28.33, gate_dataset="cifar10", threshold=0.6)
    gate, target = found.needs
    assert gate.reachable
    assert not target.reachable
    text = " ".join(sentences(found, configuration={"conv_stem": "small"}))
    assert "out of reach" in text
    assert "lambda 11.2" in text
