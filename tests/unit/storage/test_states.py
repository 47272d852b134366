"""The one table of states agrees with itself, with the SQL and with Optuna."""

from __future__ import annotations

import importlib.resources
import re
from enum import StrEnum

import pytest
from optuna.trial import TrialState

from storage.states import (
    ATTEMPT_MOVES,
    ENDINGS,
    TICKET_MOVES,
    TRIAL_MOVES,
    Attempt,
    Command,
    Ticket,
    WorkerState,
    ticket_after_outside,
)


@pytest.mark.parametrize(
    ("column", "states"),
    [
        ("state text NOT NULL DEFAULT 'open'", Ticket),
        ("outcome text NOT NULL", Attempt),
        ("command text NOT NULL", Command),
        ("state text NOT NULL CHECK", WorkerState),
    ],
)
def test_checks_in_the_tables_list_the_same_states(column: str, states: type[StrEnum]) -> None:
    folder = importlib.resources.files("storage.migrations")
    text = " ".join(file.read_text("utf-8") for file in folder.iterdir() if file.suffix == ".sql")  # type: ignore[attr-defined]
    (found,) = re.findall(re.escape(column) + r".*?IN\s*\(([^)]*)\)", re.sub(r"\s+", " ", text))
    assert set(re.findall(r"'(\w+)'", found)) == set(states)


def test_every_attempt_ends_once_and_every_ending_is_legal() -> None:
    assert set(ENDINGS) == set(Attempt) - {Attempt.RUNNING}
    for ending, effect in ENDINGS.items():
        assert ending in ATTEMPT_MOVES[Attempt.RUNNING]
        assert ATTEMPT_MOVES[ending] == frozenset()
        assert effect.ticket in TICKET_MOVES[Ticket.LEASED]
        if effect.trial is not None:
            assert effect.trial in TRIAL_MOVES[TrialState.RUNNING]
            # Counted exactly when the trial is COMPLETE or PRUNED.
            assert effect.ticket == ticket_after_outside(effect.trial)


def test_finished_is_for_good() -> None:
    assert TICKET_MOVES[Ticket.DONE] == frozenset()
    for state in TrialState:
        assert state.is_finished() == (TRIAL_MOVES[state] == frozenset())
    assert TrialState.COMPLETE not in TRIAL_MOVES[TrialState.WAITING]
