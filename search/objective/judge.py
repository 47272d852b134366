"""When a trial is over, and how: rungs, gate, bound, the end, and what cannot be trained.

A stop at a rung, a gate failure, a hopeless bound, a lack of memory, a NaN and a draw that
makes no network are all PRUNED with a graded report, a positive constraint or both.  As a
bare FAIL the sampler would learn nothing from them (measured: trials that pass fell from
77 % to 12 %), and a constant penalty can stall it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from statistics import fmean

from search.file.search_file import SearchFile
from search.score.tpe_score import Lambdas, accuracy_needed, global_bound, local_tpe_score
from search.study.gains import Gains
from search.study.past import Past
from search.study.verdict import Effort, Ending, RungStop, SetResult, Verdict, shortened


class Judge:
    """One trial's judge.

    Args:
        search: the search file (gate, lambda reading, data sets).
        lambdas: the three readings of the trial's network.
    """

    def __init__(self, *, search: SearchFile, lambdas: Lambdas) -> None:
        self._search = search
        self._lambdas = lambdas
        self._lambda = lambdas.of(search.lambda_reading)

    def local(self, accuracy: float) -> float:
        return local_tpe_score(accuracy, self._lambda)

    def so_far(self, results: Mapping[str, SetResult]) -> float:
        """TPE score of the sets that are done: their mean accuracy / log10(1 + lambda).

        It is what was measured; over all sets it is the Global TPE score.
        """
        return self.local(fmean(result.accuracy for result in results.values()))

    def after_epoch(
        self, *, epoch: int, epochs: int, accuracy: float, effort: Effort, past: Past
    ) -> Verdict | None:
        """The verdict when a trial is hopeless in the middle of stage 1, else None.

        It is when the gate is out of reach even with a gain from here on that lies
        `rungs.spread` standard deviations above what trials before it gained, or the best
        Global TPE score with one that lies `bound.spread` above it (and more while the trials
        before it are few).

        Args:
            epoch: just ended, from 1.
            epochs: of stage 1; the last one is the gate's.
            accuracy: on the gate's set, 0..1.
            effort: so far.
            past: what the search knew when the trial began.
        """
        gains = past.gains.get(epochs)
        if gains is None or epoch >= epochs:
            return None
        score = self.local(accuracy)
        expected = score + gains.mean[epoch - 1]
        here = RungStop(
            epoch=epoch,
            epochs=epochs,
            score=score,
            expected=expected,
            at_most=expected,
            trials=gains.trials,
        )
        stopped = _verdict(self._search, self._lambdas, {}, effort)
        stopped = replace(stopped, ending=Ending.RUNG, rung=here)
        return self._gate_too_far(stopped, here, gains) or self._best_too_far(
            stopped, here, gains, past
        )

    def _gate_too_far(self, stopped: Verdict, here: RungStop, gains: Gains) -> Verdict | None:
        rungs = self._search.rungs
        if rungs is None or here.trials < rungs.after:
            return None
        at_most = here.expected + rungs.spread * gains.deviation[here.epoch - 1]
        if here.epoch < rungs.earliest * here.epochs or at_most >= stopped.gate.threshold:
            return None
        return replace(stopped, rung=replace(here, at_most=at_most))

    def _best_too_far(
        self, stopped: Verdict, here: RungStop, gains: Gains, past: Past
    ) -> Verdict | None:
        section = self._search.bound
        if section.spread is None or here.trials < section.curves:
            return None
        at_most = here.expected + gains.spread_to_expect(here.epoch, section.spread)
        reached = {stopped.gate_dataset: min(accuracy_needed(at_most, self._lambda), 1.0)}
        return self._out_of_reach(
            replace(stopped, rung=replace(here, at_most=at_most)), reached, past
        )

    def after_set(
        self, results: Mapping[str, SetResult], effort: Effort, past: Past
    ) -> Verdict | None:
        """The verdict when the trial is over, None while it goes on.

        Args:
            results: of the sets that are done, the gate's among them.
            effort: so far.
            past: what the search knew when the trial began.
        """
        verdict = _verdict(self._search, self._lambdas, results, effort)
        if verdict.ending is not Ending.OPEN:
            return verdict
        reached = {name: result.accuracy for name, result in results.items()}
        return self._out_of_reach(replace(verdict, ending=Ending.BOUND), reached, past)

    def _out_of_reach(
        self, stopped: Verdict, reached: Mapping[str, float], past: Past
    ) -> Verdict | None:
        """Ended by the bound: the exact one where it says so, else by the one in use.

        Args:
            stopped: the verdict if it is.
            reached: accuracy by data set, measured or foreseen.
        """
        section, to_beat = self._search.bound, past.best_global
        if section.kind == "off" or to_beat is None:
            return None
        slacks = (None, section.slack) if section.kind == "best_seen" else (None,)
        for slack in slacks:
            bound = self._bound(reached, past, slack)
            if bound <= to_beat:
                return replace(stopped, bound=bound, bound_slack=slack, to_beat=to_beat)
        return None

    def _bound(self, reached: Mapping[str, float], past: Past, slack: float | None) -> float:
        accuracies, names = list(reached.values()), self._search.names
        if slack is not None:
            accuracies += [
                min(past.best_seen[name] + slack, 1.0)
                for name in names
                if name not in reached and name in past.best_seen
            ]
        return global_bound(accuracies, sets=len(names), lam=self._lambda)

    def cannot_train(
        self, results: Mapping[str, SetResult], effort: Effort, *, ending: Ending, reason: str
    ) -> Verdict:
        """Out of memory or NaN on the first set that is not done."""
        verdict = _verdict(self._search, self._lambdas, results, effort)
        return replace(verdict, ending=ending, reason=shortened(reason))


def infeasible(search: SearchFile, why: str) -> Verdict:
    """The verdict on drawn parameters that make no network; nothing is built or trained.

    Args:
        why: the search file's sentence (`SearchFile.why_infeasible`).
    """
    verdict = _verdict(search, None, {}, Effort())
    return replace(verdict, ending=Ending.INFEASIBLE, reason=shortened(why))


def _verdict(
    search: SearchFile,
    lambdas: Lambdas | None,
    results: Mapping[str, SetResult],
    effort: Effort,
) -> Verdict:
    return Verdict.of(
        datasets=tuple(entry.name for entry in search.datasets),
        results=results,
        lambdas=lambdas,
        reading=search.lambda_reading,
        threshold=search.gate.threshold,
        effort=effort,
    )
