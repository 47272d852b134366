"""Keeping a search in order: workers come and go, silent ones lose their trials."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Literal
from uuid import UUID, uuid4

from sqlalchemy import Engine

from storage import reaping, repeats, sql
from storage.board_reader import BoardReader
from storage.errors import UnknownWorker
from storage.records import Beat, Reaped
from storage.retry import OUTAGE_S
from storage.states import Command
from storage.transaction import Clock, Transaction

_log = logging.getLogger(__name__)

MAX_ATTEMPTS = 3


class Housekeeper(BoardReader):
    """What an orchestrator does; a worker does it too (`Board`).

    Args:
        max_attempts: failed or lost attempts of one trial before it is FAIL, >= 1.
        (the others): see `BoardReader`.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        study_name: str,
        lease_s: float | None = None,
        clock: Clock | None = None,
        max_attempts: int = MAX_ATTEMPTS,
        outage_s: float = OUTAGE_S,
        give_up: Callable[[], bool] | None = None,
    ) -> None:
        if max_attempts < 1:
            raise ValueError(f"{max_attempts=}: must be at least 1")
        super().__init__(
            engine=engine,
            study_name=study_name,
            lease_s=lease_s,
            clock=clock,
            outage_s=outage_s,
            give_up=give_up,
        )
        self.max_attempts = max_attempts
        self._watching_since: datetime | None = None

    # --- workers -----------------------------------------------------------------

    def register_worker(self, *, host: str, pid: int, device: str, note: str = "") -> UUID:
        """Enter a worker; the registration is its first beat.  Returns its id."""
        worker_id = uuid4()
        self._desk.statement(
            "register",
            sql.INSERT_WORKER,
            worker=worker_id,
            host=host,
            pid=pid,
            device=device,
            note=note,
        )
        return worker_id

    def worker_rank(self, worker_id: UUID) -> int:
        """How many workers entered this study before this one: 0, 1, 2, ...

        A seed made from it differs between workers, and is the same again when a search
        with one worker is repeated.
        """
        (row,) = self._desk.statement("rank", sql.WORKERS_BEFORE, worker=worker_id)
        return int(row.before)

    def retire_worker(self, worker_id: UUID, reason: str) -> None:
        """Sign a worker off.  The next reaper takes what it still holds, without waiting."""
        self._desk.statement("retire", sql.RETIRE_WORKER, worker=worker_id, reason=reason)

    def set_worker_reason(self, worker_id: UUID, reason: str) -> None:
        """Say what does not work in a worker that goes on all the same ("" for nothing)."""
        self._desk.statement("reason", sql.SET_WORKER_REASON, worker=worker_id, reason=reason)

    def beat(self, worker_id: UUID) -> Beat:
        """Report a worker alive (one statement); returns what it lost and what is wanted.

        Raises:
            UnknownWorker: it has no row; register again.
            DatabaseGone: no answer within the allowed outage.
        """
        rows = self._desk.statement("beat", sql.BEAT, worker=worker_id)
        if not rows:
            raise UnknownWorker(f"worker {worker_id} is not registered in {self.study_name!r}")
        (row,) = rows
        return Beat(frozenset(row.lost), Command(row.command), row.reason)

    # --- the search --------------------------------------------------------------

    def reap(self, lease_s: float) -> list[Reaped]:
        """Take trials from silent workers and settle what outsiders changed.

        Idempotent and cheap: any number of processes may call it, one at a time does the
        work (advisory lock; the others return []).  Writes nothing when nothing is stale.
        Silence while the database was away or had just started does not count.

        Args:
            lease_s: allowed silence of a worker by the database's clock, seconds, > 0.
        """
        if lease_s <= 0:
            raise ValueError(f"{lease_s=}: must be positive")

        def work(tx: Transaction) -> list[Reaped]:
            if self._outage_seen:
                self._watching_since = tx.execute(sql.CLOCK).one().now
                self._outage_seen = False
            return reaping.reap(
                tx,
                lease_s=lease_s,
                max_attempts=self.max_attempts,
                watching_since=self._watching_since,
            )

        return self._desk.run("reap", work)

    def enter_repeats(self, plan: repeats.Plan) -> int:
        """Once the budget is used up: enter the trials that are to be run again.

        One transaction, one caller at a time, and nothing is entered twice, so every worker
        that finds nothing left to do calls it before it ends.

        Returns:
            Tickets that are not done, entered now or by others; 0 when the search is over.
        """
        return self._desk.run("repeats", lambda tx: repeats.enter_repeats(tx, plan))

    def release_all(self, reason: str) -> list[int]:
        """Take every trial from its worker without a failure; returns their numbers.

        For a search that was moved: its workers are on another machine, or gone.
        """
        return self._desk.run("release", lambda tx: reaping.release_all(tx, reason))

    def set_state(self, command: Literal["run", "pause", "stop"], reason: str = "") -> None:
        """Let the search run, pause or stop; "run" also resets the failure rate."""
        self._desk.statement(
            "set state", sql.SET_COMMAND, command=Command(command).value, reason=reason
        )

    def pause_if_failing(self, *, max_failure_rate: float, min_attempts: int) -> str | None:
        """Pause the search when too many attempts fail; returns the message, else None.

        Args:
            max_failure_rate: allowed failed / ended attempts, 0..1, since the search was
                last set to run.  Lost attempts (a host was taken away) are left out, but for
                those that used up their trial's tries.
            min_attempts: ended attempts before the rate means anything, >= 1.
        """
        (row,) = self._desk.statement("failure rate", sql.FAILURE_RATE)
        if row.command != Command.RUN or row.ended < max(min_attempts, 1):
            return None
        if row.failures / row.ended <= max_failure_rate:
            return None
        message = (
            f"paused: {row.failures} of {row.ended} attempts failed "
            f"(allowed {max_failure_rate:.0%}); the last one: {row.last_reason}"
        )
        self._desk.statement("pause", sql.PAUSE_IF_RUNNING, reason=message)
        _log.error("%s", message, extra={"action": "pause", "study": self.study_name})
        return message
