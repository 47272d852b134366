"""Whether a best.yaml's scores come out again when its configuration is trained again.

From the file alone: the search's budget, its validation images, its seed.  What differs
from the record (data, code, packages) is found before anything is trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.data import load_dataset
from search.export.best_file import BestDataset, BestFile
from search.provenance import code_version, package_versions
from search.retrain.epoch_progress import epoch_progress
from search.retrain.training_run import (
    RunSpec,
    Summary,
    choose_device,
    device_title,
    train_once,
)
from search.score.tpe_score import global_tpe_score
from search.terminal import WideTable, plain

if TYPE_CHECKING:
    from rich.console import Console

CHANGED = ".changed"
"""How a code version ends whose checkout had changes that no commit holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedSet:
    """One data set, trained again.

    Args:
        name: the set.
        recorded, found: accuracy on the same validation images, 0..1.
        spread: one standard deviation of a training's accuracy: that of the seeds of the
            file's recalculation or of drawing the validation images, whichever is larger.
    """

    name: str
    recorded: float
    found: float
    spread: float

    @property
    def reproduced(self) -> bool:
        """Within two standard deviations."""
        return abs(self.found - self.recorded) <= 2 * self.spread + 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What training again gave.

    Args:
        sets: those that the file has accuracies of.
        recorded_score, found_score: Global TPE scores; None for a nearest.yaml.
        differences: from the record, one sentence each; of --anyway.
        device: the hardware's name.
    """

    sets: tuple[VerifiedSet, ...]
    recorded_score: float | None
    found_score: float | None
    differences: tuple[str, ...]
    device: str

    @property
    def reproduced(self) -> bool:
        return all(one.reproduced for one in self.sets)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, verdicts included."""
        sets = [asdict(one) | {"reproduced": one.reproduced} for one in self.sets]
        return asdict(self) | {"reproduced": self.reproduced, "sets": sets}


def differences(best: BestFile, *, data_dir: Path | None) -> list[str]:
    """What is not as the file records it, one sentence each.

    Raises:
        BadInput: a data set that cannot be had at all.
    """
    origin = best.provenance
    found = [sentence for one in _recorded(best) if (sentence := _data_difference(one, data_dir))]
    here = code_version()
    if here != origin.code_version:
        found.append(f"code: {origin.code_version} is recorded, {here} runs here")
    elif here.endswith(CHANGED):
        found.append(f"code: {here} is recorded and here, with changes that no commit holds")
    return found + _package_differences(origin.package_versions, package_versions())


def _recorded(best: BestFile) -> list[BestDataset]:
    """The sets that the file has an accuracy of: all of them, but in a nearest.yaml."""
    return [one for one in best.datasets if one.name in best.scores.sets]


def _data_difference(dataset: BestDataset, data_dir: Path | None) -> str | None:
    info = load_dataset(dataset.name, data_dir=data_dir, synthetic=dataset.synthetic).info
    if dataset.checksum is None:
        return f"data: the file does not say which images of {dataset.name} it was trained on"
    if info.checksum == dataset.checksum:
        return None
    return (
        f"data: other images of {dataset.name} (checksum {dataset.checksum[:12]}... is recorded, "
        f"{info.checksum[:12]}... is here)"
    )


def _package_differences(recorded: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    return [
        f"package: {name} {recorded.get(name, 'not at all')} is recorded, "
        f"{here.get(name, 'none')} is here"
        for name in dict.fromkeys((*recorded, *here))
        if recorded.get(name) != here.get(name)
    ]


def verify(
    best: BestFile,
    *,
    device: str,
    data_dir: Path | None,
    found: tuple[str, ...],
    notes: Console,
) -> Verification:
    """Trains every recorded set again; shows progress on `notes`.

    Args:
        best: checked at reading, so that its scores follow from its accuracies.
        device: torch's name or `auto`.
        data_dir: prepared sets; None means $NKAT_DATA_DIR.
        found: the differences that the user accepted.

    Raises:
        BadInput: no such device or data set.
        Diverged, OutOfMemory: as the trainer says.
    """
    device = choose_device(device)
    sets = tuple(
        _train_again(best, dataset, device=device, data_dir=data_dir, notes=notes)
        for dataset in _recorded(best)
    )
    score = None
    if best.scores.global_tpe_score is not None:
        score = global_tpe_score((one.found for one in sets), best.lambda_.value)
    return Verification(
        sets=sets,
        recorded_score=best.scores.global_tpe_score,
        found_score=score,
        differences=found,
        device=device_title(device),
    )


def _train_again(
    best: BestFile, dataset: BestDataset, *, device: str, data_dir: Path | None, notes: Console
) -> VerifiedSet:
    model, train = best.configuration()
    seed = best.provenance.seed
    spec = RunSpec(
        model=model,
        train=train,
        entry=dataset.entry(),
        split_seed=seed,
        seed=seed,
        device=device,
        data_dir=data_dir,
    )
    with epoch_progress(dataset.name, epochs=dataset.epochs, console=notes) as progress:
        result, _ = train_once(spec, on_epoch=progress.epoch, on_step=progress.step)
    recorded = best.scores.sets[dataset.name].accuracy
    recalculated = best.recalculation.result
    summary = Summary(
        runs=1,
        mean=recorded,
        std=None if recalculated is None else recalculated.sets[dataset.name].accuracy.std,
        images=result.images,
    )
    return VerifiedSet(
        name=dataset.name, recorded=recorded, found=result.accuracy, spread=summary.noise
    )


def print_verification(verification: Verification, heading: str, console: Console) -> None:
    """A table of the sets and the verdict."""
    table = WideTable(f"{heading}, trained again on {verification.device}")
    table.column("data set", left=True)
    for name in ("recorded", "found", "difference", "allowed"):
        table.column(name)
    table.column("", left=True)
    for one in verification.sets:
        table.row(
            one.name,
            f"{one.recorded:.4f}",
            f"{one.found:.4f}",
            f"{one.found - one.recorded:+.4f}",
            f"+-{2 * one.spread:.4f}",
            "reproduced" if one.reproduced else "NOT REPRODUCED",
        )
    console.print(table)
    for line in sentences(verification):
        console.print(plain(line), soft_wrap=True)


def sentences(verification: Verification) -> list[str]:
    """What the table says."""
    lines = [f"Although it differs: {difference}." for difference in verification.differences]
    if verification.recorded_score is not None and verification.found_score is not None:
        lines.append(
            f"Global TPE score {verification.found_score:.4f}; recorded "
            f"{verification.recorded_score:.4f}."
        )
    outside = [one.name for one in verification.sets if not one.reproduced]
    if outside:
        lines.append(
            f"NOT REPRODUCED: {', '.join(outside)} outside two standard deviations of the record."
        )
    elif all(one.found == one.recorded for one in verification.sets):
        lines.append("Reproduced: every accuracy is exactly the recorded one.")
    else:
        lines.append("Reproduced: every accuracy is within two standard deviations of the record.")
    return lines
