"""Who worked when: a row a worker, a stretch an attempt, with losses and retries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median

from search.report import words
from search.report.collected import Collected
from search.report.figure import Figure, Panel
from search.report.plot import BOTTOM, TOP, Plot
from search.report.scales import Linear, Named
from storage.records import AttemptRow
from storage.states import Attempt

PAUSE_SHARE = 0.05
"""A time in which nobody worked is cut out where it is longer than this share of the rest."""

ROW, LEAST, MOST = 20, 120, 420
"""Units of the drawing: height of a worker's row, of the whole at least and at most."""

MOST_NAMED = 14
"""Workers that all get their number on the axis."""

UNITS = ((7200.0, 3600.0, "hours"), (180.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))
"""(from so many seconds on, seconds of one, name)."""

KINDS: tuple[tuple[str, frozenset[Attempt]], ...] = (
    ("complete", frozenset({Attempt.COMPLETE})),
    ("gate", frozenset({Attempt.PRUNED})),
    ("stood", frozenset({Attempt.RUNNING})),
    ("untrained", frozenset({Attempt.LOST, Attempt.FAILED, Attempt.HANDED_BACK, Attempt.CLOSED})),
)
"""Style of the stretches, by outcome."""

BROKEN_OFF = frozenset({Attempt.LOST, Attempt.FAILED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """One attempt in working time: seconds since the first, pauses cut out."""

    row: AttemptRow
    worker: int
    start: float
    end: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkingTime:
    """The times in which at least one worker worked, one after the other.

    Args:
        spans: (begin, end), in order, none touching the next.
    """

    spans: tuple[tuple[datetime, datetime], ...]

    @classmethod
    def of(cls, times: Iterable[tuple[datetime, datetime]]) -> WorkingTime:
        """Of attempts; short gaps between them are working time too."""
        merged: list[tuple[datetime, datetime]] = []
        for begin, end in sorted(times):
            if merged and begin <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
            else:
                merged.append((begin, end))
        busy = sum((end - begin).total_seconds() for begin, end in merged)
        joined: list[tuple[datetime, datetime]] = []
        for begin, end in merged:
            gap = (begin - joined[-1][1]).total_seconds() if joined else 0.0
            if joined and gap <= PAUSE_SHARE * busy:
                joined[-1] = (joined[-1][0], end)
            else:
                joined.append((begin, end))
        return cls(spans=tuple(joined))

    @property
    def seconds(self) -> float:
        return self.until(self.spans[-1][1])

    @property
    def pauses(self) -> tuple[float, ...]:
        """Where something was cut out."""
        return tuple(self.until(begin) for begin, _ in self.spans[1:])

    def until(self, moment: datetime) -> float:
        """Seconds of work before a moment."""
        return sum(
            (min(end, moment) - begin).total_seconds()
            for begin, end in self.spans
            if begin < moment
        )


def timeline(data: Collected) -> Figure:
    """Attempts over working time, by worker."""
    title = "Who worked when"
    if not data.attempts:
        return Figure(key="timeline", title=title, sentence="No worker has begun a trial yet.")
    stretches, work = _stretches(data)
    workers = 1 + max(stretch.worker for stretch in stretches)
    seconds, unit = next((s, name) for least, s, name in UNITS if work.seconds >= least)
    plot = Plot(
        x=Linear(0.0, max(work.seconds, 1.0) / seconds),
        y=Named(tuple(reversed(range(1, workers + 1))), most_named=MOST_NAMED),
        x_title=f"{unit} of work",
        y_title="worker",
        height=TOP + BOTTOM + min(max(workers * ROW, LEAST), MOST),
        points=len(stretches),
    )
    for style, outcomes in KINDS:
        plot.stretches(
            (
                (plot.at(one.start / seconds, one.worker + 1), _end(plot, one, seconds))
                for one in stretches
                if one.row.outcome in outcomes
            ),
            style,
        )
    plot.triangles(
        (plot.at(one.start / seconds, one.worker + 1) for one in stretches if one.row.attempt > 1),
        "broken",
    )
    plot.crosses(
        (_end(plot, one, seconds) for one in stretches if one.row.outcome in BROKEN_OFF), "broken"
    )
    for moment in work.pauses:
        plot.upright(moment / seconds, "stood")
    caption = (
        "A stretch is an attempt at a trial.  Blue: complete.  Orange: pruned.  Grey: under way.  "
        "Yellow: ended without a result; with a cross: lost or failed.  Triangle: a trial goes "
        "on in another attempt."
    )
    if work.pauses:
        caption += f"  Dashed: {words.count(len(work.pauses), 'pause')} cut out."
    length = words.seconds(work.seconds)
    alt = f"Attempts of {words.count(workers, 'worker')} over {length} of work"
    return Figure(
        key="timeline",
        title=title,
        sentence=_sentence(data, stretches, work, workers),
        panels=(Panel(svg=plot.svg(alt), caption=caption),),
    )


def _end(plot: Plot, one: Stretch, seconds: float) -> tuple[float, float] | None:
    return plot.at(one.end / seconds, one.worker + 1)


def _stretches(data: Collected) -> tuple[list[Stretch], WorkingTime]:
    times = [(row.started_at, _ended(row, data.made_at)) for row in data.attempts]
    work = WorkingTime.of(times)
    workers: dict[object, int] = {}
    stretches = [
        Stretch(
            row=row,
            worker=workers.setdefault(row.worker_id, len(workers)),
            start=work.until(begin),
            end=work.until(end),
        )
        for row, (begin, end) in zip(data.attempts, times, strict=True)
    ]
    return stretches, work


def _ended(row: AttemptRow, now: datetime) -> datetime:
    """Of a lost attempt the last sign of life: afterwards nobody worked."""
    end = row.ended_at
    if row.outcome is Attempt.LOST and row.last_seen_at is not None:
        end = row.last_seen_at
    return max(end or now, row.started_at)


def _sentence(
    data: Collected, stretches: Sequence[Stretch], work: WorkingTime, workers: int
) -> str:
    busy = sum(one.end - one.start for one in stretches)
    parts = [
        f"{words.count(workers, 'worker')} made {words.count(len(stretches), 'attempt')} in "
        f"{words.seconds(work.seconds)} of work"
    ]
    if workers > 1 and work.seconds > 0:
        parts[0] += f", {busy / work.seconds:.1f} of them at work at a time"
    waits = _waits(data.attempts)
    if waits:
        parts.append(
            f"{words.count(len(waits), 'trial')} had to go on elsewhere, after a wait of "
            f"{words.seconds(median(waits))} (median) from the last sign of life"
        )
    return words.capital("; ".join(parts))


def _waits(attempts: Sequence[AttemptRow]) -> list[float]:
    """Seconds from the last sign of life of a lost or failed attempt to the next one."""
    before: dict[int, AttemptRow] = {}
    waits = []
    for row in attempts:
        last = before.get(row.number)
        if last is not None and last.outcome in BROKEN_OFF:
            seen = last.last_seen_at or last.ended_at or last.started_at
            waits.append(max(0.0, (row.started_at - seen).total_seconds()))
        before[row.number] = row
    return waits
