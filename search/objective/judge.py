"""What a trial's results become in the study: state, value, report, attributes.

A gate failure, a hopeless bound, a lack of memory and a NaN are all PRUNED with
a graded report, a positive constraint and user attributes.  As a bare FAIL the
sampler would learn nothing from them (measured: trials that pass fell from 77 %
to 12 %), and a constant penalty can stall it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from model.config import ModelConfig
from search.file.search_file import SearchFile
from search.objective.messages import Finished
from search.score.gate import Gate
from search.score.tpe_score import (
    Lambdas,
    global_bound,
    global_tpe_score,
    lambdas,
    local_tpe_score,
    score_all,
)

STAGE_2_STEP = 10_000
"""Stage-2 reports start above this step, so that a pruner never compares a stage-2
bound with a stage-1 epoch (their meanings differ)."""

NEVER_SCORED = 0.0
"""Graded report of a trial that could not be trained at all: the worst score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetResult:
    """One data set's training, ended.

    Args:
        accuracy: on the validation split, 0..1, of the better of raw and averaged weights.
        weights: which of them: `raw` or `ema`.
        epochs: trained.
        seconds: wall time, all attempts together.
        images_per_s: of the last epoch.
    """

    accuracy: float
    weights: str
    epochs: int
    seconds: float
    images_per_s: float


class Judge:
    """Turns one trial's accuracies into scores and, at its end, into `Finished`.

    Args:
        search: the search file (gate, lambda reading, data sets).
        params: the trial's parameters.
        trainer_facts: facts about the network as built (`parameters`, `tokens`,
            `device`, ...), from its configuration.
    """

    def __init__(
        self,
        *,
        search: SearchFile,
        params: Mapping[str, Any],
        trainer_facts: Callable[[ModelConfig], dict[str, Any]],
    ) -> None:
        self._search = search
        self._names = [entry.name for entry in search.datasets]
        model, _ = search.resolve(params)
        self._facts = trainer_facts(model)
        self.readings: Lambdas = lambdas(model, parameters=int(self._facts["parameters"]))
        self._lambda = self.readings.of(search.lambda_reading)
        self._gate: Gate = search.new_gate()

    def local(self, accuracy: float) -> float:
        return local_tpe_score(accuracy, self._lambda)

    def global_bound(self, results: Mapping[str, SetResult]) -> float:
        """Largest Global TPE score still possible: sets not trained yet count as 1."""
        return global_bound(
            [r.accuracy for r in results.values()], sets=len(self._names), lam=self._lambda
        )

    def gate(self, results: Mapping[str, SetResult]) -> Finished | None:
        """None when the trial passes; stage 1's end otherwise."""
        name = self._names[0]
        verdict = self._gate.judge(self.local(results[name].accuracy))
        if verdict.passed:
            return None
        return self._pruned(
            results,
            f"failed the gate: local TPE score {verdict.score:.4f} on {name} is below "
            f"{self._gate.threshold:.2f} (margin {verdict.margin:+.4f})",
            report=None,  # the last epoch's report is the graded score already
            constraints={},
        )

    def bound(
        self, results: Mapping[str, SetResult], best_global: float | None
    ) -> Finished | None:
        """None while the trial can still beat the best; stage 2's early end otherwise."""
        best_possible = self.global_bound(results)
        if best_global is None or best_possible > best_global or len(results) == len(self._names):
            return None
        return self._pruned(
            results,
            f"stopped in stage 2 after {len(results)} of {len(self._names)} sets: even with "
            f"accuracy 1 on the rest the Global TPE score is {best_possible:.4f}, not above "
            f"{best_global:.4f}",
            report=None,
            constraints={},
        )

    def cannot_train(
        self, results: Mapping[str, SetResult], dataset: str, kind: str, reason: str
    ) -> Finished:
        """Out of memory or NaN on `dataset`: graded by what was reached before."""
        step = 1 if dataset == self._names[0] else STAGE_2_STEP + self._names.index(dataset)
        graded = NEVER_SCORED
        if results:
            graded = global_tpe_score(self._accuracies(results).values(), self._lambda)
        return self._pruned(
            results,
            f"could not be trained on {dataset}: {reason}",
            report=(step, graded),
            constraints={kind: 1.0},
            invalid=dataset,
        )

    def complete(self, results: Mapping[str, SetResult]) -> Finished:
        value = global_tpe_score(self._accuracies(results).values(), self._lambda)
        return Finished(
            state="complete",
            value=value,
            report=None,
            user_attrs=self._attrs(results)
            | {"outcome": f"complete: Global TPE score {value:.4f} over {len(results)} sets"},
            constraints=self._constraints(results),
        )

    def _pruned(
        self,
        results: Mapping[str, SetResult],
        outcome: str,
        *,
        report: tuple[int, float] | None,
        constraints: dict[str, float],
        invalid: str | None = None,
    ) -> Finished:
        attrs = self._attrs(results) | {"outcome": outcome}
        if invalid is not None:
            attrs["robustness"] = score_all(self._accuracies(results), self._lambda).robustness
        return Finished(
            state="pruned",
            value=None,
            report=report,
            user_attrs=attrs,
            constraints=self._constraints(results) | constraints,
        )

    def _constraints(self, results: Mapping[str, SetResult]) -> dict[str, float]:
        """The gate's margin, always (a missing one would count as feasible)."""
        first = results.get(self._names[0])
        score = NEVER_SCORED if first is None else self.local(first.accuracy)
        return {"gate": self._gate.judge(score).constraint}

    def _attrs(self, results: Mapping[str, SetResult]) -> dict[str, Any]:
        attrs: dict[str, Any] = dict(self._facts)
        attrs |= {
            "lambda_theory": self.readings.theory,
            "lambda_counted": self.readings.counted,
            "lambda_parameters": self.readings.parameters,
        }
        for name, result in results.items():
            attrs[f"accuracy_{name}"] = result.accuracy
            attrs[f"tpe_{name}"] = self.local(result.accuracy)
            attrs[f"weights_{name}"] = result.weights
        first = results.get(self._names[0])
        if first is not None:
            verdict = self._gate.judge(self.local(first.accuracy))
            attrs |= {
                "gate_score": verdict.score,
                "gate_margin": verdict.margin,
                "gate_passed": verdict.passed,
            }
        attrs["epochs"] = sum(r.epochs for r in results.values())
        seconds = {n: r.seconds for n, r in results.items()}
        attrs["seconds_stage1"] = round(seconds.get(self._names[0], 0.0), 3)
        attrs["seconds_stage2"] = round(sum(seconds.values()) - attrs["seconds_stage1"], 3)
        if len(results) == len(self._names):
            scores = score_all(self._accuracies(results), self._lambda)
            attrs |= {
                "global_tpe_score": scores.global_tpe_score,
                "consistency": scores.consistency,
                "robustness": scores.robustness,
                "generalization": scores.generalization,
            }
        return attrs

    def _accuracies(self, results: Mapping[str, SetResult]) -> dict[str, float | None]:
        return {n: results[n].accuracy if n in results else None for n in self._names}
