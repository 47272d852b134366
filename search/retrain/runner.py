"""Trains a recalculation's plan, one training after the other, and goes on after a kill.

A training's end is saved before its test images are read: a run that is killed in between
reads them with the very same weights.  Imports torch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from model.errors import Diverged
from model.training.trainer import EpochResult
from nkat_errors import NkatError
from search.retrain.plan import Plan, PlannedTraining
from search.retrain.training import SetImages, Training
from search.retrain.weights import weights_bytes
from search.retrain.work_dir import WorkDir, write_whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one training came to.

    Args:
        accuracy: on the test images, 0..1; None where training broke down.
        weights: `raw` or `ema`: which weights read the test images, chosen beforehand.
        test_images: how many.
        test_checksum: sha256 of the test images and labels.
        loss: of the last epoch; None where training broke down.
        seconds: of all epochs, this process's and those of a killed one.
        history: accuracy on (some) training images after each epoch.
        confusion: [K][K] counts (row = true class) of the first seed, else None.
        failure: how training broke down, else empty.
    """

    accuracy: float | None
    weights: str
    test_images: int
    test_checksum: str
    loss: float | None
    seconds: float
    history: tuple[float, ...]
    confusion: tuple[tuple[int, ...], ...] | None
    failure: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        confusion = plain["confusion"]
        return cls(
            **{
                **plain,
                "history": tuple(plain["history"]),
                "confusion": None if confusion is None else tuple(map(tuple, confusion)),
            }
        )


class Watcher(Protocol):
    """Is told how a recalculation goes."""

    def resumed(self, finished: int, work: float) -> None:
        """Trainings that were finished before this process began, and their FLOPs."""

    def began(self, training: PlannedTraining, epochs_done: int) -> None: ...

    def epoch(self, training: PlannedTraining, result: EpochResult) -> None: ...

    def ended(self, training: PlannedTraining, outcome: Outcome) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """See the module's docstring.

    Args:
        plan: what is trained.
        work: where progress is kept.
        device: torch's name.
        data_dir: prepared sets; None means $NKAT_DATA_DIR.
        checkpoint_every_s: least seconds between two checkpoints of a training.
        watcher: is told how it goes.
        clock: monotonic seconds.
    """

    plan: Plan
    work: WorkDir
    device: str
    data_dir: Path | None
    checkpoint_every_s: float
    watcher: Watcher
    clock: Callable[[], float] = time.monotonic

    def run(self) -> dict[str, list[Outcome]]:
        """Trains what is not finished yet.

        Returns:
            By data set, one outcome a seed.

        Raises:
            OutOfMemory: the device cannot hold a training; what is finished is kept.
            NkatError: the work folder cannot be written.
        """
        outcomes: dict[str, list[Outcome]] = {planned.name: [] for planned in self.plan.sets}
        found = [self._finished(training) for training in self.plan.trainings()]
        self.watcher.resumed(
            sum(one is not None for one in found),
            sum(
                training.planned.work_per_epoch * training.planned.recipe.epochs
                for training, one in zip(self.plan.trainings(), found, strict=True)
                if one is not None
            ),
        )
        images: SetImages | None = None
        for training, outcome in zip(self.plan.trainings(), found, strict=True):
            if outcome is None:
                if images is None or images.dataset.info.name != training.planned.info.name:
                    images = None  # the device has room for one set at a time
                    images = self._load(training)
                outcome = self._train(training, images)
            outcomes[training.planned.name].append(outcome)
        return outcomes

    def _finished(self, training: PlannedTraining) -> Outcome | None:
        plain = self.work.result(training.name)
        return None if plain is None else Outcome.from_dict(plain)

    def _load(self, training: PlannedTraining) -> SetImages:
        return SetImages.load(
            training.planned.entry,
            split_seed=0,  # nothing is held out
            device=self.device,
            data_dir=self.data_dir,
            hold_out=False,
        )

    def _train(self, training: PlannedTraining, images: SetImages) -> Outcome:
        model, _ = self.plan.best.configuration()
        run = Training(
            images=images,
            model=model,
            recipe=training.planned.recipe,
            seed=training.seed,
            device=self.device,
        )
        saved = self.work.checkpoints.load(training.number)
        if saved is not None:
            run.resume(saved)
        self.watcher.began(training, len(run.history))
        try:
            self._epochs(training, run)
        except Diverged as error:
            outcome = self._broken(run, str(error))
        else:
            outcome = self._tested(training, run)
        self._write(lambda: self.work.finish(training.name, training.number, outcome.to_dict()))
        self.watcher.ended(training, outcome)
        return outcome

    def _epochs(self, training: PlannedTraining, run: Training) -> None:
        saved_at = self.clock()
        for result in run.epochs():
            self.watcher.epoch(training, result)
            last = result.epoch == result.epochs
            if last or self.clock() - saved_at >= self.checkpoint_every_s:
                if not self.work.checkpoints.save(training.number, run.save):
                    reason = self.work.checkpoints.disabled_because
                    raise NkatError(f"the recalculation could not be kept going: {reason}")
                saved_at = self.clock()

    def _tested(self, training: PlannedTraining, run: Training) -> Outcome:
        """Reads the test images, once."""
        test, checksum = run.images.read_test()
        counts = run.trainer.confusion(test, weights=run.chosen_weights).tolist()
        right = sum(row[index] for index, row in enumerate(counts))
        if training.first_seed:
            content = weights_bytes(
                run.trainer.weights(run.chosen_weights),
                config=run.trainer.model_config,
                train=run.images.train,
                seed=training.seed,
                epochs=training.planned.recipe.epochs,
                weights=run.chosen_weights,
            )
            path = self.work.weights(training.planned.name)
            self._write(lambda: write_whole(path, content))
        return Outcome(
            accuracy=right / len(test),
            weights=run.chosen_weights,
            test_images=len(test),
            test_checksum=checksum,
            loss=run.history[-1].loss,
            seconds=_seconds(run),
            history=_accuracies(run),
            confusion=tuple(map(tuple, counts)) if training.first_seed else None,
        )

    def _broken(self, run: Training, failure: str) -> Outcome:
        """A training without a result; its test images stay unread."""
        info = run.images.dataset.info
        return Outcome(
            accuracy=None,
            weights=run.chosen_weights,
            test_images=info.test_size,
            test_checksum="",
            loss=None,
            seconds=_seconds(run),
            history=_accuracies(run),
            confusion=None,
            failure=failure,
        )

    def _write(self, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            raise NkatError(
                f"{self.work.folder}: cannot be written ({error.strerror}); what is finished is "
                "kept, the same command goes on"
            ) from None


def _seconds(run: Training) -> float:
    return sum(epoch.seconds for epoch in run.history)


def _accuracies(run: Training) -> tuple[float, ...]:
    return tuple(epoch.accuracy for epoch in run.history)
