"""Writes what the child says into the study: fenced, and each step once.

A resumed attempt trains the epochs since its checkpoint again; those steps are
in the study already and are not reported a second time (Optuna would warn and
keep the first value).
"""

from __future__ import annotations

from uuid import UUID

from optuna.trial import TrialState

from search.objective.messages import EpochDone, Finished, PlainPath, Saved
from search.study.trial_attributes import Repeat
from storage.board import Board
from storage.records import Claim


class Recorder:
    """One claimed trial's pen.

    Args:
        board: the study's board.
        claim: the trial, its ticket and its token.
        repeat: the finalist that it runs again, if it does.
    """

    def __init__(self, *, board: Board, claim: Claim, repeat: Repeat | None) -> None:
        self._board = board
        self._claim = claim
        self._repeat = repeat
        self._reported = set(claim.reported_steps)
        self._plain_path: dict[str, str] = {}

    def epoch(self, event: EpochDone) -> None:
        """Raises `LeaseLost` when the trial is not ours any more."""
        self._board.progress(
            self._claim,
            stage=str(event.stage),
            dataset=event.dataset,
            epoch=event.epoch,
            images_per_s=event.images_per_s,
        )
        if event.report is not None:
            self._report(*event.report)

    def saved(self, event: Saved) -> None:
        self._board.progress(
            self._claim,
            stage=str(event.stage),
            dataset=event.dataset,
            epoch=event.epoch,
            saved=True,
        )

    def plain_path(self, event: PlainPath) -> bool:
        """Kept for the trial's attributes; True the first time."""
        first = not self._plain_path
        self._plain_path[event.dataset] = event.reason
        return first

    def finished(self, event: Finished, *, worker: UUID) -> None:
        """The one tell of this trial."""
        verdict = event.verdict
        if verdict.report is not None:
            self._report(*verdict.report)
        self._board.finish(
            self._claim,
            state=TrialState.COMPLETE if verdict.complete else TrialState.PRUNED,
            value=verdict.value,
            user_attrs=event.attributes(
                attempt=self._claim.attempt,
                worker=str(worker),
                plain_path=self._plain_path,
                repeat=self._repeat,
            ),
            constraints=verdict.constraints,
        )

    def _report(self, step: int, value: float) -> None:
        if step in self._reported:
            return
        self._board.report(self._claim, step=step, value=value)
        self._reported.add(step)
