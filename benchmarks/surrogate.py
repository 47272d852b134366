"""What a training of configs/search.yaml's space would bring: a surrogate fitted to real trials.

    python benchmarks/surrogate.py                   # what it was fitted to, and its error
    python benchmarks/surrogate.py --table FILE.csv  # for `nkat-search rehearse --table FILE.csv`

Fitted to data/searches.csv (searches on one H100):

- CIFAR-10 after the last epoch: a Gaussian process (linear + Matern) over stem, tokens, width,
  depth, temperature and top-p; the epochs before it: a ridge regression of what is still to be
  gained.
- The other sets: a line in the predicted CIFAR-10 accuracy.  They were trained for the trials
  that passed the gate only, and models of the shape itself were worse on shapes left out.
- Seconds of an epoch: a robust regression of their logarithm on the logarithms of tokens,
  width and depth.  What a first epoch costs to start (kernels, data) is not in it.
- Noise: what repeated shapes differ by, after the model's own prediction; of the curve whole
  residual curves are drawn, so that a training that is good at epoch 6 stays so.

Needs numpy and scikit-learn only, besides the score: benchmarks/outside/ uses it as well.
"""

from __future__ import annotations

import argparse
import csv
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product, takewhile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import (
    ConstantKernel,
    DotProduct,
    Matern,
    WhiteKernel,
)
from sklearn.linear_model import HuberRegressor, LinearRegression, Ridge

from search.score.tpe_score import lambda_theory, weight

SEARCHES = Path(__file__).parent / "data" / "searches.csv"
TABLE = Path(__file__).parent / "data" / "table.csv"
"""Of plans/table.yaml, where it was trained already (plan_table.py says how)."""
GATE_SET = "cifar10"
OTHERS = ("fashion_mnist", "sd19_letters", "mnist")
EPOCHS = (12, 10, 16, 5)
"""Of configs/search.yaml, by set."""
IMAGES = (600_000, 600_000, 190_704, 300_000)
"""That those epochs train on and evaluate, by set: they divide a trial's seconds."""
MOST_TOKENS = 64
"""`limits.tokens` there."""
WIDTHS, DEPTHS = (384, 448, 512), (5, 6, 7, 8, 9)
STEMS, PATCHES = ("off", "tiny", "small"), (1, 2, 4)
TEMPERATURE, TOP_P = (0.6, 1.0), (0.80, 0.95)
SEARCHED = ("conv_stem", "patch_size", "embed_dim", "depth", "temperature", "top_p")

Array = NDArray[np.float64]
Params = Mapping[str, Any]
Shape = tuple[str, int, int, int]


def tokens(params: Params) -> int:
    side = 32 if params["conv_stem"] == "off" else 8
    return int((side // params["patch_size"]) ** 2)


def feasible(params: Params) -> bool:
    return tokens(params) <= MOST_TOKENS


def shape(params: Params) -> Shape:
    """What decides the size of a network; temperature and top-p do not."""
    return (params["conv_stem"], params["patch_size"], params["embed_dim"], params["depth"])


def score_of(params: Params, accuracies: Sequence[float]) -> float:
    """Local or Global TPE score of the sets given, lambda read as `theory`."""
    lam = lambda_theory(conv_stem=params["conv_stem"], embed_dim=params["embed_dim"])
    return float(np.mean(accuracies)) / weight(lam)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A trial as it went; `others` are the sets of stage 2 that it trained."""

    params: Params
    curve: tuple[float, ...]
    others: Mapping[str, float]
    seconds1: float
    seconds2: float


def read_rows(searches: Path = SEARCHES, plan: Path = TABLE) -> list[Row]:
    """All that is there of the feasible space and ended stage 1."""
    return [*_of_searches(searches), *(_of_plan(plan) if plan.exists() else ())]


def _of_searches(path: Path) -> list[Row]:
    """The same training counts once (the searches have one seed)."""
    found: dict[tuple[float, ...], Row] = {}
    for line in _lines(path):
        row = Row(
            params=json.loads(line["params"]),
            curve=tuple(json.loads(line["curve"])),
            others={k: v for k, v in json.loads(line["accuracies"]).items() if k in OTHERS},
            seconds1=float(line["seconds_stage1"]),
            seconds2=float(line["seconds_stage2"]),
        )
        if len(row.curve) == EPOCHS[0] and feasible(row.params):
            known = found.setdefault(row.curve, row)
            if len(row.others) > len(known.others):
                found[row.curve] = row
    return list(found.values())


def _of_plan(path: Path) -> Iterator[Row]:
    """What recipe.py wrote: a line for each set of a point and seed, in any order.  A set counts
    where those before it are there, as in a search."""
    points: dict[tuple[str, str], dict[str, dict[str, str]]] = {}
    for line in _lines(path):
        points.setdefault((line["model"], line["seed"]), {})[line["set"]] = line
    for (model, _), sets in points.items():
        there = list(takewhile(sets.__contains__, OTHERS))
        if GATE_SET in sets:
            plain = json.loads(model)
            yield Row(
                params={name: plain[name] for name in SEARCHED},
                curve=tuple(json.loads(sets[GATE_SET]["accuracies"])),
                others={name: float(sets[name]["accuracy"]) for name in there},
                seconds1=float(sets[GATE_SET]["train_s"]),
                seconds2=sum(float(sets[name]["train_s"]) for name in there),
            )


def _lines(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A training of all sets, as it would go if nothing stopped it.

    Args:
        curve: accuracy on CIFAR-10 after each epoch.
        others: accuracy on the other sets.
        epoch_s: seconds of an epoch, by set, CIFAR-10 first.
    """

    curve: tuple[float, ...]
    others: tuple[float, ...]
    epoch_s: tuple[float, ...]

    @property
    def accuracies(self) -> tuple[float, ...]:
        return (self.curve[-1], *self.others)

    @property
    def set_s(self) -> tuple[float, ...]:
        return tuple(s * n for s, n in zip(self.epoch_s, EPOCHS, strict=True))


def _features(params: Params) -> list[float]:
    """Each of about the size 1."""
    return [
        params["conv_stem"] == "small",
        params["conv_stem"] == "off",
        np.log(tokens(params)) / np.log(4) - 2,
        (params["embed_dim"] - 384) / 64,
        (params["depth"] - 7) / 2,
        (params["temperature"] - 0.8) / 0.2,
        (params["top_p"] - 0.875) / 0.075,
    ]


def _cost_features(params: Params) -> list[float]:
    amount = np.log(tokens(params) / 16)
    width, depth = np.log(params["embed_dim"] / 384), np.log(params["depth"] / 7)
    small, off = params["conv_stem"] == "small", params["conv_stem"] == "off"
    return [amount, amount**2, width, depth, small, off]


class Surrogate:
    """See the module's docstring.

    Args:
        rows: to fit to.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = list(rows)
        x = np.array([_features(row.params) for row in rows], float)
        curves = np.array([row.curve for row in rows])
        self._last = GaussianProcessRegressor(
            ConstantKernel(1.0) * DotProduct(1.0)
            + ConstantKernel(0.3) * Matern(2.0, (0.5, 30), nu=2.5)
            + WhiteKernel(0.1, (1e-3, 1.0)),
            normalize_y=True,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a length at its bound is fine
            self._last.fit(x, curves[:, -1])
        self._gains = Ridge(alpha=1.0).fit(x, curves[:, -1:] - curves[:, :-1])
        predicted = self._curves([row.params for row in rows])
        self._curve_noise = _within_shapes(rows, curves - predicted)
        self._lines, self._noise = {}, {}
        for name in OTHERS:
            at = [i for i, row in enumerate(rows) if name in row.others]
            measured = np.array([rows[i].others[name] for i in at])
            line = LinearRegression().fit(predicted[at, -1:], measured)
            self._lines[name] = line
            left = measured - line.predict(predicted[at, -1:])
            self._noise[name] = float(np.std(_within_shapes([rows[i] for i in at], left[:, None])))
        cost = np.array([_cost_features(row.params) for row in rows], float)
        self._cost = HuberRegressor(max_iter=2000).fit(cost, np.log([r.seconds1 for r in rows]))
        self._grey = {big: _grey_cost(rows, big) for big in (False, True)}
        self.mean = lru_cache(maxsize=None)(self._mean)

    @property
    def noise(self) -> dict[str, float]:
        """Standard deviation of a final accuracy, by set."""
        return {GATE_SET: float(np.std(self._curve_noise[:, -1])), **self._noise}

    def _curves(self, points: Sequence[Params]) -> Array:
        x = np.array([_features(point) for point in points], float)
        last = self._last.predict(x)[:, None]
        return np.hstack([last - self._gains.predict(x), last])

    def outcome(self, params: Params, chance: np.random.Generator | None = None) -> Outcome:
        """Without noise; with it where `chance` draws it.

        Args:
            params: of a feasible point.
        """
        known: Outcome = self.mean(tuple(sorted(params.items())))
        if chance is None:
            return known
        moved = np.array(known.curve) + chance.choice(self._curve_noise)
        others = [
            accuracy + chance.normal(0, self._noise[name])
            for name, accuracy in zip(OTHERS, known.others, strict=True)
        ]
        return Outcome(
            curve=tuple(np.clip(moved, 0.05, 0.999).tolist()),
            others=tuple(np.clip(others, 0.05, 0.999).tolist()),
            epoch_s=known.epoch_s,
        )

    def true_score(self, params: Params) -> float:
        """Global TPE score without noise."""
        return score_of(params, self.outcome(params).accuracies)

    def _mean(self, items: tuple[tuple[str, Any], ...]) -> Outcome:
        params = dict(items)
        curve = self._curves([params])[0]
        others = [float(self._lines[name].predict([curve[-1:]])[0]) for name in OTHERS]
        whole = float(np.exp(self._cost.predict([_cost_features(params)])[0]))
        grey = self._grey[tokens(params) == MOST_TOKENS]
        factors = (1.0, grey, grey, grey)
        epoch_s = tuple(
            whole * factor * images / IMAGES[0] / epochs
            for factor, images, epochs in zip(factors, IMAGES, EPOCHS, strict=True)
        )
        return Outcome(curve=tuple(curve.tolist()), others=tuple(others), epoch_s=epoch_s)


def _within_shapes(rows: Sequence[Row], residuals: Array) -> Array:
    """Residuals of shapes that were trained more than once, around each shape's own mean, and
    made larger by what taking that mean makes them too small."""
    groups: dict[Shape, list[int]] = {}
    for i, row in enumerate(rows):
        groups.setdefault(shape(row.params), []).append(i)
    found = []
    for members in groups.values():
        if len(members) > 1:
            around = residuals[members] - residuals[members].mean(axis=0)
            found.append(around * np.sqrt(len(members) / (len(members) - 1)))
    return np.vstack(found) if found else np.zeros((1, residuals.shape[1]))


def _grey_cost(rows: Sequence[Row], many_tokens: bool) -> float:
    """Seconds an image of the grey sets / of CIFAR-10: they are 28x28, so 49 tokens for 64."""
    ratios = [
        row.seconds2 / sum(IMAGES[1 : 1 + len(row.others)]) / (row.seconds1 / IMAGES[0])
        for row in rows
        if row.others and (tokens(row.params) == MOST_TOKENS) == many_tokens
    ]
    return float(np.median(ratios))


def space(steps: int = 9) -> Iterator[dict[str, Any]]:
    """Every feasible shape with a grid of `steps` temperatures and as many top-p."""
    for stem, patch, width, depth in product(STEMS, PATCHES, WIDTHS, DEPTHS):
        at = {"conv_stem": stem, "patch_size": patch, "embed_dim": width, "depth": depth}
        if feasible(at):
            for warm in np.linspace(*TEMPERATURE, steps):
                for top_p in np.linspace(*TOP_P, steps):
                    yield {**at, "temperature": float(warm), "top_p": float(top_p)}


def held_out(rows: Sequence[Row], group: Any) -> dict[str, tuple[Array, Array]]:
    """(measured, predicted) by quantity, each group predicted by a surrogate of the others."""
    pairs: dict[str, list[tuple[float, float]]] = {}
    for left_out in sorted({group(row.params) for row in rows}):
        fitted = Surrogate([row for row in rows if group(row.params) != left_out])
        for row in rows:
            if group(row.params) != left_out:
                continue
            expected = fitted.outcome(row.params)
            for epoch in (1, 4, 8, 12):
                name = f"{GATE_SET}, epoch {epoch}"
                pairs.setdefault(name, []).append(
                    (row.curve[epoch - 1], expected.curve[epoch - 1])
                )
            for name, accuracy in zip(OTHERS, expected.others, strict=True):
                if name in row.others:
                    pairs.setdefault(name, []).append((row.others[name], accuracy))
            if len(row.others) == len(OTHERS):
                pairs.setdefault("Global TPE score", []).append(
                    (
                        score_of(row.params, (row.curve[-1], *row.others.values())),
                        score_of(row.params, expected.accuracies),
                    )
                )
            pairs.setdefault("seconds of stage 1 (relative)", []).append(
                (row.seconds1, expected.set_s[0])
            )
    return {name: tuple(np.array(found).T) for name, found in pairs.items()}  # type: ignore[misc]


def _errors(found: Mapping[str, tuple[Array, Array]]) -> Iterator[tuple[str, str]]:
    for name, (measured, predicted) in found.items():
        wrong = np.abs(predicted - measured)
        if "relative" in name:
            wrong = wrong / measured
        rank = spearmanr(measured, predicted).statistic
        yield name, f"{len(wrong)} | {rank:.2f} | {wrong.mean():.4f} | {wrong.max():.4f}"


def write_table(surrogate: Surrogate, path: Path) -> None:
    """Final accuracies without noise, in the columns that a rehearsal reads."""
    named = {"sd19_letters": "emnist_letters"}  # what configs/search.yaml calls the letters
    columns = [f"accuracy_{named.get(name, name)}" for name in (GATE_SET, *OTHERS)]
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow((*SEARCHED, *columns))
        for point in space(steps=5):
            accuracies = (round(a, 5) for a in surrogate.outcome(point).accuracies)
            writer.writerow((*(point[name] for name in SEARCHED), *accuracies))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=Path, help="write one for a rehearsal, and end")
    given = parser.parse_args()
    rows = read_rows()
    whole = Surrogate(rows)
    if given.table:
        write_table(whole, given.table)
        return
    shapes = {shape(row.params) for row in rows}
    print(f"{len(rows)} trials of {len(shapes)} shapes; the space has 105")
    print("| stem, patch | tokens | trials | widths | depths | trained all sets |")
    print("| --- " * 6 + "|")
    for stem, patch in product(STEMS, PATCHES):
        pair = [r for r in rows if shape(r.params)[:2] == (stem, patch)]
        count = tokens({"conv_stem": stem, "patch_size": patch})
        if count > MOST_TOKENS:
            continue
        widths = sorted({r.params["embed_dim"] for r in pair})
        depths = sorted({r.params["depth"] for r in pair})
        full = sum(len(r.others) == len(OTHERS) for r in pair)
        print(f"| {stem}, {patch} | {count} | {len(pair)} | {widths} | {depths} | {full} |")
    print("\nheld out | by shape: n | rank | mean error | largest | by stem and patch: likewise")
    by_pair = dict(_errors(held_out(rows, lambda params: shape(params)[:2])))
    for name, figures in _errors(held_out(rows, shape)):
        print(f"| {name} | {figures} | {by_pair[name]} |")
    print("\nnoise of one training:", {k: round(v, 4) for k, v in whole.noise.items()})
    scores = sorted(((whole.true_score(p), i, p) for i, p in enumerate(space())), reverse=True)
    gate = [score_of(p, [whole.outcome(p).curve[-1]]) >= 0.6 for _, _, p in scores]
    print(f"best of the space: {scores[0][0]:.4f} {scores[0][2]}")
    print(f"{np.mean(gate):.0%} of it passes the gate; 90, 50, 10 % quantile of the score: "
          f"{np.quantile([s for s, *_ in scores], [0.9, 0.5, 0.1]).round(4)}")  # fmt: skip
    best: dict[tuple[str, int, int], float] = {}
    for score, _, point in scores:
        best.setdefault(shape(point)[:3], score)
    print("best by stem, patch, width:", {k: round(v, 4) for k, v in list(best.items())[:12]})


if __name__ == "__main__":
    main()
