"""A `SetTrainer` that answers from a formula or a table instead of training.

Everything else of a rehearsal is real: database, worker processes, pipes,
checkpoints, gate.  The formula is a smooth landscape with one optimum inside the
space and repeatable noise, so that a sampler has something to find and the same
configuration always gets the same accuracy.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from model.config import ModelConfig, TrainConfig
from nkat_errors import BadInput, NkatError
from search.file.search_file import ImageFacts, SearchFile
from search.objective.judge import Judge, infeasible
from search.objective.messages import Finished
from search.objective.two_stages import CannotResume, CannotTrain, EpochReport
from search.score.tpe_score import accuracy_needed, lambda_theory, lambdas
from search.study.past import Past
from search.study.trial_attributes import REHEARSAL, TrialFacts, accuracy_key
from search.study.verdict import Effort, Ending, SetResult

TOO_LARGE = "rehearsed: the network does not fit"
NAN = "rehearsed NaN"
ACCIDENT = "rehearsed accident"
"""What the faults of a rehearsed training say; the rehearsal counts them by it."""

SEED_NOISE = 0.002
"""Standard deviation of an accuracy between training seeds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """How a rehearsed training behaves; travels to the children as JSON.

    Args:
        seed: of the noise and of the faults below.
        epoch_s: seconds one epoch takes.
        epochs: epochs per data set, instead of the search file's; None keeps those.
        memory_rate: share of configurations that do not fit into memory.
        nan_rate: share of configurations that diverge, in a random epoch.
        crash_rate: probability per epoch that the child raises an exception.
        hang_rate: probability per epoch that the child hangs for ever.
        table: a CSV file with a column per searched parameter and `accuracy_<set>`
            columns; the row nearest to a trial's parameters answers.
    """

    seed: int = 0
    epoch_s: float = 0.01
    epochs: int | None = 2
    memory_rate: float = 0.0
    nan_rate: float = 0.0
    crash_rate: float = 0.0
    hang_rate: float = 0.0
    table: str | None = None

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Rehearsal:
        return cls(**json.loads(text))


def _unit(*parts: object) -> float:
    """A repeatable number in [0, 1) for these parts."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _normal(*parts: object) -> float:
    """A repeatable standard normal number for these parts (Box-Muller)."""
    u, v = _unit(*parts, "u"), _unit(*parts, "v")
    return math.sqrt(-2 * math.log(1 - u)) * math.cos(2 * math.pi * v)


def _fingerprint(model: ModelConfig, train: TrainConfig) -> str:
    values = model.to_dict() | train.to_dict()
    for name in ("image_size", "channels", "classes"):
        values.pop(name)
    return json.dumps(values, sort_keys=True)


class Landscape:
    """Final accuracy of a configuration on a data set, from a formula.

    The best tenth of the space passes the file's gate whatever its threshold: the
    level is set so that the gate's accuracy lies between the middle and the optimum.
    """

    def __init__(self, search: SearchFile, seed: int) -> None:
        self._names = [entry.name for entry in search.datasets]
        self._seed = seed
        self._ranges = {
            name: [v for v in parameter.values() if isinstance(v, int | float)]
            for name, parameter in search.space.parameters.items()
        }
        lam = max(lambda_theory(conv_stem="tiny", embed_dim=384), 1.0)
        self._gate_accuracy = min(accuracy_needed(search.gate.threshold, lam), 0.95)

    def accuracy(self, values: Mapping[str, Any], dataset: str, fingerprint: str) -> float:
        """In [0.05, 0.995]; a quadratic bowl per numeric parameter plus a step per choice."""
        distance = 0.0
        for name, ends in self._ranges.items():
            value = values[name]
            best = 0.25 + 0.5 * _unit(self._seed, "optimum", name)
            if ends and isinstance(value, int | float) and max(ends) > min(ends):
                place = (value - min(ends)) / (max(ends) - min(ends))
            else:
                place = _unit(self._seed, "choice", name, value)
            distance += (place - best) ** 2
        distance /= max(len(self._ranges), 1)
        hardness = 1.0 if dataset == self._names[0] else 0.3
        peak = self._gate_accuracy + 0.6 * (1 - self._gate_accuracy)
        level = peak if dataset == self._names[0] else 0.98
        noise = 0.004 * _normal(self._seed, "noise", dataset, fingerprint)
        return min(max(level - hardness * 1.1 * distance + noise, 0.05), 0.995)


class Table:
    """Accuracies looked up in a CSV file: the nearest row answers."""

    def __init__(self, path: Path, search: SearchFile) -> None:
        try:
            with path.open(newline="") as stream:
                self._rows = list(csv.DictReader(stream))
        except OSError as error:
            raise BadInput(f"table {path}: cannot be read ({error.strerror})") from error
        if not self._rows:
            raise BadInput(f"table {path}: has no rows")
        wanted = [accuracy_key(entry.name) for entry in search.datasets]
        missing = [c for c in [*search.space.parameters, *wanted] if c not in self._rows[0]]
        if missing:
            raise BadInput(
                f"table {path}: column {missing[0]!r} is missing; it needs one per searched "
                f"parameter and {', '.join(wanted)}"
            )
        self._names = list(search.space.parameters)

    def accuracy(self, values: Mapping[str, Any], dataset: str, fingerprint: str) -> float:
        row = min(self._rows, key=lambda row: self._distance(row, values))
        return float(row[accuracy_key(dataset)])

    def _distance(self, row: Mapping[str, str], values: Mapping[str, Any]) -> float:
        total = 0.0
        for name in self._names:
            try:
                here, there = float(row[name]), float(values[name])
                total += ((here - there) / (abs(here) + abs(there) + 1e-9)) ** 2
            except (TypeError, ValueError):
                total += row[name] != str(values[name])
        return total


@dataclass(slots=True)
class RehearsedFit:
    """Epochs that take `epoch_s` each and follow a saturating learning curve."""

    plan: Rehearsal
    final: float
    total: int
    diverges_at: int | None
    fingerprint: str
    done: int = 0
    plain_because: str | None = None
    chance: random.Random = field(default_factory=random.SystemRandom)

    def epochs(self) -> Iterator[EpochReport]:
        while self.done < self.total:
            time.sleep(self.plan.epoch_s)
            # Accidents are not repeatable on purpose: a retry must be able to succeed.
            if self.chance.random() < self.plan.crash_rate:
                raise RuntimeError(ACCIDENT)
            if self.chance.random() < self.plan.hang_rate:
                time.sleep(3600.0)
            self.done += 1
            if self.diverges_at is not None and self.done >= self.diverges_at:
                raise CannotTrain(Ending.DIVERGED, f"{NAN} in epoch {self.done}")
            share = 1 - math.exp(-3 * self.done / self.total)
            yield EpochReport(
                epoch=self.done,
                epochs=self.total,
                accuracy=self.final * share / (1 - math.exp(-3)),
                weights="raw",
                images_per_s=0.0,
            )

    def dump(self) -> bytes:
        return json.dumps({"done": self.done}).encode()


@dataclass(frozen=True, slots=True)
class RehearsedImages:
    """The shape a rehearsed data set claims to have."""

    image_size: int = 32
    channels: int = 3
    classes: int = 10
    flip: bool = True


class RehearsedSetTrainer:
    """See the module's docstring."""

    def __init__(self, *, search: SearchFile, plan: Rehearsal) -> None:
        self._search = search
        self._plan = plan
        self._answers: Landscape | Table = (
            Table(Path(plan.table), search) if plan.table else Landscape(search, plan.seed)
        )

    def facts(self, model: ModelConfig) -> TrialFacts:
        """No data source: no data set was read, every accuracy is made up."""
        return TrialFacts(
            # 8 d^2 per block: the weights of a block with MLP ratio 2.
            parameters=8 * model.embed_dim**2 * model.depth,
            tokens=model.tokens,
            device=REHEARSAL,
        )

    def images(self, dataset: str) -> ImageFacts:
        return RehearsedImages()

    def _accuracy(self, dataset: str, model: ModelConfig, train: TrainConfig, seed: int) -> float:
        """The configuration's own, and with another training seed than the search's a little
        more or less."""
        fingerprint = _fingerprint(model, train)
        values = model.to_dict() | train.to_dict()
        found = self._answers.accuracy(values, dataset, fingerprint)
        if seed == self._search.seed:
            return found
        noise = SEED_NOISE * _normal(self._plan.seed, "seed", seed, dataset, fingerprint)
        return min(max(found + noise, 0.0), 1.0)

    def finished(self, params: Mapping[str, Any], *, run: int = 0) -> Finished:
        """What a trial with these parameters ends with: no fault, no bound check.

        Args:
            run: of a finalist, from 1; 0 for a point of the search.
        """
        search = self._search
        why = search.why_infeasible(params)
        if why is not None:
            return Finished(verdict=infeasible(search, why), facts=None)
        plan = [
            (e.name, *search.resolve_for(params, e, RehearsedImages())) for e in search.datasets
        ]
        results = {
            name: SetResult(
                accuracy=self._accuracy(name, model, train, search.seed + run), weights="raw"
            )
            for name, model, train in plan
        }
        first, network, _ = plan[0]
        facts = self.facts(network)
        judge = Judge(search=search, lambdas=lambdas(network, parameters=facts.parameters))
        verdict = judge.after_set({first: results[first]}, Effort(), Past())
        verdict = verdict or judge.after_set(results, Effort(), Past())
        if verdict is None:
            raise NkatError(f"{params}: goes on after all {len(plan)} data sets")
        return Finished(verdict=verdict, facts=facts)

    def start(
        self,
        *,
        dataset: str,
        model: ModelConfig,
        train: TrainConfig,
        seed: int,
        resume: bytes | None,
    ) -> RehearsedFit:
        plan = self._plan
        fingerprint = _fingerprint(model, train)
        if _unit(plan.seed, "memory", fingerprint) < plan.memory_rate:
            raise CannotTrain(Ending.OUT_OF_MEMORY, TOO_LARGE)
        total = plan.epochs or train.epochs
        diverges = _unit(plan.seed, "nan", dataset, fingerprint) < plan.nan_rate
        return RehearsedFit(
            plan=plan,
            final=self._accuracy(dataset, model, train, seed),
            total=total,
            diverges_at=1 + int(_unit(fingerprint, "epoch") * total) if diverges else None,
            fingerprint=fingerprint,
            done=_epochs_done(resume, total) if resume else 0,
        )


def _epochs_done(resume: bytes, total: int) -> int:
    try:
        done = json.loads(resume)["done"]
    except (ValueError, TypeError, KeyError) as error:
        raise CannotResume(f"its checkpoint cannot be read ({error})") from error
    if not isinstance(done, int) or done >= total:
        raise CannotResume(f"its checkpoint has {done} epochs, this rehearsal {total}")
    return done
