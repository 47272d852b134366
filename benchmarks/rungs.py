"""What do rungs and the tighter bound save, and what would they throw away?

Recorded trials are replayed in many random orders through the judge and the reader that a
search uses: a trial is stopped where they say so, by what the trials before it in that order
showed; only what was trained by then is known to the later ones.  Prints the tables of
RESULTS.md, "Rungs and bound".

    python benchmarks/rungs.py
    python benchmarks/rungs.py --record round2 --state-dir runs    # adds a search to the data

Data: data/searches.csv (searches of configs/search.yaml on one H100) and data/trainings.csv
(many recipes on CIFAR-10, the hard case: optimizers and regularisation of every kind mixed).
"""

from __future__ import annotations

import argparse
import csv
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from search.file.load import load_search_file, parse_search_text
from search.file.search_file import SearchFile
from search.file.sections import BoundSection, RungsSection
from search.objective.judge import Judge
from search.score.tpe_score import Lambdas
from search.study.epochs import STAGE_2_STEP
from search.study.past import Past, PastReader
from search.study.session import database, opened
from search.study.trial_attributes import TrialAttributes
from search.study.trial_record import TrialRecord
from search.study.verdict import Effort, SetResult, Verdict

HERE = Path(__file__).parent
SEARCHES, TRAININGS = HERE / "data" / "searches.csv", HERE / "data" / "trainings.csv"
SEARCH_FILE = HERE.parent / "configs" / "search.yaml"
COLUMNS = ("search", "trial", "ending", "lambda", "seconds_stage1", "seconds_stage2", "params",
           "curve", "accuracies")  # fmt: skip
SETS = ("cifar10", "fashion_mnist", "sd19_letters", "mnist")
IMAGES = (600_000, 190_704, 300_000)
"""Images trained on in stage 2, by set: they divide its seconds."""
LAMBDA = 20.0
ONE_SET = """
study: stage1
n_trials: 99
gate: {{dataset: cifar10, threshold: {threshold}}}
datasets: [cifar10]
space: {{depth: {{low: 5, high: 9}}}}
"""


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A trial as it went: accuracies by epoch of stage 1 and by set, seconds."""

    number: int
    lam: float
    curve: tuple[float, ...]
    seconds1: float
    accuracies: tuple[float, ...] = ()
    seconds2: tuple[float, ...] = ()

    def judge(self, search: SearchFile) -> Judge:
        return Judge(search=search, lambdas=Lambdas(theory=self.lam, counted=1, parameters=1))


@dataclass(kw_only=True)
class Tally:
    """One order's outcome; `lost` are local or Global TPE scores beyond what passes or wins."""

    stopped: int = 0
    at: list[int] | None = None
    saved_s: float = 0.0
    lost: list[float] | None = None
    best_lost: bool = False


def ended(number: int, verdict: Verdict, reports: dict[int, float]) -> FrozenTrial:
    """The trial as the study would have it."""
    made = optuna.create_trial(
        state=TrialState.COMPLETE if verdict.complete else TrialState.PRUNED,
        value=verdict.value,
        user_attrs=TrialAttributes(verdict=verdict, facts=None).to_flat(),
        intermediate_values=reports,
    )
    made.number = number
    return made


def replay_rungs(order: Sequence[Recorded], search: SearchFile) -> Tally:
    """Stage 1 alone; a trial that passes the gate is over."""
    reader, told = PastReader(search), list[FrozenTrial]()
    at, lost, saved = list[int](), list[float](), 0.0
    stopped, best, best_kept = 0, 0.0, 0.0
    for one in order:
        past, judge, epochs = reader.read(told), one.judge(search), len(one.curve)
        final = judge.local(one.curve[-1])
        best, passes = max(best, final), final >= search.gate.threshold
        verdict = None
        for epoch, accuracy in enumerate(one.curve, start=1):
            verdict = judge.after_epoch(
                epoch=epoch, epochs=epochs, accuracy=accuracy, effort=Effort(), past=past
            )
            if verdict is not None:
                saved += one.seconds1 * (1 - epoch / epochs)
                if passes:
                    lost.append(final - search.gate.threshold)
                else:
                    stopped += 1
                    at.append(epoch)
                break
        else:
            best_kept = max(best_kept, final)
            results = {SETS[0]: SetResult(accuracy=one.curve[-1], weights="raw")}
            verdict = judge.after_set(results, Effort(), past)
            assert verdict is not None
            reports = {e: judge.local(a) for e, a in enumerate(one.curve, start=1)}
            told.append(ended(one.number, verdict, reports))
    return Tally(stopped=stopped, at=at, saved_s=saved, lost=lost, best_lost=best_kept < best)


def replay_bound(order: Sequence[Recorded], search: SearchFile) -> Tally:
    """Stage 2 of the trials that passed; saved are the seconds of the sets not trained."""
    reader, told = PastReader(search), list[FrozenTrial]()
    saved, lost, at = 0.0, list[float](), list[int]()
    best, best_kept = 0.0, 0.0
    for one in order:
        past, judge = reader.read(told), one.judge(search)
        whole = judge.local(fmean(one.accuracies))
        best = max(best, whole)
        results: dict[str, SetResult] = {}
        for done, (name, accuracy) in enumerate(zip(SETS, one.accuracies, strict=True)):
            results[name] = SetResult(accuracy=accuracy, weights="raw")
            verdict = judge.after_set(results, Effort(), past)
            if verdict is not None:
                told.append(ended(one.number, verdict, {STAGE_2_STEP + done: whole}))
                if verdict.complete:
                    best_kept = max(best_kept, whole)
                else:
                    at.append(done + 1)
                    saved += sum(one.seconds2[done:])
                    if past.best_global is not None and whole > past.best_global:
                        lost.append(whole - past.best_global)
                break
    return Tally(stopped=len(at), at=at, saved_s=saved, lost=lost, best_lost=best_kept < best)


def replay_search(order: Sequence[Recorded], search: SearchFile) -> Tally:
    """Both stages; saved are the seconds that one replayed without a bound takes more."""
    reader, told = PastReader(search), list[FrozenTrial]()
    saved, lost, at = 0.0, list[float](), list[int]()
    best, best_kept = 0.0, 0.0
    for one in order:
        past, judge = reader.read(told), one.judge(search)
        whole = (
            judge.local(fmean(one.accuracies))
            if len(one.accuracies) == len(search.datasets)
            else 0.0
        )
        best = max(best, whole)
        verdict, reports = _replayed(one, judge, past)
        told.append(ended(one.number, verdict, reports))
        if verdict.complete:
            best_kept = max(best_kept, whole)
        if verdict.rung is not None:
            at.append(verdict.rung.epoch)
            saved += one.seconds1 * (1 - verdict.rung.epoch / len(one.curve))
        saved += sum(one.seconds2[max(len(verdict.results) - 1, 0) :])
        if whole > (past.best_global or 0.0) and not verdict.complete:
            lost.append(whole - (past.best_global or 0.0))
    return Tally(stopped=len(at), at=at, saved_s=saved, lost=lost, best_lost=best_kept < best)


def _replayed(one: Recorded, judge: Judge, past: Past) -> tuple[Verdict, dict[int, float]]:
    """How the trial would have ended, and what it would have reported by then."""
    reports: dict[int, float] = {}
    for epoch, accuracy in enumerate(one.curve, start=1):
        reports[epoch] = judge.local(accuracy)
        verdict = judge.after_epoch(
            epoch=epoch, epochs=len(one.curve), accuracy=accuracy, effort=Effort(), past=past
        )
        if verdict is not None:
            return verdict, reports
    results: dict[str, SetResult] = {}
    for name, accuracy in zip(SETS, one.accuracies, strict=False):
        results[name] = SetResult(accuracy=accuracy, weights="raw")
        verdict = judge.after_set(results, Effort(), past)
        if verdict is not None:
            return verdict, reports
    raise ValueError(f"trial {one.number} was recorded without an end")


def in_orders(
    trials: Sequence[Recorded],
    search: SearchFile,
    replay: Callable[[Sequence[Recorded], SearchFile], Tally],
    orders: int,
) -> str:
    """A row's figures: means over random orders; with none, those of the recorded order."""
    tallies = [
        replay(random.Random(seed).sample(trials, len(trials)), search) for seed in range(orders)
    ] or [replay(trials, search)]
    at = [place for tally in tallies for place in tally.at or ()]
    lost = [score for tally in tallies for score in tally.lost or ()]
    return (
        f"{fmean(t.stopped for t in tallies):.1f} | {fmean(at) if at else 0:.1f} | "
        f"{fmean(t.saved_s for t in tallies):.1f} | {len(lost) / len(tallies):.3f} | "
        f"{sum(bool(t.lost) for t in tallies)} | {max(lost, default=0):.4f} | "
        f"{sum(t.best_lost for t in tallies)}"
    )


@cache
def rows() -> list[dict[str, str]]:
    with SEARCHES.open(newline="") as stream:
        return list(csv.DictReader(stream))


def stage1_of_searches(*names: str) -> Iterator[Recorded]:
    """Every trial of these searches that ended stage 1; equal ones once (the searches have
    one seed, so some trials are the same training)."""
    seen = set()
    for row in rows():
        curve = tuple(json.loads(row["curve"]))
        if row["search"] in names and len(curve) == 12 and curve not in seen:
            seen.add(curve)
            yield Recorded(
                number=len(seen),
                lam=float(row["lambda"]),
                curve=curve,
                seconds1=float(row["seconds_stage1"]),
            )


def passed_of_searches(name: str, seed: int) -> list[Recorded]:
    """Those of one search that passed the gate and trained three sets at least.

    An accuracy on MNIST that the bound spared is drawn from those that were measured
    (0.9940 to 0.9948); seconds of stage 2 are divided by the images of each set.
    """
    chance = random.Random(seed)
    found = [(row, json.loads(row["accuracies"])) for row in rows() if row["search"] == name]
    last = [accuracies[SETS[3]] for _, accuracies in found if SETS[3] in accuracies]
    trials = []
    for row, measured in found:
        if len(measured) < 3:
            continue
        done = IMAGES[: len(measured) - 1]
        speed = float(row["seconds_stage2"]) / sum(done)
        accuracies = [*measured.values()][:4] + [chance.choice(last)] * (4 - len(measured))
        trials.append(
            Recorded(
                number=int(row["trial"]),
                lam=float(row["lambda"]),
                curve=tuple(json.loads(row["curve"])),
                seconds1=float(row["seconds_stage1"]),
                accuracies=tuple(accuracies),
                seconds2=tuple(speed * images for images in IMAGES),
            )
        )
    return trials


def whole_search(name: str, seed: int) -> list[Recorded]:
    """Every trial of one search.  Accuracies that the real bound spared those that passed are
    drawn from what others measured on that set, which gives the stopped ones more of a chance
    than they had."""
    chance = random.Random(seed)
    found = [(row, json.loads(row["accuracies"])) for row in rows() if row["search"] == name]
    measured = {set_: [a[set_] for _, a in found if set_ in a] for set_ in SETS}
    speeds = [
        float(row["seconds_stage2"]) / sum(IMAGES[: len(a) - 1]) / float(row["seconds_stage1"])
        for row, a in found
        if len(a) > 1
    ]
    trials = []
    for row, known in found:
        passed, seconds1 = row["ending"] != "gate", float(row["seconds_stage1"])
        spared = SETS[len(known) :] if passed else ()
        speed = seconds1 * fmean(speeds)
        trials.append(
            Recorded(
                number=int(row["trial"]),
                lam=float(row["lambda"]),
                curve=tuple(json.loads(row["curve"])),
                seconds1=seconds1,
                accuracies=(*known.values(), *(chance.choice(measured[s]) for s in spared)),
                seconds2=tuple(speed * images for images in IMAGES) if passed else (),
            )
        )
    return trials


def recipes() -> Iterator[Recorded]:
    """The trainings of 16 epochs on CIFAR-10: 26 recipes, cosine and linear decay."""
    with TRAININGS.open(newline="") as stream:
        for number, row in enumerate(csv.DictReader(stream)):
            curve = tuple(json.loads(row["accuracies"]))
            if row["set"] == SETS[0] and len(curve) == 16:
                seconds = float(row["train_s"])
                yield Recorded(number=number, lam=LAMBDA, curve=curve, seconds1=seconds)


def rungs_tables(orders: int) -> None:
    variants = [
        RungsSection(after=after, earliest=earliest, spread=spread)
        for after, earliest, spread in (
            (10, 0.33, 4.0), (8, 0.33, 4.0), (8, 0.5, 4.0), (10, 0.33, 3.0), (8, 0.33, 3.0),
            (8, 0.33, 2.0), (8, 0.33, 1.0), (4, 0.33, 3.0), (8, 0.0, 3.0),
        )
    ]  # fmt: skip
    mixed = list(recipes())
    finals = sorted(one.judge(_one_set(0.6)).local(one.curve[-1]) for one in mixed)
    narrow, wide = "round2", "round2-256-tokens"
    cases = [
        (f"search {narrow}", list(stage1_of_searches(narrow)), 0.60),
        (f"searches {narrow} and {wide}", list(stage1_of_searches(narrow, wide)), 0.60),
    ]
    cases += [("mixed recipes", mixed, finals[len(finals) * i // 4]) for i in (1, 2, 3)]
    for name, trials, threshold in cases:
        search = _one_set(threshold)
        short = [t for t in trials if t.judge(search).local(t.curve[-1]) < threshold]
        theirs, whole = (sum(t.seconds1 for t in some) for some in (short, trials))
        print(
            f"\n{name}, gate {threshold:.4f}: {len(short)} of {len(trials)} fail, their stage 1 "
            f"takes {theirs:.0f} s of {whole:.0f} s"
        )
        print("| after | earliest | spread | failures stopped | at epoch | s saved | passes lost "
              "an order | orders with one | by at most | best lost |")  # fmt: skip
        print("| --- " * 10 + "|")
        for rungs in variants:
            figures = in_orders(trials, replace(search, rungs=rungs), replay_rungs, orders)
            print(f"| {rungs.after} | {rungs.earliest:g} | {rungs.spread:g} | {figures} |")
        if trials is not mixed:
            figures = in_orders(trials, replace(search, rungs=RungsSection()), replay_rungs, 0)
            print(f"| as recorded, | in one | order | {figures} |")


def bound_table(orders: int) -> None:
    trials = passed_of_searches("round2", seed=0)
    search = _recorded_sets()
    seconds = sum(sum(one.seconds2) for one in trials)
    print(f"\nstage 2 of {len(trials)} trials that passed, {seconds:.0f} s without a bound")
    print("| bound | after | stopped | after set | s saved | winners lost an order | orders with "
          "one | by at most | best lost |")  # fmt: skip
    print("| --- " * 9 + "|")
    bounds = [BoundSection(kind="exact")]
    bounds += [
        BoundSection(kind="best_seen", slack=slack, after=after)
        for after in (1, 3)
        for slack in (0.0, 0.001, 0.002, 0.003, 0.005)
    ]
    for bound in bounds:
        name = bound.kind if bound.kind == "exact" else f"best seen + {bound.slack:g}"
        figures = in_orders(trials, replace(search, bound=bound), replay_bound, orders)
        print(f"| {name} | {bound.after if bound.kind != 'exact' else ''} | {figures} |")
    for bound in (BoundSection(kind="exact"), BoundSection(kind="best_seen")):
        figures = in_orders(trials, replace(search, bound=bound), replay_bound, 0)
        print(f"| {bound.kind}, in the recorded order | | {figures} |")


def early_tables(orders: int) -> None:
    """The bound within stage 1, with the rungs that are shipped."""
    four = _recorded_sets()
    cases = [
        (name, whole_search(name, seed=0), four) for name in ("round2", "round2-first-trials")
    ]
    alone = [replace(one, accuracies=one.curve[-1:]) for one in recipes()]
    cases.append(("mixed recipes, all of which pass", alone, _one_set(0.3)))
    plain = BoundSection(kind="best_seen", slack=0.003, after=1)
    early = [
        plain.model_copy(update={"spread": spread, "curves": curves})
        for spread, curves in (
            (1.0, 3), (2.0, 3), (2.5, 3), (3.0, 3), (4.0, 3), (2.5, 8)
        )
    ]  # fmt: skip
    tight = early[2].model_copy(update={"slack": 0.002})
    for name, trials, search in cases:
        seconds = sum(one.seconds1 + sum(one.seconds2) for one in trials)
        print(f"\nall {len(trials)} trials of {name}, {seconds:.0f} s without rungs and bound")
        print("| spread | curves | slack | stopped in stage 1 | at epoch | s saved | winners lost "
              "an order | orders with one | by at most | best lost |")  # fmt: skip
        print("| --- " * 10 + "|")
        for bound in (plain, *early, tight):
            figures = in_orders(trials, replace(search, bound=bound), replay_search, orders)
            curves = "" if bound.spread is None else bound.curves
            print(f"| {bound.spread or ''} | {curves} | {bound.slack} | {figures} |", flush=True)


def _recorded_sets() -> SearchFile:
    """configs/search.yaml with the data sets that were recorded."""
    search = load_search_file(SEARCH_FILE)
    names = dict(zip((entry.name for entry in search.datasets), SETS, strict=True))
    entries = [e.model_copy(update={"name": names[e.name]}) for e in search.datasets]
    return search.with_datasets(tuple(entries))


@cache
def _one_set(threshold: float) -> SearchFile:
    return parse_search_text(ONE_SET.format(threshold=threshold))


def record(name: str, state_dir: Path) -> None:
    """Adds the trained trials of a search in a state folder to the data."""
    with database(None, state_dir) as url, opened(url, None, role="benchmark") as session:
        trials = session.board.ended_trials()
    fresh = not SEARCHES.exists()
    with SEARCHES.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        if fresh:
            writer.writeheader()
        for trial in trials:
            row = _row(name, trial)
            if row is not None:
                writer.writerow(row)


def _row(name: str, trial: FrozenTrial) -> dict[str, Any] | None:
    verdict = TrialRecord.of_frozen(trial).verdict
    if verdict is None or verdict.lam is None:
        return None
    per_score = verdict.gate_needs or 0.0
    curve = [
        round(value * per_score / verdict.gate.threshold, 6)
        for step, value in sorted(trial.intermediate_values.items())
        if step < STAGE_2_STEP
    ]
    return {
        "search": name,
        "trial": trial.number,
        "ending": verdict.ending.value,
        "lambda": round(verdict.lam, 6),
        "seconds_stage1": verdict.effort.seconds_stage1,
        "seconds_stage2": verdict.effort.seconds_stage2,
        "params": json.dumps(trial.params),
        "curve": json.dumps(curve),
        "accuracies": json.dumps({n: r.accuracy for n, r in verdict.results.items()}),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--orders", type=int, default=200, help="random orders per row")
    parser.add_argument("--record", metavar="NAME", help="add a search to the data")
    parser.add_argument("--state-dir", type=Path, default=Path("runs"))
    given = parser.parse_args()
    if given.record:
        record(given.record, given.state_dir)
        return
    bound_table(given.orders)
    early_tables(given.orders)
    rungs_tables(given.orders)


if __name__ == "__main__":
    main()
