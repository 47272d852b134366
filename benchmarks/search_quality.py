"""Does the two-stage search find more with less?  Searches side by side in simulated time.

    python benchmarks/search_quality.py                       # table and docs/search_quality.png
    python benchmarks/search_quality.py --samplers            # and ours with other ways to draw
    bash benchmarks/outside/run.sh ENV OUT.jsonl              # Syne Tune and SMAC3, then
    python benchmarks/search_quality.py --outside OUT.jsonl   # takes their runs in

Each method runs with every seed and with 1 and 8 workers until `--budget-s` GPU-seconds are
spent, on the surrogate of surrogate.py; runs that stand in data/search_quality.csv are not
repeated, so after a change of the search, the data or a method delete that file first.

A search's score at a time is the true Global TPE score (without noise) of the trial that
measured best so far.  Intervals are 95 %, of a bootstrap over seeds, paired by seed.
"""

from __future__ import annotations

import argparse
import csv
import json
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from quality_methods import BestTenth, Method, methods, sampler_choices, shipped
from surrogate import Surrogate, read_rows, space
from traces import COMPLETE, Done, incumbents, thrown_away

HERE = Path(__file__).parent
RUNS = HERE / "data" / "search_quality.csv"
PLOT = HERE.parent / "docs" / "search_quality.png"
COLUMNS = ("method", "workers", "seed", "budget_s", "trials", "complete", "thrown_away", "best")
WORKERS = (1, 8)
DRAWN = {
    "ours": "tab:red",
    "both changes undone": "tab:pink",
    "single-stage TPESampler": "tab:blue",
    "random, single-stage": "tab:gray",
    "one epoch, best tenth": "black",
    "ASHA": "tab:green",
    "BOHB": "tab:olive",
    "SMAC3": "tab:orange",
}
"""Lines of the plot and their colours."""

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One search: `best` are (GPU-seconds, true score) at each change of its best trial."""

    budget_s: float
    trials: int
    complete: int
    thrown_away: tuple[str, float, float] | None
    best: tuple[tuple[float, float], ...]

    @classmethod
    def of(cls, done: Sequence[Done], budget_s: float) -> Run:
        best = [(round(at, 1), round(score, 6)) for at, score in incumbents(done)]
        return cls(
            budget_s=budget_s,
            trials=len(done),
            complete=sum(one.ending == COMPLETE for one in done),
            thrown_away=thrown_away(done),
            best=tuple(best),
        )

    def at(self, gpu_s: float) -> float:
        """NaN while no trial is complete."""
        return next((score for at, score in reversed(self.best) if at <= gpu_s), np.nan)

    def reached(self, score: float) -> float:
        """GPU-seconds; the whole budget where it never was."""
        return next((at for at, found in self.best if found >= score), self.budget_s)


Key = tuple[str, int, int]
"""Method, workers, seed."""


def read_runs() -> dict[Key, Run]:
    if not RUNS.exists():
        return {}
    with RUNS.open(newline="") as stream:
        return {
            (row["method"], int(row["workers"]), int(row["seed"])): Run(
                budget_s=float(row["budget_s"]),
                trials=int(row["trials"]),
                complete=int(row["complete"]),
                thrown_away=json.loads(row["thrown_away"]),
                best=tuple(map(tuple, json.loads(row["best"]))),
            )
            for row in csv.DictReader(stream)
        }


def append(key: Key, run: Run) -> None:
    fresh = not RUNS.exists()
    with RUNS.open("a", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        if fresh:
            writer.writerow(COLUMNS)
        thrown, best = json.dumps(run.thrown_away), json.dumps(run.best)
        writer.writerow((*key, run.budget_s, run.trials, run.complete, thrown, best))


def simulate(
    wanted: Mapping[str, Method | BestTenth],
    surrogate: Surrogate,
    seeds: Sequence[int],
    budget_s: float,
) -> None:
    known = read_runs()
    for name, method in wanted.items():
        for workers, seed in product(WORKERS, seeds):
            if (name, workers, seed) not in known:
                done = method.run(surrogate, seed=seed, workers=workers, budget_s=budget_s)
                append((name, workers, seed), Run.of(done, budget_s))
        print(f"ran {name}", flush=True)


def take_in(path: Path) -> None:
    """Runs of benchmarks/outside/."""
    known = read_runs()
    for line in path.read_text().splitlines():
        found = json.loads(line)
        key = (found["method"], found["workers"], found["seed"])
        if key not in known:
            fields = ("at", "spent", "ending", "measured", "true")
            done = [Done(**dict(zip(fields, one, strict=True))) for one in found["done"]]
            append(key, Run.of(done, found["budget_s"]))


@dataclass(frozen=True, kw_only=True)
class Scale:
    """best: of the space; first: of the first trial, where the normalised regret is 1."""

    best: float
    first: float

    def regret(self, score: float) -> float:
        return 1.0 if np.isnan(score) else (self.best - score) / (self.best - self.first)


def resampled(count: int) -> NDArray[np.int64]:
    return np.random.default_rng(0).integers(0, count, (4000, count))


def interval(values: Array) -> tuple[float, float]:
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def rows_of(
    runs: Mapping[Key, Run], names: Sequence[str], workers: int, scale: Scale, against: str
) -> Iterator[list[str]]:
    """A line of the table for each method."""
    target = 0.99 * scale.best
    for name in names:
        seeds = [
            seed
            for method, count, seed in runs
            if (method, count) == (name, workers) and (against, workers, seed) in runs
        ]
        if not seeds:
            continue
        mine = [runs[name, workers, seed] for seed in seeds]
        ours = [runs[against, workers, seed] for seed in seeds]
        took, theirs = (np.array([r.reached(target) for r in some]) for some in (mine, ours))
        budget = mine[0].budget_s
        late, end = (
            np.array([scale.regret(run.at(share * budget)) for run in mine]) for share in (0.5, 1)
        )
        end_ours = np.array([scale.regret(run.at(budget)) for run in ours])
        picks = resampled(len(seeds))
        ratio = interval(took[picks].mean(axis=1) / theirs[picks].mean(axis=1))
        apart = interval((end - end_ours)[picks].mean(axis=1))
        thrown = [run.thrown_away for run in mine if run.thrown_away is not None]
        lost = ", ".join(f"{n} {why}" for why, n in Counter(t[0] for t in thrown).items()) or "0"
        if thrown:
            lost += f" (<= {max(max(t[2] for t in thrown), 0.0):.4f})"
        yield [
            name, str(workers), str(len(seeds)),
            f"{np.mean([r.trials for r in mine]):.0f} ({np.mean([r.complete for r in mine]):.0f})",
            f"{took.mean():.0f} / {np.median(took):.0f}", f"{(took < budget).mean():.0%}",
            "" if name == against else
            f"{took.mean() / theirs.mean():.2f} ({ratio[0]:.2f} to {ratio[1]:.2f})",
            f"{late.mean():.3f}", f"{end.mean():.3f}",
            "" if name == against else
            f"{(end - end_ours).mean():+.3f} ({apart[0]:+.3f} to {apart[1]:+.3f})",
            lost,
        ]  # fmt: skip


def show(runs: Mapping[Key, Run], names: Sequence[str], scale: Scale) -> None:
    header = ["method", "workers", "seeds", "trials (whole)", "GPU-s to 99 %: mean / median",
              "reached", "ratio to ours", "regret at half", "at the end", "minus ours",
              "winner thrown away"]  # fmt: skip
    lines = [line for workers in WORKERS for line in rows_of(runs, names, workers, scale, "ours")]
    print()
    for line in (header, ["---"] * len(header), *lines):
        print(f"| {' | '.join(line)} |")


def draw(runs: Mapping[Key, Run], scale: Scale, budget_s: float) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(12, 4.6), sharey=True, layout="constrained")
    times = np.linspace(0, budget_s, 181)
    for panel, workers in zip(panels, WORKERS, strict=True):
        for name, colour in DRAWN.items():
            mine = [run for key, run in runs.items() if key[:2] == (name, workers)]
            if not mine:
                continue
            curves = np.array([[run.at(at) for at in times] for run in mine])
            started = ~np.isnan(curves).any(axis=0)
            means = curves[resampled(len(mine))[:1000]][:, :, started].mean(axis=1)
            low, high = np.quantile(means, [0.025, 0.975], axis=0)
            panel.fill_between(times[started], low, high, color=colour, alpha=0.15, lw=0)
            panel.plot(times[started], curves[:, started].mean(axis=0), color=colour, label=name)
        panel.axhline(scale.best, color="black", lw=0.8, ls=":")
        panel.axhline(0.99 * scale.best, color="black", lw=0.8, ls="--")
        panel.set(
            title=f"{workers} worker{'s' * (workers > 1)}", xlabel="simulated GPU-seconds",
            ylim=(0.695, scale.best + 0.001), xlim=(0, budget_s),
        )  # fmt: skip
    panels[0].set_ylabel("true Global TPE score of the best trial\n(mean of the seeds, 95 %)")
    panels[1].legend(fontsize=8, loc="lower right")
    figure.savefig(PLOT, dpi=100)
    print(f"wrote {PLOT}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=30, help="how many")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--budget-s", type=float, default=900.0)
    parser.add_argument(
        "--samplers", action="store_true", help="ours with other numbers and draws"
    )
    parser.add_argument("--show", action="store_true", help="run nothing: what is there already")
    parser.add_argument("--outside", type=Path, help="what outside/run.sh wrote")
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    surrogate = Surrogate(read_rows())
    first: Any = shipped().first_trials[0]
    scale = Scale(
        best=max(surrogate.true_score(point) for point in space()),
        first=surrogate.true_score(first),
    )
    choices = sampler_choices() if given.samplers else {}
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    if not given.show:
        simulate({**methods(), **choices}, surrogate, seeds, given.budget_s)
    if given.outside:
        take_in(given.outside)
    runs = {key: run for key, run in read_runs().items() if key[2] in seeds}
    print(f"\nbest true score {scale.best:.4f}, first trial {scale.first:.4f}")
    outside = [name for name in DRAWN if name not in methods() | sampler_choices()]
    show(runs, [*methods(), *outside], scale)
    if choices:
        show(runs, ["ours", *choices], scale)
    draw(runs, scale, given.budget_s)


if __name__ == "__main__":
    main()
