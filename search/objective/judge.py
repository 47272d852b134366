"""When a trial is over, and how: the gate, the bound, the end, and what cannot be trained.

A gate failure, a hopeless bound, a lack of memory, a NaN and a draw that makes no
network are all PRUNED with a graded report, a positive constraint or both.  As a bare
FAIL the sampler would learn nothing from them (measured: trials that pass fell from
77 % to 12 %), and a constant penalty can stall it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from statistics import fmean

from search.file.search_file import SearchFile
from search.score.tpe_score import Lambdas, global_bound, local_tpe_score
from search.study.verdict import Effort, Ending, SetResult, Verdict, shortened


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

    def after_set(
        self, results: Mapping[str, SetResult], effort: Effort, best_global: float | None
    ) -> Verdict | None:
        """The verdict when the trial is over, None while it goes on.

        Args:
            results: of the sets that are done, the gate's among them.
            effort: so far.
            best_global: the best Global TPE score of the search; None for no bound check.
        """
        verdict = _verdict(self._search, self._lambdas, results, effort)
        if verdict.ending is not Ending.OPEN:
            return verdict
        accuracies = [result.accuracy for result in results.values()]
        bound = global_bound(accuracies, sets=len(verdict.datasets), lam=self._lambda)
        if best_global is None or bound > best_global:
            return None
        return replace(verdict, ending=Ending.BOUND, bound=bound, to_beat=best_global)

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
