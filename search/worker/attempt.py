"""One trial in a worker's hands: what is written while it trains, and how it ends.

Every write is fenced by the claim's token.  `hear` and `finish` raise `LeaseLost`, since
the worker must then look for a late result; the other ends take it for an answer: the
trial is somebody else's already.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from search.objective.messages import (
    EpochDone,
    Event,
    Finished,
    NotResumed,
    NotSaved,
    PlainPath,
    Saved,
)
from search.study.trial_attributes import Repeat
from search.worker.recorder import Recorder
from storage.board import Board
from storage.checkpoints import CheckpointStore
from storage.errors import LeaseLost
from storage.records import Claim, GaveUp

log = logging.getLogger(__name__)

PROGRESS_EVERY_S = 30.0
"""Least time between two lines on one trial's progress; there is at most one an epoch."""


class TrialAttempt:
    """See the module's docstring.

    Args:
        board: the study's board.
        claim: the trial, its ticket and its token.
        checkpoints: of the study, to clean up when the trial is over.
        clock: monotonic seconds.
        set_trouble: says in `status` what does not work in this worker; empty when all
            does.
    """

    def __init__(
        self,
        *,
        board: Board,
        claim: Claim,
        checkpoints: CheckpointStore,
        clock: Callable[[], float],
        set_trouble: Callable[[str], None],
    ) -> None:
        self.claim = claim
        self.repeat = Repeat.of_flat(claim.user_attrs)
        self._board = board
        self._recorder = Recorder(board=board, claim=claim, repeat=self.repeat)
        self._checkpoints = checkpoints
        self._clock = clock
        self._set_trouble = set_trouble
        self._said_at = clock()

    @property
    def number(self) -> int:
        return self.claim.number

    def hear(self, event: Event) -> None:
        """Records what the child says while it trains.

        Raises:
            LeaseLost: the trial is not ours any more.
        """
        if isinstance(event, EpochDone):
            self._recorder.epoch(event)
            self._say_progress(event)
        elif isinstance(event, Saved):
            self._recorder.saved(event)
            self._set_trouble("")
        elif isinstance(event, NotSaved):
            self._set_trouble(event.reason)  # the child has logged it
        elif isinstance(event, NotResumed):
            log.warning(
                "trial %d starts again on %s: %s", self.number, event.dataset, event.reason
            )
        elif isinstance(event, PlainPath) and self._recorder.plain_path(event):
            log.warning(
                "SLOW: trial %d trains without the captured GPU step, which can take 45 times "
                "as long: %s",
                self.number,
                event.reason,
            )

    def finish(self, event: Finished) -> None:
        """Tells the result.

        Raises:
            LeaseLost: the trial is not ours any more.
        """
        self._recorder.finished(event, worker=self.claim.worker_id)
        log.info("trial %d: %s", self.number, event.verdict.outcome)
        self._over()

    def hand_back(self, reason: str) -> None:
        """Gives the trial up in good order, without a failure."""
        try:
            self._board.hand_back(self.claim, reason)
        except LeaseLost as error:
            log.warning("trial %d was not handed back: %s", self.number, error)
            return
        log.info("trial %d handed back (%s)", self.number, reason)

    def fail(self, reason: str, signature: str | None) -> None:
        """The attempt went wrong; the trial may go on elsewhere or later."""
        try:
            verdict = self._board.fail_attempt(self.claim, reason=reason, signature=signature)
        except LeaseLost as error:
            log.warning("trial %d had been taken before it failed: %s", self.number, error)
            return
        if isinstance(verdict, GaveUp):
            log.info("trial %d is given up: %s", self.number, verdict.reason)
            self._over()
        else:
            log.info("trial %d will be retried", self.number)

    def refuse(self, late: Finished) -> str:
        """Records a result that came too late; returns what it was."""
        summary = late.attributes(attempt=self.claim.attempt, worker=str(self.claim.worker_id))
        self._board.refuse_late(self.claim, summary | {"value": late.verdict.value})
        return late.verdict.outcome

    def _over(self) -> None:
        self._checkpoints.discard(self.number)

    def _say_progress(self, event: EpochDone) -> None:
        now = self._clock()
        if now - self._said_at < PROGRESS_EVERY_S:
            return
        self._said_at = now
        log.info(
            "trial %d: stage %d, %s, epoch %d/%d, accuracy %.4f, %s images/s",
            self.number,
            event.stage,
            event.dataset,
            event.epoch,
            event.epochs,
            event.accuracy,
            f"{event.images_per_s:,.0f}",
        )
