"""The frontier of accuracy and cost."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from search.report.cost import Paid, frontier

paid = st.builds(
    Paid,
    number=st.integers(0, 99),
    seconds=st.floats(0, 100),
    accuracy=st.floats(0, 1),
    passed=st.booleans(),
)


@given(st.lists(paid, min_size=1, max_size=30))
def test_nothing_is_cheaper_and_better_than_what_is_on_it(trials: list[Paid]) -> None:
    front = frontier(trials)
    for one in front:
        assert not any(
            (other.seconds < one.seconds and other.accuracy >= one.accuracy)
            or (other.seconds <= one.seconds and other.accuracy > one.accuracy)
            for other in trials
        )
    assert all(
        one.seconds < two.seconds and one.accuracy < two.accuracy for one, two in pairwise(front)
    )
    assert max(one.accuracy for one in trials) == front[-1].accuracy
    assert min(one.seconds for one in trials) == front[0].seconds
