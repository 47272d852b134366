"""Pausing, resuming and stopping a search: what it is told, and what that means for the user."""

from __future__ import annotations

from search.study.session import Session
from storage.states import Command

RESUME = "`nkat-search resume` lets it go on"
"""Said wherever a paused or stopped search is shown."""


def steer(session: Session, command: Command, reason: str = "") -> str:
    """Sets what the search is to do; returns what happens now, as one sentence.

    A search that is done is left alone.

    Args:
        reason: of a pause or stop, shown to whoever looks.
    """
    name = session.record.study_name
    board = session.board
    counts = board.counts()
    if counts.over:
        return f"study {name} is done: all of its {counts.wanted} count, nothing is changed"
    board.set_state(command.value, reason)
    left = f"{counts.left} of {counts.wanted} to go"
    if command is Command.PAUSE:
        return (
            f"study {name} is paused, {left}: workers end the trials that they have and begin no "
            f"new one; {RESUME}"
        )
    if command is Command.STOP:
        return (
            f"study {name} is stopped, {left}: each worker ends with the trial that it has, `run` "
            f"at its next epoch; {RESUME}, with `run` or new workers"
        )
    if any(row.trains for row in board.workers()):
        return f"study {name} runs, {left}"
    return f"study {name} may run, {left}; no worker is there: start `nkat-search run` or `worker`"
