"""Scores of several seeds."""

from __future__ import annotations

import math

import pytest

from search.score.seeds import OVER_ALL, TARGETS, MeanStd, SeedScores, judge

ACCURACIES = {"cifar10": [0.86, 0.88, 0.87], "mnist": [0.99, 0.99, 0.99]}


def test_mean_and_sample_deviation_of_the_seeds():
    scores = SeedScores.of(ACCURACIES, 20)
    weight = math.log10(21)
    per_seed = [(0.86 + 0.99) / 2 / weight, (0.88 + 0.99) / 2 / weight, (0.87 + 0.99) / 2 / weight]
    found = scores.over_all["global_tpe_score"]
    assert found.mean == pytest.approx(sum(per_seed) / 3)
    # n - 1: the three differ by 0.005 / weight and 0.005 / weight
    assert found.std == pytest.approx(0.005 / weight)
    assert scores.local["cifar10"].mean == pytest.approx(0.87 / weight)
    assert scores.over_all["generalization"].mean == pytest.approx(0.87 / weight)
    assert scores.over_all["robustness"] == MeanStd(mean=1.0, std=0.0)
    assert set(scores.over_all) == set(OVER_ALL)


def test_one_seed_has_no_deviation():
    scores = SeedScores.of({"mnist": [0.9]}, 20)
    assert scores.over_all["global_tpe_score"].std is None


def test_a_training_that_broke_down_counts_as_0_in_its_seed_only():
    scores = SeedScores.of({"cifar10": [0.8, 0.8], "mnist": [0.9, None]}, 9)
    first, second = scores.per_seed
    assert (first.global_tpe_score, second.global_tpe_score) == pytest.approx((0.85, 0.4))
    assert scores.over_all["robustness"].mean == 0.75
    assert scores.local["mnist"] == MeanStd(mean=0.9, std=None)


def test_nothing_at_all():
    scores = SeedScores.of({"mnist": [None]}, 9)
    assert scores.over_all["consistency"] == MeanStd(mean=None, std=None)
    assert judge("consistency", None) == "FAIL"


def test_unequal_numbers_of_seeds_are_a_bug():
    with pytest.raises(ValueError, match="shorter"):
        SeedScores.of({"cifar10": [0.8, 0.8], "mnist": [0.9]}, 9)


def test_targets_are_the_sources():
    assert TARGETS == {"global_tpe_score": 0.70, "consistency": 0.80, "robustness": 0.75}
    assert judge("global_tpe_score", 0.70) == "PASS"
    assert judge("global_tpe_score", 0.6999) == "FAIL"
    assert judge("generalization", 0.0) is None
