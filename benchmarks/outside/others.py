"""Syne Tune and SMAC3 on the same surrogate in the same simulated time, as JSON lines.

Run by benchmarks/outside/run.sh in an environment of its own.  Both get what a careful user
would give them: no shape that cannot be trained (the seven pairs of stem and patch are one
parameter), the same first trial, the Global TPE score as metric.

- ASHA (Syne Tune, reduction factor 3, rungs at 1, 3 and 9): an epoch of CIFAR-10 is a unit of
  resource and reports the local TPE score; each of the other sets is one more, and the last
  reports the Global TPE score.  A rung compares like with like.  With random draws, and with
  two of its models: BOHB (kernel densities) and CQR (quantile regression).
- SMAC3: HyperparameterOptimizationFacade (random forest, expected improvement), all sets always
  trained.
"""

from __future__ import annotations

import argparse
import heapq
import json
import logging
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from surrogate import (
    DEPTHS,
    EPOCHS,
    PATCHES,
    STEMS,
    TEMPERATURE,
    TOP_P,
    WIDTHS,
    Outcome,
    Surrogate,
    feasible,
    read_rows,
    score_of,
)
from traces import COMPLETE, Done, chance_of

PAIRS = tuple(
    f"{stem}/{patch}"
    for stem, patch in product(STEMS, PATCHES)
    if feasible({"conv_stem": stem, "patch_size": patch})
)
FIRST = {"pair": "tiny/2", "embed_dim": 384, "depth": 7, "temperature": 0.65, "top_p": 0.8}
"""`first_trials` of configs/search.yaml."""
WHOLE = EPOCHS[0] + len(EPOCHS) - 1


def params_of(config: Any) -> dict[str, Any]:
    stem, patch = str(config["pair"]).split("/")
    return {
        "conv_stem": stem,
        "patch_size": int(patch),
        "embed_dim": int(config["embed_dim"]),
        "depth": int(config["depth"]),
        "temperature": float(config["temperature"]),
        "top_p": float(config["top_p"]),
    }


def steps(params: dict[str, Any], outcome: Outcome) -> Iterator[tuple[float, float]]:
    """(seconds, TPE score) of each unit of resource."""
    for accuracy in outcome.curve:
        yield outcome.epoch_s[0], score_of(params, [accuracy])
    for sets in range(2, len(EPOCHS) + 1):
        yield outcome.set_s[sets - 1], score_of(params, outcome.accuracies[:sets])


def asha(
    name: str, surrogate: Surrogate, *, seed: int, workers: int, budget_s: float
) -> list[Done]:
    from syne_tune.backend.trial_status import Trial
    from syne_tune.config_space import choice, uniform
    from syne_tune.optimizer.baselines import ASHA, ASHACQR, BOHB

    np.random.seed(seed)
    scheduler = {"ASHA": ASHA, "BOHB": BOHB, "ASHA with CQR": ASHACQR}[name](
        config_space={
            "pair": choice(list(PAIRS)),
            "embed_dim": choice(list(WIDTHS)),
            "depth": choice(list(DEPTHS)),
            "temperature": uniform(*TEMPERATURE),
            "top_p": uniform(*TOP_P),
        },
        metric="score",
        time_attr="unit",
        max_t=WHOLE,
        do_minimize=False,
        random_seed=seed,
        points_to_evaluate=[FIRST],
    )
    events: list[tuple[float, int, int]] = []
    running: dict[int, tuple[Any, dict[str, Any], Outcome, list[tuple[float, float]], float]] = {}
    done: list[Done] = []
    number = 0

    def begin(now: float) -> None:
        nonlocal number
        trial = Trial(number, scheduler.suggest().config, datetime.now())
        scheduler.on_trial_add(trial)
        params = params_of(trial.config)
        outcome = surrogate.outcome(params, chance_of(seed, number))
        plan = list(steps(params, outcome))
        running[number] = (trial, params, outcome, plan, now)
        heapq.heappush(events, (now + plan[0][0], number, 1))
        number += 1

    for _ in range(workers):
        begin(0.0)
    while events[0][0] * workers < budget_s:
        now, which, unit = heapq.heappop(events)
        trial, params, outcome, plan, began = running[which]
        result = {"score": plan[unit - 1][1], "unit": unit}
        if unit < WHOLE and scheduler.on_trial_result(trial, result) == "CONTINUE":
            heapq.heappush(events, (now + plan[unit][0], which, unit + 1))
            continue
        if unit == WHOLE:
            scheduler.on_trial_complete(trial, result)
        done.append(
            Done(
                at=now * workers,
                spent=now - began,
                ending=COMPLETE if unit == WHOLE else "rung",
                measured=score_of(params, outcome.accuracies),
                true=surrogate.true_score(params),
            )
        )
        begin(now)
    return done


def smac(surrogate: Surrogate, *, seed: int, workers: int, budget_s: float) -> list[Done]:
    from ConfigSpace import Categorical, Configuration, ConfigurationSpace, Float, Integer
    from smac import HyperparameterOptimizationFacade, Scenario
    from smac.runhistory.dataclasses import TrialValue

    space = ConfigurationSpace(seed=seed)
    space.add(
        Categorical("pair", list(PAIRS)),
        Integer("width", (0, len(WIDTHS) - 1)),
        Integer("depth", (DEPTHS[0], DEPTHS[-1])),
        Float("temperature", TEMPERATURE),
        Float("top_p", TOP_P),
    )
    first = {key: FIRST[key] for key in ("pair", "depth", "temperature", "top_p")} | {"width": 0}
    with tempfile.TemporaryDirectory() as folder:
        scenario = Scenario(
            space, deterministic=True, n_trials=400, seed=seed, output_directory=Path(folder)
        )
        facade = HyperparameterOptimizationFacade(
            scenario,
            lambda config, seed=0: 0.0,
            initial_design=HyperparameterOptimizationFacade.get_initial_design(
                scenario, n_configs=10, additional_configs=[Configuration(space, values=first)]
            ),
            logging_level=logging.ERROR,
            overwrite=True,
        )
        free = [(0.0, rank) for rank in range(workers)]
        under_way: list[tuple[float, int, Any, Done]] = []
        done: list[Done] = []
        number = 0
        while free[0][0] * workers < budget_s:
            now, rank = heapq.heappop(free)
            while under_way and under_way[0][0] <= now:
                _, _, info, one = heapq.heappop(under_way)
                facade.tell(info, TrialValue(cost=-one.measured, time=one.spent), save=False)
                done.append(one)
            info = facade.ask()
            config = dict(info.config) | {"embed_dim": WIDTHS[info.config["width"]]}
            params = params_of(config)
            outcome = surrogate.outcome(params, chance_of(seed, number))
            spent = sum(outcome.set_s)
            one = Done(
                at=(now + spent) * workers,
                spent=spent,
                ending=COMPLETE,
                measured=score_of(params, outcome.accuracies),
                true=surrogate.true_score(params),
            )
            heapq.heappush(under_way, (now + spent, number, info, one))
            heapq.heappush(free, (now + spent, rank))
            number += 1
    return [one for one in (*done, *(e[-1] for e in under_way)) if one.at <= budget_s]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--budget-s", type=float, default=900.0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", action="append")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    surrogate = Surrogate(read_rows())
    wanted = given.only or ["ASHA", "BOHB", "SMAC3"]
    known = set()
    if given.out.exists():
        lines = [json.loads(line) for line in given.out.read_text().splitlines()]
        known = {(line["method"], line["workers"], line["seed"]) for line in lines}
    for seed, name, workers in product(range(given.seeds), wanted, (1, 8)):
        if (name, workers, seed) in known:
            continue
        run = {"seed": seed, "workers": workers, "budget_s": given.budget_s}
        done = smac(surrogate, **run) if name == "SMAC3" else asha(name, surrogate, **run)
        line = {"method": name, **run, "done": [list(asdict(one).values()) for one in done]}
        with given.out.open("a") as stream:
            stream.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
