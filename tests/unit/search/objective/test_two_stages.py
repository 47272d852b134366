"""The two stages of a trial: order, gate, bound, resume, what cannot be trained."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from search.file.load import parse_search_text
from search.file.search_file import SearchFile
from search.objective.judge import STAGE_2_STEP
from search.objective.messages import EpochDone, Event, Finished, Job, NotSaved, Saved, Stopped
from search.objective.simulated_trainer import Rehearsal, RehearsedSetTrainer
from search.objective.two_stages import Progress, TwoStageObjective
from search.score.tpe_score import weight
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
        self, params: dict[str, int], *, stop_after: int | None = None, best: float | None = None
    ) -> list[Event]:
        events: list[Event] = []
        asked = 0

        def should_stop() -> bool:
            nonlocal asked
            asked += 1
            return stop_after is not None and asked >= stop_after

        job = Job(trial_number=7, attempt=1, params=params, best_global=best)
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
    assert last.state == "complete"
    assert last.value == pytest.approx(GOOD_SCORE)
    attrs = last.user_attrs
    assert attrs["gate_passed"] is True
    assert attrs["gate_margin"] == pytest.approx(0.80 / weight(20) - 0.60)
    assert attrs["accuracy_mnist"] == pytest.approx(0.99)
    assert attrs["generalization"] == pytest.approx(0.80 / weight(20))
    assert attrs["robustness"] == 1.0
    assert attrs["epochs"] == 4 * EPOCHS
    assert {"lambda_theory", "lambda_counted", "lambda_parameters"} <= set(attrs)
    assert last.constraints == {"gate": pytest.approx(0.60 - 0.80 / weight(20))}


def test_stage_2_never_starts_for_a_trial_that_fails_the_gate(
    search: SearchFile, table: Path, tmp_path: Path
) -> None:
    events = Run(search, table, tmp_path)(BAD)
    assert epochs_of(events) == [("cifar10", epoch) for epoch in range(1, EPOCHS + 1)]
    last = events[-1]
    assert isinstance(last, Finished)
    assert last.state == "pruned"
    assert last.value is None
    assert last.constraints["gate"] == pytest.approx(0.60 - 0.70 / weight(24))
    assert last.constraints["gate"] > 0
    assert last.user_attrs["gate_passed"] is False
    assert "failed the gate" in last.user_attrs["outcome"]


def test_reports_of_the_two_stages_have_disjoint_steps(
    search: SearchFile, table: Path, tmp_path: Path
) -> None:
    events = Run(search, table, tmp_path)(GOOD)
    steps = [(e.stage, e.step) for e in events if isinstance(e, EpochDone) and e.step is not None]
    assert steps == [
        (1, 1),
        (1, 2),
        (1, 3),
        *((2, STAGE_2_STEP + index) for index in (1, 2, 3)),
    ]
    values = [e.value for e in events if isinstance(e, EpochDone) and e.stage == 2 and e.step]
    # The largest score still possible falls from set to set, to the score itself.
    assert values == sorted(values, reverse=True)
    assert values[-1] == pytest.approx(GOOD_SCORE)


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
    for name in ("seconds_stage1", "seconds_stage2"):
        one.user_attrs.pop(name)
        other.user_attrs.pop(name)
    assert one == other


def test_the_gate_is_judged_when_the_loss_came_between_checkpoint_and_verdict(
    search: SearchFile, table: Path, tmp_path: Path
) -> None:
    run = Run(search, table, tmp_path)
    run(BAD, stop_after=EPOCHS)  # stage 1 is over and saved, nobody has judged it
    events = run(BAD)
    assert epochs_of(events) == []
    assert isinstance(events[-1], Finished)
    assert events[-1].state == "pruned"


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
    assert last.state == "pruned"
    assert last.constraints["gate"] < 0  # it did pass the gate
    assert "global_tpe_score" not in last.user_attrs


def test_the_bound_check_can_be_switched_off(
    search: SearchFile, table: Path, tmp_path: Path
) -> None:
    off = replace(search, service=search.service.model_copy(update={"bound_check": False}))
    last = Run(off, table, tmp_path)(GOOD, best=0.99)[-1]
    assert isinstance(last, Finished)
    assert last.state == "complete"


@pytest.mark.parametrize(
    ("fault", "kind"), [("memory_rate", "out_of_memory"), ("nan_rate", "diverged")]
)
def test_what_cannot_be_trained_is_graded_and_constrained_never_a_bare_failure(
    search: SearchFile, table: Path, tmp_path: Path, fault: str, kind: str
) -> None:
    last = Run(search, table, tmp_path, **{fault: 1.0})(GOOD)[-1]
    assert isinstance(last, Finished)
    assert last.state == "pruned"
    assert last.report == (1, 0.0)
    assert last.constraints == {"gate": pytest.approx(0.60), kind: 1.0}
    assert last.user_attrs["robustness"] == 0.0
    assert "could not be trained on cifar10" in last.user_attrs["outcome"]


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
    assert events[-1].value == pytest.approx(GOOD_SCORE)


def test_progress_survives_its_own_packing() -> None:
    progress = Progress(dataset="mnist", epoch=4, seconds=1.5)
    again, state = Progress.unpack(progress.pack(b"weights"))
    assert again == progress
    assert state == b"weights"
