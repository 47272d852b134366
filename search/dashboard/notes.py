"""What optuna-dashboard shows beside a trial and a study: Markdown notes.

The dashboard knows nothing of gates, attempts or Optuna 5's constraints, so each
trial carries one sentence that says what happened and why, and the study carries
its search file and its counts.  Building the text is pure; two writers at the end
put it where the dashboard looks.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import optuna
from optuna_dashboard import get_note, save_note

from search.study.trial_attributes import TrialAttributes
from search.study.trial_record import TrialRecord
from search.study.verdict import Verdict
from storage.optuna_internals import bare_trial

SHORT_CHECKSUM = 12
"""Digits of a SHA-256 in a note; a whole one makes the page scroll sideways, and the
trial's attributes keep it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """The best trial so far: its number and its Global TPE score."""

    number: int
    value: float


def trial_note(trial: TrialRecord) -> str:
    """One sentence first, then the numbers behind it.

    Returns:
        Markdown; every part that has no attributes behind it is left out.
    """
    attributes = trial.attributes
    outcome = (trial.outcome or f"is {trial.state}").rstrip(".")
    attempts = 1 if attributes is None else attributes.attempt
    tries = "" if attempts == 1 else f" It took {attempts} attempts."
    blocks = [f"**Trial {trial.number}: {_inline(outcome)}.**{tries}"]
    if attributes is not None:
        blocks.append(_gate_line(attributes.verdict))
        blocks.append(_sets_table(attributes.verdict))
        # One list: two in a row would be drawn as one, with gaps.
        blocks.append("\n".join(f"- {line}" for line in _facts(attributes)))
    return "\n\n".join(block for block in blocks if block)


def study_note(
    *,
    title: str,
    budget: int,
    counts: Mapping[str, int],
    state: str,
    search_text: str,
    cut_down: bool = False,
    best: Best | None = None,
) -> str:
    """The search in one sentence, its counts, and the search file as it was given.

    Args:
        title: the search file's title.
        budget: trials that are to count.
        counts: how many trials there are, by name (`done` = complete + pruned).
        state: `run`, `pause`, `stop` or `done`.
        search_text: the search file, YAML.
        cut_down: whether the file is a cut-down form of the real search.
        best: the best trial so far.
    """
    done = counts.get("done", 0)
    so_far = (
        "no trial has passed the gate and finished yet"
        if best is None
        else f"the best Global TPE score is {best.value:.4f} (trial {best.number})"
    )
    doing = {"run": "runs", "pause": "is paused", "stop": "was stopped", "done": "is done"}
    sentence = f"{_inline(title)} {doing.get(state, state)}: {done} of {budget} trials count"
    blocks = [f"**{sentence}, {so_far}.**", "[Workers](/workers), [report](/report)"]
    if state in ("pause", "stop"):
        blocks.append("`nkat-search resume` lets it go on.")
    if cut_down:
        blocks.append("This is the cut-down form of the search: its scores are not the source's.")
    # A table of six columns is wider than a phone.
    blocks.append(", ".join(f"{value} {_inline(name)}" for name, value in counts.items()))
    blocks.append(_fenced(search_text, "yaml"))
    return "\n\n".join(block for block in blocks if block)


def name_the_metric(study: optuna.Study) -> None:
    """Lets plots say "Global TPE score" instead of "Objective 0"."""
    names = ["Global TPE score"]
    if study.metric_names != names:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(names)


def write_study_note(study: optuna.Study, text: str) -> bool:
    """Writes when the text differs from what stands there; says whether it did.

    One process should own the study's note (the orchestrator): two writers at once
    would mix their parts.
    """
    return _write(study, text)


def write_trial_note(study: optuna.Study, trial_id: int, text: str) -> bool:
    """The same for one trial, by Optuna's `trial_id` (not its number).

    Call it after the trial was told and outside its fence: a note is worth no lock.
    """
    return _write(bare_trial(study, trial_id), text)


def _write(where: optuna.Study | optuna.Trial, text: str) -> bool:
    if get_note(where) == text:
        return False
    save_note(where, text)
    return True


def _gate_line(verdict: Verdict) -> str:
    if verdict.gate_accuracy is None:
        return ""
    gate = verdict.gate
    return (
        f"Gate **{'passed' if gate.passed else 'failed'}**: local TPE score {gate.score:.4f}, "
        f"threshold {gate.threshold:.4f}, margin {gate.margin:+.4f}."
    )


def _sets_table(verdict: Verdict) -> str:
    if not verdict.results:
        return ""
    rows = ["| data set | accuracy | local TPE score | weights |", "| --- | ---: | ---: | --- |"]
    rows += [
        f"| {_inline(name)} | {result.accuracy:.4f} | {verdict.tpe_score(name) or 0.0:.4f} | "
        f"{_inline(result.weights)} |"
        for name, result in verdict.results.items()
    ]
    return "\n".join(rows)


def _facts(attributes: TrialAttributes) -> Iterator[str]:
    """`what: number`, one a line."""
    verdict, facts = attributes.verdict, attributes.facts
    if verdict.complete and verdict.scores is not None:
        yield f"Global TPE score: {verdict.scores.global_tpe_score:.4f}"
        yield f"mean accuracy: {verdict.mean_accuracy:.4f}"
        yield f"consistency: {verdict.scores.consistency:.4f}"
        yield f"robustness: {verdict.scores.robustness:.4f}"
        yield f"generalization: {verdict.scores.generalization:.4f}"
    if verdict.lam is not None:
        yield f"lambda: {verdict.lam:.4g} ({verdict.reading})"
    if facts is None:
        return
    yield f"trainable parameters: {facts.parameters:,}"
    yield f"tokens a block: {facts.tokens:,}"
    yield f"epochs trained: {verdict.effort.epochs:,}"
    yield f"seconds in stage 1: {verdict.effort.seconds_stage1:,.1f}"
    yield f"seconds in stage 2: {verdict.effort.seconds_stage2:,.1f}"
    yield f"device: {_inline(facts.device)}"
    for data in facts.data:
        stand_in = f", stands in for {_inline(data.stand_in_for)}" if data.stand_in_for else ""
        yield (
            f"data: {_inline(data.name)}{stand_in}, {_inline(data.source)}, "
            f"{data.train_size:,} images, sha256 {_inline(data.checksum[:SHORT_CHECKSUM])}..."
        )


def _inline(text: str) -> str:
    """Text from outside (titles, names, error texts) on one line, with nothing in it
    that Markdown or the dashboard's HTML would act on."""
    one_line = " ".join(text.split())
    return re.sub(r"([\\`*\[\]<>|])", r"\\\1", one_line)


def _fenced(text: str, language: str) -> str:
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"
