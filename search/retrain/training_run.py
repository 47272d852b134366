"""Training outside a search: one configuration, one data set, one or more seeds.

Imports torch; the `train` and `smoke` commands import it when they run.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from model.config import ModelConfig, TrainConfig, warmup_fits
from model.data import DatasetInfo
from model.training.step import OnStep
from model.training.trainer import EpochResult
from nkat_errors import BadInput
from search.file.sections import DatasetSection
from search.retrain.training import SetImages, Training


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """One training to be done.

    Args:
        model: for any images; the set's shape is put in.
        train: the recipe; the set's own fields and flip rule are put in.
        entry: data set, with its epochs, limit and validation.
        split_seed: of the validation split.
        seed: of the training.
        device: torch's name.
        data_dir: prepared sets; None means $NKAT_DATA_DIR.
        test: train on all training images and read the test images once, at the end.
    """

    model: ModelConfig
    train: TrainConfig
    entry: DatasetSection
    split_seed: int
    seed: int
    device: str
    data_dir: Path | None
    test: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What a training gave.

    Args:
        on: `validation` or `test`: the images behind `accuracy`.
        images: how many of them.
        accuracy: of the better of raw and averaged weights on validation images; on
            test images of the averaged ones (raw if averaging is off), chosen beforehand.
        weights: whose accuracy it is: `raw` or `ema`.
        train_images: images trained on.
        seconds: of all epochs, evaluation included.
        history: accuracy after each epoch (in a --test run, on training images).
    """

    dataset: str
    seed: int
    epochs: int
    on: str
    images: int
    accuracy: float
    weights: str
    accuracy_raw: float
    accuracy_ema: float
    loss: float
    train_images: int
    images_per_s: float
    seconds: float
    history: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Mean and sample standard deviation (None for one run) of several seeds."""

    runs: int
    mean: float
    std: float | None
    images: int

    @property
    def noise(self) -> float:
        """One standard deviation of a run's accuracy: that of the seeds, or of drawing
        the evaluated images (sqrt(a (1 - a) / n)), whichever is larger."""
        drawing = math.sqrt(self.mean * (1 - self.mean) / self.images)
        return max(drawing, self.std or 0.0)

    def agrees_with(self, recorded: float) -> bool:
        """Within two standard deviations of a recorded accuracy."""
        return abs(self.mean - recorded) <= 2 * self.noise + 1e-12


def summarise(results: Iterable[RunResult]) -> Summary:
    every = list(results)
    values = [result.accuracy for result in every]
    return Summary(
        runs=len(values),
        mean=statistics.fmean(values),
        std=statistics.stdev(values) if len(values) > 1 else None,
        images=every[0].images,
    )


def choose_device(name: str) -> str:
    """`auto` becomes the first GPU, or the CPU where there is none.

    Raises:
        BadInput: a device this machine does not have.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return "cuda:0" if gpus else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise BadInput(f"--device {name}: must be auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda" and (device.index or 0) >= gpus:
        raise BadInput(f"--device {name}: this machine has {gpus} GPUs that torch can use")
    if device.type not in ("cpu", "cuda"):
        raise BadInput(f"--device {name}: must be auto, cpu, cuda or cuda:N")
    return name


def device_title(device: str) -> str:
    """Name of the hardware, for results."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"


def train_once(
    spec: RunSpec,
    *,
    on_start: Callable[[int], None] | None = None,
    on_epoch: Callable[[EpochResult], None] | None = None,
    on_step: OnStep | None = None,
) -> tuple[RunResult, DatasetInfo]:
    """Trains to the end.

    Args:
        on_start: called with the number of images to train on, once they are loaded.
        on_epoch: called after each epoch.
        on_step: called after each step, where steps are run one by one.

    Raises:
        BadInput: no such data set, or values that do not fit together.
        Diverged, OutOfMemory: as the trainer says.
    """
    images = SetImages.load(
        spec.entry,
        split_seed=spec.split_seed,
        device=spec.device,
        data_dir=spec.data_dir,
        hold_out=not spec.test,
    )
    info = images.dataset.info
    training = Training(
        images=images,
        model=spec.model,
        recipe=recipe_on(spec.train, spec.entry, flip=info.flip),
        seed=spec.seed,
        device=spec.device,
        on_step=on_step,
    )
    if on_start is not None:
        on_start(len(images.train))
    for epoch in training.epochs():
        if on_epoch is not None:
            on_epoch(epoch)
    last = training.history[-1]
    evaluation, evaluated, weights = last.evaluation, images.validation, last.weights
    if spec.test:
        evaluated, _ = images.read_test()
        evaluation, weights = training.trainer.evaluate(evaluated), training.chosen_weights
    result = RunResult(
        dataset=info.name,
        seed=spec.seed,
        epochs=last.epochs,
        on="test" if spec.test else "validation",
        images=len(evaluated),
        accuracy=evaluation.accuracy_ema if weights == "ema" else evaluation.accuracy_raw,
        weights=weights,
        accuracy_raw=evaluation.accuracy_raw,
        accuracy_ema=evaluation.accuracy_ema,
        loss=last.loss,
        train_images=len(images.train),
        images_per_s=last.images_per_s,
        seconds=sum(epoch.seconds for epoch in training.history),
        history=tuple(epoch.accuracy for epoch in training.history),
    )
    return result, info


def recipe_on(train: TrainConfig, entry: DatasetSection, *, flip: bool) -> TrainConfig:
    """The recipe as one data set uses it.

    Raises:
        BadInput: the set's own fields do not fit the others.
    """
    own: dict[str, Any] = entry.recipe()
    recipe = replace(train, **own)
    return replace(recipe, flip=recipe.flip and flip)


def require_warmup_fits(recipe: TrainConfig, dataset: str) -> None:
    """Refuses a --warmup that does not end before training does (a default one is cut)."""
    if warmup_fits.why_not(recipe.to_dict()) is not None:
        raise BadInput(
            f"--warmup {recipe.warmup:g}: must be less than the {recipe.epochs} epochs on "
            f"{dataset}"
        )


def result_dict(result: RunResult) -> dict[str, Any]:
    """Plain values for JSON."""
    return asdict(result)
