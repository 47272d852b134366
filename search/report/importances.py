"""Which parameters decided: Optuna's PED-ANOVA, over the trials that can be compared."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import optuna
from markupsafe import Markup
from optuna.trial import FrozenTrial, TrialState

from search.report import words
from search.report.collected import Collected, Kind
from search.report.comparable import FEWEST, Comparable
from search.report.figure import Figure, Panel
from search.report.plot import WIDTH, drawing, n, text
from search.report.scales import short

TOP_SHARE = 0.1
"""PED-ANOVA asks what it takes to be in this best share (its default)."""

ROW = 30
LEFT, RIGHT = 160, 60


def importances(data: Collected) -> Figure:
    """By the local TPE score on the gate's set, which most trials have, at the gate or, where
    most are stopped before it, after the last epoch that enough reached.

    The Global TPE score is known of the complete ones only; those are few, and chosen by
    the gate, so that importances over them alone would say what matters once it is passed.
    """
    title = "Parameter importances"
    frozen = {trial.number: trial for trial in data.frozen}
    compared = Comparable.of(data)
    scored = [
        (frozen[trial.number], compared.scores[trial.number])
        for trial in compared.trials
        if trial.params
    ]
    who = _who(data, compared)
    if len(scored) < FEWEST:
        return Figure(
            key="importances",
            title=title,
            sentence=f"Left out: {words.count(len(scored), 'trial')} measured {compared.where} "
            f"({who}) are too few; PED-ANOVA compares the best tenth with all, "
            f"which takes {FEWEST} or more.",
        )
    top = math.ceil(TOP_SHARE * len(scored))
    ordered = sorted((value for _, value in scored), reverse=True)
    if ordered[top - 1] == ordered[-1]:
        return Figure(
            key="importances",
            title=title,
            sentence=f"Left out: of {words.count(len(scored), 'trial')} ({who}) no best tenth can "
            f"be told, for the score of all but {ordered.index(ordered[-1]):,} is "
            f"{words.score(ordered[-1])}.",
        )
    found = evaluate(scored)
    ranked = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    sentence = (
        f"Over {words.count(len(scored), 'trial')} ({who}; PED-ANOVA, Optuna's default), what "
        f"tells the best {top:,} {compared.where} from all"
    )
    if ranked and ranked[0][1] > 0:
        shares = [f"{name} ({100 * share:.0f} %)" for name, share in ranked[:2] if share > 0]
        sentence += f" is first of all {words.listed(shares)}"
    else:
        sentence += " is none of the parameters"
    if top < 5:
        sentence += "; fewer than 5 in the best tenth make this a hint, no more"
    return Figure(
        key="importances",
        title=title,
        sentence=words.capital(sentence),
        panels=(Panel(svg=_bars(ranked), caption="Shares of the whole, in percent."),),
    )


def evaluate(scored: list[tuple[FrozenTrial, float]]) -> Mapping[str, float]:
    """Importances, which sum to 1 (or are all 0), of these trials for these values.

    The evaluator takes complete trials only, and a stopped one has no value of its own:
    so they are put, each with its score, into a study in memory.
    """
    with _without_its_log():
        study = optuna.create_study(direction="maximize")
    study.add_trials(
        [
            optuna.trial.create_trial(
                state=TrialState.COMPLETE,
                value=value,
                params=trial.params,
                distributions=trial.distributions,
            )
            for trial, value in scored
        ]
    )
    return optuna.importance.get_param_importances(study)


@contextmanager
def _without_its_log() -> Iterator[None]:
    """Optuna announces every study that is made, this one too."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def _who(data: Collected, compared: Comparable) -> str:
    """Which states the trials have, with how many there are of each."""
    names = {
        Kind.COMPLETE: "complete",
        Kind.GATE: "pruned at the gate",
        Kind.BOUND: "pruned by the bound",
        Kind.RUNG: "pruned within stage 1",
    }
    return words.listed(
        [
            f"{number:,} {name}"
            for kind, name in names.items()
            if (number := sum(trial.number in compared.scores for trial in data.by_kind[kind]))
        ]
        or ["none complete, none pruned"]
    )


def _bars(ranked: list[tuple[str, float]]) -> Markup:
    scale = WIDTH - LEFT - RIGHT
    parts = []
    for index, (name, share) in enumerate(ranked):
        top = index * ROW
        parts.append(text(LEFT - 8, top + 19, short(name, 17), "name", anchor="end"))
        parts.append(
            Markup('<rect class="bar" x="{}" y="{}" width="{}" height="16"/>').format(
                LEFT, top + 7, n(max(share * scale, 1.0))
            )
        )
        parts.append(
            text(LEFT + share * scale + 6, top + 19, f"{100 * share:.1f}", "tick", anchor="start")
        )
    alt = "Importances: " + ", ".join(f"{name} {100 * share:.1f} %" for name, share in ranked)
    return drawing(Markup("").join(parts), alt=alt, width=WIDTH, height=ROW * len(ranked) + 4)
