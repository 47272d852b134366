"""Which trials are exported, and which files an export may replace."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from nkat_errors import BadInput
from search.export.best_file import BestFile
from search.export.best_reading import load_best
from search.file.search_file import SearchFile
from search.study.finalists import Finalists, winner_first
from search.study.nearest import nearest, none_passed
from search.study.saved import saved_hours
from search.study.trial_record import TrialRecord, best_first

NEAREST_NAME = "nearest.yaml"
"""Written beside where best.yaml would be."""


def pick(
    trials: Iterable[TrialRecord], search: SearchFile, *, number: int | None, top: int
) -> list[TrialRecord]:
    """The trial of a number, or the best `top` ones (fewer when fewer are complete), the
    finalists as their new runs rank them.

    Raises:
        BadInput: no such trial, one that is not complete, or none complete at all.
    """
    every = list(trials)
    if top < 1:
        raise BadInput(f"--top {top}: must be >= 1")
    if number is not None:
        for trial in every:
            if trial.number == number:
                if trial.complete:
                    return [trial]
                outcome = trial.outcome or "it has no score over all data sets"
                raise BadInput(f"trial {number} is {trial.state}, not complete: {outcome}")
        raise BadInput(f"trial {number} does not exist; there are {len(every)} trials")
    ranked = winner_first(every, search)
    if not ranked:
        remedy = ""
        if nearest(every) is not None:
            remedy = f"; `nkat-search export --nearest` writes that one as {NEAREST_NAME}"
        raise BadInput(f"there is no best configuration yet: {none_passed(every)}{remedy}")
    return ranked[:top]


def pick_nearest(trials: Iterable[TrialRecord]) -> TrialRecord:
    """The trial that came nearest in a search in which none is complete.

    Raises:
        BadInput: one is complete, or none was trained on the gate's data set.
    """
    every = list(trials)
    ranked = best_first(every)
    if ranked:
        raise BadInput(
            f"--nearest: trial {ranked[0].number} is complete; leave --nearest out to export it"
        )
    found = nearest(every)
    if found is None:
        raise BadInput(f"--nearest: {none_passed(every)}")
    return found


def export_files(
    chosen: Iterable[TrialRecord],
    trials: Sequence[TrialRecord],
    search: SearchFile,
    *,
    study: str,
) -> list[BestFile]:
    """Trials as they are exported, with what the whole search says beside them.

    Args:
        chosen: of `trials`.
        trials: all of the study.
        search: its file.
        study: its name.
    """
    saved, again = saved_hours(trials), Finalists.of(trials, search.finalists)
    return [
        BestFile.of_trial(one, search, study=study, saved=saved, finalists=again) for one in chosen
    ]


def check_replaceable(path: Path, new: BestFile) -> None:
    """An export may replace an earlier one of its own kind and search, and nothing else.

    Raises:
        BadInput: another file is there.
    """
    if not path.exists():
        return
    remedy = "give another --out, or --force to replace it"
    try:
        old = load_best(path)
    except BadInput as error:
        raise BadInput(f"{path} is there and is no export ({error}); {remedy}") from None
    here, there = new.provenance, old.provenance
    if (here.study, here.search_hash) != (there.study, there.search_hash):
        raise BadInput(
            f"{path} holds trial {there.trial} of another search (study {there.study}, hash "
            f"{there.search_hash}); {remedy}"
        )
    if old.recalculation.result is not None:
        raise BadInput(
            f"{path} records a recalculation ({old.recalculation.result.date_utc}), which would "
            f"be lost; {remedy}"
        )
    if old.kind != new.kind:
        raise BadInput(f"{path} is of kind {old.kind}, not {new.kind}; {remedy}")
