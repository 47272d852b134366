"""A whole search in simulated time: the real sampler, objective, judge and past, no training.

Trials are those of `search.objective.two_stages`, their accuracies and seconds come from the
surrogate (surrogate.py) and the study is Optuna's in memory.  A trial knows the past as it was
when it began, so it is run to its end at once, and told when the clock gets there.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import optuna
from halving import Halving
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import Trial, TrialState
from surrogate import GATE_SET, OTHERS, Outcome, Surrogate, score_of
from traces import Done, chance_of

from model.config import ModelConfig, TrainConfig
from search.file.search_file import SearchFile
from search.objective.judge import infeasible
from search.objective.messages import EpochDone, Event, Finished, Job
from search.objective.simulated_trainer import RehearsedImages
from search.objective.two_stages import EpochReport, TwoStageObjective
from search.study.past import PastReader
from search.study.trial_attributes import TrialAttributes, TrialFacts

SamplerOf = Callable[[SearchFile, int], BaseSampler]
"""From the search file and a worker's rank."""


@dataclass(kw_only=True)
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class _Fit:
    clock: Clock
    curve: tuple[float, ...]
    epoch_s: float
    plain_because: str | None = None

    def epochs(self) -> Iterator[EpochReport]:
        for epoch, accuracy in enumerate(self.curve, start=1):
            self.clock.now += self.epoch_s
            yield EpochReport(
                epoch=epoch,
                epochs=len(self.curve),
                accuracy=accuracy,
                weights="ema",
                images_per_s=0.0,
            )

    def dump(self) -> bytes:
        return b""


@dataclass
class _Trainer:
    """Answers with one trial's outcome."""

    clock: Clock
    outcome: Outcome = field(init=False)

    def facts(self, model: ModelConfig) -> TrialFacts:
        parameters = 8 * model.embed_dim**2 * model.depth
        return TrialFacts(parameters=parameters, tokens=model.tokens, device="simulated")

    def images(self, dataset: str) -> RehearsedImages:
        return RehearsedImages()

    def start(
        self, *, dataset: str, model: ModelConfig, train: TrainConfig, seed: int, resume: Any
    ) -> _Fit:
        at = (GATE_SET, *OTHERS).index(dataset)
        curve = self.outcome.curve
        if at:
            curve = (self.outcome.accuracies[at],) * train.epochs
        return _Fit(self.clock, curve, self.outcome.epoch_s[at])


class _NoCheckpoints:
    """Simulated trials are never interrupted."""

    disabled_because = None

    def load(self, number: int) -> None:
        return None

    def save(self, number: int, payload: object) -> bool:
        return True


class SimulatedSearch:
    """One search with one seed.

    Args:
        search: its file, with the seed of this run.
        surrogate: answers instead of training.
        sampler_of: as `search.study.sampler.new_sampler`.
        workers: in parallel.
        halving: a rung that the search does not have (halving.py).
    """

    def __init__(
        self,
        *,
        search: SearchFile,
        surrogate: Surrogate,
        sampler_of: SamplerOf,
        workers: int,
        halving: Halving | None = None,
    ) -> None:
        self._search = search
        self._halving = halving
        self._surrogate = surrogate
        self._storage = optuna.storages.InMemoryStorage()
        self._studies = [
            optuna.create_study(
                study_name="simulated",
                storage=self._storage,
                sampler=sampler_of(search, rank),
                direction="maximize",
                load_if_exists=True,
            )
            for rank in range(workers)
        ]
        for point in search.first_trials:
            self._studies[0].enqueue_trial(dict(point))
        self._past = PastReader(search)
        self._clock = Clock()
        self._trainer = _Trainer(self._clock)
        self._objective = TwoStageObjective(
            search=search,
            trainer=self._trainer,
            checkpoints=_NoCheckpoints(),  # type: ignore[arg-type]
            clock=self._clock,
        )

    def run(self, budget_s: float) -> list[Done]:
        """Trials in the order of their ends, those begun before `budget_s` GPU-seconds in sum."""
        workers = len(self._studies)
        free = [(0.0, rank) for rank in range(workers)]
        under_way: list[tuple[float, int, Trial, list[Event], Done]] = []
        done: list[Done] = []
        while free[0][0] * workers < budget_s:
            now, rank = heapq.heappop(free)
            while under_way and under_way[0][0] <= now:
                _, _, trial, events, one = heapq.heappop(under_way)
                self._tell(trial, events)
                done.append(one)
            trial, params = self._drawn(self._studies[rank])
            events, one = self._train(trial, params, now)
            end = now + one.spent
            heapq.heappush(under_way, (end, trial.number, trial, events, one))
            heapq.heappush(free, (end, rank))
        rest = [entry[-1] for entry in sorted(under_way, key=lambda entry: entry[:2])]
        return [one for one in (*done, *rest) if one.at <= budget_s]

    def _drawn(self, study: Study) -> tuple[Trial, dict[str, Any]]:
        """A trial that can be trained; those that cannot are told at once and cost nothing."""
        while True:
            trial = study.ask()
            params = self._search.space.suggest(trial)
            why = self._search.why_infeasible(params)
            if why is None:
                return trial, params
            self._tell(trial, [Finished(verdict=infeasible(self._search, why), facts=None)])

    def _train(
        self, trial: Trial, params: dict[str, Any], began: float
    ) -> tuple[list[Event], Done]:
        chance = chance_of(self._search.seed, trial.number)
        self._trainer.outcome = outcome = self._surrogate.outcome(params, chance)
        self._clock.now = began
        ended = trial.study.get_trials(
            deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)
        )
        job = Job(trial_number=trial.number, attempt=1, params=params, past=self._past.read(ended))
        events: list[Event] = []
        self._objective.run(job, events.append, lambda: False)
        if self._halving is not None:
            events, stopped = self._halving.cut(events, self._search)
            if stopped is not None:
                self._clock.now = began + stopped * outcome.epoch_s[0]
        finished = events[-1]
        assert isinstance(finished, Finished)
        return events, Done(
            at=self._clock.now * len(self._studies),
            spent=self._clock.now - began,
            ending=finished.verdict.ending.value,
            measured=score_of(params, outcome.accuracies),
            true=self._surrogate.true_score(params),
        )

    def _tell(self, trial: Trial, events: list[Event]) -> None:
        """As the worker's recorder and the board do."""
        finished = events[-1]
        assert isinstance(finished, Finished)
        verdict = finished.verdict
        reports = [event.report for event in events if isinstance(event, EpochDone)]
        for report in (*reports, verdict.report):
            if report is not None:
                trial.report(report[1], report[0])
        flat = TrialAttributes(verdict=verdict, facts=finished.facts).to_flat()
        for key, value in flat.items():
            trial.set_user_attr(key, value)
        for key, violation in verdict.constraints.items():
            trial.set_constraint(key, violation)
        state = TrialState.COMPLETE if verdict.complete else TrialState.PRUNED
        trial.study.tell(trial, verdict.value, state=state)
