"""A sampler that draws again what would teach nothing: shapes nobody may train, repetitions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from search.space import Choices, FloatRange, IntRange, Parameter, Space, Value
from search.study.redrawn import Redrawn
from storage.optuna_internals import add_user_attrs, params_of

DRAWS = 100
"""Draws for one trial by the sampler, then as many at random; after them the last one stands:
a space may be used up."""


class RedrawSampler(BaseSampler):
    """Draws all parameters with another sampler, and again while the draw is of no use.

    Of no use is a draw that makes no network that may be trained, and one that repeats an
    earlier trial.  A sampler draws parameters without knowing which of them fit together:
    of the first ten draws of configs/search.yaml seven could not be trained, which left the
    sampler three points to learn from, and it settled on a shape that was not the best.

    Args:
        inner: draws.
        space: what is searched.
        random: draws after that one has drawn nothing of use, as a sampler that draws each
            parameter by itself may do for ever.
        why_infeasible: says why drawn values cannot be trained; None if they can.
        duplicate: two points this near in every parameter, as a share of its range, repeat
            each other, 0..1.
    """

    def __init__(
        self,
        *,
        inner: BaseSampler,
        random: BaseSampler,
        space: Space,
        why_infeasible: Callable[[Mapping[str, Value]], str | None],
        duplicate: float,
    ) -> None:
        self._inner = inner
        self._random = random
        self._space = space
        self._why_infeasible = why_infeasible
        self._duplicate = duplicate
        self._distributions = {
            name: _distribution(part) for name, part in space.parameters.items()
        }

    def reseed_rng(self) -> None:
        self._inner.reseed_rng()
        self._random.reseed_rng()

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return dict(self._distributions)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        earlier = [
            params_of(other)
            for other in study.get_trials(deepcopy=False)
            if other.number != trial.number
        ]
        drawn: dict[str, Any] = {}
        unfit = repeated = 0
        for sampler in (self._inner,) * DRAWS + (self._random,) * DRAWS:
            drawn = self._draw(sampler, study, trial)
            if self._why_infeasible(drawn) is not None:
                unfit += 1
            elif any(self._space.near(drawn, point, self._duplicate) for point in earlier):
                repeated += 1
            else:
                break
        if not params_of(trial):  # else it has its parameters, and this draw is not used
            again = Redrawn(unfit=unfit, repeated=repeated)
            add_user_attrs(study, trial, again.to_flat())
        return drawn

    def _draw(self, sampler: BaseSampler, study: Study, trial: FrozenTrial) -> dict[str, Any]:
        together = sampler.infer_relative_search_space(study, trial)
        drawn = sampler.sample_relative(study, trial, together)
        return {
            name: drawn[name]
            if name in drawn
            else sampler.sample_independent(study, trial, name, distribution)
            for name, distribution in self._distributions.items()
        }

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return self._inner.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._inner.before_trial(study, trial)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        self._inner.after_trial(study, trial, state, values)


def _distribution(part: Parameter) -> BaseDistribution:
    """What `Parameter.suggest` asks Optuna for."""
    match part:
        case Choices():
            return CategoricalDistribution(part.choices)
        case IntRange():
            return IntDistribution(part.low, part.high, log=part.log, step=part.step)
        case FloatRange():
            return FloatDistribution(part.low, part.high, log=part.log, step=part.step)
    raise TypeError(f"a parameter of an unknown kind: {part!r}")
