"""One training outside a search: its images, its epochs, its state, its result.

Imports torch.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import torch

from model.data import Dataset, DeviceSet, device_sets, load_dataset, split
from model.data.info import array_checksum
from model.runners import runners_for
from model.training.evaluation import Evaluation, Weights
from model.training.step import OnStep, RunnerFactory
from model.training.trainer import EpochResult, Trainer

if TYPE_CHECKING:
    from model.config import ModelConfig, TrainConfig
    from search.file.sections import DatasetSection

ON_TEST_CHECK_SIZE = 2000
"""Training images whose accuracy is shown while a run on all of them trains: the test
images must not be looked at before the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetImages:
    """A data set on a device.

    Args:
        dataset: its facts, and its test images, unread.
        train: images trained on.
        validation: images held out; where none are, some of the training images.
    """

    dataset: Dataset
    train: DeviceSet
    validation: DeviceSet

    @classmethod
    def load(
        cls,
        entry: DatasetSection,
        *,
        split_seed: int,
        device: str,
        data_dir: Path | None,
        hold_out: bool,
    ) -> Self:
        """Reads a set and puts it on the device.

        Args:
            entry: name, limit and validation part.
            split_seed: of the validation part.
            device: torch's name.
            data_dir: prepared sets; None means $NKAT_DATA_DIR.
            hold_out: keep the validation part out of training.

        Raises:
            BadInput: no such data set, or nothing is left to train on.
        """
        dataset = load_dataset(entry.name, data_dir=data_dir, synthetic=entry.synthetic)
        held_out = entry.validation if hold_out else 0
        parts = split(
            dataset,
            validation_fraction=held_out if isinstance(held_out, float) else None,
            validation_size=held_out if isinstance(held_out, int) else None,
            limit=entry.limit,
            seed=split_seed,
        )
        if hold_out:
            train, validation = device_sets(parts, device=device)
        else:
            train = DeviceSet.from_arrays(
                parts.train_images, parts.train_labels, info=dataset.info, device=device
            )
            shown = slice(0, ON_TEST_CHECK_SIZE)
            validation = replace(train, images=train.images[shown], labels=train.labels[shown])
        return cls(dataset=dataset, train=train, validation=validation)

    def read_test(self) -> tuple[DeviceSet, str]:
        """The test images, normalised like the training images, and their checksum."""
        images, labels = self.dataset.read_test()
        test = DeviceSet.from_arrays(
            images,
            labels,
            info=self.dataset.info,
            device=self.train.device,
            mean=self.train.mean,
            std=self.train.std,
        )
        return test, array_checksum(images, labels)


@functools.cache
def _runners(device: str) -> RunnerFactory:
    """One per device, so that the next seed finds the step captured."""
    return runners_for(device)


class Training:
    """One training, from its first epoch or from a saved one.

    Args:
        images: the set.
        model: for any images; the set's shape is put in.
        recipe: as this set uses it (`recipe_on`).
        seed: of the training.
        device: where the images are.
        on_step: called after each step, where steps are run one by one.

    Raises:
        BadInput: values that do not fit together.
        OutOfMemory: as the trainer says.
    """

    def __init__(
        self,
        *,
        images: SetImages,
        model: ModelConfig,
        recipe: TrainConfig,
        seed: int,
        device: str,
        on_step: OnStep | None = None,
    ) -> None:
        info = images.dataset.info
        self.images = images
        self.history: list[EpochResult] = []
        self._device = device
        self.trainer = Trainer(
            model_config=model.for_images(
                image_size=info.image_size, channels=info.channels, classes=info.classes
            ),
            train_config=recipe,
            train=images.train,
            validation=images.validation,
            device=device,
            seed=seed,
            runner=_runners(device),
            on_step=on_step,
        )

    @property
    def chosen_weights(self) -> Weights:
        """The weights that are read on test images, chosen beforehand: the averaged ones, the
        raw ones if averaging is off."""
        return "ema" if self.trainer.train_config.ema > 0 else "raw"

    def epochs(self) -> Iterator[EpochResult]:
        """Trains the epochs that are left.

        Raises:
            Diverged, OutOfMemory: as the trainer says.
        """
        for result in self.trainer.epochs():
            self.history.append(result)
            yield result

    def save(self, file: BinaryIO) -> None:
        """Writes all that `resume` needs to go on after the last epoch."""
        state = {
            "trainer": self.trainer.state_dict(),
            "history": [asdict(result) for result in self.history],
        }
        torch.save(state, file)

    def resume(self, saved: bytes) -> None:
        """Goes on where the training that wrote `saved` was.

        Raises:
            BadInput: it was another training.
        """
        state = torch.load(io.BytesIO(saved), map_location=self._device, weights_only=True)
        self.trainer.load_state_dict(state["trainer"])
        self.history = [_epoch_result(plain) for plain in state["history"]]


def _epoch_result(plain: dict[str, Any]) -> EpochResult:
    return EpochResult(**plain | {"evaluation": Evaluation(**plain["evaluation"])})
