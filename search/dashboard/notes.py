"""What optuna-dashboard shows beside a trial and a study: Markdown notes.

The dashboard knows nothing of gates, attempts or Optuna 5's constraints, so each
trial carries one sentence that says what happened and why, and the study carries
its search file and its counts.  Building the text is pure; two writers at the end
put it where the dashboard looks.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna_dashboard import get_note, save_note

from storage.optuna_internals import bare_trial

_FACTS = (
    ("global_tpe_score", "Global TPE score", ".4f"),
    ("consistency", "consistency", ".4f"),
    ("robustness", "robustness", ".4f"),
    ("generalization", "generalization", ".4f"),
    ("parameters", "trainable parameters", ","),
    ("tokens", "tokens a block", ",d"),
    ("epochs", "epochs trained", ",d"),
    ("seconds_stage1", "seconds in stage 1", ",.1f"),
    ("seconds_stage2", "seconds in stage 2", ",.1f"),
    ("device", "device", ""),
    ("data_note", "data", ""),
)
"""User attribute, what it is called in the note, and its number format."""

_CHECKSUM = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")
"""A whole SHA-256 makes the page scroll sideways; the trial's attributes keep it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """The best trial so far: its number and its Global TPE score."""

    number: int
    value: float


def trial_note(
    *, number: int, state: str, user_attrs: Mapping[str, Any], attempts: int = 1
) -> str:
    """One sentence first, then the numbers behind it.

    Args:
        number: Optuna's trial number.
        state: `complete`, `pruned`, `fail`, `waiting` or `running`.
        user_attrs: the trial's flat attributes (`outcome` is the sentence).
        attempts: how many workers took it up, the last one included.

    Returns:
        Markdown; every part that has no attributes behind it is left out.
    """
    outcome = str(user_attrs.get("outcome") or f"is {state}").rstrip(".")
    tries = "" if attempts == 1 else f" It took {attempts} attempts."
    blocks = [f"**Trial {number}: {_inline(outcome)}.**{tries}"]
    blocks.append(_gate_line(user_attrs))
    blocks.append(_sets_table(user_attrs))
    # One list: two in a row would be drawn as one, with gaps.
    blocks.append(_pairs((title, user_attrs.get(key), spec) for key, title, spec in _FACTS))
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
    blocks = [f"**{sentence}, {so_far}.**"]
    if cut_down:
        blocks.append("This is the cut-down form of the search: its scores are not the source's.")
    header = " | ".join(_inline(name) for name in counts)
    blocks.append(
        f"| {header} |\n|{' ---: |' * len(counts)}\n"
        f"| {' | '.join(str(value) for value in counts.values())} |"
        if counts
        else ""
    )
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


def _gate_line(attrs: Mapping[str, Any]) -> str:
    score, margin = attrs.get("gate_score"), attrs.get("gate_margin")
    if score is None or margin is None:
        return ""
    verdict = "passed" if attrs.get("gate_passed") else "failed"
    return (
        f"Gate **{verdict}**: local TPE score {score:.4f}, threshold {score - margin:.4f}, "
        f"margin {margin:+.4f}."
    )


def _sets_table(attrs: Mapping[str, Any]) -> str:
    names = [key.removeprefix("accuracy_") for key in attrs if key.startswith("accuracy_")]
    if not names:
        return ""
    rows = ["| data set | accuracy | local TPE score | weights |", "| --- | ---: | ---: | --- |"]
    for name in names:
        accuracy, score = attrs[f"accuracy_{name}"], attrs.get(f"tpe_{name}")
        rows.append(
            f"| {_inline(name)} | {_format(accuracy, '.4f')} | {_format(score, '.4f')} | "
            f"{_format(attrs.get(f'weights_{name}'), '')} |"
        )
    return "\n".join(rows)


def _pairs(items: Any) -> str:
    return "\n".join(
        f"- {title}: {_format(value, spec)}" for title, value, spec in items if value is not None
    )


def _format(value: Any, spec: str) -> str:
    if value is None:
        return ""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        # A whole-number format on a float that came back from JSON would raise.
        return format(int(value) if spec.endswith("d") else value, spec)
    return _inline(_CHECKSUM.sub(r"\1...", str(value)))


def _inline(text: str) -> str:
    """Text from outside (titles, names, error texts) on one line, with nothing in it
    that Markdown or the dashboard's HTML would act on."""
    one_line = " ".join(text.split())
    return re.sub(r"([\\`*\[\]<>|])", r"\\\1", one_line)


def _fenced(text: str, language: str) -> str:
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"
