"""A trial's life: every state, every legal move and what each ending means.

Three things move together, always in one database transaction:

    ticket   one unit of the budget     open -> leased -> done
    attempt  one worker's go at a trial running -> one of the endings below
    trial    Optuna's own record        WAITING -> RUNNING -> COMPLETE | PRUNED | FAIL

`ENDINGS` is the one place that says what an attempt's ending does to the other two.
A ticket is `done` exactly when its trial is COMPLETE or PRUNED; that is why N tickets
give N counted trials whatever happens to the workers.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from optuna.trial import TrialState


class Ticket(StrEnum):
    """One unit of the budget.  An open ticket may be reserved for a trial to be retried."""

    OPEN = "open"
    LEASED = "leased"
    DONE = "done"


class Attempt(StrEnum):
    """One worker's attempt at one trial, and how it ended."""

    RUNNING = "running"
    COMPLETE = "complete"  # told with a value
    PRUNED = "pruned"  # told as stopped by the gate or by a bound
    HANDED_BACK = "handed_back"  # SIGTERM: given back in good order, no failure
    FAILED = "failed"  # the worker reports a failure
    LOST = "lost"  # the worker was silent for too long; a reaper took the trial
    CLOSED = "closed"  # the trial was finished from outside


class Command(StrEnum):
    """What a search wants of its workers."""

    RUN = "run"
    PAUSE = "pause"
    STOP = "stop"


class WorkerState(StrEnum):
    """A worker as the database sees it."""

    ALIVE = "alive"
    LOST = "lost"  # silent for longer than a lease; a later beat makes it alive again
    RETIRED = "retired"  # signed off


@dataclass(frozen=True, slots=True)
class Ending:
    """What an attempt's ending does.

    Args:
        ticket: the ticket's next state.
        trial: the Optuna trial's next state; None leaves it as it is.
        failure: counts towards `max_attempts` and the failure rate.
    """

    ticket: Ticket
    trial: TrialState | None
    failure: bool


ENDINGS: dict[Attempt, Ending] = {
    Attempt.COMPLETE: Ending(Ticket.DONE, TrialState.COMPLETE, failure=False),
    Attempt.PRUNED: Ending(Ticket.DONE, TrialState.PRUNED, failure=False),
    Attempt.HANDED_BACK: Ending(Ticket.OPEN, TrialState.WAITING, failure=False),
    Attempt.FAILED: Ending(Ticket.OPEN, TrialState.WAITING, failure=True),
    Attempt.LOST: Ending(Ticket.OPEN, TrialState.WAITING, failure=True),
    # The ticket follows the state that was set from outside: see `ticket_after_outside`.
    Attempt.CLOSED: Ending(Ticket.OPEN, None, failure=False),
}
"""FAILED and LOST give WAITING (retry) until the attempts are used up, then FAIL."""

TICKET_MOVES: dict[Ticket, frozenset[Ticket]] = {
    Ticket.OPEN: frozenset({Ticket.LEASED, Ticket.DONE}),  # DONE: told from outside
    Ticket.LEASED: frozenset({Ticket.OPEN, Ticket.DONE}),
    Ticket.DONE: frozenset(),
}

ATTEMPT_MOVES: dict[Attempt, frozenset[Attempt]] = {
    Attempt.RUNNING: frozenset(ENDINGS),
    **{ending: frozenset() for ending in ENDINGS},
}

TRIAL_MOVES: dict[TrialState, frozenset[TrialState]] = {
    TrialState.WAITING: frozenset({TrialState.RUNNING}),
    TrialState.RUNNING: frozenset(
        {TrialState.WAITING, TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL}
    ),
    TrialState.COMPLETE: frozenset(),
    TrialState.PRUNED: frozenset(),
    TrialState.FAIL: frozenset(),
}
"""What this project does to Optuna's trials; Optuna itself allows a little more."""


def ticket_after_outside(state: TrialState) -> Ticket:
    """The ticket of a trial that was finished from outside: counted, or open again."""
    return Ticket.DONE if state in (TrialState.COMPLETE, TrialState.PRUNED) else Ticket.OPEN
