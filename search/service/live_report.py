"""The report of a search under way: written again as trials end, at most once a minute."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from search.report.page import Report
from search.study.session import Session
from storage.records import Counts

EVERY_S = 60.0
"""Seconds between two pages at least; also after how long a browser loads it again."""

SHARE = 0.05
"""Of the time that may be spent on pages: those of thousands of trials take seconds."""


def try_report(session: Session, path: Path, *, refresh_s: float | None = None) -> str:
    """Writes a search's page; returns a warning where that fails, else nothing.

    A search of days must not end for want of a picture.

    Args:
        refresh_s: after how long a browser loads it again; None for never.
    """
    try:
        Report.of(session, refresh_s=refresh_s).save(path)
    except Exception as error:
        return f"WARNING: no report: {type(error).__name__}: {error}"
    return ""


class LiveReport:
    """Writes the page of a running search.

    Args:
        session: the opened search.
        path: of the page, replaced whole.
        clock: monotonic seconds.
    """

    def __init__(self, *, session: Session, path: Path, clock: Callable[[], float]) -> None:
        self._session = session
        self._path = path
        self._clock = clock
        self._due = 0.0
        self._seen: tuple[int, int] | None = None
        self._told = False

    def close(self) -> None:
        """A page that is there stands as it is from now on: no browser loads it again."""
        if self._told:
            try_report(self._session, self._path)

    def tick(self, counts: Counts) -> str:
        """Writes the page where a trial or an attempt has ended since, and a minute is over.

        Returns:
            Where it is, or why it cannot be written: once; else nothing.
        """
        now = self._clock()
        ended = (counts.ended, counts.lost + counts.failed_attempts)
        if now < self._due or ended == self._seen or ended == (0, 0):
            return ""
        said = try_report(self._session, self._path, refresh_s=EVERY_S)
        said = said or f"report, renewed while the search runs: {self._path.resolve().as_uri()}"
        self._seen = ended
        took = self._clock() - now
        self._due = now + max(EVERY_S, took / SHARE)
        first, self._told = not self._told, True
        return said if first else ""
