"""Writes plans/table.yaml: further trainings, spread over the space, for the surrogate.

    python benchmarks/plan_table.py
    python benchmarks/recipe.py --data DIR --plan benchmarks/plans/table.yaml \\
        --out benchmarks/data/table.csv --limit-s 1500        # again until nothing is left
    python benchmarks/surrogate.py                            # takes the new rows in

150 points of a Sobol sequence, all of them on CIFAR-10; those whose score the surrogate puts
into the upper half on the other sets too; every tenth of either half with a second seed.  Any
beginning of the list is spread over the space as well, so that it can be stopped anywhere.
"""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from quality_methods import shipped
from scipy.stats import qmc
from surrogate import (
    DEPTHS,
    GATE_SET,
    PATCHES,
    STEMS,
    TEMPERATURE,
    TOP_P,
    WIDTHS,
    Surrogate,
    feasible,
    read_rows,
)

PLAN = Path(__file__).parent / "plans" / "table.yaml"
POINTS = 150
SECOND_SEED_EVERY = 10
HEAD = """\
# Made by benchmarks/plan_table.py: configs/search.yaml's recipe on a Sobol sequence of its
# space, the other sets for the half that the surrogate finds promising, two seeds for a tenth.
# About {minutes} minutes of training on one H100 by the surrogate, starts not counted.
"""


def points() -> list[dict[str, Any]]:
    pairs = [
        {"conv_stem": stem, "patch_size": patch}
        for stem, patch in product(STEMS, PATCHES)
        if feasible({"conv_stem": stem, "patch_size": patch})
    ]
    found = []
    for at in qmc.Sobol(5, seed=0).random_base2(8)[:POINTS]:
        choice = [
            options[int(share * len(options))]  # type: ignore[index, arg-type]
            for options, share in zip((pairs, WIDTHS, DEPTHS), at, strict=False)
        ]
        warm, top_p = (
            round(low + share * (high - low), 3)
            for share, (low, high) in zip(at[3:], (TEMPERATURE, TOP_P), strict=True)
        )
        found.append(
            {**choice[0], "embed_dim": choice[1], "depth": choice[2],
             "temperature": warm, "top_p": top_p}
        )  # fmt: skip
    return found


def flow(values: Any) -> str:
    return json.dumps(values).replace('"', "")


def main() -> None:
    search, surrogate, chosen = shipped(), Surrogate(read_rows()), points()
    scores = [surrogate.true_score(point) for point in chosen]
    middle = float(np.median(scores))
    lines = [
        "base:",
        f"  model: {flow(dict(search.model))}",
        f"  train: {flow(dict(search.train))}",
    ]
    lines += ["recipes:"]
    for number, entry in enumerate(search.datasets[1:]):
        lines.append(f"  - &recipe{number} {flow(entry.recipe())}")
    lines.append("runs:")
    seconds, seen = 0.0, {False: 0, True: 0}
    for number, (point, score) in enumerate(zip(chosen, scores, strict=True)):
        promising = score >= middle
        seeds = [0] if seen[promising] % SECOND_SEED_EVERY else [0, 1]
        seen[promising] += 1
        set_s = surrogate.outcome(point).set_s
        seconds += len(seeds) * (sum(set_s) if promising else set_s[0])
        name = f"p{number:03d}"
        head = f"name: {name}, seeds: {seeds}"
        lines.append(f"  - {{{head}, set: {GATE_SET}, model: &{name} {flow(point)}}}")
        if promising:
            for other, entry in enumerate(search.datasets[1:]):
                lines.append(
                    f"  - {{{head}, set: {entry.name}, model: *{name} , train: *recipe{other} }}"
                )
    PLAN.write_text(HEAD.format(minutes=round(seconds / 60)) + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
