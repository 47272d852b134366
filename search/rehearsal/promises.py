"""The promises of the service, checked on what a rehearsal left in the database.

Nothing here trusts the service's own counters alone: Optuna's trials, the table of
attempts and the formula behind the accuracies must tell the same story.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState

from search.file.search_file import SearchFile
from search.objective.simulated_trainer import Rehearsal, RehearsedSetTrainer
from search.study.finalists import missing_runs
from search.study.trial_attributes import Repeat
from search.study.trial_record import TrialRecord
from search.study.verdict import Ending
from search.worker.loop import BEATS_PER_LEASE
from storage.board import Board
from storage.engine import idle_limit_s
from storage.records import AttemptRow
from storage.retry import FIRST_WAIT_S, JITTER_S
from storage.states import Attempt

RESULTS = (Attempt.COMPLETE, Attempt.PRUNED)
FAILURES = (Attempt.FAILED, Attempt.LOST)


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """One row of the table.

    Args:
        text: what must hold.
        held: whether it did.
        counts: the numbers behind it.
    """

    text: str
    held: bool
    counts: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """The longest silence of a worker that still held a trial.

    It is counted from its last beat or from the database's last start, whichever came
    later: the reaper forgives a silence in which the database was away, since nobody
    could have beaten then (storage/reaping.py).

    Args:
        longest_s: as seen in any round of the rehearsal's loop.
        round_s: the longest time between two such rounds.
        lease_s: allowed silence before the next reaper takes the trial.
        restarts: of the database, while it was watched.
    """

    restarts: int = 0
    longest_s: float = 0.0
    round_s: float = 0.0
    lease_s: float

    @property
    def allowed_s(self) -> float:
        """How long a silence may last, from the rules of the service.

        The lease, or a beat's interval and the time after which the database cuts a worker
        off that stopped inside a transaction; two reapings (one may find another reaper at
        work that looked a moment too early); until we looked again.  After a restart each
        reaper forgives from its own first look on, which comes up to an interval and one
        retry's wait after the start.
        """
        interval_s = self.lease_s / BEATS_PER_LEASE
        held_s = max(self.lease_s, interval_s + idle_limit_s(self.lease_s))
        first_look_s = interval_s + FIRST_WAIT_S + JITTER_S if self.restarts else 0.0
        return held_s + 2 * interval_s + first_look_s + self.round_s


def check_promises(
    *, board: Board, search: SearchFile, plan: Rehearsal, silence: Silence
) -> tuple[tuple[Promise, ...], dict[str, int]]:
    """Every promise, held or broken; lost trials, duplicates and zombies as numbers.

    Args:
        board: of the study when its workers are gone.
        search: the search file that was rehearsed.
        plan: where its accuracies came from.
        silence: what was seen while it ran.
    """
    board.close()  # what the database says now, not what was read while it ran
    counts = board.counts()
    trials = board.with_study("trials", lambda study: study.get_trials())
    attempts = board.attempts()
    counted = [t for t in trials if t.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    unfinished = [t for t in trials if not t.state.is_finished()]
    results = Counter(a.number for a in attempts if a.outcome in RESULTS)
    lost = lost_trials(trials, attempts)
    trainer = RehearsedSetTrainer(search=search, plan=plan)
    wrong = [t.number for t in counted if not _is_its_own(t, trainer)]
    retried = {a.number for a in attempts if a.attempt > 1}
    reached = _first_reached_stage_2(attempts)
    repeated = [
        a.number
        for a in attempts
        if a.first_stage == "1" and a.attempt > reached.get(a.number, a.attempt)
    ]
    again = {a.number for a in attempts if a.attempt > reached.get(a.number, a.attempt)}
    missing = len(missing_runs(trials, search.finalists)) if search.finalists else 0
    promises = (
        Promise(
            text=f"exactly {counts.wanted} count",
            held=counts.over and len(counted) == counts.ended and not missing,
            counts=f"{counts.complete} complete + {counts.pruned} pruned"
            + (f" + {counts.repeats_done} repeats" if counts.repeats else "")
            + f" = {len(counted)}"
            + (f", {missing} repeats were not entered" if missing else ""),
        ),
        Promise(
            text="no trial is left running or waiting, none is held by a silent worker for "
            f"more than {silence.allowed_s:.1f} s",
            held=not unfinished and silence.longest_s <= silence.allowed_s,
            counts=f"{len(unfinished)} left, longest silence {silence.longest_s:.1f} s (lease "
            f"{silence.lease_s:.1f}, two reapings {2 * silence.lease_s / BEATS_PER_LEASE:.1f}, "
            f"our slowest look {silence.round_s:.1f}, {silence.restarts} database restarts)",
        ),
        Promise(
            text="each result is counted once",
            held=all(results[t.number] == 1 for t in counted)
            and sum(results.values()) == len(counted),
            counts=f"{sum(results.values())} results for {len(counted)} trials, "
            f"{counts.late} late ones refused",
        ),
        Promise(
            text="no trial is lost: each one counts or is given up with a reason",
            held=not lost,
            counts=f"{len(lost)} of {len(trials)} trials lost; {counts.lost} attempts lost, "
            f"{counts.failed_attempts} failed, {counts.handed_back} handed back; "
            f"{len(retried)} trials retried, {counts.failed} given up",
        ),
        Promise(
            text="each result belongs to its own parameters",
            held=not wrong,
            counts=f"{len(wrong)} of {len(counted)} differ",
        ),
        Promise(
            text="stage 1 is not repeated when stage 2 was under way",
            held=not repeated,
            counts=f"{len(repeated)} repeated of {len(again)} trials that went on after stage 2 "
            f"had begun ({len(reached)} trials reached it)",
        ),
    )
    duplicates = sum(n - 1 for n in results.values())
    return promises, {
        "lost_trials": len(lost),
        "duplicates": duplicates,
        "zombies": len(unfinished),
    }


def lost_trials(trials: list[FrozenTrial], attempts: list[AttemptRow]) -> set[int]:
    """Numbers of trials that neither count by an attempt of theirs nor were given up by one.

    Both ways round: a trial without a fitting attempt, an attempt without a trial.
    """
    with_result = {a.number for a in attempts if a.outcome in RESULTS}
    given_up = {a.number for a in attempts if a.outcome in FAILURES and a.reason}
    accounted = set()
    for trial in trials:
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED):
            fits = trial.number in with_result
        else:
            fits = trial.state == TrialState.FAIL and trial.number in given_up
        if fits:
            accounted.add(trial.number)
    return ({t.number for t in trials} | {a.number for a in attempts}) - accounted


def _is_its_own(trial: FrozenTrial, trainer: RehearsedSetTrainer) -> bool:
    """The recorded accuracies and the value are those the formula gives for its parameters."""
    recorded = TrialRecord.of_frozen(trial).verdict
    if recorded is None:
        return False
    repeat = Repeat.of_flat(trial.user_attrs)
    run = 0 if repeat is None else repeat.run
    expected = trainer.finished(trial.params, run=run).verdict
    if (recorded.ending is Ending.INFEASIBLE) != (expected.ending is Ending.INFEASIBLE):
        return False
    for name, result in recorded.results.items():
        formula = expected.results.get(name)
        if formula is None or abs(result.accuracy - formula.accuracy) > 1e-9:
            return False
    if trial.state != TrialState.COMPLETE:
        return True
    if trial.value is None or expected.value is None:
        return False
    return recorded.complete and abs(trial.value - expected.value) < 1e-9


def _first_reached_stage_2(attempts: list[AttemptRow]) -> dict[int, int]:
    """The first attempt of each trial that was seen in stage 2."""
    reached: dict[int, int] = {}
    for row in attempts:
        if row.stage == "2":
            reached[row.number] = min(row.attempt, reached.get(row.number, row.attempt))
    return reached
