"""The page's first section: how good the search's best trial is, in numbers and sentences."""

from __future__ import annotations

from dataclasses import dataclass

from model.known_sets import title_of
from search.report import words
from search.report.collected import Collected
from search.score.explain import SOURCE_TARGETS, STOOD_AT, TARGET
from search.score.gate import threshold_text
from search.score.tpe_score import accuracy_needed
from search.study.nearest import AtTheGate, at_the_gate, nearest, none_passed
from search.study.trial_record import TrialRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One number that stands out: its name, the value to the last digit, as shown, a note."""

    name: str
    value: float
    shown: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SetRow:
    """One data set of the trial that is shown.

    Args:
        name: its own, also where it stands in for another.
        title: how reports call it.
        accuracy, tpe_score: on validation images; None where it was not trained to the end.
        target_accuracy, target_score: the source's; None where it has none.
        target_of: the set that the target is of, where this one stands in for it.
        note: what else there is to say of it.
    """

    name: str
    title: str
    accuracy: float | None
    tpe_score: float | None
    target_accuracy: float | None
    target_score: float | None
    target_of: str
    note: str

    @property
    def difference(self) -> float | None:
        """Accuracy above the source's target, in points."""
        if self.accuracy is None or self.target_accuracy is None:
            return None
        return 100 * (self.accuracy - self.target_accuracy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The verdict.  `trial` is the best or the nearest one; None where none was measured."""

    headline: str
    sentences: tuple[str, ...]
    facts: tuple[Fact, ...]
    sets: tuple[SetRow, ...]
    trial: TrialRecord | None


def summarise(data: Collected) -> Summary:
    """The best trial; where nothing passed, the nearest one and what it lacked."""
    if data.best:
        return _of_best(data, data.best[0])
    ended = [trial for trial in data.trials if trial.state in ("complete", "pruned", "fail")]
    if not ended:
        open_ones = words.count(len(data.trials), "trial")
        return Summary(
            headline="No trial has ended yet",
            sentences=(f"The study has {open_ones}; its budget is {data.budget:,}.",),
            facts=(),
            sets=(),
            trial=None,
        )
    found = nearest(data.trials)
    gate = None if found is None else at_the_gate(found)
    passed = any(t.verdict and t.verdict.gate.passed for t in data.measured)
    return Summary(
        headline="No trial is complete" if passed else "No trial passed the gate",
        sentences=(words.capital(none_passed(data.trials)),),
        facts=() if gate is None else (_gate_fact(gate),),
        sets=() if found is None else _sets(data, found),
        trial=found,
    )


def _of_best(data: Collected, best: TrialRecord) -> Summary:
    value = best.value or 0.0
    over, to_target = value - STOOD_AT, value - TARGET
    above = "above" if over >= 0 else "below"
    if to_target >= 0:
        goal = f"reaches the target of {TARGET:.2f}"
    else:
        goal = f"is {words.score(-to_target)} short of the target of {TARGET:.2f}"
    sentences = [
        f"Trial {best.number} is best: its Global TPE score "
        f"{words.score(value)} {goal} and lies {words.score(abs(over))} {above} the "
        f"{STOOD_AT:.2f} where things stood."
    ]
    facts = [
        Fact(
            name="Global TPE score",
            value=value,
            shown=words.score(value),
            note=f"stood at {STOOD_AT:.2f}, target {TARGET:.2f}",
        )
    ]
    verdict = best.verdict
    if verdict is not None and verdict.lam is not None and verdict.mean_accuracy is not None:
        needed = accuracy_needed(TARGET, verdict.lam)
        sentences.append(
            f"At its lambda of {verdict.lam:.4g} ({verdict.reading}) the target takes a mean "
            f"accuracy of {words.percent(needed)}; it reached "
            f"{words.percent(verdict.mean_accuracy)}."
        )
        facts.append(
            Fact(
                name="Mean accuracy",
                value=verdict.mean_accuracy,
                shown=words.percent(verdict.mean_accuracy),
                note=f"target takes {words.percent(needed)}",
            )
        )
    if data.finalists is not None:
        sentences.append(words.capital(data.finalists.sentence()))
    gate = at_the_gate(best)
    if gate is not None:
        facts.append(_gate_fact(gate))
    if verdict is not None and verdict.scores is not None:
        facts.append(
            Fact(
                name="Consistency",
                value=verdict.scores.consistency,
                shown=words.score(verdict.scores.consistency),
                note="1 - spread of the local TPE scores",
            )
        )
    return Summary(
        headline=f"Best Global TPE score {words.score(value)}",
        sentences=tuple(sentences),
        facts=tuple(facts),
        sets=_sets(data, best),
        trial=best,
    )


def _gate_fact(gate: AtTheGate) -> Fact:
    return Fact(
        name="Gate margin",
        value=gate.margin,
        shown=f"{gate.margin:+.4f}",
        note=f"local TPE score {words.score(gate.score)} on {title_of(gate.dataset)}, gate "
        f"{threshold_text(gate.threshold)}; accuracy {words.percent(gate.accuracy)}, needs "
        f"{words.percent(gate.accuracy_needed)}",
    )


def _sets(data: Collected, trial: TrialRecord) -> tuple[SetRow, ...]:
    rows = []
    for entry in data.search.datasets:
        verdict = trial.verdict
        result = None if verdict is None else verdict.results.get(entry.name)
        original = entry.stand_in_for or entry.name
        target = SOURCE_TARGETS.get(original)
        notes = []
        if entry.stand_in_for:
            notes.append(f"stands in for {title_of(entry.stand_in_for)}, which it is not")
        if entry.synthetic:
            notes.append("rendered images, no real data")
        rows.append(
            SetRow(
                name=entry.name,
                title=title_of(entry.name),
                accuracy=None if result is None else result.accuracy,
                tpe_score=None if verdict is None else verdict.tpe_score(entry.name),
                target_accuracy=target[0] if target else None,
                target_score=target[1] if target else None,
                target_of=title_of(original) if target and entry.stand_in_for else "",
                note="; ".join(notes),
            )
        )
    return tuple(rows)
