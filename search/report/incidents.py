"""Failures, losses and retries in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from search.report import words
from search.report.collected import Collected, Kind
from storage.states import Attempt

MOST_REASONS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Incidents:
    """`reasons`: (what happened, why, how often), the most frequent first."""

    sentences: tuple[str, ...]
    reasons: tuple[tuple[str, str, int], ...]


def incidents(data: Collected) -> Incidents:
    """What went wrong and what became of it."""
    lost, failed, back = (
        data.attempts_ended(outcome)
        for outcome in (Attempt.LOST, Attempt.FAILED, Attempt.HANDED_BACK)
    )
    untrained, given_up = data.by_kind[Kind.UNTRAINED], data.by_kind[Kind.GIVEN_UP]
    retried = {row.number for row in data.attempts if row.attempt > 1}
    sentences = []
    if not (lost or failed or back):
        sentences.append(
            f"All {words.count(len(data.attempts), 'attempt')} went undisturbed: none was lost, "
            "failed or was handed back."
            if data.attempts
            else "No attempt at a trial was made yet."
        )
    else:
        told = [
            f"{len(rows):,} {what}"
            for rows, what in (
                (lost, "lost with the worker"),
                (failed, "failed"),
                (back, "handed back by a worker that was asked to stop"),
            )
            if rows
        ]
        sentences.append(
            f"Of {words.count(len(data.attempts), 'attempt')}: {words.listed(told)}; "
            f"{words.count(len(retried), 'trial')} went on in another attempt."
        )
    if given_up:
        sentences.append(
            f"{words.count(len(given_up), 'trial')} given up; such trials do not count."
        )
    elif lost or failed:
        sentences.append("No trial was given up.")
    if untrained:
        sentences.append(
            f"{words.count(len(untrained), 'trial')} drew a configuration that could not be "
            "trained; the sampler learns from them as the worst."
        )
    if again := _redrawn(data):
        sentences.append(again)
    reasons: Counter[tuple[str, str]] = Counter()
    reasons.update(_reasons("attempt lost", (row.reason for row in lost)))
    reasons.update(_reasons("attempt failed", (row.reason for row in failed)))
    reasons.update(_reasons("attempt handed back", (row.reason for row in back)))
    reasons.update(_reasons("not trained", (trial.outcome for trial in untrained)))
    reasons.update(_reasons("given up", (trial.outcome for trial in given_up)))
    most = reasons.most_common(MOST_REASONS)
    if len(reasons) > len(most):
        rest = sum(reasons.values()) - sum(number for _, number in most)
        sentences.append(f"The table has the {len(most)} most frequent reasons; {rest:,} more.")
    return Incidents(
        sentences=tuple(sentences),
        reasons=tuple((what, why, number) for (what, why), number in most),
    )


def _redrawn(data: Collected) -> str:
    """What the sampler proposed and was not given a trial; empty for nothing."""
    found = [trial.redrawn for trial in data.trials if trial.redrawn.draws]
    unfit, repeated = sum(r.unfit for r in found), sum(r.repeated for r in found)
    why = [
        f"{number:,} {what}"
        for number, what in (
            (unfit, "made no network that may be trained"),
            (repeated, "repeated an earlier trial"),
        )
        if number
    ]
    if not why:
        return ""
    return (
        f"{words.count(len(found), 'trial')} had parameters drawn again before training: "
        f"{words.listed(why)}.  Such draws cost no training and no trial of the budget."
    )


def _reasons(what: str, texts: Iterable[str]) -> list[tuple[str, str]]:
    return [(what, text or "no reason recorded") for text in texts]
