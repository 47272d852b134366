"""Trials to trackers: what the orchestrator sees, written by a thread of its own.

A tracker that fails is a line in the log, once; it is tried again, and the search goes on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from search.file.search_file import SearchFile
from search.service.observation import Observation
from search.study.trial_record import TrialRecord
from search.trackers.address import Address, without_login
from search.trackers.sink import Sink
from search.trackers.tracked_run import TrackedRun
from storage.records import SearchRecord

log = logging.getLogger(__name__)

CLOSE_S = 30.0
"""For the trials that are left when the search ends."""
AGAIN_S = 30.0
"""Between two tries of a tracker that failed."""


class Tracking:
    """An observer of a search that keeps one tracker up to date.

    Args:
        name: of the tracker, for messages.
        make: opens it, in the thread.
        datasets: of the search, the gate's first.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        *,
        name: str,
        make: Callable[[], Sink],
        datasets: Sequence[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._make = make
        self._datasets = datasets
        self._clock = clock
        self._changed = threading.Condition()
        self._seen: Observation | None = None
        self._news = False
        self._closing = False
        self._written: set[int] = set()
        self._sink: Sink | None = None
        self._again_at = 0.0
        self._warned = False
        self._thread = threading.Thread(target=self._run, name="nkat-tracker", daemon=True)
        self._thread.start()

    def observe(self, seen: Observation) -> None:
        with self._changed:
            self._seen, self._news = seen, True
            self._changed.notify()

    def close(self) -> None:
        """Gives what is left a little time."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(CLOSE_S)
        if missing := self._missing():
            log.error("tracker %s: %d trials are missing in it", self._name, len(missing))

    def _missing(self) -> dict[int, TrialRecord]:
        ended = {} if self._seen is None else self._seen.ended
        return {number: ended[number] for number in sorted(set(ended) - self._written)}

    def _run(self) -> None:
        closing = False
        while not closing:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._news)
                closing, self._news = self._closing, False
                seen = self._seen
            # The end is worth a last try.
            if seen is not None and (closing or self._clock() >= self._again_at):
                self._try(seen)
        self._let_go()

    def _try(self, seen: Observation) -> None:
        try:
            self._write(seen)
        except Exception as error:
            self._again_at = self._clock() + AGAIN_S
            self._let_go()
            if not self._warned:
                why = without_login(f"{type(error).__name__}: {error}")
                log.error("tracker %s: %s; the search goes on", self._name, why)
            self._warned = True

    def _write(self, seen: Observation) -> None:
        if not self._missing():
            return
        if self._sink is None:
            self._sink = self._make()
            self._written = set(self._sink.known())
        for number, trial in self._missing().items():
            self._sink.write(TrackedRun.of(trial, datasets=self._datasets, study=seen.study))
            self._written.add(number)

    def _let_go(self) -> None:
        """A sink that failed is opened again, so that it says what it has."""
        if self._sink is not None:
            with suppress(Exception):
                self._sink.close()
            self._sink = None


def asked_for(given: Sequence[str], search: SearchFile) -> tuple[Address, ...]:
    """The trackers of --tracker, else those of the search file.

    Raises:
        BadInput: an address cannot be read, or its package is not installed.
    """
    return tuple(
        Address.of(text) for text in dict.fromkeys(given or search.service.trackers or ())
    )


@contextmanager
def tracked(
    addresses: Sequence[Address], *, record: SearchRecord, search: SearchFile
) -> Iterator[list[Tracking]]:
    """An observer per tracker while the block lasts."""

    def make(address: Address) -> Callable[[], Sink]:
        return lambda: address.open(
            study=record.study_name, made=record.created_at, clock=time.time
        )

    observers = [
        Tracking(name=str(address), make=make(address), datasets=search.names)
        for address in addresses
    ]
    try:
        yield observers
    finally:
        for one in observers:
            one.close()
