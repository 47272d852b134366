"""`status` as plain values (for --json) and as tables."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from search.service.progress import duration
from search.study.session import Session
from storage.records import TrialRow, WorkerRow
from storage.states import Command, WorkerState

NEWEST = 15
"""Trials shown unless all are asked for."""


def snapshot(session: Session, *, trials: int | None = NEWEST) -> dict[str, Any]:
    """The search in numbers, its workers and its newest trials, as JSON values.

    Args:
        session: the opened search.
        trials: how many of the newest trials; None for all, 0 for none.
    """
    board = session.board
    counts = board.counts()
    command, message = board.state()
    best = board.best()
    rows = board.trials() if trials != 0 else []
    done = counts.done >= counts.budget
    return {
        "study": session.record.study_name,
        "title": session.search.title,
        "cut_down": session.search.cut_down,
        "state": "done" if done and command is Command.RUN else command.value,
        "message": message,
        **asdict(counts),
        "best": None if best is None else {"trial": best[0], "global_tpe_score": best[1]},
        "workers": [_worker(row) for row in board.workers()],
        "trials": [_trial(row) for row in (rows if trials is None else rows[-(trials or 1) :])]
        if trials != 0
        else [],
    }


def _worker(row: WorkerRow) -> dict[str, Any]:
    plain = asdict(row)
    plain["worker_id"] = str(row.worker_id)
    plain["state"] = row.state.value
    return plain


def _trial(row: TrialRow) -> dict[str, Any]:
    plain = asdict(row)
    plain["worker_id"] = None if row.worker_id is None else str(row.worker_id)
    plain["outcome"] = None if row.outcome is None else row.outcome.value
    plain["params"] = dict(row.params)
    plain["user_attrs"] = dict(row.user_attrs)
    return plain


def tables(view: dict[str, Any]) -> RenderableType:
    """The same for a terminal."""
    best = view["best"]
    lines = [
        f"{view['study']}: {view['state']}" + (f" ({view['message']})" if view["message"] else ""),
        f"{view['done']} of {view['budget']} trials count: {view['complete']} complete, "
        f"{view['pruned']} pruned; {view['running']} running, {view['waiting']} waiting, "
        f"{view['failed']} failed",
        f"{view['attempts']} attempts: {view['lost']} lost, {view['failed_attempts']} failed, "
        f"{view['handed_back']} handed back, {view['late']} late results refused",
        "no Global TPE score yet"
        if best is None
        else f"best Global TPE score {best['global_tpe_score']:.4f} (trial {best['trial']})",
    ]
    if view["cut_down"]:
        lines.insert(1, "this is the cut-down search: its scores are not those of the full one")
    parts: list[RenderableType] = [Text("\n".join(lines))]
    if view["workers"]:
        parts.append(_workers_table(view["workers"]))
        parts += [Text(line, style="bold yellow") for line in _troubles(view["workers"])]
    if view["trials"]:
        parts.append(_trials_table(view["trials"]))
    return Group(*parts)


def _workers_table(workers: list[dict[str, Any]]) -> Table:
    table = _table("worker", "state", "last beat", "doing", "checkpoint")
    for row in workers:
        table.add_row(
            f"{row['note'] or row['device']}\n{row['host']}, pid {row['pid']}",
            row["state"],
            f"{duration(row['beat_age_s'])} ago",
            _doing(row),
            "" if row["checkpoint_age_s"] is None else f"{duration(row['checkpoint_age_s'])} ago",
        )
    return table


def _troubles(workers: list[dict[str, Any]]) -> list[str]:
    """What does not work in workers that go on all the same."""
    return [
        f"{row['note'] or row['device']} on {row['host']}, pid {row['pid']}: {row['reason']}"
        for row in workers
        if row["state"] == WorkerState.ALIVE and row["reason"]
    ]


def _doing(row: dict[str, Any]) -> str:
    """`trial 3, attempt 2: stage 1, cifar10, epoch 4`."""
    if row["trial"] is None:
        return ""
    text = f"trial {row['trial']}, attempt {row['attempt']}"
    if row["stage"] is not None:
        text += f": stage {row['stage']}, {row['dataset']}, epoch {row['epoch']}"
    return text


def _trials_table(trials: list[dict[str, Any]]) -> Table:
    table = _table("trial", "state", "Global\nTPE score", "attempts", "what happened")
    for row in trials:
        state = row["state"].lower()
        value = row["value"] if state == "complete" else None
        table.add_row(
            str(row["number"]),
            state,
            "" if value is None else f"{value:.4f}",
            str(row["attempts"]),
            str(row["user_attrs"].get("outcome") or row["reason"] or ""),
        )
    return table


def _table(*headings: str) -> Table:
    return Table(*headings, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
