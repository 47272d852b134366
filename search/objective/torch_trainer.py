"""Trains a data set for real: the `SetTrainer` of a worker's training child.

The only module of the search's own way of a trial that imports torch; the child
imports it, its parent never does.  Data sets and captured steps stay warm from
trial to trial.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from model.config import ModelConfig, TrainConfig
from model.data import Dataset, DatasetInfo, DeviceSet, device_sets, load_dataset, split
from model.errors import Diverged, OutOfMemory
from model.network.cost import model_cost
from model.runners import runners_for
from model.training.trainer import Trainer
from search.file.search_file import SearchFile
from search.file.sections import DatasetSection
from search.objective.two_stages import CannotResume, CannotTrain, EpochReport
from search.provenance import DataSource, code_version, package_versions
from search.study.trial_attributes import CPU, TrialFacts
from search.study.verdict import Ending


@dataclass(slots=True)
class _Resident:
    """A data set on the device: its training part and its validation part."""

    dataset: Dataset
    train: DeviceSet
    validation: DeviceSet


class TorchFit:
    """One `Trainer` under way, with its failures translated into results."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer

    @property
    def plain_because(self) -> str | None:
        return self._trainer.plain_because

    def epochs(self) -> Iterator[EpochReport]:
        try:
            for epoch in self._trainer.epochs():
                yield EpochReport(
                    epoch=epoch.epoch,
                    epochs=epoch.epochs,
                    accuracy=epoch.accuracy,
                    weights=epoch.weights,
                    images_per_s=epoch.images_per_s,
                )
        except OutOfMemory as error:
            raise CannotTrain(Ending.OUT_OF_MEMORY, str(error)) from error
        except Diverged as error:
            raise CannotTrain(Ending.DIVERGED, str(error)) from error

    def dump(self) -> bytes:
        buffer = io.BytesIO()
        torch.save(self._trainer.state_dict(), buffer)
        return buffer.getvalue()


class TorchSetTrainer:
    """Keeps the search's data sets on one device and trains on them.

    Args:
        search: the search file.
        device: torch's name, such as `cuda:0` or `cpu`.
        data_dir: folder of prepared `.npz` files; None lets them be downloaded.
    """

    def __init__(self, *, search: SearchFile, device: str, data_dir: Path | None) -> None:
        self._search = search
        self._device = device
        self._data_dir = data_dir
        self._runners = runners_for(device)
        self._resident: dict[str, _Resident] = {}
        # Asked once: what is imported now is what runs, whatever happens to the files.
        self._code_version = code_version()
        self._versions = package_versions()

    @property
    def device_name(self) -> str:
        if self._device.startswith("cuda"):
            return torch.cuda.get_device_name(self._device)
        return CPU

    def facts(self, model: ModelConfig) -> TrialFacts:
        """The network as built for the gate's images, this machine, and the data."""
        return TrialFacts(
            parameters=model_cost(model).parameters,
            tokens=model.tokens,
            device=self.device_name,
            data=tuple(self._source(entry) for entry in self._search.datasets),
            code_version=self._code_version,
            versions=self._versions,
        )

    def _source(self, entry: DatasetSection) -> DataSource:
        info = self._load(entry.name).dataset.info
        return DataSource(
            name=entry.name,
            source=info.source,
            train_size=info.train_size,
            checksum=info.checksum,
            stand_in_for=entry.stand_in_for,
        )

    def images(self, dataset: str) -> DatasetInfo:
        return self._load(dataset).dataset.info

    def start(
        self,
        *,
        dataset: str,
        model: ModelConfig,
        train: TrainConfig,
        seed: int,
        resume: bytes | None,
    ) -> TorchFit:
        resident = self._load(dataset)
        try:
            trainer = Trainer(
                model_config=model,
                train_config=train,
                train=resident.train,
                validation=resident.validation,
                device=self._device,
                seed=seed,
                runner=self._runners,
            )
        except OutOfMemory as error:
            raise CannotTrain(Ending.OUT_OF_MEMORY, str(error)) from error
        if resume is not None:
            _go_on(trainer, resume, device=self._device)
        return TorchFit(trainer)

    def _load(self, name: str) -> _Resident:
        resident = self._resident.get(name)
        if resident is None:
            entry = self._search.dataset(name)
            dataset = load_dataset(name, data_dir=self._data_dir, synthetic=entry.synthetic)
            held_out = self._search.held_out(entry)
            parts = split(
                dataset,
                validation_fraction=held_out if isinstance(held_out, float) else None,
                validation_size=held_out if isinstance(held_out, int) else None,
                limit=entry.limit,
                seed=self._search.seed,
            )
            train, validation = device_sets(parts, device=self._device)
            resident = _Resident(dataset=dataset, train=train, validation=validation)
            self._resident[name] = resident
        return resident


def _go_on(trainer: Trainer, resume: bytes, *, device: str) -> None:
    """Loads a saved state into a fresh trainer.

    Raises:
        CannotResume: whatever kept it from being loaded.
    """
    try:
        state = torch.load(io.BytesIO(resume), map_location=device, weights_only=True)
        trainer.load_state_dict(state)
    # Another torch, a damaged archive or a missing key each raise errors of their own.
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CannotResume(f"its checkpoint: {reason}") from error
    if trainer.epochs_done >= trainer.train_config.epochs:
        raise CannotResume(f"its checkpoint has {trainer.epochs_done} epochs already")
