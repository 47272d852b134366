"""A trial's user attributes: what they mean (typed) and how they are stored (flat).

optuna-dashboard shows user attributes one by one, so they are stored flat, numbers as
numbers and texts short (its page of a trial does not wrap them).  This module alone knows
their names.  Scores and margins are stored for people; reading computes them again from
the accuracies, as the verdict's only source.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self, get_args

from search.provenance import DataSource
from search.score.tpe_score import LambdaReading, Lambdas
from search.study.verdict import (
    CANNOT_TRAIN,
    Effort,
    Ending,
    RungStop,
    SetResult,
    Verdict,
)

CPU, REHEARSAL = "CPU", "rehearsal"
NO_GPU = (CPU, REHEARSAL)
"""Names of devices that are no GPU."""

OUTCOME = "outcome"
"""The sentence; storage writes it too when it gives a trial up."""


_REPEAT_OF, _REPEAT_RUN = "repeat_of", "repeat_run"


def accuracy_key(dataset: str) -> str:
    """`accuracy_<set>`; the columns of a rehearsal's table are called the same."""
    return f"accuracy_{dataset}"


def tpe_key(dataset: str) -> str:
    return f"tpe_{dataset}"


def _weights_key(dataset: str) -> str:
    return f"weights_{dataset}"


_DATA = "data_"
_PLAIN_PATH = "plain_path"
_RUNG = "rung_"
_VERSION = "version_"


class MissingAttribute(LookupError):
    """An attribute that is not there, or not of its kind; `name` says which."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """What says that a trial is no point of the search but another one, run again.

    Args:
        trial: number of the trial that it repeats.
        run: which of its new runs, from 1; added to the search's seed it is the training's.
    """

    trial: int
    run: int

    def to_flat(self) -> dict[str, int]:
        return {_REPEAT_OF: self.trial, _REPEAT_RUN: self.run}

    @classmethod
    def of_flat(cls, flat: Mapping[str, Any]) -> Self | None:
        """None for a trial that the search drew, or whose attributes were tampered with."""
        trial, run = flat.get(_REPEAT_OF), flat.get(_REPEAT_RUN)
        if type(trial) is not int or type(run) is not int or trial < 0 or run < 1:
            return None
        return cls(trial=trial, run=run)

    def __str__(self) -> str:
        return f"run {self.run} of finalist {self.trial}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialFacts:
    """What was trained, where and from what.

    Args:
        parameters: trainable ones of the network, on the gate's images.
        tokens: a block works on, likewise.
        device: the hardware's name.
        data: the data sets as they were found.
        code_version: of this project.
        versions: of Python and the packages that can change a score, by name.
    """

    parameters: int
    tokens: int
    device: str
    data: tuple[DataSource, ...] = ()
    code_version: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialAttributes:
    """Everything a finished trial carries.

    Args:
        verdict: what it came to.
        facts: None when no network was built (an infeasible draw).
        attempt: the attempt that ended it, from 1.
        worker: that attempt's worker, its id.
        plain_path: why a GPU trained it step by step, by data set; empty where it did not.
        repeat: the trial that it repeats; None for a point of the search.
    """

    verdict: Verdict
    facts: TrialFacts | None
    attempt: int = 1
    worker: str = ""
    plain_path: Mapping[str, str] = field(default_factory=dict)
    repeat: Repeat | None = None

    def to_flat(self) -> dict[str, Any]:
        """As Optuna stores them, in the order in which they are worth reading."""
        outcome = self.verdict.outcome
        if self.repeat is not None:
            outcome = f"{self.repeat}: {outcome}"
        flat: dict[str, Any] = {OUTCOME: outcome, "ending": self.verdict.ending.value}
        if self.repeat is not None:
            flat |= self.repeat.to_flat()
        return flat | _flat_verdict(self.verdict) | self._flat_facts()

    def _flat_facts(self) -> dict[str, Any]:
        flat: dict[str, Any] = {"attempt": self.attempt, "worker": self.worker}
        if self.plain_path:
            flat[_PLAIN_PATH] = dict(self.plain_path)
        facts = self.facts
        if facts is None:
            return flat
        flat |= {
            "parameters": facts.parameters,
            "tokens": facts.tokens,
            "device": facts.device,
        }
        if facts.code_version:
            flat["code_version"] = facts.code_version
        for source in facts.data:
            plain = {
                "source": source.source,
                "train_size": source.train_size,
                "checksum": source.checksum,
            }
            if source.stand_in_for is not None:
                plain["stand_in_for"] = source.stand_in_for
            flat[_DATA + source.name] = plain
        return flat | {_VERSION + name: text for name, text in facts.versions.items()}

    @classmethod
    def from_flat(cls, flat: Mapping[str, Any]) -> Self:
        """The typed value again; attributes of others are left out.

        Raises:
            MissingAttribute: it was not made by this search, or was tampered with.
        """
        read = _Reader(flat)
        return cls(
            verdict=_read_verdict(read),
            facts=_read_facts(read) if "parameters" in flat else None,
            attempt=read.whole("attempt"),
            worker=read.text("worker"),
            plain_path=flat.get(_PLAIN_PATH, {}),
            repeat=Repeat.of_flat(flat),
        )


def _flat_verdict(verdict: Verdict) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    scores = verdict.scores
    if verdict.complete and scores is not None:
        flat |= {
            "global_tpe_score": scores.global_tpe_score,
            "mean_accuracy": verdict.mean_accuracy,
            "consistency": scores.consistency,
            "generalization": scores.generalization,
        }
    if scores is not None and (verdict.complete or verdict.ending in CANNOT_TRAIN):
        flat["robustness"] = scores.robustness
    if verdict.rung is not None:
        flat |= {_RUNG + name: value for name, value in asdict(verdict.rung).items()}
    if verdict.to_beat is not None:
        flat |= {"global_bound": verdict.bound, "global_to_beat": verdict.to_beat}
        if verdict.bound_slack is not None:
            flat["global_bound_slack"] = verdict.bound_slack
    if verdict.ending in CANNOT_TRAIN:
        flat["reason"] = verdict.reason
    flat["gate_threshold"] = verdict.gate.threshold
    if verdict.gate_accuracy is not None:
        flat |= {
            "gate_score": verdict.gate.score,
            "gate_margin": verdict.gate.margin,
            "gate_passed": verdict.gate.passed,
        }
    for name, result in verdict.results.items():
        flat |= {
            accuracy_key(name): result.accuracy,
            tpe_key(name): verdict.tpe_score(name),
            _weights_key(name): result.weights,
        }
    flat |= {"datasets": list(verdict.datasets), "lambda_reading": verdict.reading}
    if verdict.lambdas is not None:
        flat |= {
            "lambda_theory": verdict.lambdas.theory,
            "lambda_counted": verdict.lambdas.counted,
            "lambda_parameters": verdict.lambdas.parameters,
        }
    return flat | {
        "epochs": verdict.effort.epochs,
        "seconds_stage1": verdict.effort.seconds_stage1,
        "seconds_stage2": verdict.effort.seconds_stage2,
    }


def _read_verdict(read: _Reader) -> Verdict:
    try:
        ending = Ending(read.text("ending"))
    except ValueError:
        raise MissingAttribute("ending") from None
    reading: LambdaReading | None = next(
        (r for r in get_args(LambdaReading) if r == read.text("lambda_reading")), None
    )
    if reading is None:
        raise MissingAttribute("lambda_reading")
    datasets = read.names("datasets")
    results = {
        name: SetResult(
            accuracy=read.number(accuracy_key(name)), weights=read.text(_weights_key(name))
        )
        for name in datasets
        # A complete trial has them all, one that the gate judged the first.
        if ending is Ending.COMPLETE
        or (name == datasets[0] and ending in (Ending.GATE, Ending.BOUND))
        or accuracy_key(name) in read.flat
    }
    lambdas = None
    if ending is not Ending.INFEASIBLE:
        lambdas = Lambdas(
            theory=read.number("lambda_theory"),
            counted=read.number("lambda_counted"),
            parameters=read.number("lambda_parameters"),
        )
        if lambdas.of(reading) <= 0:
            raise MissingAttribute(f"lambda_{reading}")
    found = Verdict.of(
        datasets=datasets,
        results=results,
        lambdas=lambdas,
        reading=reading,
        threshold=read.number("gate_threshold"),
        effort=Effort(
            epochs=read.whole("epochs"),
            seconds_stage1=read.number("seconds_stage1"),
            seconds_stage2=read.number("seconds_stage2"),
        ),
    )
    if ending is Ending.RUNG:
        found = replace(found, ending=ending, rung=_read_rung(read))
        return _with_bound(found, read) if "global_to_beat" in read.flat else found
    if ending is Ending.BOUND:
        return _with_bound(replace(found, ending=ending), read)
    if ending in CANNOT_TRAIN:
        return replace(found, ending=ending, reason=read.text("reason"))
    if found.ending is not ending:
        raise MissingAttribute("ending")
    return found


def _with_bound(verdict: Verdict, read: _Reader) -> Verdict:
    tight = "global_bound_slack" in read.flat
    return replace(
        verdict,
        bound=read.number("global_bound"),
        bound_slack=read.number("global_bound_slack") if tight else None,
        to_beat=read.number("global_to_beat"),
    )


def _read_rung(read: _Reader) -> RungStop:
    return RungStop(
        epoch=read.whole(_RUNG + "epoch"),
        epochs=read.whole(_RUNG + "epochs"),
        score=read.number(_RUNG + "score"),
        expected=read.number(_RUNG + "expected"),
        at_most=read.number(_RUNG + "at_most"),
        trials=read.whole(_RUNG + "trials"),
    )


def _read_facts(read: _Reader) -> TrialFacts:
    return TrialFacts(
        parameters=read.whole("parameters"),
        tokens=read.whole("tokens"),
        device=read.text("device"),
        data=tuple(
            read.data_source(name) for name in read.names("datasets") if _DATA + name in read.flat
        ),
        code_version=read.text("code_version") if "code_version" in read.flat else "",
        versions={
            key.removeprefix(_VERSION): read.text(key)
            for key in read.flat
            if key.startswith(_VERSION)
        },
    )


@dataclass(frozen=True, slots=True)
class _Reader:
    """Flat attributes with their kinds checked; raises `MissingAttribute`."""

    flat: Mapping[str, Any]

    def number(self, name: str) -> float:
        value = self.flat.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise MissingAttribute(name)
        if not math.isfinite(value):
            raise MissingAttribute(name)
        return float(value)

    def whole(self, name: str) -> int:
        value = self.number(name)
        if not value.is_integer():
            raise MissingAttribute(name)
        return int(value)

    def text(self, name: str) -> str:
        value = self.flat.get(name)
        if not isinstance(value, str):
            raise MissingAttribute(name)
        return value

    def names(self, name: str) -> tuple[str, ...]:
        value = self.flat.get(name)
        if not isinstance(value, list) or not value:
            raise MissingAttribute(name)
        if not all(isinstance(item, str) for item in value):
            raise MissingAttribute(name)
        return tuple(value)

    def data_source(self, dataset: str) -> DataSource:
        """Raises for an object that lacks a key, naming its attribute."""
        key = _DATA + dataset
        plain = self.flat.get(key)
        if not isinstance(plain, dict):
            raise MissingAttribute(key)
        try:
            inner = _Reader(plain)
            stand_in = plain.get("stand_in_for")
            return DataSource(
                name=dataset,
                source=inner.text("source"),
                train_size=inner.whole("train_size"),
                checksum=inner.text("checksum"),
                stand_in_for=None if stand_in is None else inner.text("stand_in_for"),
            )
        except MissingAttribute:
            raise MissingAttribute(key) from None
