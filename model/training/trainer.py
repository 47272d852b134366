"""One training run, epoch by epoch, that can stop anywhere and go on to the bit."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from model.config import ModelConfig, TrainConfig
from model.data.device import DeviceSet
from model.errors import Diverged, OutOfMemory
from model.network.vit import NKATViT
from model.training.evaluation import (
    Evaluation,
    Weights,
    confusion_matrix,
    evaluation_batch,
)
from model.training.precision import uses_bf16
from model.training.state import check_fits
from model.training.step import OnStep, PlainRunner, RunnerFactory
from nkat_errors import BadInput

STATE_VERSION = 2
"""Of `Trainer.state_dict`; another version's state is refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochResult:
    """One epoch's outcome on the validation set.

    Args:
        epoch: from 1.
        epochs: of the whole run.
        loss: mean training loss (on augmented, mixed images).
        evaluation: accuracies of raw and averaged weights.
        images_per_s: trained on a second, evaluation left out.
        seconds: training and evaluation.
    """

    epoch: int
    epochs: int
    loss: float
    evaluation: Evaluation
    images_per_s: float
    seconds: float

    @property
    def accuracy_raw(self) -> float:
        return self.evaluation.accuracy_raw

    @property
    def accuracy_ema(self) -> float:
        return self.evaluation.accuracy_ema

    @property
    def accuracy(self) -> float:
        """The better of the two, the one that counts; `weights` says which it is."""
        return self.evaluation.accuracy

    @property
    def weights(self) -> str:
        """`raw` or `ema`: whose accuracy counts."""
        return self.evaluation.weights


class Trainer:
    """Trains one configuration on one data set.

        trainer = Trainer(model_config=..., train_config=..., train=..., validation=...,
                          device="cuda", seed=0)
        for result in trainer.epochs():
            save(trainer.state_dict())

    The host waits for the device once an epoch, for the loss and both accuracies.

    Args:
        model_config: for the set's images (`ModelConfig.for_images`).
        train_config: the recipe.
        train, validation: sets on `device`.
        device: `cpu`, `cuda` or `cuda:N`, where the sets are.
        seed: >= 0; all randomness comes from it, none from torch's global generator.
        runner: how steps are run; None is `PlainRunner`.
        on_step: called after each step, where steps are run one by one.
        clock: seconds, for the rates that are reported.

    Raises:
        BadInput: sets on another device or with other images than the configuration's.
        OutOfMemory: the device cannot hold the network.
    """

    def __init__(
        self,
        *,
        model_config: ModelConfig,
        train_config: TrainConfig,
        train: DeviceSet,
        validation: DeviceSet,
        device: str,
        seed: int,
        runner: RunnerFactory | None = None,
        on_step: OnStep | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        for name, dataset in (("training", train), ("validation", validation)):
            if dataset.device.type != torch.device(device).type:
                raise BadInput(f"the {name} set is on {dataset.device}, the run on {device}")
        check_fits(model_config, validation)
        self.model_config = model_config
        self.train_config = train_config
        self.seed = seed
        self.epochs_done = 0
        self._validation = validation
        self._on_step = on_step
        self._clock = clock
        with self._memory_errors():
            self.runner = (runner or PlainRunner)(
                model_config=model_config, train_config=train_config, train=train, seed=seed
            )

    @property
    def plain_because(self) -> str | None:
        """Why steps run one by one where the captured step was asked for, else None."""
        return self.runner.plain_because

    def epochs(self) -> Iterator[EpochResult]:
        """Train the epochs that are left, one a turn.

        Raises:
            Diverged: the loss became NaN or infinite.
            OutOfMemory: the device's memory was not enough.
        """
        while self.epochs_done < self.train_config.epochs:
            yield self._epoch()

    def evaluate(self, dataset: DeviceSet) -> Evaluation:
        """Accuracies of the present weights on `dataset`."""
        check_fits(self.model_config, dataset)
        with self._memory_errors():
            raw, ema = torch.stack(self.runner.count_correct(dataset)).tolist()
        return Evaluation(accuracy_raw=raw / len(dataset), accuracy_ema=ema / len(dataset))

    def weights(self, which: Weights) -> NKATViT:
        """The network with the raw or the averaged weights (the raw ones where averaging is
        off).  It is the live one: it changes with the next epoch, or the next run."""
        average = self.runner.state.average
        if which == "raw" or average is None:
            return self.runner.state.network
        return cast(NKATViT, average.averaged)

    def confusion(self, dataset: DeviceSet, *, weights: Weights) -> Tensor:
        """How often each class of `dataset` is taken for each.

        Returns:
            int64 [K, K]: row = true class, column = answer; see `confusion_matrix`.
        """
        check_fits(self.model_config, dataset)
        with self._memory_errors():
            return confusion_matrix(
                self.weights(weights),
                dataset,
                batch=evaluation_batch(self.model_config.tokens, dataset.device),
                bf16=uses_bf16(self.train_config.precision, dataset.device),
            )

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on exactly here (tensors and plain values).

        Its tensors are the live ones: serialise it before the next epoch.
        """
        return {
            **self.state_header(),
            "epochs_done": self.epochs_done,
            "state": self.runner.state.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where the run that gave `state` was.

        Raises:
            BadInput: the state is of another version, configuration, seed or kind of device
                (whose random streams and arithmetic are others).
        """
        for key, value in self.state_header().items():
            if state.get(key) != value:
                raise BadInput(
                    f"the checkpoint's {_difference(key, state.get(key), value)}: it belongs to "
                    "another run"
                )
        self.runner.state.load_state_dict(state["state"])
        self.epochs_done = state["epochs_done"]

    def state_header(self) -> dict[str, Any]:
        """What a checkpoint must agree with to be this run's."""
        return {
            "version": STATE_VERSION,
            "device": self.runner.state.train.device.type,
            "model_config": self.model_config.to_dict(),
            "train_config": self.train_config.to_dict(),
            "seed": self.seed,
        }

    def _epoch(self) -> EpochResult:
        started = self._clock()
        timer = _TrainingTime(self.runner.state.train.device, self._clock)
        with self._memory_errors():
            loss = self.runner.train_epoch(self.epochs_done, self._on_step)
            timer.stop()
            raw, ema = self.runner.count_correct(self._validation)
            # The epoch's one wait for the device.
            loss_value, right_raw, right_ema = torch.stack(
                [loss.double(), raw.double(), ema.double()]
            ).tolist()
        if not math.isfinite(loss_value):
            raise Diverged(
                f"the training loss is {loss_value} in epoch {self.epochs_done + 1}: "
                f"try a lower lr than {self.train_config.lr:g}"
            )
        self.epochs_done += 1
        parts, size = self.runner.state, len(self._validation)
        return EpochResult(
            epoch=self.epochs_done,
            epochs=self.train_config.epochs,
            loss=loss_value,
            evaluation=Evaluation(accuracy_raw=right_raw / size, accuracy_ema=right_ema / size),
            images_per_s=parts.steps_per_epoch * parts.batch_size / timer.seconds(),
            seconds=self._clock() - started,
        )

    @contextlib.contextmanager
    def _memory_errors(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            # The CPU allocator has no error class of its own.
            if not isinstance(error, torch.OutOfMemoryError) and (
                "can't allocate memory" not in str(error)
            ):
                raise
            config = self.model_config
            raise OutOfMemory(
                f"out of memory with {config.tokens} tokens of {config.embed_dim} features, "
                f"depth {config.depth}, batch {self.train_config.batch_size}: "
                "lower batch_size, or raise patch_size"
            ) from error


def _difference(name: str, theirs: object, ours: object) -> str:
    """`seed is 0, this run's is 1`; of a configuration only the fields that differ."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        fields = [
            _difference(f"{name}.{field}", theirs.get(field), ours.get(field))
            for field in dict.fromkeys([*ours, *theirs])
            if theirs.get(field) != ours.get(field) or (field in theirs) != (field in ours)
        ]
        return "; ".join(fields)
    return f"{name} is {theirs!r}, this run's is {ours!r}"


class _TrainingTime:
    """Seconds of an epoch's training part, without waiting for the device in between."""

    def __init__(self, device: torch.device, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._events: tuple[torch.cuda.Event, torch.cuda.Event] | None = None
        if device.type == "cuda":
            event: Callable[..., torch.cuda.Event] = torch.cuda.Event
            self._events = (event(enable_timing=True), event(enable_timing=True))
            self._events[0].record()
        self._start = clock()
        self._end = self._start

    def stop(self) -> None:
        self._end = self._clock()
        if self._events is not None:
            self._events[1].record()

    def seconds(self) -> float:
        """Valid once the device has been waited for; never 0."""
        if self._events is not None:
            milliseconds: float = self._events[0].elapsed_time(self._events[1])
            return max(1e-9, milliseconds / 1000)
        return max(1e-9, self._end - self._start)
