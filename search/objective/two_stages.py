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
from typing import Protocol

from model.config import ModelConfig, TrainConfig
from nkat_errors import NkatError
from search.file.search_file import ImageFacts, SearchFile
from search.objective.judge import Judge
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
from search.score.tpe_score import lambdas
from search.study.epochs import STAGE_2_STEP
from search.study.trial_attributes import TrialFacts
from search.study.verdict import Effort, Ending, SetResult, Verdict
from storage.checkpoints import CheckpointStore

log = logging.getLogger(__name__)


class CannotResume(NkatError):
    """A saved state that this process cannot go on from: another device, torch or version
    of the configuration, or damage.  The set is trained from its beginning instead."""


class CannotTrain(NkatError):
    """This configuration cannot be trained (memory, NaN): a result, not an accident.

    Args:
        ending: OUT_OF_MEMORY or DIVERGED.
    """

    def __init__(self, ending: Ending, reason: str) -> None:
        super().__init__(reason)
        self.ending = ending


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

    def facts(self, model: ModelConfig) -> TrialFacts:
        """What is known before training.

        Args:
            model: the network as it is built for the gate's images.
        """

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
    effort: Effort = field(default_factory=Effort)
    dataset: str | None = None
    epoch: int = 0

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
        head["effort"] = Effort(**head["effort"])
        return cls(**head), blob[4 + length :]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """One data set's share of a trial: the configuration as this set uses it."""

    index: int
    dataset: str
    model: ModelConfig
    train: TrainConfig

    @property
    def stage(self) -> Stage:
        return 1 if self.index == 0 else 2


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
        plan = [self._planned(index, job) for index in range(len(self.search.datasets))]
        facts = self.trainer.facts(plan[0].model)
        readings = lambdas(plan[0].model, parameters=facts.parameters)
        judge = Judge(search=self.search, lambdas=readings)
        for part in plan:
            if part.dataset not in progress.results:
                try:
                    ended = self._train_set(job, judge, progress, state, part, emit, should_stop)
                except CannotTrain as error:
                    verdict = judge.cannot_train(
                        progress.results, progress.effort, ending=error.ending, reason=str(error)
                    )
                    emit(Finished(verdict=verdict, facts=facts))
                    return
                if isinstance(ended, Verdict):
                    emit(Finished(verdict=ended, facts=facts))
                if ended is not None:
                    return
                state = None
            # Judged again after a resume: the loss may have come between save and verdict.
            over = judge.after_set(progress.results, progress.effort, job.past)
            if over is not None:
                emit(Finished(verdict=over, facts=facts))
                return

    def _planned(self, index: int, job: Job) -> _Part:
        entry = self.search.datasets[index]
        model, train = self.search.resolve_for(job.params, entry, self.trainer.images(entry.name))
        return _Part(index=index, dataset=entry.name, model=model, train=train)

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
        self, job: Job, part: _Part, state: bytes | None, emit: Callable[[Event], None]
    ) -> Fit:
        """A training that goes on from `state`, or a fresh one where it cannot."""

        def begin(resume: bytes | None) -> Fit:
            return self.trainer.start(
                dataset=part.dataset,
                model=part.model,
                train=part.train,
                seed=self.search.seed + job.run,
                resume=resume,
            )

        try:
            fit = begin(state)
        except CannotResume as error:
            emit(NotResumed(dataset=part.dataset, reason=str(error)))
            fit = begin(None)
        if fit.plain_because is not None:
            emit(PlainPath(dataset=part.dataset, reason=fit.plain_because))
        return fit

    def _train_set(
        self,
        job: Job,
        judge: Judge,
        progress: Progress,
        state: bytes | None,
        part: _Part,
        emit: Callable[[Event], None],
        should_stop: Callable[[], bool],
    ) -> Verdict | Stopped | None:
        """Trains one set to its end: None, or what kept it from getting there."""
        stage, dataset = part.stage, part.dataset
        if progress.dataset != dataset:
            progress.dataset, progress.epoch, state = dataset, 0, None
        fit = self._start(job, part, state, emit)
        report: EpochReport | None = None
        saved_at = began = self.clock()
        for report in fit.epochs():
            now = self.clock()
            seconds, began = now - began, now
            progress.epoch = report.epoch
            progress.effort = progress.effort.epoch(stage=stage, seconds=seconds)
            last = report.epoch == report.epochs
            if last:
                progress.results[dataset] = SetResult(
                    accuracy=report.accuracy, weights=report.weights
                )
            graded: tuple[int, float] | None = None
            if stage == 1:
                graded = (report.epoch, judge.local(report.accuracy))
            elif last:
                graded = (STAGE_2_STEP + part.index, judge.so_far(progress.results))
            emit(
                EpochDone(
                    stage=stage,
                    dataset=dataset,
                    epoch=report.epoch,
                    epochs=report.epochs,
                    accuracy=report.accuracy,
                    images_per_s=report.images_per_s,
                    report=graded,
                )
            )
            if stage == 1:
                hopeless = judge.after_epoch(
                    epoch=report.epoch,
                    epochs=report.epochs,
                    accuracy=report.accuracy,
                    effort=progress.effort,
                    past=job.past,
                )
                if hopeless is not None:
                    return hopeless
            stop = should_stop()
            due = self.clock() - saved_at >= self.search.service.checkpoint_every_s
            # The end of a set is always saved: stage 1 must never be repeated.
            if stop or last or due:
                saved = self._save(job, progress, b"" if last else fit.dump(), stage, emit)
                saved_at = began = self.clock()
                if stop:
                    handed_back = Stopped(saved=saved)
                    emit(handed_back)
                    return handed_back
        if report is None:
            raise NkatError(f"training on {dataset} yielded no epoch")
        return None

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
