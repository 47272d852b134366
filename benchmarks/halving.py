"""A rung that the search does not have: asynchronous halving within the first epochs of stage 1.

A trial goes on from a rung if its local TPE score there is among the best `share` of all trials
that have come to it; the search's own rungs ask only whether the gate is out of reach.  Only
search_quality.py uses this, to measure what such a rung would be worth.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from search.file.search_file import SearchFile
from search.objective.messages import EpochDone, Event, Finished
from search.study.verdict import Ending, RungStop


@dataclass(kw_only=True)
class Halving:
    """One search's rungs; trials come in the order in which they begin.

    Args:
        epochs: after which a trial is looked at, in rising order.
        share: of those that came to a rung, 0..1, how many go on.
        after: trials that must have come to a rung before it stops any.
    """

    epochs: Sequence[int]
    share: float
    after: int = 3
    _seen: dict[int, list[float]] = field(default_factory=dict)
    _gains: dict[int, list[float]] = field(default_factory=dict)

    def cut(self, events: list[Event], search: SearchFile) -> tuple[list[Event], int | None]:
        """A trial's events up to the rung that stops it, and that epoch; or as they are."""
        reports = {e.epoch: e for e in events if isinstance(e, EpochDone) and e.stage == 1}
        last = max(reports)
        finished = events[-1]
        assert isinstance(finished, Finished)
        for epoch in self.epochs:
            if epoch >= last:
                break
            score = _score(reports[epoch])
            seen, gains = self._seen.setdefault(epoch, []), self._gains.setdefault(epoch, [])
            better = len(seen) - bisect_left(seen, score)
            insort(seen, score)
            if len(seen) > self.after and better >= self.share * len(seen):
                expected = score + (sum(gains) / len(gains) if gains else 0.0)
                rung = RungStop(
                    epoch=epoch,
                    epochs=last,
                    score=score,
                    expected=expected,
                    at_most=expected,
                    trials=len(gains),
                )
                verdict = replace(
                    finished.verdict.of(
                        datasets=finished.verdict.datasets,
                        results={},
                        lambdas=finished.verdict.lambdas,
                        reading=finished.verdict.reading,
                        threshold=search.gate.threshold,
                        effort=finished.verdict.effort,
                    ),
                    ending=Ending.RUNG,
                    rung=rung,
                )
                kept = [reports[one] for one in range(1, epoch + 1)]
                return [*kept, replace(finished, verdict=verdict)], epoch
        if finished.verdict.gate_accuracy is not None:
            for epoch in self.epochs:
                gains = self._gains.setdefault(epoch, [])
                gains.append(_score(reports[last]) - _score(reports[epoch]))
        return events, None


def _score(event: EpochDone) -> float:
    assert event.report is not None
    return event.report[1]
