"""Axes: every value has its place, ticks are round numbers inside, hostile ones have none."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.report.scales import (
    Linear,
    Logarithmic,
    Named,
    around,
    scale_of,
    short,
    spread_evenly,
)
from search.space import Choices, FloatRange, IntRange

numbers = st.floats(-1e9, 1e9).map(lambda value: round(value, 4))


@given(values=st.lists(numbers, min_size=1, max_size=20), whole=st.booleans())
def test_a_scale_holds_its_values_and_its_ticks(values: list[float], whole: bool) -> None:
    scale = around(values, whole=whole)
    places = [scale.place(value) for value in values]
    assert all(place is not None and 0 <= place <= 1 for place in places)
    ticks = scale.ticks()
    assert len(ticks) <= 12
    assert all(-1e-6 <= place <= 1 + 1e-6 for place, _ in ticks)
    assert all(one[0] < other[0] for one, other in pairwise(ticks))


@given(low=st.floats(1e-6, 1e3), factor=st.floats(1.01, 1e6))
def test_a_logarithmic_scale_too(low: float, factor: float) -> None:
    scale = around([low, low * factor], log=True)
    assert isinstance(scale, Logarithmic)
    assert scale.ticks()
    assert all(-1e-9 <= place <= 1 + 1e-9 for place, _ in scale.ticks())
    middle = scale.place(low * math.sqrt(factor))
    assert middle == pytest.approx(0.5)
    assert scale.place(0) is None


def test_ticks_are_round() -> None:
    assert [label for _, label in Linear(0.0, 1.0).ticks()] == [
        "0.0", "0.2", "0.4", "0.6", "0.8", "1.0",
    ]  # fmt: skip
    assert [label for _, label in around([1, 12], whole=True).ticks()] == [
        "2", "4", "6", "8", "10", "12",
    ]  # fmt: skip
    assert [label for _, label in around([0, 5000], whole=True).ticks()][-1] == "5,000"
    assert [label for _, label in around([1, 2], whole=True).ticks()] == ["1", "2"]


@pytest.mark.parametrize("odd", [None, "x", math.nan, math.inf, True])
def test_what_is_no_number_has_no_place(odd: object) -> None:
    assert Linear(0.0, 2.0).place(odd) is None
    assert Logarithmic(1.0, 2.0).place(odd) is None


def test_a_scale_of_nothing_or_of_one_value() -> None:
    assert around([]).place(0.5) == pytest.approx(0.5)
    assert around([math.nan]).ticks()
    assert around([7.0]).place(7.0) == pytest.approx(0.5)
    assert around([0.0]).place(0.0) == pytest.approx(0.5)


def test_the_scale_of_a_parameter_shows_all_it_can_be() -> None:
    named = scale_of(Choices(("off", 2, True, None)))
    assert isinstance(named, Named)
    assert [named.place(value) for value in ("off", 2, True, None)] == [
        0.125, 0.375, 0.625, 0.875,
    ]  # fmt: skip
    assert named.place(1) is None, "1 is not True"
    steps = scale_of(IntRange(low=384, high=512, step=64))
    assert [label for _, label in steps.ticks()] == ["384", "448", "512"]
    assert len(scale_of(IntRange(low=1, high=1000)).ticks()) < 10
    assert isinstance(scale_of(FloatRange(low=1e-5, high=1e-2, log=True)), Logarithmic)
    assert scale_of(FloatRange(low=0.5, high=0.5)).place(0.5) == pytest.approx(0.5)


def test_some_of_many_are_evenly_spread() -> None:
    assert spread_evenly(range(101), 5) == [0, 25, 50, 75, 100]
    assert spread_evenly([1, 2], 5) == [1, 2]
    assert spread_evenly([], 5) == []


def test_long_values_are_shortened() -> None:
    assert short(0.123456) == "0.1235"
    assert short("a" * 40, 10) == "a" * 9 + "…"
