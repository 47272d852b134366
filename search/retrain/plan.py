"""What a recalculation will train: every set, its recipe and epochs, and the seeds.

Known before anything is trained: how many trainings there are, and (where the file
recorded what the trial took on the same device) about how long they take.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from model.config import ModelConfig, TrainConfig, warmup_fits
from model.data import DatasetInfo, load_dataset
from model.network.cost import model_cost
from nkat_errors import BadInput
from search.export.best_file import BestDataset, BestFile
from search.file.sections import DatasetSection, RecalculationSection
from search.provenance import code_version, package_versions


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedSet:
    """One data set, as the recalculation trains it.

    Args:
        entry: where its images come from; no limit, nothing held out.
        info: its facts.
        recipe: the whole recipe on this set.
        work_per_epoch: FLOPs, all training images.
    """

    entry: DatasetSection
    info: DatasetInfo
    recipe: TrainConfig
    work_per_epoch: float

    @property
    def name(self) -> str:
        return self.entry.name


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedTraining:
    """One set with one seed; `number` counts from 0 in the order of training."""

    number: int
    planned: PlannedSet
    seed: int
    first_seed: bool

    @property
    def name(self) -> str:
        return f"{self.planned.name}-seed{self.seed}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A whole recalculation.

    Args:
        best: the configuration.
        settings: factor, number of runs and overrides in use.
        sets: in the file's order.
        seeds: the file's and the next ones.
        device: the hardware's name.
        estimate_s: about how long it takes; None where the file does not tell.
    """

    best: BestFile
    settings: RecalculationSection
    sets: tuple[PlannedSet, ...]
    seeds: tuple[int, ...]
    device: str
    estimate_s: float | None

    @classmethod
    def of(
        cls,
        best: BestFile,
        *,
        settings: RecalculationSection,
        device: str,
        data_dir: Path | None,
    ) -> Self:
        """Looks at every data set and puts the recipes together.

        Args:
            settings: the file's, changed by the command line.
            device: the hardware's name.
            data_dir: prepared sets; None means $NKAT_DATA_DIR.

        Raises:
            BadInput: a set that cannot be had, or a recipe that does not fit together.
        """
        model, train = best.configuration()
        sets = tuple(
            _planned(one, model=model, train=train, settings=settings, data_dir=data_dir)
            for one in best.datasets
        )
        first = best.provenance.seed
        return cls(
            best=best,
            settings=settings,
            sets=sets,
            seeds=tuple(range(first, first + settings.runs)),
            device=device,
            estimate_s=_estimate(best, sets, settings.runs, device=device, model=model),
        )

    def trainings(self) -> Iterator[PlannedTraining]:
        """Set by set, so that each set is read once and its captured step stays warm."""
        number = 0
        for planned in self.sets:
            for seed in self.seeds:
                yield PlannedTraining(
                    number=number,
                    planned=planned,
                    seed=seed,
                    first_seed=seed == self.seeds[0],
                )
                number += 1

    @property
    def epochs(self) -> int:
        """Of all trainings."""
        return len(self.seeds) * sum(planned.recipe.epochs for planned in self.sets)

    @property
    def work(self) -> float:
        """FLOPs of all trainings."""
        return len(self.seeds) * sum(one.work_per_epoch * one.recipe.epochs for one in self.sets)

    def identity(self) -> dict[str, Any]:
        """What decides the bits of a result: a work folder holds one of these.

        Plain values, as JSON gives them back.
        """
        model, _ = self.best.configuration()
        return {
            "model": model.to_dict(),
            "sets": {
                one.name: {"recipe": one.recipe.to_dict(), "checksum": one.info.checksum}
                for one in self.sets
            },
            "seeds": list(self.seeds),
            "device": self.device,
            "code_version": code_version(),
            "package_versions": package_versions(),
        }


def trial_digest(best: BestFile) -> str:
    """8 hex digits that tell the configurations of different files apart."""
    text = best.model_dump_json(by_alias=True, exclude={"recalculation"})
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _planned(
    dataset: BestDataset,
    *,
    model: ModelConfig,
    train: TrainConfig,
    settings: RecalculationSection,
    data_dir: Path | None,
) -> PlannedSet:
    info = load_dataset(dataset.name, data_dir=data_dir, synthetic=dataset.synthetic).info
    own = dataset.train.given()
    long = settings.train.given()
    recipe = TrainConfig.from_dict(
        {**train.to_dict(), **long, **own, "epochs": settings.epochs(dataset.epochs)}
    )
    # Where the search's own warm-up does not fit either, it was cut, and is cut here.
    searched = {**train.to_dict(), **own, "epochs": dataset.epochs}
    if warmup_fits.why_not(recipe.to_dict()) and not warmup_fits.why_not(searched):
        raise BadInput(
            f"warmup = {recipe.warmup:g} must be less than the {recipe.epochs} epochs on "
            f"{dataset.name}: raise epochs_factor = {settings.epochs_factor:g}"
        )
    entry = dataset.entry().model_copy(update={"limit": None})
    recipe = replace(recipe, flip=recipe.flip and info.flip)
    return PlannedSet(
        entry=entry,
        info=info,
        recipe=recipe,
        work_per_epoch=_flops(model, info) * info.train_size,
    )


def _flops(model: ModelConfig, info: DatasetInfo) -> float:
    """Of one training image."""
    built = model.for_images(
        image_size=info.image_size, channels=info.channels, classes=info.classes
    )
    return float(model_cost(built).training_flops)


def _estimate(
    best: BestFile,
    sets: tuple[PlannedSet, ...],
    runs: int,
    *,
    device: str,
    model: ModelConfig,
) -> float | None:
    """Seconds: what the trial took for its work, for this work.

    None for another device, or a file that does not say what its trial took.
    """
    effort, planned_epochs = best.effort, sum(one.epochs for one in best.datasets)
    same_device = best.provenance.device == device.partition(",")[0]
    if effort is None or not effort.epochs or best.kind != "best" or not same_device:
        return None
    seconds = effort.seconds_stage1 + effort.seconds_stage2
    seconds *= planned_epochs / effort.epochs  # epochs that were lost with an attempt
    done = sum(
        recorded.epochs * _kept(recorded, planned.info.train_size) * _flops(model, planned.info)
        for recorded, planned in zip(best.datasets, sets, strict=True)
    )
    ahead = runs * sum(one.work_per_epoch * one.recipe.epochs for one in sets)
    return seconds * ahead / done


def _kept(dataset: BestDataset, total: int) -> int:
    """Images that the search trained on."""
    held_out = dataset.validation
    kept = total - (held_out if isinstance(held_out, int) else round(held_out * total))
    return kept if dataset.limit is None else min(kept, dataset.limit)
