"""A recalculation's outcomes as the record for best.yaml, and as tables."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from model.data import DatasetInfo
from search.export.best_file import BestFile
from search.export.recalculation_record import (
    BestRecalculation,
    RecalculatedRun,
    RecalculatedScores,
    RecalculatedSet,
    RecalculationResult,
    SourceLine,
    Spread,
)
from search.provenance import code_version, package_versions
from search.retrain.plan import Plan, PlannedSet
from search.score.explain import SOURCE_TARGETS
from search.score.seeds import MeanStd, SeedScores
from search.terminal import WideTable, plain

if TYPE_CHECKING:
    from rich.console import Console

    from search.retrain.runner import Outcome

SCORE_TITLES = {
    "global_tpe_score": "Global TPE score",
    "consistency": "Consistency",
    "robustness": "Robustness",
    "generalization": "Generalization",
}


def recorded(
    plan: Plan,
    outcomes: Mapping[str, Sequence[Outcome]],
    *,
    weights_files: Mapping[str, str],
    now: datetime.datetime,
) -> BestFile:
    """The plan's file with its recalculation.

    Args:
        outcomes: by data set, one a seed.
        weights_files: names of the files beside it, by data set.
        now: the date to write, UTC.
    """
    accuracies = {name: [one.accuracy for one in found] for name, found in outcomes.items()}
    scores = SeedScores.of(accuracies, plan.best.lambda_.value)
    result = RecalculationResult(
        date_utc=now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        device=plan.device,
        code_version=code_version(),
        package_versions=package_versions(),
        epochs_factor=plan.settings.epochs_factor,
        train=plan.settings.train,
        seeds=list(plan.seeds),
        scores=RecalculatedScores.of(scores),
        sets={
            planned.name: _recorded_set(
                planned,
                plan.seeds,
                outcomes[planned.name],
                scores,
                weights_files.get(planned.name),
            )
            for planned in plan.sets
        },
    )
    section = {**plan.best.recalculation.model_dump(), "result": result.model_dump()}
    return plan.best.model_copy(
        update={"recalculation": BestRecalculation.model_validate(section)}
    )


def _recorded_set(
    planned: PlannedSet,
    seeds: Sequence[int],
    outcomes: Sequence[Outcome],
    scores: SeedScores,
    weights_file: str | None,
) -> RecalculatedSet:
    name, first = planned.name, outcomes[0]
    line = SOURCE_TARGETS.get(name)
    return RecalculatedSet(
        title=planned.info.title,
        stand_in_for=planned.entry.stand_in_for,
        source=planned.info.source,
        checksum=planned.info.checksum,
        test_checksum=next((one.test_checksum for one in outcomes if one.test_checksum), ""),
        epochs=planned.recipe.epochs,
        train_images=planned.info.train_size,
        test_images=first.test_images,
        weights=first.weights,
        weights_file=weights_file,
        runs=[
            RecalculatedRun(
                seed=seed,
                accuracy=one.accuracy,
                loss=one.loss,
                seconds=round(one.seconds, 3),
                failure=one.failure,
            )
            for seed, one in zip(seeds, outcomes, strict=True)
        ],
        accuracy=_spread(MeanStd.of(one.accuracy for one in outcomes)),
        tpe_score=_spread(scores.local[name]),
        source_target=None if line is None else SourceLine(accuracy=line[0], tpe_score=line[1]),
        per_class=_per_class(planned.info, first),
        confusion=None if first.confusion is None else [list(row) for row in first.confusion],
    )


def _spread(value: MeanStd) -> Spread:
    return Spread(mean=value.mean, std=value.std)


def _per_class(info: DatasetInfo, outcome: Outcome) -> dict[str, float | None] | None:
    if outcome.confusion is None:
        return None
    names = info.class_names or tuple(map(str, range(info.classes)))
    return {
        name: row[label] / sum(row) if sum(row) else None
        for label, (name, row) in enumerate(zip(names, outcome.confusion, strict=True))
    }


def print_result(best: BestFile, path: Path, console: Console) -> None:
    """The verdicts, the data sets, and where everything is."""
    result = best.recalculation.result
    if result is None:
        raise ValueError("this file records no recalculation")
    heading = f"Formal recalculation on test images, {result.device}"
    if best.cut_down:
        heading += " (CUT DOWN: quote no score)"
    console.print(_score_table(result, heading))
    console.print(_set_table(result))
    for line in sentences(best):
        console.print(plain(line), soft_wrap=True)
    console.print(plain(f"written: {path} (README.md and the weights beside it)"), soft_wrap=True)


def _score_table(result: RecalculationResult, heading: str) -> WideTable:
    table = WideTable(heading)
    for name in ("score", "mean", "std", "target", ""):
        table.column(name, left=name in ("score", ""))
    for name, title in SCORE_TITLES.items():
        score = getattr(result.scores, name)
        target = "" if score.target is None else f">= {score.target:.2f}"
        table.row(title, _number(score.mean), _number(score.std), target, score.verdict or "")
    return table


def _set_table(result: RecalculationResult) -> WideTable:
    table = WideTable()
    table.column("data set", left=True)
    for name in ("epochs", "runs", "accuracy", "std", "source's", "TPE score", "std", "source's"):
        table.column(name)
    for name, one in result.sets.items():
        line = one.source_target
        table.row(
            name + (" (SYNTHETIC)" if one.source == "synthetic" else ""),
            one.epochs,
            len(one.runs),
            _number(one.accuracy.mean),
            _number(one.accuracy.std),
            "" if line is None else f"{line.accuracy:.2f}",
            _number(one.tpe_score.mean),
            _number(one.tpe_score.std),
            "" if line is None else f"{line.tpe_score:.2f}",
        )
    return table


def sentences(best: BestFile) -> list[str]:
    """What must be said beside the numbers."""
    result = best.recalculation.result
    if result is None:
        return []
    seeds = ("seed " if len(result.seeds) == 1 else "seeds ") + ", ".join(map(str, result.seeds))
    lines = [
        f"Trained on all training images with {seeds}; the test images were read once "
        "a training, at its end."
    ]
    for name, one in result.sets.items():
        if one.per_class:
            known = {label: a for label, a in one.per_class.items() if a is not None}
            worst = min(known, key=known.__getitem__)
            if known[worst] < 1:
                lines.append(f"{name}: the hardest class is {worst}, accuracy {known[worst]:.4f}.")
        for run in one.runs:
            if run.failure:
                lines.append(f"{name}, seed {run.seed}, BROKE DOWN: {run.failure}.")
    lines += [f"{note}." for note in best.provenance.notes]
    return lines


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
