"""What the ended trials tell the next one: whoever reads them, and however often."""

from __future__ import annotations

import math
import random
import statistics
from dataclasses import replace

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from search.file.load import parse_search_text
from search.file.sections import BoundSection, RungsSection
from search.objective.judge import Judge
from search.score.tpe_score import Lambdas
from search.study.epochs import STAGE_2_STEP
from search.study.gains import Gains, whole_curve
from search.study.past import Past, PastReader
from search.study.trial_attributes import TrialAttributes
from search.study.verdict import Effort, SetResult

SEARCH = parse_search_text("""\
study: small
n_trials: 40
gate: {dataset: cifar10, threshold: 0.5}
datasets: [cifar10, mnist]
bound: {kind: best_seen, after: 2}
rungs: {after: 3}
space: {depth: {low: 5, high: 9}}
""")
JUDGE = Judge(search=SEARCH, lambdas=Lambdas(theory=20.0, counted=28.0, parameters=8.4))


def ended(number: int, *curve: float, **accuracies: float) -> FrozenTrial:
    results = {name: SetResult(accuracy=a, weights="raw") for name, a in accuracies.items()}
    verdict = JUDGE.after_set(results, Effort(), Past(best_global=2.0))
    assert verdict is not None
    made = optuna.create_trial(
        state=TrialState.COMPLETE if verdict.complete else TrialState.PRUNED,
        value=verdict.value,
        user_attrs=TrialAttributes(verdict=verdict, facts=None).to_flat(),
        intermediate_values=dict(enumerate(curve, start=1)) | {STAGE_2_STEP + 1: 0.5},
    )
    made.number = number
    return made


TRIALS = [
    ended(0, 0.1, 0.2, 0.3, cifar10=0.4),
    ended(1, 0.3, 0.5, 0.6, cifar10=0.8, mnist=0.97),
    ended(2, 0.4, 0.6, 0.7, cifar10=0.9),
    ended(3, 0.2, 0.4, 0.4, 0.5, cifar10=0.7, mnist=0.99),
]


def test_a_set_counts_once_enough_trials_have_trained_it() -> None:
    reader = PastReader(SEARCH)
    assert reader.read([]) == Past()
    first = reader.read(TRIALS[:2])
    assert first.best_global == TRIALS[1].value
    assert first.best_seen == {"cifar10": 0.8}
    assert reader.read(TRIALS).best_seen == {"cifar10": 0.9, "mnist": 0.99}


def test_it_depends_on_the_trials_alone() -> None:
    whole = PastReader(SEARCH).read(TRIALS)
    for seed in range(5):
        order = random.Random(seed).sample(TRIALS, len(TRIALS))
        reader = PastReader(SEARCH)
        for count in range(len(order)):
            reader.read(order[:count])
        assert reader.read(order) == whole


def test_gains_are_learned_from_trials_of_equal_length() -> None:
    reader = PastReader(SEARCH)
    assert reader.read(TRIALS[:2]).gains == {}  # two are fewer than rungs.after
    gains = reader.read(TRIALS).gains
    assert list(gains) == [3]
    assert gains[3].trials == 3
    assert gains[3].mean == pytest.approx(((0.2 + 0.3 + 0.3) / 3, 0.1, 0.0))
    assert gains[3].deviation == pytest.approx((statistics.stdev([0.2, 0.3, 0.3]), 0.0, 0.0))
    # A later trial of that length is taken in.
    later = reader.read([*TRIALS, ended(9, 0.1, 0.5, 0.6, cifar10=0.8)]).gains[3]
    assert (later.trials, later.mean[0]) == (4, pytest.approx((0.2 + 0.3 + 0.3 + 0.5) / 4))


def test_a_curve_with_a_hole_teaches_nothing() -> None:
    assert whole_curve({1: 0.1, 2: 0.2, STAGE_2_STEP: 0.9}, below=STAGE_2_STEP) == (0.1, 0.2)
    for reports in ({}, {1: 0.1, 3: 0.3}, {2: 0.2}, {1: float("nan")}):
        assert whole_curve(reports, below=STAGE_2_STEP) is None


def test_without_rungs_no_gains_are_computed() -> None:
    assert PastReader(replace(SEARCH, rungs=None)).read(TRIALS).gains == {}


def test_a_bound_that_reaches_into_stage_1_asks_for_gains_too() -> None:
    bound = BoundSection(kind="best_seen", spread=2.0, curves=3)
    for rungs in (None, RungsSection(after=9)):
        reader = PastReader(replace(SEARCH, rungs=rungs, bound=bound))
        assert reader.read(TRIALS[:2]).gains == {}
        assert reader.read(TRIALS).gains[3].trials == 3


@pytest.mark.parametrize(
    ("trials", "spread", "deviations"),
    [  # of Student's distribution, by scipy.stats.t.ppf(norm.cdf(spread), trials - 1)
        (3, 2.5, 8.91),
        (4, 2.5, 5.37),
        (8, 2.0, 2.43),
        (1000, 3.0, 3.01),
        (4, 0.0, 0.0),
    ],
)
def test_few_curves_make_the_spread_wider(trials: int, spread: float, deviations: float) -> None:
    gains = Gains(trials=trials, mean=(0.2, 0.1), deviation=(0.04, 0.01))
    exact = deviations * math.sqrt(1 + 1 / trials) * 0.01
    assert gains.spread_to_expect(2, spread) == pytest.approx(exact, rel=0.11)


def test_a_trial_that_others_told_gives_its_score_alone() -> None:
    foreign = optuna.create_trial(state=TrialState.COMPLETE, value=0.9)
    foreign.number = 9
    past = PastReader(SEARCH).read([*TRIALS, foreign])
    assert past.best_global == pytest.approx(0.9)
    assert past.best_seen == PastReader(SEARCH).read(TRIALS).best_seen
