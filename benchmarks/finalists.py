"""Does it pay to run the best trials of a search again?

Searches are made up: `near` trials of about the same true Global TPE score (the shape on which
the search settled), with a standard deviation `true` between their true scores, each measured
once with the recorded noise.  The winner is the best single run, or the best mean of the new
runs of the best `count`, or, at the same cost, the best single run of a search with as many more
trials.  Prints the table of RESULTS.md, "Finalists".

    python benchmarks/finalists.py
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from search.score.probability_best import probabilities_best

NOISE = 0.0005
"""Standard deviation of the Global TPE score of trials of one shape (RESULTS.md, "The search
itself"); differences of their temperature and top-p are in it, so it is an upper limit."""
SPENT_S, TRIAL_S = 706.0, 35.6
"""Device time of that search of 46 trials, and of one complete trial of its best shape."""
CALIBRATED = 300
"""Searches of each row for which the stated probability is compared with what was true."""

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Means over the made-up searches; scores in units of 0.0001.

    `regret`: true score below the best true one; `promised`: score shown above the true one.
    """

    regret: float
    promised: float
    error: float


def single(rng: np.random.Generator, true: Array) -> Outcome:
    seen = true + NOISE * rng.standard_normal(true.shape)
    return outcome(true, seen.argmax(axis=1), seen.max(axis=1))


def again(
    rng: np.random.Generator, true: Array, count: int, runs: int
) -> tuple[Outcome, float, float]:
    """And: the winner's stated probability to be the best finalist, how often it was."""
    rows = np.arange(len(true))
    seen = true + NOISE * rng.standard_normal(true.shape)
    best = np.argsort(-seen, axis=1)[:, :count]
    theirs = np.take_along_axis(true, best, axis=1)
    scores = theirs[:, :, None] + NOISE * rng.standard_normal((*theirs.shape, runs))
    means = scores.mean(axis=2)
    place = means.argmax(axis=1)
    stated, right = 0.0, 0
    for row in range(min(CALIBRATED, len(true))):
        chances = probabilities_best(scores[row].tolist()) or (0.0,)
        stated += chances[place[row]]
        right += int(theirs[row].argmax() == place[row])
    made = min(CALIBRATED, len(true))
    found = outcome(true, best[rows, place], means[rows, place])
    return found, stated / made, right / made


def outcome(true: Array, chosen: npt.NDArray[np.intp], shown: Array) -> Outcome:
    got = true[np.arange(len(true)), chosen]
    regret = true.max(axis=1) - got
    return Outcome(
        regret=1e4 * float(regret.mean()),
        promised=1e4 * float((shown - got).mean()),
        error=1e4 * float(regret.std() / np.sqrt(len(true))),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--searches", type=int, default=20_000)
    searches = parser.parse_args().searches
    print(f"noise {NOISE}; {searches} searches a row; in 0.0001 of a Global TPE score")
    print("| near | true | count x runs | cost s (share) | single: regret, promised too much |"
          " finalists: regret, promised too much | gain | gain of more trials |"
          " stated, was the best |\n" + "| --- " * 9 + "|")  # fmt: skip
    for near in (5, 20):
        for true in (0.0, 0.00025, 0.0005, 0.001):
            for count, runs in ((3, 2), (5, 3)):
                rng = np.random.default_rng(7)
                # One stock of trials, so that more of them are more of the same.
                more = true * rng.standard_normal((searches, near + count * runs))
                few = more[:, :near]
                alone = single(rng, few)
                finals, stated, right = again(rng, few, count, runs)
                wider = single(rng, more)
                top = 1e4 * float((more.max(axis=1) - few.max(axis=1)).mean())
                cost = count * runs * TRIAL_S
                print(
                    f"| {near} | {true} | {count} x {runs} | {cost:.0f} ({cost / SPENT_S:.0%}) | "
                    f"{alone.regret:.2f}, {alone.promised:+.2f} | {finals.regret:.2f}, "
                    f"{finals.promised:+.2f} | {alone.regret - finals.regret:+.2f} | "
                    f"{alone.regret - wider.regret + top:+.2f} | {stated:.2f}, {right:.2f} |"
                )


if __name__ == "__main__":
    main()
