"""The final table of a search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pandas as pd

from search.score.seeds import OVER_ALL
from search.study.finalists import Finalists
from search.study.saved import saved_hours
from search.study.trial_attributes import accuracy_key, tpe_key
from search.study.trial_record import TrialRecord, best_first, searched
from search.terminal import WideTable

if TYPE_CHECKING:
    from rich.console import RenderableType

    from search.file.search_file import SearchFile


def trial_frame(trials: Sequence[TrialRecord], search_file: SearchFile) -> pd.DataFrame:
    """One row a trial of the search that ended, best first, then the stopped by gate score.

    Columns: trial, state, the parameters, lambda, mean_accuracy, accuracy_<set>,
    tpe_<set>, the four scores, gate_score, gate_margin, seconds_stage1, seconds_stage2,
    outcome.
    """
    names = search_file.names
    frame = pd.DataFrame(
        {"trial": trial.number, "state": trial.state}
        | {name: trial.params.get(name) for name in search_file.space.parameters}
        | _numbers(trial, names)
        | {"outcome": trial.outcome}
        for trial in searched(trials)
        if trial.state in ("complete", "pruned", "fail")
    )
    if frame.empty:
        return frame
    frame = frame.astype({"global_tpe_score": float, "gate_score": float})
    return frame.sort_values(
        ["global_tpe_score", "gate_score", "trial"],
        ascending=[False, False, True],
        na_position="last",
        kind="stable",
    ).reset_index(drop=True)


def epoch_frame(trials: Sequence[TrialRecord], search_file: SearchFile) -> pd.DataFrame:
    """One row a report of every trial, by trial and in their order; a trial that has reported
    nothing has one row, without a value.

    Columns: trial, state, the parameters, global_tpe_score, stage, dataset, epoch, tpe_score,
    accuracy (see `EpochValue`).
    """
    empty = dict.fromkeys(("stage", "dataset", "epoch", "tpe_score", "accuracy"))
    rows = [
        {"trial": trial.number, "state": trial.state}
        | {name: trial.params.get(name) for name in search_file.space.parameters}
        | {"global_tpe_score": trial.value if trial.complete else None}
        | value
        for trial in trials
        for value in ([asdict(v) for v in trial.epochs(search_file.names)] or [empty])
    ]
    columns = ["trial", "state", *search_file.space.parameters, "global_tpe_score", *empty]
    whole = {"stage": "Int64", "epoch": "Int64"}
    numbers = dict.fromkeys(("global_tpe_score", "tpe_score", "accuracy"), "float64")
    return pd.DataFrame(rows, columns=columns).astype(whole | numbers)


def _numbers(trial: TrialRecord, names: Sequence[str]) -> dict[str, float | None]:
    """A trial's numbers by column; None where it has none.

    A stopped trial has no score over all sets: one over fewer would not compare.
    """
    verdict = trial.verdict
    scores = verdict.scores if verdict is not None and verdict.complete else None
    gated = verdict is not None and verdict.gate_accuracy is not None
    row: dict[str, float | None] = {
        "lambda": verdict.lam if verdict else None,
        "mean_accuracy": verdict.mean_accuracy if verdict else None,
    }
    for name in names:
        result = verdict.results.get(name) if verdict else None
        row[accuracy_key(name)] = result.accuracy if result else None
        row[tpe_key(name)] = verdict.tpe_score(name) if verdict else None
    row |= {name: getattr(scores, name) if scores else None for name in OVER_ALL}
    if trial.complete:  # as the study has it, also where others told it
        row["global_tpe_score"] = trial.value
    return row | {
        "gate_score": verdict.gate.score if verdict and gated else None,
        "gate_margin": verdict.gate.margin if verdict and gated else None,
        "seconds_stage1": verdict.effort.seconds_stage1 if verdict else None,
        "seconds_stage2": verdict.effort.seconds_stage2 if verdict else None,
    }


def report_dict(trials: Sequence[TrialRecord], search_file: SearchFile) -> dict[str, Any]:
    """The whole report as plain values (`--json`)."""
    again = Finalists.of(trials, search_file.finalists)
    ranked = best_first(trials)
    frame = trial_frame(trials, search_file)
    rows = [
        {key: (None if pd.isna(value) else value) for key, value in row.items()}
        for row in frame.to_dict("records")
    ]
    return {
        "study": search_file.study,
        "title": search_file.title,
        "cut_down": search_file.cut_down,
        "lambda": search_file.lambda_reading,
        "gate": search_file.gate.model_dump(),
        "best_trial": ranked[0].number if ranked else None,
        "best_global_tpe_score": ranked[0].value if ranked else None,
        "trials": rows,
        "saved": saved_hours(trials).to_dict(),
        "finalists": None if again is None else again.to_dict(),
    }


def trial_table(
    trials: Sequence[TrialRecord], search_file: SearchFile, *, rows: int = 20
) -> RenderableType:
    """The scores and, below, what was tried; no number is cut however narrow the terminal.

    The best `rows` of the trials that ended; accuracies in percent, on validation images.
    """
    from rich.console import Group

    frame = trial_frame(trials, search_file).head(rows)
    return Group(_score_table(frame, search_file), "", _params_table(frame, search_file))


def _score_table(frame: pd.DataFrame, search_file: SearchFile) -> WideTable:
    title = search_file.title or search_file.study
    if search_file.cut_down:
        title += " (CUT DOWN: quote no score)"
    table = WideTable(title)
    names = [entry.name for entry in search_file.datasets]
    for heading in ("trial", "Global\nTPE\nscore", "lambda", "mean\n%", "gate\nmargin"):
        table.column(heading)
    for name in names:
        table.column(f"{name}\n%".replace("_", "\n", 1))
    for heading in ("consis-\ntency", "general-\nization"):
        table.column(heading)
    for _, row in frame.iterrows():
        table.row(
            row["trial"],
            _number(row["global_tpe_score"]),
            _short(row["lambda"]),
            _percent(row["mean_accuracy"]),
            _number(row["gate_margin"], signed=True),
            *(_percent(row[accuracy_key(name)]) for name in names),
            _number(row["consistency"]),
            _number(row["generalization"]),
        )
    return table


def _params_table(frame: pd.DataFrame, search_file: SearchFile) -> WideTable:
    table = WideTable()
    table.column("trial")
    table.words("parameters and outcome")
    for _, row in frame.iterrows():
        params = " ".join(f"{key}={_short(row[key])}" for key in search_file.space.parameters)
        table.row(row["trial"], f"{params}\n{row['outcome']}")
    return table


def summary_lines(trials: Sequence[TrialRecord], search_file: SearchFile) -> list[str]:
    """What the table says, in sentences."""
    frame = trial_frame(trials, search_file)
    ranked = best_first(trials)
    lines = []
    if ranked:
        best = ranked[0]
        lines.append(f"Best: trial {best.number}, Global TPE score {best.value:.4f}.")
    else:
        lines.append("No trial passed the gate and finished stage 2.")
    if again := Finalists.of(trials, search_file.finalists):
        lines.append(f"{_capital(again.sentence())}.")
    stopped = sum(trial.state == "pruned" for trial in searched(trials))
    lines.append(f"{len(frame)} trials ended: {len(ranked)} complete, {stopped} stopped early.")
    if saved := saved_hours(trials).sentence():
        lines.append(f"{_capital(saved)}.")
    if search_file.cut_down:
        lines.append("This search is cut down (subsets, few epochs): quote no score of it.")
    for entry in search_file.datasets:
        if entry.synthetic:
            lines.append(f"{entry.name}: rendered (synthetic) images, no real data.")
        if entry.stand_in_for:
            lines.append(f"{entry.name} stands in for {entry.stand_in_for}, which it is not.")
    return lines


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _percent(accuracy: float | None) -> str:
    return "" if accuracy is None or pd.isna(accuracy) else f"{100 * accuracy:.2f}"


def _number(value: float | None, *, signed: bool = False) -> str:
    if value is None or pd.isna(value):
        return ""
    return f"{value:+.4f}" if signed else f"{value:.4f}"


def _short(value: Any) -> str:
    if value is None or (isinstance(value, float) and pd.isna(value)):
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
