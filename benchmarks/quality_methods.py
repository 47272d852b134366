"""The searches that search_quality.py compares, apart from those of other projects."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from halving import Halving
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial
from simulated_search import SamplerOf, SimulatedSearch
from surrogate import Surrogate, score_of
from traces import Done, chance_of

from search.file.load import load_search_file
from search.file.search_file import SearchFile
from search.file.sections import BoundSection, GateSection, SamplerSection
from search.study.redraw import RedrawSampler
from search.study.sampler import new_sampler
from search.study.verdict import Ending

SEARCH_FILE = Path(__file__).parent.parent / "configs" / "search.yaml"
STAND_IN = {"emnist_letters": "sd19_letters"}
NO_GATE = GateSection(dataset="cifar10", threshold=1e-6)


def shipped() -> SearchFile:
    """configs/search.yaml, with the letters that the data are of."""
    search = load_search_file(SEARCH_FILE)
    entries = [
        entry.model_copy(update={"name": STAND_IN.get(entry.name, entry.name)})
        for entry in search.datasets
    ]
    return search.with_datasets(tuple(entries))


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way to search.

    Args:
        search: its search file; the seed is set for each run.
        sampler_of: makes a worker's sampler.
        halving: after which epochs; none is what is shipped.
        share: of the trials that go on from each.
    """

    search: SearchFile
    sampler_of: SamplerOf = new_sampler
    halving: tuple[int, ...] = ()
    share: float = 1 / 3

    def run(self, surrogate: Surrogate, *, seed: int, workers: int, budget_s: float) -> list[Done]:
        return SimulatedSearch(
            search=replace(self.search, seed=seed),
            surrogate=surrogate,
            sampler_of=self.sampler_of,
            workers=workers,
            halving=Halving(epochs=self.halving, share=self.share) if self.halving else None,
        ).run(budget_s)


def _seed(search: SearchFile, rank: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{search.seed}/{rank}".encode()).digest()[:4], "big")


def no_redraws(search: SearchFile, rank: int) -> BaseSampler:
    """Optuna's sampler as it is: a draw that cannot be trained is told as such."""
    return TPESampler(seed=_seed(search, rank), **search.sampler.options)


def _redrawn(search: SearchFile, inner: BaseSampler) -> RedrawSampler:
    return RedrawSampler(
        inner=inner,
        random=RandomSampler(seed=search.seed),
        space=search.space,
        why_infeasible=search.why_infeasible,
        duplicate=search.sampler.duplicate,
    )


class Mixed(BaseSampler):
    """Draws some trials at random, whatever was learned.

    Args:
        learned: draws the others.
        share: of the trials that are random, 0..1.
        seed: of the random ones.
    """

    def __init__(self, *, learned: BaseSampler, share: float, seed: int) -> None:
        self._learned, self._share = learned, share
        self._random = RandomSampler(seed=seed)
        self._chance = chance_of("mixed", seed)
        self._now: BaseSampler = learned

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        chosen = self._chance.random() < self._share
        self._now = self._random if chosen else self._learned
        return self._now.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._now.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, name: str, distribution: BaseDistribution
    ) -> Any:
        return self._now.sample_independent(study, trial, name, distribution)


def mixed(share: float, **options: Any) -> SamplerOf:
    def made(search: SearchFile, rank: int) -> BaseSampler:
        seed = _seed(search, rank)
        learned = TPESampler(seed=seed, **options)
        return _redrawn(search, Mixed(learned=learned, share=share, seed=seed + 1))

    return made


def with_options(search: SearchFile, name: str = "TPESampler", **options: Any) -> SearchFile:
    section = SamplerSection(name=name, options=options, duplicate=search.sampler.duplicate)
    return replace(search, sampler=section)


@dataclass(frozen=True, kw_only=True)
class BestTenth:
    """One epoch each, then the best of ten is trained on all sets; draws are random."""

    search: SearchFile
    group: int = 10

    def run(self, surrogate: Surrogate, *, seed: int, workers: int, budget_s: float) -> list[Done]:
        free = [(0.0, rank) for rank in range(workers)]
        draws = _random_points(self.search, seed)
        groups: list[list[tuple[float, Mapping[str, Any], int]]] = [[]]
        promoted: list[tuple[float, Mapping[str, Any], int]] = []
        done: list[Done] = []
        number = 0
        while free[0][0] * workers < budget_s:
            now, rank = heapq.heappop(free)
            ready = [one for one in promoted if one[0] <= now]
            if ready:
                promoted.remove(ready[0])
                _, params, which = ready[0]
            else:
                params, which, number = next(draws), number, number + 1
            outcome = surrogate.outcome(params, chance_of(seed, which))
            if ready:
                spent, ending = sum(outcome.set_s) - outcome.epoch_s[0], Ending.COMPLETE.value
            else:
                spent, ending = outcome.epoch_s[0], Ending.RUNG.value
                first = score_of(params, outcome.curve[:1])
                groups[-1].append((first, params, which))
                if len(groups[-1]) == self.group:
                    _, winner, its = max(groups[-1], key=lambda one: one[0])
                    promoted.append((now + spent, winner, its))
                    groups.append([])
            heapq.heappush(free, (now + spent, rank))
            done.append(
                Done(
                    at=(now + spent) * workers,
                    spent=spent,
                    ending=ending,
                    measured=score_of(params, outcome.accuracies),
                    true=surrogate.true_score(params),
                )
            )
        return [one for one in done if one.at <= budget_s]


def _random_points(search: SearchFile, seed: int) -> Any:
    study = optuna.create_study(sampler=_redrawn(search, RandomSampler(seed=seed)))
    while True:
        yield search.space.suggest(study.ask())


def random_draws(search: SearchFile, rank: int) -> BaseSampler:
    return _redrawn(search, RandomSampler(seed=_seed(search, rank)))


def with_bound(search: SearchFile, **changed: Any) -> SearchFile:
    """With some numbers of the bound changed."""
    return replace(search, bound=search.bound.model_copy(update=changed))


def letters_first(search: SearchFile) -> SearchFile:
    """Stage 2 begins with the letters: a third of Fashion-MNIST's cost, and more spread."""
    first, fashion, letters, *rest = search.datasets
    return search.with_datasets((first, letters, fashion, *rest))


def methods() -> dict[str, Method | BestTenth]:
    """By name; the first is what is shipped."""
    ours = shipped()
    off = BoundSection(kind="off")
    whole = replace(ours, gate=NO_GATE, rungs=None, bound=off)
    earlier = with_options(with_bound(ours, slack=0.002, after=3, spread=None))
    plain = with_options(whole)
    return {
        "ours": Method(search=ours),
        "ours, no gate": Method(search=replace(ours, gate=NO_GATE, rungs=None)),
        "ours, no rungs": Method(search=replace(ours, rungs=None)),
        "ours, bound in stage 2 alone": Method(search=with_bound(ours, spread=None)),
        "ours, no bound": Method(search=replace(ours, bound=off)),
        "ours, no first trial": Method(search=replace(ours, first_trials=())),
        "ours, 10 random draws": Method(search=with_options(ours)),
        "ours, stops nothing": Method(search=whole),
        "both changes undone": Method(search=earlier),
        "single-stage TPESampler": Method(search=plain, sampler_of=no_redraws),
        "random, single-stage": Method(search=whole, sampler_of=random_draws),
        "one epoch, best tenth": BestTenth(search=ours),
    }


def sampler_choices() -> dict[str, Method | BestTenth]:
    """Ours with other numbers, other ways to draw, a comparing rung, another order."""
    ours = shipped()
    found: dict[str, Method | BestTenth] = {
        f"spread: {spread}": Method(search=with_bound(ours, spread=float(spread)))
        for spread in (1, 2, 3)
    }
    found["curves: 8"] = Method(search=with_bound(ours, curves=8))
    found["slack: 0.002"] = Method(search=with_bound(ours, slack=0.002))
    found["after: 3"] = Method(search=with_bound(ours, after=3))
    found |= {
        f"n_startup_trials: {count}": Method(search=with_options(ours, n_startup_trials=count))
        for count in (20, 50)
    }
    found["random draws alone"] = Method(search=ours, sampler_of=random_draws)
    found["80 % of the draws at random"] = Method(search=ours, sampler_of=mixed(0.8))
    found["and halving after epoch 1"] = Method(search=ours, halving=(1,))
    found["halving after epoch 1 instead"] = Method(
        search=with_bound(ours, spread=None), halving=(1,)
    )
    found["letters before Fashion-MNIST"] = Method(search=letters_first(ours))
    return found
