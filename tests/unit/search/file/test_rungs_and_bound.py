"""Rungs and bound in a search file, also as files from before there was this section say it."""

from __future__ import annotations

import pytest

from nkat_errors import BadInput
from search.file.load import parse_search_text
from search.file.sections import BoundSection, RungsSection

TEXT = """\
study: small
n_trials: 4
gate: {dataset: cifar10, threshold: 0.5}
datasets: [cifar10, mnist]
space: {depth: {low: 5, high: 9}}
"""
TIGHT = TEXT + "bound: {kind: best_seen, slack: 0.004, after: 5}\n"


@pytest.mark.parametrize(
    ("more", "kind"),
    [
        ("", "exact"),
        ("service: {bound_check: true}\n", "exact"),
        ("service: {bound_check: false}\n", "off"),
        ("bound: {kind: off}\n", "off"),
        ("bound: {}\n", "exact"),
    ],
)
def test_older_files_keep_their_meaning(more: str, kind: str) -> None:
    found = parse_search_text(TEXT + more)
    assert found.bound.kind == kind
    assert found.service.bound_check is None
    again = parse_search_text(found.to_yaml())
    assert again == found


@pytest.mark.parametrize("more", ["", "rungs: false\n", "rungs: null\n"])
def test_rungs_are_off_unless_named(more: str) -> None:
    found = parse_search_text(TEXT + more)
    assert found.rungs is None
    assert parse_search_text(found.to_yaml()) == found


@pytest.mark.parametrize("more", ["rungs: {}\n", "rungs: {after: 5, spread: 2}\n"])
def test_rungs_are_stored_and_may_change_between_runs(more: str) -> None:
    found = parse_search_text(TEXT + more)
    assert found.rungs == RungsSection(**({"after": 5, "spread": 2} if "5" in more else {}))
    assert parse_search_text(found.to_yaml()) == found
    assert found.hash() == parse_search_text(TEXT).hash()


def test_it_is_stored_and_may_change_between_runs() -> None:
    found = parse_search_text(TIGHT)
    assert found.bound == BoundSection(kind="best_seen", slack=0.004, after=5)
    assert parse_search_text(found.to_yaml()).bound == found.bound
    assert found.hash() == parse_search_text(TEXT).hash()


def test_a_bound_reaches_into_stage_1_only_where_the_file_says_so() -> None:
    assert parse_search_text(TIGHT).bound.spread is None
    found = parse_search_text(TEXT + "bound: {kind: best_seen, spread: 2}\n")
    assert (found.bound.spread, found.bound.curves) == (2.0, 3)
    assert parse_search_text(found.to_yaml()).bound == found.bound
    assert found.hash() == parse_search_text(TEXT).hash()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            TIGHT + "service: {bound_check: true}\n",
            "service.bound_check = True: bound.kind = 'best_seen' says the same",
        ),
        (TEXT + "rungs: true\n", "rungs = True"),
        (TEXT + "rungs: {after: 1}\n", "rungs.after = 1"),
        (TEXT + "bound: {kind: seen}\n", "bound.kind = 'seen'"),
        (TEXT + "bound: {spread: -1}\n", "bound.spread = -1"),
        (TEXT + "bound: {spread: 2, curves: 2}\n", "bound.curves = 2"),
        (
            TEXT + "bound: {kind: off, spread: 2}\n",
            "bound.spread = 2: bound.kind = 'off' stops nothing",
        ),
        (TEXT + "bound: {slack: -0.1}\n", "bound.slack = -0.1"),
        (TEXT + "bound: {slak: 0.1}\n", "unknown key bound.slak; did you mean"),
    ],
)
def test_mistakes_are_one_sentence(text: str, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_search_text(text)
    assert said in str(caught.value)
    assert f"line {len(text.splitlines())}" in str(caught.value)
