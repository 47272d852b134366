"""What every tracker does: keeps one run per trial."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from search.trackers.tracked_run import TrackedRun


class Sink(Protocol):
    """One tracker, opened for one study.  Any of these may raise anything."""

    def known(self) -> Collection[int]:
        """Numbers of the trials that are in the tracker, whole."""

    def write(self, run: TrackedRun) -> None:
        """Adds a trial that is not known yet, whole or so that `known` does not name it."""

    def close(self) -> None:
        """Lets go of files and connections."""
