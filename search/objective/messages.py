"""What a worker and its training child say to each other, as plain picklable values.

The parent owns the database and never trains; the child trains and never sees
the database.  Everything that crosses the pipe between them is here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from search.study.past import Past
from search.study.trial_attributes import Repeat, TrialAttributes, TrialFacts
from search.study.verdict import Verdict

Stage = Literal[1, 2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Parent to child: train this trial.

    Args:
        trial_number: Optuna's number, the key of the checkpoint.
        attempt: 1 for the first try, k + 1 after k losses.
        params: every searched parameter's value, by name.
        past: what the trials that have ended tell this one.
        run: 0 for a point of the search, r for the r-th new run of a finalist: it is added to
            the training seed.
    """

    trial_number: int
    attempt: int
    params: dict[str, Any]
    past: Past = field(default_factory=Past)
    run: int = 0


@dataclass(frozen=True, slots=True)
class Stop:
    """Parent to child: save at the end of this epoch, say `Stopped`, take no more jobs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """Child to parent: imports are done, the device answers, jobs can come."""

    device: str
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochDone:
    """Child to parent: one epoch of one data set ended.

    Args:
        stage: 1 on the gate's data set, 2 on the others.
        report: Optuna's intermediate value, (step, value), always one that was measured:
            the local TPE score after each epoch of stage 1, the TPE score of the sets
            that are done after each set of stage 2; None at other epochs.
        epochs: of this set's whole training.
        accuracy: on its validation images, 0..1.
    """

    stage: Stage
    dataset: str
    epoch: int
    epochs: int
    accuracy: float
    images_per_s: float
    report: tuple[int, float] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """Child to parent: a checkpoint is safe on disk."""

    stage: Stage
    dataset: str
    epoch: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NotSaved:
    """Child to parent: the checkpoint disk refused; training goes on, and so do the tries."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NotResumed:
    """Child to parent: the checkpoint cannot be gone on from; this set starts again."""

    dataset: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainPath:
    """Child to parent: on this GPU the set trains step by step, which is much slower.

    Args:
        reason: why the captured step cannot run this configuration.
    """

    dataset: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """Child to parent: the trial is over and counts.

    Args:
        verdict: what it came to.
        facts: what was trained and where; None when no network was built.
    """

    verdict: Verdict
    facts: TrialFacts | None

    def attributes(
        self,
        *,
        attempt: int,
        worker: str,
        plain_path: Mapping[str, str] | None = None,
        repeat: Repeat | None = None,
    ) -> dict[str, Any]:
        """The trial's flat user attributes.

        Args:
            attempt: the one that ended it, from 1.
            worker: that attempt's worker, its id.
            plain_path: why a GPU trained it step by step, by data set.
            repeat: the finalist that it runs again, if it does.
        """
        whole = TrialAttributes(
            verdict=self.verdict,
            facts=self.facts,
            attempt=attempt,
            worker=worker,
            plain_path=plain_path or {},
            repeat=repeat,
        )
        return whole.to_flat()


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """Child to parent: stopped as asked; `saved` says whether this epoch is on disk."""

    saved: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """Child to parent: this attempt failed in a way that may not repeat.

    Args:
        reason: one sentence.
        signature: equal for equal causes (the exception's type and place), so that the
            same failure on the same parameters is recognised.
        traceback: for the log.
        bad_input: no attempt can succeed before the user mends something.
    """

    reason: str
    signature: str
    traceback: str
    bad_input: bool = False


Event = Ready | EpochDone | Saved | NotSaved | NotResumed | PlainPath | Finished | Stopped | Failed
Order = Job | Stop
