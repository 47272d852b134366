"""`status` as plain values (for --json) and as tables."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType

from search.service.steering import RESUME
from search.study.finalists import Finalists
from search.study.nearest import best_at_the_gate
from search.study.saved import saved_hours
from search.study.session import Session
from search.study.trial_attributes import OUTCOME
from search.study.trial_record import TrialRecord
from search.terminal import WideTable, duration, plain
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
    rows = board.trials()
    records = {row.number: TrialRecord.of(row) for row in rows}
    gate = best_at_the_gate(records.values())
    saved = saved_hours(records.values())
    shown = rows if trials is None else rows[len(rows) - min(trials, len(rows)) :]
    again = Finalists.of(list(records.values()), session.search.finalists)
    return {
        "study": session.record.study_name,
        "title": session.search.title,
        "cut_down": session.search.cut_down,
        "state": counts.state(command),
        "message": "" if counts.over else message,
        **asdict(counts),
        "best": None if best is None else {"trial": best[0], "global_tpe_score": best[1]},
        "gate": None if gate is None else gate.to_dict() | {"text": gate.short()},
        "saved": saved.to_dict() | {"text": saved.sentence()},
        "finalists": None if again is None else again.to_dict() | {"text": again.sentence()},
        "workers": [_worker(row) for row in board.workers()],
        "trials": [_trial(row, records[row.number], session.search.names) for row in shown],
    }


def _worker(row: WorkerRow) -> dict[str, Any]:
    values = asdict(row)
    values["worker_id"] = str(row.worker_id)
    values["state"] = row.state.value
    return values


def _trial(row: TrialRow, record: TrialRecord, datasets: tuple[str, ...]) -> dict[str, Any]:
    """`reason` says why the trial is as it is; of a failed attempt, why that failed."""
    values = asdict(row)
    del values["reports"]  # by step; the same follows by stage and epoch
    values["epochs"] = [asdict(value) for value in record.epochs(datasets)]
    values["reason"] = row.reason or record.outcome
    verdict = record.verdict
    values["lambda"] = None if verdict is None else verdict.lam
    values["mean_accuracy"] = None if verdict is None else verdict.mean_accuracy
    values["worker_id"] = None if row.worker_id is None else str(row.worker_id)
    values["outcome"] = None if row.outcome is None else row.outcome.value
    values["params"] = dict(row.params)
    values["user_attrs"] = dict(row.user_attrs)
    return values


def tables(view: dict[str, Any]) -> RenderableType:
    """The same for a terminal."""
    best = view["best"]
    held = view["state"] in (Command.PAUSE, Command.STOP)
    lines = [
        f"{view['study']}: {view['state']}"
        + (f" ({view['message']})" if view["message"] else "")
        + (f"; {RESUME}" if held else ""),
        f"{view['done']} of {view['budget']} trials{_repeats(view)} count: "
        f"{view['complete']} complete, {view['pruned']} pruned; "
        f"{view['running']} running, {view['waiting']} waiting, "
        f"{view['failed']} failed",
        f"{view['attempts']} attempts: {view['lost']} lost, {view['failed_attempts']} failed, "
        f"{view['handed_back']} handed back, {view['late']} late results refused",
        "no Global TPE score yet"
        if best is None
        else f"best Global TPE score {best['global_tpe_score']:.4f} (trial {best['trial']})",
    ]
    if view["gate"] is not None:
        lines.append(view["gate"]["text"])
    if view["saved"]["text"]:
        lines.append(view["saved"]["text"])
    if view["finalists"] is not None:
        lines.append(view["finalists"]["text"])
    if view["cut_down"]:
        lines.insert(1, "this is the cut-down search: its scores are not those of the full one")
    parts: list[RenderableType] = [plain("\n".join(lines))]
    if view["workers"]:
        parts += ["", _workers_table(view["workers"])]
        parts += [plain(line, "bold yellow") for line in _troubles(view["workers"])]
    if view["trials"]:
        parts += ["", _trials_table(view["trials"])]
    return Group(*parts)


def _repeats(view: dict[str, Any]) -> str:
    return f" + {view['repeats_done']} of {view['repeats']} repeats" if view["repeats"] else ""


def _workers_table(workers: list[dict[str, Any]]) -> WideTable:
    table = WideTable()
    table.column("worker", left=True)
    table.column("state", left=True)
    table.column("last beat")
    table.words("doing")
    table.column("checkpoint")
    for row in workers:
        age_s = row["checkpoint_age_s"]
        table.row(
            f"{row['note'] or row['device']}\n{row['host']}, pid {row['pid']}",
            row["state"],
            f"{duration(row['beat_age_s'])} ago",
            _doing(row),
            None if age_s is None else f"{duration(age_s)} ago",
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


def _trials_table(trials: list[dict[str, Any]]) -> WideTable:
    table = WideTable()
    table.column("trial")
    table.column("state", left=True)
    for heading in ("Global\nTPE score", "mean\n%", "lambda", "attempts"):
        table.column(heading)
    table.words("what happened")
    for row in trials:
        state = row["state"].lower()
        value = row["value"] if state == "complete" else None
        mean, lam = row["mean_accuracy"], row["lambda"]
        table.row(
            row["number"],
            state,
            None if value is None else f"{value:.4f}",
            None if mean is None else f"{100 * mean:.2f}",
            None if lam is None else f"{lam:.4g}",
            row["attempts"],
            row["user_attrs"].get(OUTCOME) or row["reason"],
        )
    return table
