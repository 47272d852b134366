"""The two stages of one trial, in the order in which they happen.

Stage 1 trains on the gate's data set and lets the trial pass only if its local
TPE score reaches the threshold; stage 2 trains the same configuration on the
other sets and ends with the Global TPE score of all of them.  How a data set is
trained is the `SetTrainer`'s business (`search/objective/torch_trainer.py` trains for real,
`search/objective/simulated_trainer.py` answers from a formula); what the result is worth is
`search/objective/judge.py`'s.
"""

from __future__ import annotations

import json
import logging
import struct
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from model.config import ModelConfig, TrainConfig
from nkat_errors import NkatError
from search.file.search_file import ImageFacts, SearchFile
from search.objective.judge import STAGE_2_STEP, Judge, SetResult
from search.objective.messages import (
    EpochDone,
    Event,
    Finished,
    Job,
    NotResumed,
    NotSaved,
    PlainPath,
    Saved,
    Stage,
    Stopped,
)
from storage.checkpoints import CheckpointStore

log = logging.getLogger(__name__)


class CannotResume(NkatError):
    """A saved state that this process cannot go on from: another device, torch or version
    of the configuration, or damage.  The set is trained from its beginning instead."""


class CannotTrain(NkatError):
    """This configuration cannot be trained (memory, NaN): a result, not an accident.

    Args:
        kind: `out_of_memory` or `diverged`, the constraint's key.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochReport:
    """What a `SetTrainer` says after each epoch (1-based); accuracy in 0..1."""

    epoch: int
    epochs: int
    accuracy: float
    weights: str
    images_per_s: float


class Fit(Protocol):
    """One data set's training under way.

    `plain_because`: why a GPU trains it step by step, None where it does not (or is none).
    """

    @property
    def plain_because(self) -> str | None: ...

    def epochs(self) -> Iterator[EpochReport]: ...

    def dump(self) -> bytes:
        """Everything needed to go on after the last epoch yielded."""


class SetTrainer(Protocol):
    """Trains one configuration on one data set."""

    def facts(self, params_model: ModelConfig) -> dict[str, Any]:
        """User attributes known before training (device, parameters, data notes)."""

    def images(self, dataset: str) -> ImageFacts:
        """Shape, classes and flips of a data set."""

    def start(
        self,
        *,
        dataset: str,
        model: ModelConfig,
        train: TrainConfig,
        seed: int,
        resume: bytes | None,
    ) -> Fit:
        """Begins a training, or goes on with a saved one.

        Raises:
            CannotTrain: the network does not fit into memory.
            CannotResume: `resume` cannot be gone on from; nothing was begun.
        """


@dataclass(slots=True)
class Progress:
    """How far a trial has come: what a checkpoint holds beside the trainer's state."""

    results: dict[str, SetResult] = field(default_factory=dict)
    dataset: str | None = None
    epoch: int = 0
    seconds: float = 0.0
    """Wall time spent on `dataset` so far, earlier attempts included."""

    def pack(self, trainer_state: bytes) -> bytes:
        head = json.dumps(asdict(self)).encode()
        return struct.pack(">I", len(head)) + head + trainer_state

    @classmethod
    def unpack(cls, blob: bytes) -> tuple[Progress, bytes]:
        """What `pack` made.

        Raises:
            CannotResume: this version of the code did not make it.
        """
        try:
            return cls._unpacked(blob)
        # A list where a table was, a missing key, an unknown one, half a file, ...
        except (struct.error, ValueError, TypeError, KeyError, AttributeError) as error:
            raise CannotResume(f"its head cannot be read ({error})") from error

    @classmethod
    def _unpacked(cls, blob: bytes) -> tuple[Progress, bytes]:
        (length,) = struct.unpack(">I", blob[:4])
        head = json.loads(blob[4 : 4 + length])
        head["results"] = {name: SetResult(**r) for name, r in head["results"].items()}
        return cls(**head), blob[4 + length :]


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoStageObjective:
    """Runs one job from its first (or last saved) epoch to its end.

    Args:
        search: the search file.
        trainer: trains a data set.
        checkpoints: where progress is kept, by trial number.
        clock: monotonic seconds.
    """

    search: SearchFile
    trainer: SetTrainer
    checkpoints: CheckpointStore
    clock: Callable[[], float]

    def run(
        self, job: Job, emit: Callable[[Event], None], should_stop: Callable[[], bool]
    ) -> None:
        """Emits events; the last one is `Finished` or `Stopped`."""
        progress, state = self._resume(job)
        judge = Judge(search=self.search, params=job.params, trainer_facts=self.trainer.facts)
        for index, entry in enumerate(self.search.datasets):
            stage: Stage = 1 if index == 0 else 2
            if entry.name not in progress.results:
                try:
                    stopped = self._train_set(
                        job, judge, progress, state, index, emit, should_stop
                    )
                except CannotTrain as error:
                    emit(judge.cannot_train(progress.results, entry.name, error.kind, str(error)))
                    return
                if stopped:
                    return
                state = None
            # Judged again after a resume: the loss may have come between save and verdict.
            over = self._verdict(job, judge, progress, stage)
            if over is not None:
                emit(over)
                return
        emit(judge.complete(progress.results))

    def _resume(self, job: Job) -> tuple[Progress, bytes | None]:
        blob = self.checkpoints.load(job.trial_number)
        if blob is None:
            return Progress(), None
        try:
            progress, state = Progress.unpack(blob)
        except CannotResume as error:
            log.warning(
                "trial %d starts again from its beginning: its checkpoint: %s",
                job.trial_number,
                error,
            )
            return Progress(), None
        return progress, state or None

    def _start(
        self,
        dataset: str,
        model: ModelConfig,
        train: TrainConfig,
        state: bytes | None,
        emit: Callable[[Event], None],
    ) -> Fit:
        """A training that goes on from `state`, or a fresh one where it cannot."""

        def begin(resume: bytes | None) -> Fit:
            return self.trainer.start(
                dataset=dataset, model=model, train=train, seed=self.search.seed, resume=resume
            )

        try:
            fit = begin(state)
        except CannotResume as error:
            emit(NotResumed(dataset=dataset, reason=str(error)))
            fit = begin(None)
        if fit.plain_because is not None:
            emit(PlainPath(dataset=dataset, reason=fit.plain_because))
        return fit

    def _train_set(
        self,
        job: Job,
        judge: Judge,
        progress: Progress,
        state: bytes | None,
        index: int,
        emit: Callable[[Event], None],
        should_stop: Callable[[], bool],
    ) -> bool:
        """Trains one set to its end; True when it was stopped before that."""
        stage: Stage = 1 if index == 0 else 2
        dataset = self.search.datasets[index].name
        model, train = self.search.resolve_for(
            job.params, self.search.datasets[index], self.trainer.images(dataset)
        )
        if progress.dataset != dataset:
            progress.dataset, progress.epoch, progress.seconds, state = dataset, 0, 0.0, None
        fit = self._start(dataset, model, train, state, emit)
        report: EpochReport | None = None
        saved_at = began = self.clock()
        for report in fit.epochs():
            now = self.clock()
            seconds, began = now - began, now
            progress.epoch, progress.seconds = report.epoch, progress.seconds + seconds
            score = judge.local(report.accuracy)
            last = report.epoch == report.epochs
            if last:
                progress.results[dataset] = SetResult(
                    accuracy=report.accuracy,
                    weights=report.weights,
                    epochs=report.epochs,
                    seconds=progress.seconds,
                    images_per_s=report.images_per_s,
                )
            step, value = report.epoch, score
            if stage == 2:
                step, value = STAGE_2_STEP + index, judge.global_bound(progress.results)
            reported = stage == 1 or last
            emit(
                EpochDone(
                    stage=stage,
                    dataset=dataset,
                    epoch=report.epoch,
                    epochs=report.epochs,
                    accuracy=report.accuracy,
                    tpe_score=score,
                    seconds=seconds,
                    images_per_s=report.images_per_s,
                    step=step if reported else None,
                    value=value if reported else None,
                )
            )
            stop = should_stop()
            due = self.clock() - saved_at >= self.search.service.checkpoint_every_s
            # The end of a set is always saved: stage 1 must never be repeated.
            if stop or last or due:
                saved = self._save(job, progress, b"" if last else fit.dump(), stage, emit)
                saved_at = began = self.clock()
                if stop:
                    emit(Stopped(saved=saved))
                    return True
        if report is None:
            raise NkatError(f"training on {dataset} yielded no epoch")
        return False

    def _save(
        self,
        job: Job,
        progress: Progress,
        state: bytes,
        stage: Stage,
        emit: Callable[[Event], None],
    ) -> bool:
        blob = progress.pack(state)
        if not self.checkpoints.save(job.trial_number, blob):
            emit(NotSaved(reason=self.checkpoints.disabled_because or "refused"))
            return False
        emit(
            Saved(
                stage=stage,
                dataset=progress.dataset or "",
                epoch=progress.epoch,
                size_bytes=len(blob),
            )
        )
        return True

    def _verdict(
        self, job: Job, judge: Judge, progress: Progress, stage: Stage
    ) -> Finished | None:
        if stage == 1:
            return judge.gate(progress.results)
        if self.search.service.bound_check:
            return judge.bound(progress.results, job.best_global)
        return None
