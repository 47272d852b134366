"""Everything one training is made of and everything it must remember.

The parts of a run are built from the two configurations, the training set and one
seed; their state (weights, averages, optimiser, random generators) is what a
checkpoint holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch

from model.augment import Augment, Mix
from model.config import ModelConfig, TrainConfig
from model.data.device import DeviceSet
from model.network.vit import NKATViT, build_network, empty_network
from model.training.ema import AveragedWeights
from model.training.optimizers import Optimizers
from model.training.schedule import Schedule
from nkat_errors import BadInput

_STREAMS = ("weights", "order", "augment", "dropout")
"""One random stream each, so that changing one use leaves the others' draws alone."""


@dataclass(kw_only=True)
class TrainingState:
    """One run's parts.

    Args:
        model_config, train_config: what is trained and how.
        train: the training set, on the run's device.
        network: the raw weights.
        average: the averaged weights, or None where `ema` is 0.
        optimizers: of `network`.
        schedule: learning rate by step.
        augment, mix: of a batch.
        generators: by stream name, on the run's device.
    """

    model_config: ModelConfig
    train_config: TrainConfig
    train: DeviceSet
    network: NKATViT
    average: AveragedWeights | None
    optimizers: Optimizers
    schedule: Schedule
    augment: Augment
    mix: Mix
    generators: dict[str, torch.Generator]

    @classmethod
    def build(
        cls,
        *,
        model_config: ModelConfig,
        train_config: TrainConfig,
        train: DeviceSet,
        seed: int,
        capturable: bool = False,
    ) -> Self:
        """The parts of a fresh run on `train`'s device.

        Args:
            seed: >= 0; all of the run's randomness comes from it.
            capturable: see `Optimizers`.

        Raises:
            BadInput: the network was configured for other images than the set's.
        """
        check_fits(model_config, train)
        device = train.device
        seeds = stream_seeds(seed)
        network = build_network(model_config, seed=seeds["weights"], device=str(device))
        generators = {
            name: torch.Generator(device).manual_seed(seeds[name]) for name in _STREAMS[1:]
        }
        network.use_generator(generators["dropout"])
        average = None
        if train_config.ema > 0:
            averaged = empty_network(model_config, device=device)
            average = AveragedWeights(network=network, averaged=averaged, ema=train_config.ema)
        return cls(
            model_config=model_config,
            train_config=train_config,
            train=train,
            network=network,
            average=average,
            optimizers=Optimizers(network=network, config=train_config, capturable=capturable),
            schedule=Schedule.of(
                train_config, steps_per_epoch=epoch_steps(len(train), train_config.batch_size)
            ),
            augment=Augment(train_config, train.info, mean=train.mean, device=device),
            mix=Mix(train_config, device=device),
            generators=generators,
        )

    @property
    def batch_size(self) -> int:
        """Images a step; a set smaller than a batch is one batch."""
        return min(self.train_config.batch_size, len(self.train))

    @property
    def steps_per_epoch(self) -> int:
        return epoch_steps(len(self.train), self.train_config.batch_size)

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs, as tensors and plain values."""
        return {
            "network": self.network.state_dict(),
            "average": None if self.average is None else self.average.averaged.state_dict(),
            "optimizers": self.optimizers.state_dict(),
            "generators": {name: g.get_state() for name, g in self.generators.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        if self.average is not None:
            self.average.averaged.load_state_dict(state["average"])
        self.optimizers.load_state_dict(state["optimizers"])
        for name, generator in self.generators.items():
            generator.set_state(state["generators"][name].cpu())


def epoch_steps(images: int, batch_size: int) -> int:
    """Whole batches of an epoch, at least one; what is left over waits for another
    epoch's order."""
    return max(1, images // batch_size)


def stream_seeds(seed: int) -> dict[str, int]:
    """Independent seeds of a run's random streams.

    Raises:
        BadInput: a negative seed.
    """
    if seed < 0:
        raise BadInput(f"seed = {seed}: must be a whole number >= 0")
    words = np.random.SeedSequence(seed).generate_state(len(_STREAMS), np.uint64)
    # manual_seed takes 64 bits; a sign bit would read differently on some platforms.
    return {name: int(word >> 1) for name, word in zip(_STREAMS, words, strict=True)}


def check_fits(config: ModelConfig, dataset: DeviceSet) -> None:
    """Raise `BadInput` where `config` is for other images than `dataset`'s."""
    info = dataset.info
    built = (config.image_size, config.channels, config.classes)
    given = (info.image_size, info.channels, info.classes)
    if built != given:
        raise BadInput(
            "the network is configured for {} x {} pixels, {} channels, {} classes; ".format(
                built[0], *built
            )
            + "{} has {} x {}, {}, {}: use ModelConfig.for_images".format(
                info.name, given[0], *given
            )
        )
