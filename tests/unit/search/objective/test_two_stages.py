"""The two stages of a trial: order, gate, bound, resume, what cannot be trained."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from search.file.load import parse_search_text
from search.file.search_file import SearchFile
from search.file.sections import BoundSection, RungsSection
from search.objective.messages import EpochDone, Event, Finished, Job, NotSaved, Saved, Stopped
from search.objective.simulated_trainer import Rehearsal, RehearsedSetTrainer
from search.objective.two_stages import Progress, TwoStageObjective
from search.score.tpe_score import weight
from search.study.epochs import STAGE_2_STEP
from search.study.gains import Gains
from search.study.past import Past
from search.study.verdict import LONGEST_TEXT, Effort, Ending, SetResult, Verdict
from storage.checkpoints import CheckpointStore

EPOCHS = 3
SETS = ("cifar10", "mnist", "fashion_mnist", "emnist_letters")
SEARCH = """
study: small
n_trials: 4
lambda: counted
gate: {dataset: cifar10, threshold: 0.60}
datasets:
  - {name: cifar10}
  - {name: mnist}
  - {name: fashion_mnist}
  - {name: emnist_letters}
space:
  depth: {low: 5, high: 9}
service: {checkpoint_every_s: 0}
"""
# lambda is 4 * depth: at depth 5 the gate needs 0.7933, at depth 9 it needs 0.9409.
TABLE = """depth,accuracy_cifar10,accuracy_mnist,accuracy_fashion_mnist,accuracy_emnist_letters
5,0.80,0.99,0.91,0.94
6,0.70,0.99,0.91,0.94
"""
GOOD, BAD = {"depth": 5}, {"depth": 6}
GOOD_SCORE = (0.80 + 0.99 + 0.91 + 0.94) / 4 / weight(20)


@pytest.fixture
def search() -> SearchFile:
    return parse_search_text(SEARCH)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "table.csv"
    path.write_text(TABLE)
    return path


class Run:
    """One objective with its events; `stop_after` counts the questions whether to stop."""

    def __init__(self, search: SearchFile, table: Path, folder: Path, **faults: float) -> None:
        plan = Rehearsal(table=str(table), epoch_s=0.0, epochs=EPOCHS, **faults)  # type: ignore[arg-type]
        self.store = CheckpointStore(folder=folder, study_name="small")
        self.objective = TwoStageObjective(
            search=search,
            trainer=RehearsedSetTrainer(search=search, plan=plan),
            checkpoints=self.store,
            clock=time.monotonic,
        )

    def __call__(
        self,
        params: dict[str, int],
        *,
        stop_after: int | None = None,
        best: float | None = None,
        past: Past | None = None,
    ) -> list[Event]:
        events: list[Event] = []
        asked = 0

        def should_stop() -> bool:
            nonlocal asked
            asked += 1
            return stop_after is not None and asked >= stop_after

        job = Job(trial_number=7, attempt=1, params=params, past=past or Past(best_global=best))
        self.objective.run(job, events.append, should_stop)
        return events


def epochs_of(events: list[Event]) -> list[tuple[str, int]]:
    return [(e.dataset, e.epoch) for e in events if isinstance(e, EpochDone)]


ALL_EPOCHS = [(name, epoch) for name in SETS for epoch in range(1, EPOCHS + 1)]


def test_a_trial_that_passes_is_trained_on_every_set(
    search: SearchFile, table: Path, tmp_path: Path
) -> None:
    events = Run(search, table, tmp_path)(GOOD)
    assert epochs_of(events) == ALL_EPOCHS
    last = events[-1]
    assert isinstance(last, Finished)
    verdict = last.verdict
    assert verdict.ending is Ending.COMPLETE
    assert verdict.value == pytest.approx(GOOD_SCORE)
    assert verdict.gate.passed
    assert verdict.gate.margin == pytest.approx(0.80 / weight(20) - 0.60)
    assert verdict.results["mnist"].accuracy == pytest.approx(0.99)
    assert verdict.scores is not None
    assert verdict.scores.generalization == pytest.approx(0.80 / weight(20))
    assert verdict.scores.robustness == 1.0
    assert verdict.effort.epochs == 4 * EPOCHS
    assert verdict.lambdas is not None
    assert (verdict.lambdas.counted, verdict.lam) == (20.0, 20.0)
    assert verdict.constraints == {"gate": pytest.approx(0.60 - 0.80 / weight(20))}


def test_stage_2_never_starts_for_a_trial_that_fails_the_gate(
    search: SearchFile, table: Path, tmp_path: Path
) -> None:
    events = Run(search, table, tmp_path)(BAD)
    assert epochs_of(events) == [("cifar10", epoch) for epoch in range(1, EPOCHS + 1)]
    last = events[-1]
    assert isinstance(last, Finished)
    verdict = last.verdict
    assert verdict.ending is Ending.GATE
    assert verdict.value is None
    assert verdict.constraints["gate"] == pytest.approx(0.60 - 0.70 / weight(24))
    assert verdict.constraints["gate"] > 0
    assert not verdict.gate.passed
    # lambda 24: 0.60 * log10(25) = 0.8388.
    assert verdict.outcome == (
        "failed the gate: local TPE score 0.5007 on cifar10 is below 0.60 (margin -0.0993); "
        "accuracy 0.7000, needed 0.8388"
    )


def test_reports_of_the_two_stages_have_disjoint_steps(
    search: SearchFile, table: Path, tmp_path: Path
) -> None:
    events = Run(search, table, tmp_path)(GOOD)
    told = [(e.stage, *e.report) for e in events if isinstance(e, EpochDone) and e.report]
    assert [(stage, step) for stage, step, _ in told] == [
        (1, 1),
        (1, 2),
        (1, 3),
        *((2, STAGE_2_STEP + index) for index in (1, 2, 3)),
    ]
    values = [value for _, _, value in told]
    # Measured, never hoped for: the gate's score, then the mean over the sets that are done.
    means = [0.80, (0.80 + 0.99) / 2, (0.80 + 0.99 + 0.91) / 3]
    assert values[2:] == pytest.approx([*(mean / weight(20) for mean in means), GOOD_SCORE])


@pytest.mark.parametrize("params", [GOOD, BAD], ids=["passes", "fails"])
@pytest.mark.parametrize("stop_after", range(1, 4 * EPOCHS + 1))
def test_stopped_anywhere_and_resumed_it_repeats_no_epoch(
    search: SearchFile, table: Path, tmp_path: Path, params: dict[str, int], stop_after: int
) -> None:
    whole = Run(search, table, tmp_path / "whole")(params)
    run = Run(search, table, tmp_path / "cut")
    first = run(params, stop_after=stop_after)
    if not isinstance(first[-1], Stopped):
        assert params == BAD
        assert stop_after > EPOCHS
        return
    assert first[-1].saved
    second = run(params)
    assert epochs_of(first) + epochs_of(second) == epochs_of(whole)
    one, other = whole[-1], second[-1]
    assert isinstance(one, Finished)
    assert isinstance(other, Finished)
    assert one.verdict.effort.epochs == other.verdict.effort.epochs
    assert replace(one.verdict, effort=other.verdict.effort) == other.verdict
    assert one.facts == other.facts


def test_the_gate_is_judged_when_the_loss_came_between_checkpoint_and_verdict(
    search: SearchFile, table: Path, tmp_path: Path
) -> None:
    run = Run(search, table, tmp_path)
    run(BAD, stop_after=EPOCHS)  # stage 1 is over and saved, nobody has judged it
    events = run(BAD)
    assert epochs_of(events) == []
    assert isinstance(events[-1], Finished)
    assert events[-1].verdict.ending is Ending.GATE


def test_the_end_of_a_set_is_saved_whatever_the_interval(
    search: SearchFile, table: Path, tmp_path: Path
) -> None:
    rare = replace(search, service=search.service.model_copy(update={"checkpoint_every_s": 1e9}))
    events = Run(rare, table, tmp_path)(GOOD)
    assert [(e.dataset, e.epoch) for e in events if isinstance(e, Saved)] == [
        (name, EPOCHS) for name in SETS
    ]


def test_a_hopeless_trial_ends_in_stage_2(search: SearchFile, table: Path, tmp_path: Path) -> None:
    run = Run(search, table, tmp_path)
    bound_after_fashion = (0.80 + 0.99 + 0.91 + 1.0) / 4 / weight(20)
    events = run(GOOD, best=bound_after_fashion + 1e-6)
    assert {name for name, _ in epochs_of(events)} == set(SETS[:3])
    last = events[-1]
    assert isinstance(last, Finished)
    verdict = last.verdict
    assert verdict.ending is Ending.BOUND
    assert verdict.constraints["gate"] < 0  # it did pass the gate
    assert verdict.bound == pytest.approx(bound_after_fashion)
    assert verdict.value is None
    reported = [e.report for e in events if isinstance(e, EpochDone) and e.report]
    # What the study keeps as its value was measured, and lies below what it could not beat.
    assert reported[-1][1] == pytest.approx((0.80 + 0.99 + 0.91) / 3 / weight(20))
    assert reported[-1][1] < verdict.bound


def test_the_tighter_bound_stops_earlier_and_says_what_it_took(
    search: SearchFile, table: Path, tmp_path: Path
) -> None:
    tight = replace(search, bound=BoundSection(kind="best_seen", slack=0.01))
    seen = {"mnist": 0.992, "fashion_mnist": 0.90}  # the fourth set has not been seen
    reachable = (0.80 + min(0.992 + 0.01, 1.0) + 0.91 + 1.0) / 4 / weight(20)
    run = Run(tight, table, tmp_path)

    def stopped(best: float) -> Verdict:
        last = run(GOOD, past=Past(best_global=best, best_seen=seen))[-1]
        assert isinstance(last, Finished)
        run.store.discard(7)
        return last.verdict

    verdict = stopped(reachable + 1e-6)
    assert (verdict.ending, list(verdict.results)) == (Ending.BOUND, ["cifar10"])
    assert (verdict.bound, verdict.bound_slack) == (pytest.approx(reachable), 0.01)
    assert "even with the best accuracies seen + 0.01 on the rest" in verdict.outcome
    assert len(verdict.outcome) <= LONGEST_TEXT
    # Just within reach it goes on, until what it measures puts it out of reach.
    assert list(stopped(reachable - 1e-6).results) == ["cifar10", "mnist"]
    # Where the exact bound says it too, that is what counts: nothing could exceed it.
    verdict = stopped(0.99)
    assert (verdict.ending, verdict.bound_slack) == (Ending.BOUND, None)
    assert "even with accuracy 1 on the rest" in verdict.outcome


def gains(*, mean: float = 0.02, deviation: float = 0.002) -> Past:
    """As if nine trials had gained that much after each epoch but the last."""
    found = Gains(trials=9, mean=(mean, mean, 0.0), deviation=(deviation, deviation, 0.0))
    return Past(gains={EPOCHS: found})


@pytest.fixture
def with_rungs(search: SearchFile) -> SearchFile:
    return replace(search, rungs=RungsSection(after=2, earliest=0.5, spread=3.0))


def test_a_hopeless_trial_stops_within_stage_1_and_says_why(
    with_rungs: SearchFile, table: Path, tmp_path: Path
) -> None:
    events = Run(with_rungs, table, tmp_path)(BAD, past=gains())
    # The first of three epochs is below `earliest`.
    assert epochs_of(events) == [("cifar10", 1), ("cifar10", 2)]
    last = events[-1]
    assert isinstance(last, Finished)
    verdict = last.verdict
    assert (verdict.ending, verdict.value, dict(verdict.results)) == (Ending.RUNG, None, {})
    reported = [e.report for e in events if isinstance(e, EpochDone)]
    assert verdict.rung is not None
    measured = verdict.rung.score
    assert reported[-1] == (2, measured)  # what the study keeps was measured
    assert verdict.report is None
    assert verdict.rung.expected == pytest.approx(measured + 0.02)
    assert verdict.rung.at_most == pytest.approx(measured + 0.026)
    # The sampler hears how far below the gate it was expected to end.
    assert verdict.constraints == {"gate": pytest.approx(0.60 - measured - 0.02)}
    assert verdict.outcome.startswith("stopped after 2 of 3 epochs: local TPE score 0.")
    assert "by 9 trials), the gate is 0.60" in verdict.outcome
    assert len(verdict.outcome) <= LONGEST_TEXT
    assert verdict.effort.epochs == 2


@pytest.mark.parametrize(
    "past",
    [
        gains(mean=0.2),  # on average it would pass
        gains(deviation=0.1),  # a late bloomer would
        Past(),  # nobody has been there
        Past(gains={EPOCHS + 1: gains().gains[EPOCHS]}),  # only trials of another length
    ],
)
def test_a_trial_with_a_chance_goes_on_to_the_gate(
    with_rungs: SearchFile, table: Path, tmp_path: Path, past: Past
) -> None:
    last = Run(with_rungs, table, tmp_path)(BAD, past=past)[-1]
    assert isinstance(last, Finished)
    assert last.verdict.ending is Ending.GATE


@pytest.fixture
def early(search: SearchFile) -> SearchFile:
    """The bound reaches into stage 1."""
    bound = BoundSection(kind="best_seen", slack=0.01, after=1, spread=2.0, curves=9)
    return replace(search, bound=bound)


SEEN = {"mnist": 0.985, "fashion_mnist": 0.90, "emnist_letters": 0.94}


def test_the_bound_stops_a_trial_within_stage_1_and_says_why(
    early: SearchFile, table: Path, tmp_path: Path
) -> None:
    run = Run(early, table, tmp_path)

    def stopped(past: Past, best: float | None) -> Verdict:
        last = run(GOOD, past=replace(past, best_global=best, best_seen=SEEN))[-1]
        assert isinstance(last, Finished)
        run.store.discard(7)
        return last.verdict

    first = run(GOOD, past=gains())[0]
    run.store.discard(7)
    assert isinstance(first, EpochDone)
    assert first.report is not None
    score = first.report[1]
    # The mean gain of 0.02 and a spread above it; elsewhere the best seen + 0.01.
    gain = 0.02 + gains().gains[EPOCHS].spread_to_expect(1, 2.0)
    reachable = ((score + gain) * weight(20) + 0.995 + 0.91 + 0.95) / 4 / weight(20)
    verdict = stopped(gains(), reachable + 1e-6)
    assert (verdict.ending, verdict.value, dict(verdict.results)) == (Ending.RUNG, None, {})
    assert verdict.rung is not None
    assert (verdict.rung.epoch, verdict.effort.epochs) == (1, 1)
    assert verdict.rung.at_most == pytest.approx(score + gain)
    assert (verdict.bound, verdict.bound_slack) == (pytest.approx(reachable), 0.01)
    assert verdict.to_beat == reachable + 1e-6
    assert verdict.constraints == {"gate": pytest.approx(0.60 - score - 0.02)}
    assert "at most (by 9 trials), the Global TPE score" in verdict.outcome
    assert f"{reachable:.4f}, not above {reachable + 1e-6:.4f}" in verdict.outcome
    assert len(verdict.outcome) <= LONGEST_TEXT
    # Just within reach, or without anything to beat, or with too few curves, it goes on.
    few = Past(gains={EPOCHS: replace(gains().gains[EPOCHS], trials=8)})
    for past, best in ((gains(), reachable - 1e-6), (gains(), None), (few, 0.75)):
        assert "cifar10" in stopped(past, best).results


def test_an_accuracy_foreseen_in_stage_1_is_never_above_1(
    early: SearchFile, table: Path, tmp_path: Path
) -> None:
    run = Run(early, table, tmp_path)
    past = replace(gains(mean=0.5), best_global=(1 + 0.995 + 0.91 + 0.95) / 4 / weight(20))
    last = run(GOOD, past=replace(past, best_seen=SEEN))[-1]
    assert isinstance(last, Finished)
    assert last.verdict.rung is not None
    assert last.verdict.bound == last.verdict.to_beat


def test_without_rungs_no_past_stops_stage_1(
    search: SearchFile, table: Path, tmp_path: Path
) -> None:
    last = Run(search, table, tmp_path)(BAD, past=gains())[-1]
    assert isinstance(last, Finished)
    assert last.verdict.ending is Ending.GATE


def test_a_trial_gone_on_with_is_stopped_at_the_same_rung(
    with_rungs: SearchFile, table: Path, tmp_path: Path
) -> None:
    whole = Run(with_rungs, table, tmp_path / "whole")(BAD, past=gains())[-1]
    run = Run(with_rungs, table, tmp_path / "parts")
    assert isinstance(run(BAD, past=gains(), stop_after=1)[-1], Stopped)
    events = run(BAD, past=gains())
    assert epochs_of(events) == [("cifar10", 2)]
    last = events[-1]
    assert isinstance(whole, Finished)
    assert isinstance(last, Finished)
    assert last.verdict.rung == whole.verdict.rung
    assert last.verdict.effort.epochs == 2


def test_the_bound_check_can_be_switched_off(
    search: SearchFile, table: Path, tmp_path: Path
) -> None:
    off = replace(search, bound=BoundSection(kind="off"))
    last = Run(off, table, tmp_path)(GOOD, best=0.99)[-1]
    assert isinstance(last, Finished)
    assert last.verdict.ending is Ending.COMPLETE


@pytest.mark.parametrize(
    ("fault", "kind"), [("memory_rate", "out_of_memory"), ("nan_rate", "diverged")]
)
def test_what_cannot_be_trained_is_graded_and_constrained_never_a_bare_failure(
    search: SearchFile, table: Path, tmp_path: Path, fault: str, kind: str
) -> None:
    last = Run(search, table, tmp_path, **{fault: 1.0})(GOOD)[-1]
    assert isinstance(last, Finished)
    verdict = last.verdict
    assert not verdict.complete
    assert verdict.ending == kind
    assert verdict.report == (1, 0.0)
    assert verdict.constraints == {"gate": pytest.approx(0.60), kind: 1.0}
    assert verdict.scores is not None
    assert verdict.scores.robustness == 0.0
    assert "could not be trained on cifar10" in verdict.outcome


def test_each_configuration_is_built_once(
    search: SearchFile, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = []
    real = SearchFile.resolve

    def counted(self: SearchFile, params: Any, dataset: str | None = None) -> Any:
        built.append(dataset)
        return real(self, params, dataset)

    monkeypatch.setattr(SearchFile, "resolve", counted)
    assert isinstance(Run(search, table, tmp_path)(GOOD)[-1], Finished)
    assert built == list(SETS)


def test_a_damaged_checkpoint_starts_the_trial_over(
    search: SearchFile, table: Path, tmp_path: Path
) -> None:
    run = Run(search, table, tmp_path)
    run(GOOD, stop_after=2)
    files = list(tmp_path.rglob("*.ckpt"))
    assert files
    for path in files:
        path.write_bytes(path.read_bytes()[:-1])
    assert epochs_of(run(GOOD)) == ALL_EPOCHS


def test_without_a_disk_for_checkpoints_the_trial_still_ends(
    search: SearchFile, table: Path, tmp_path: Path
) -> None:
    blocked = tmp_path / "a-file"
    blocked.write_text("not a folder")
    events = Run(search, table, blocked)(GOOD)
    assert any(isinstance(event, NotSaved) for event in events)
    assert isinstance(events[-1], Finished)
    assert events[-1].verdict.value == pytest.approx(GOOD_SCORE)


def test_progress_survives_its_own_packing() -> None:
    progress = Progress(
        results={"cifar10": SetResult(accuracy=0.5, weights="ema")},
        effort=Effort().epoch(stage=1, seconds=1.5),
        dataset="mnist",
        epoch=4,
    )
    again, state = Progress.unpack(progress.pack(b"weights"))
    assert again == progress
    assert state == b"weights"
