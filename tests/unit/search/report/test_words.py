"""Numbers in sentences."""

from __future__ import annotations

import pytest

from search.report import words


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.0, "0 s"),
        (0.0851, "0.085 s"),
        (3.14, "3.1 s"),
        (26.6, "27 s"),
        (200.0, "3.3 min"),
        (12_000.0, "3.3 h"),
    ],
)
def test_seconds(value: float, said: str) -> None:
    assert words.seconds(value) == said


def test_counts_and_lists() -> None:
    assert [words.count(n, "trial") for n in (0, 1, 5000)] == [
        "no trials",
        "1 trial",
        "5,000 trials",
    ]
    assert [words.listed(list(text)) for text in ("", "a", "ab", "abc")] == [
        "", "a", "a and b", "a, b and c",
    ]  # fmt: skip
    assert words.percent(0.84264) == "84.26\N{NO-BREAK SPACE}%"
    assert words.capital("of 3") == words.capital("of 3.") == "Of 3."
