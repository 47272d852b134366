"""A configuration trained on its data sets, with its scores and what they compare to."""

from __future__ import annotations

import datetime
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.network.cost import model_cost
from nkat_errors import Interrupted
from search.export.configuration import Chosen
from search.file.sections import DatasetSection
from search.provenance import code_version, package_versions
from search.retrain.epoch_progress import TrainingProgress, epoch_progress
from search.retrain.training_run import (
    RunResult,
    RunSpec,
    choose_device,
    device_title,
    recipe_on,
    require_warmup_fits,
    result_dict,
    summarise,
    train_once,
)
from search.score.tpe_score import global_tpe_score, lambdas, local_tpe_score
from search.terminal import WideTable, plain

if TYPE_CHECKING:
    from rich.console import Console

    from model.data import DatasetInfo
    from model.training.trainer import EpochResult


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRequest:
    """What `train` was asked for.

    Args:
        chosen: the configuration.
        given: fields of the recipe that the command line names.
        changed: fields or images differ from the file's, so its scores are no reference.
        entries: data sets, with epochs, limit and validation.
        split_seed: of the validation splits.
        seed: of the first run.
        runs: seeds per data set.
        test: the formal recalculation on test images.
        device: torch's name or `auto`.
        data_dir: prepared sets.
    """

    chosen: Chosen
    given: Collection[str]
    changed: bool
    entries: tuple[DatasetSection, ...]
    split_seed: int
    seed: int
    runs: int
    test: bool
    device: str
    data_dir: Path | None


def retrain(request: TrainRequest, *, notes: Console) -> dict[str, Any]:
    """Trains every run of every data set; shows progress on stderr.

    Returns:
        Plain values: configuration, per-set runs, mean and standard deviation, TPE
        scores, the comparison with a best.yaml's scores, hardware, versions, data.
    """
    device = choose_device(request.device)
    for entry in request.entries:  # say what cannot work before the first long training
        recipe = recipe_on(request.chosen.train, entry, flip=True)
        if "warmup" in request.given:
            require_warmup_fits(recipe, entry.name)
    lam, reading = _lambda(request.chosen)
    rows = []
    interrupted = ""
    for entry in request.entries:
        trained = _Trained()
        try:
            _train_set(request, entry, device, notes, trained)
        except KeyboardInterrupt:
            interrupted = f"interrupted in {trained.where}; a training under way is not kept"
        if trained.info is not None:
            rows.append(_row(request, entry, trained.results, trained.info, lam))
        if interrupted:
            break
    if not rows:
        raise Interrupted(interrupted)
    report: dict[str, Any] = {
        "configuration": request.chosen.name,
        "cut_down": request.chosen.best is not None and request.chosen.best.cut_down,
        "interrupted": interrupted or None,
        "on": "test" if request.test else "validation",
        "lambda": {"reading": reading, "value": lam},
        "sets": rows,
        "model": request.chosen.model.to_dict(),
        "train": request.chosen.train.to_dict(),
        "device": device_title(device),
        "code_version": code_version(),
        "package_versions": package_versions(),
        "date_utc": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    best = request.chosen.best
    if best is not None and not request.changed and len(rows) == len(best.datasets):
        report["global_tpe_score"] = global_tpe_score((row["mean"] for row in rows), lam)
        report["recorded_global_tpe_score"] = best.scores.global_tpe_score
    return report


def _lambda(chosen: Chosen) -> tuple[float, str]:
    """The lambda in use; of the network as it will be trained."""
    parameters = model_cost(chosen.model).parameters
    return lambdas(chosen.model, parameters=parameters).of(chosen.reading), chosen.reading


@dataclass(slots=True)
class _Trained:
    """What a data set's runs gave so far, and where the one under way is."""

    results: list[RunResult] = field(default_factory=list)
    info: DatasetInfo | None = None
    title: str = ""
    epoch: int = 0
    epochs: int = 0

    @property
    def where(self) -> str:
        return f"epoch {self.epoch + 1}/{self.epochs} of {self.title}"


def _train_set(
    request: TrainRequest,
    entry: DatasetSection,
    device: str,
    notes: Console,
    trained: _Trained,
) -> None:
    for run in range(request.runs):
        spec = RunSpec(
            model=request.chosen.model,
            train=request.chosen.train,
            entry=entry,
            split_seed=request.split_seed,
            seed=request.seed + run,
            device=device,
            data_dir=request.data_dir,
            test=request.test,
        )
        title = entry.name if request.runs == 1 else f"{entry.name} {run + 1}/{request.runs}"
        epochs = recipe_on(request.chosen.train, entry, flip=True).epochs
        trained.title, trained.epoch, trained.epochs = title, 0, epochs

        def on_start(images: int, begins: str = f"{title}: {epochs} epochs of") -> None:
            line = f"{begins} {images:,} images on {device_title(device)}"
            notes.print(line, markup=False, soft_wrap=True)

        with epoch_progress(title, epochs=epochs, console=notes) as progress:

            def on_epoch(epoch: EpochResult, progress: TrainingProgress = progress) -> None:
                trained.epoch = epoch.epoch
                progress.epoch(epoch)

            result, info = train_once(
                spec, on_start=on_start, on_epoch=on_epoch, on_step=progress.step
            )
        trained.results.append(result)
        trained.info = info


def _row(
    request: TrainRequest,
    entry: DatasetSection,
    results: list[RunResult],
    info: DatasetInfo,
    lam: float,
) -> dict[str, Any]:
    summary = summarise(results)
    row: dict[str, Any] = {
        "dataset": entry.name,
        "title": info.title,
        "epochs": results[0].epochs,
        "own_recipe": entry.train.given(),
        "limit": entry.limit,
        "train_images": results[0].train_images,
        "train_images_of_the_set": info.train_size,
        "evaluated_images": summary.images,
        "source": info.source,
        "checksum": info.checksum,
        "stand_in_for": entry.stand_in_for,
        "runs": [result_dict(result) for result in results],
        **{key: value for key, value in asdict(summary).items() if key in ("mean", "std")},
        "tpe_score": local_tpe_score(summary.mean, lam) if lam > 0 else None,
        "images_per_s": results[-1].images_per_s,
    }
    best = request.chosen.best
    if best is None or request.changed:
        return row
    recorded = best.scores.sets.get(entry.name)
    if recorded is None:  # a nearest.yaml: its trial was stopped before this set
        return row
    row["recorded"] = {
        "accuracy": recorded.accuracy,
        "tpe_score": recorded.tpe_score,
        "difference": summary.mean - recorded.accuracy,
        "noise": summary.noise,
        # A test accuracy is of other images: shown beside the recorded one, not judged.
        "agrees": None if request.test else summary.agrees_with(recorded.accuracy),
        "same_data": _same(best, entry.name, info.checksum),
    }
    return row


def _same(best: Any, name: str, checksum: str) -> bool | None:
    recorded = {one.name: one.checksum for one in best.datasets}[name]
    return None if recorded is None else bool(recorded == checksum)


def print_report(report: dict[str, Any], console: Console) -> None:
    """The result as a table and sentences."""
    heading = f"{report['configuration']}, {report['on']} images, {report['device']}"
    if report["cut_down"]:
        heading += " (CUT DOWN: quote no score)"
    table = WideTable(heading)
    table.column("data set", left=True)
    for name in ("epochs", "runs", "accuracy", "std", "TPE score", "images/s"):
        table.column(name)
    compared = any("recorded" in row for row in report["sets"])
    if compared:
        table.column("recorded")
        table.column("difference")
    for row in report["sets"]:
        cells = [
            row["dataset"] + (" (SYNTHETIC)" if row["source"] == "synthetic" else ""),
            str(row["epochs"]),
            str(len(row["runs"])),
            f"{row['mean']:.4f}",
            "" if row["std"] is None else f"{row['std']:.4f}",
            "none" if row["tpe_score"] is None else f"{row['tpe_score']:.4f}",
            f"{row['images_per_s']:,.0f}",
        ]
        if compared and "recorded" in row:
            recorded = row["recorded"]
            cells += [f"{recorded['accuracy']:.4f}", f"{recorded['difference']:+.4f}"]
        elif compared:
            cells += ["", ""]
        table.row(*cells)
    console.print(table)
    for line in sentences(report):
        console.print(plain(line), soft_wrap=True)


def agrees(report: dict[str, Any]) -> bool:
    """False when an accuracy lies outside two standard deviations of its record."""
    return all(row.get("recorded", {}).get("agrees") is not False for row in report["sets"])


def sentences(report: dict[str, Any]) -> list[str]:
    """What the comparison with an exported configuration says."""
    lines = []
    for row in report["sets"]:
        recorded = row.get("recorded")
        if recorded is None:
            continue
        if recorded["same_data"] is False:
            lines.append(f"{row['dataset']}: other images than the recorded ones (checksum).")
        if recorded["agrees"] is None:
            continue
        verdict = "within" if recorded["agrees"] else "OUTSIDE"
        lines.append(
            f"{row['dataset']}: {recorded['difference']:+.4f} against the record, {verdict} "
            f"two standard deviations ({2 * recorded['noise']:.4f})."
        )
    if "global_tpe_score" in report:
        recorded_score = report["recorded_global_tpe_score"]
        beside = "none (its trial ended early)"
        if recorded_score is not None:
            beside = f"{recorded_score:.4f}"
        lines.append(
            f"Global TPE score {report['global_tpe_score']:.4f}; recorded on validation images: "
            f"{beside}."
        )
    if report["on"] == "test":
        lines += [_trained_on(row) for row in report["sets"]]
        lines.append("The test images were read once, at the end.")
    if report["interrupted"]:
        lines.append(f"{report['interrupted']}.")
    return lines


def _trained_on(row: dict[str, Any]) -> str:
    used, every = row["train_images"], row["train_images_of_the_set"]
    if used == every:
        return f"{row['dataset']}: trained on all {every:,} training images."
    return f"{row['dataset']}: trained on {used:,} of {every:,} training images (--limit)."
