"""How near a running search has come to passing, and one warning when nothing does."""

from __future__ import annotations

from collections.abc import Mapping

import optuna

from search.study.nearest import AtTheGate, best_at_the_gate, none_passed
from search.study.sampler import STARTUP_TRIALS
from search.study.trial_record import TrialRecord
from storage.board import Board
from storage.records import Counts


class GateWatch:
    """Reads each trial once, when it has ended.

    Args:
        board: the study's board.
    """

    def __init__(self, board: Board) -> None:
        self._board = board
        self._ended: dict[int, TrialRecord] = {}
        self._seen = (-1, -1)
        self._warned = False
        self.best: AtTheGate | None = None

    @property
    def ended(self) -> Mapping[int, TrialRecord]:
        """The ended trials by number, as of the last look."""
        return self._ended

    def look(self, counts: Counts) -> str:
        """Looks at the trials that ended since; returns a warning, once, or nothing.

        The warning comes when as many trials are over as a sampler draws at random by default,
        and none passed: a gate out of reach stays so.
        """
        seen = (counts.ended, counts.failed)
        if seen == self._seen:
            return ""
        self._seen = seen
        # A new mapping: those who were given the last one keep what they saw.
        self._ended = self._ended | self._board.with_study("gate", self._news)
        self.best = best_at_the_gate(self._ended.values())
        passed = self.best is not None and self.best.margin >= 0
        if self._warned or passed or counts.done < STARTUP_TRIALS:
            return ""
        self._warned = True
        return (
            f"the first {STARTUP_TRIALS} trials are over and "
            f"{none_passed(self._ended.values())}; `nkat-search explain` shows what the gate "
            "needs at every lambda"
        )

    def _news(self, study: optuna.Study) -> dict[int, TrialRecord]:
        return {
            trial.number: TrialRecord.of_frozen(trial)
            for trial in study.get_trials(deepcopy=False)
            if trial.state.is_finished() and trial.number not in self._ended
        }
