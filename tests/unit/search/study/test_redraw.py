"""What is drawn again, and that the draws stay those of the sampler named in the file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from nkat_errors import BadInput
from search.file.load import load_search_file, parse_search_text
from search.file.search_file import SearchFile
from search.file.yaml_text import dump_yaml
from search.space import Choices, FloatRange, IntRange, Space, Value
from search.study.redraw import RedrawSampler
from search.study.redrawn import Redrawn
from search.study.sampler import new_sampler
from search.study.trial_record import TrialRecord

SEARCH = load_search_file(Path("configs/search.yaml"))


def changed(**sections: Any) -> SearchFile:
    """configs/search.yaml with other sections."""
    return parse_search_text(dump_yaml(SEARCH.to_dict() | sections))


def draws(search: SearchFile, number: int, *, rank: int = 0) -> list[dict[str, Value]]:
    """What a search draws while every trial is stopped at the gate."""
    study = optuna.create_study(direction="maximize", sampler=new_sampler(search, rank))
    points = []
    for _ in range(number):
        trial = study.ask()
        points.append(search.space.suggest(trial))
        trial.report(0.5, 1)
        trial.set_constraint("gate", 0.1)
        study.tell(trial, state=TrialState.PRUNED)
    return points


def test_nothing_infeasible_is_drawn_at_random_or_by_the_model() -> None:
    points = draws(SEARCH, 25)  # 10 at random, 15 by TPESampler
    assert [SEARCH.why_infeasible(point) for point in points] == [None] * 25


def test_a_repeated_search_draws_the_same_and_another_worker_something_else() -> None:
    assert draws(SEARCH, 12) == draws(SEARCH, 12)
    assert draws(SEARCH, 3) != draws(SEARCH, 3, rank=1)


def study_of(space: Space, **given: Any) -> optuna.Study:
    def feasible(_point: Mapping[str, Value]) -> str | None:
        return None

    sampler = RedrawSampler(
        inner=optuna.samplers.RandomSampler(seed=0),
        random=optuna.samplers.RandomSampler(seed=1),
        space=space,
        why_infeasible=feasible,
        duplicate=given.pop("duplicate", 0.01),
    )
    return optuna.create_study(sampler=sampler)


def test_no_point_of_a_small_space_is_drawn_twice_until_all_were() -> None:
    space = Space({"a": Choices((1, 2, 4)), "b": IntRange(low=5, high=8)})
    study = study_of(space)
    points = [tuple(space.suggest(study.ask()).values()) for _ in range(13)]
    assert len(set(points[:12])) == 12
    assert points[12] in points[:12]  # used up: the search goes on all the same


def test_what_was_drawn_again_stands_with_the_trial() -> None:
    space = Space({"a": Choices((1, 2)), "b": Choices((1, 2))})
    sampler = RedrawSampler(
        inner=optuna.samplers.RandomSampler(seed=0),
        random=optuna.samplers.RandomSampler(seed=1),
        space=space,
        why_infeasible=lambda point: "no" if point["b"] == 2 else None,
        duplicate=0.01,
    )
    study = optuna.create_study(sampler=sampler)
    study.enqueue_trial({"a": 1, "b": 2})
    for _ in range(4):
        space.suggest(study.ask())
    given, *drawn = [TrialRecord.of_frozen(trial).redrawn for trial in study.trials]
    assert given == Redrawn()  # named, not drawn
    assert all(one.unfit + one.repeated < 50 for one in drawn[:2])
    assert drawn[2].unfit + drawn[2].repeated == 200  # the space is used up
    assert min(drawn[2].unfit, drawn[2].repeated) > 50
    assert Redrawn.of_flat({"redrawn_unfit": -1, "redrawn_repeated": "x"}) == Redrawn()


def test_a_sampler_that_draws_nothing_of_use_is_replaced_by_chance() -> None:
    # Each parameter by itself, this one goes on drawing what cannot be trained.
    single = changed(sampler={"name": "TPESampler", "options": {"multivariate": False}})
    assert [single.why_infeasible(point) for point in draws(single, 40)] == [None] * 40


def test_a_point_that_waits_is_not_drawn() -> None:
    space = Space({"a": Choices(("x", "y"))})
    study = study_of(space)
    study.enqueue_trial({"a": "x"})
    study.enqueue_trial({"a": "x"})
    first = study.ask()  # takes one of the two
    assert space.suggest(first) == {"a": "x"}
    study.add_trial(optuna.trial.create_trial(state=TrialState.WAITING))
    waiting, drawn = study.ask(), study.ask()
    assert space.suggest(waiting) == {"a": "x"}
    assert space.suggest(drawn) == {"a": "y"}


@pytest.mark.parametrize(
    ("a", "b", "near"),
    [
        ({"lr": 0.0018887, "d": 5}, {"lr": 0.0018888, "d": 5}, True),
        ({"lr": 0.0018887, "d": 5}, {"lr": 0.0018888, "d": 6}, False),
        ({"lr": 0.0018887, "d": 5}, {"lr": 0.0019887, "d": 5}, False),
        ({"lr": 0.0018887, "d": 5}, {"d": 5}, False),
    ],
)
def test_near_is_a_share_of_each_range(a: dict[str, Any], b: dict[str, Any], near: bool) -> None:
    space = Space({"lr": FloatRange(low=1e-3, high=2e-3, log=True), "d": IntRange(low=5, high=9)})
    assert space.near(a, b, 0.01) is near


def test_other_samplers_and_their_options() -> None:
    grid = changed(sampler={"name": "RandomSampler"})
    assert len(draws(grid, 3)) == 3
    options = changed(sampler={"name": "TPESampler", "options": {"n_startup_trials": 2}})
    assert draws(options, 2) == draws(SEARCH, 2)
    assert draws(options, 4) != draws(SEARCH, 4)  # the model draws from the third on


@pytest.mark.parametrize(
    ("sampler", "sentence"),
    [
        ({"name": "TPESampla"}, "no such class; did you mean 'TPESampler'?"),
        ({"name": "TPESampler", "options": {"startup": 3}}, "startup"),
        ({"name": "nowhere.at_all:Sampler"}, "nowhere"),
        ({"name": "MedianPruner"}, "no such class"),
        ({"name": "collections:Counter"}, "no Optuna sampler"),
    ],
)
def test_a_sampler_that_cannot_be_had(sampler: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadInput) as caught:
        new_sampler(changed(sampler=sampler), rank=0)
    assert sentence in str(caught.value)


POINT = dict(SEARCH.first_trials[0])


@pytest.mark.parametrize(
    ("point", "sentence"),
    [
        (POINT | {"depht": 7}, "first_trials[0].depht: not searched; did you mean 'depth'?"),
        ({k: v for k, v in POINT.items() if k != "depth"}, "no value for depth"),
        (POINT | {"depth": 4}, "first_trials[0].depth = 4: not in space.depth"),
        (POINT | {"conv_stem": "off"}, "cannot be trained: 256 tokens"),
    ],
)
def test_first_trials_are_points_of_the_space(point: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadInput) as caught:
        changed(first_trials=[point])
    assert sentence in str(caught.value)


def test_neither_sampler_nor_first_trials_make_another_search() -> None:
    assert changed(sampler={"name": "RandomSampler"}, first_trials=[]).hash() == SEARCH.hash()
    again = parse_search_text(SEARCH.to_yaml())
    assert again == SEARCH
