"""Real training behind the objective: checkpoints of other machines, and what is recorded."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from search.file.load import parse_search_text
from search.file.search_file import SearchFile
from search.objective.messages import EpochDone, Event, Finished, Job, NotResumed, Stopped
from search.objective.torch_trainer import TorchSetTrainer
from search.objective.two_stages import Progress, TwoStageObjective
from storage.checkpoints import CheckpointStore

SEARCH = """
study: small
n_trials: 1
lambda: counted
gate: {dataset: cifar10, threshold: 0.01}
datasets:
  - {name: cifar10, limit: 40, validation: 20, synthetic: true}
  - {name: mnist, limit: 40, validation: 20, synthetic: true}
model: {embed_dim: 32, depth: 1}
train: {epochs: 3, batch_size: 20, warmup: 0}
space:
  lr: {low: 1.0e-4, high: 1.0e-2}
service: {checkpoint_every_s: 0}
"""


@pytest.fixture(scope="module")
def search() -> SearchFile:
    return parse_search_text(SEARCH)


@pytest.fixture(scope="module")
def trainer(search: SearchFile) -> TorchSetTrainer:
    return TorchSetTrainer(search=search, device="cpu", data_dir=None)


def train(
    search: SearchFile, trainer: TorchSetTrainer, store: CheckpointStore, *, stop_after: int = 99
) -> list[Event]:
    objective = TwoStageObjective(
        search=search, trainer=trainer, checkpoints=store, clock=time.monotonic
    )
    events: list[Event] = []

    def should_stop() -> bool:
        return sum(isinstance(event, EpochDone) for event in events) >= stop_after

    objective.run(Job(trial_number=0, attempt=1, params={"lr": 1e-3}), events.append, should_stop)
    return events


def epochs_of(events: list[Event]) -> list[tuple[str, int]]:
    return [(e.dataset, e.epoch) for e in events if isinstance(e, EpochDone)]


State = dict[str, Any]


def of_a_gpu(state: State) -> None:
    state["device"] = "cuda"
    for name in state["state"]["generators"]:  # a GPU's generator: seed and offset
        state["state"]["generators"][name] = torch.zeros(16, dtype=torch.uint8)


def of_generators_of_another_size(state: State) -> None:
    for name in state["state"]["generators"]:
        state["state"]["generators"][name] = torch.zeros(16, dtype=torch.uint8)


def of_an_older_configuration(state: State) -> None:
    del state["model_config"]["temperature"]


def of_a_newer_recipe(state: State) -> None:
    state["train_config"]["rotations"] = 3


def of_another_version(state: State) -> None:
    state["version"] = 1


def of_an_optimiser_with_other_groups(state: State) -> None:
    state["state"]["optimizers"][0]["param_groups"].pop()


def of_another_network(state: State) -> None:
    state["state"]["network"].pop("head.weight")


def without_its_parts(state: State) -> None:
    del state["state"]


def of_a_training_that_is_over(state: State) -> None:
    state["epochs_done"] = 3


@pytest.mark.parametrize(
    "change",
    [
        of_a_gpu,
        of_generators_of_another_size,
        of_an_older_configuration,
        of_a_newer_recipe,
        of_another_version,
        of_an_optimiser_with_other_groups,
        of_another_network,
        without_its_parts,
        of_a_training_that_is_over,
    ],
)
def test_a_state_that_cannot_be_loaded_starts_that_set_again(
    search: SearchFile,
    trainer: TorchSetTrainer,
    tmp_path: Path,
    change: Callable[[State], None],
) -> None:
    store = CheckpointStore(folder=tmp_path, study_name="small")
    first = train(search, trainer, store, stop_after=4)  # in the second set
    assert isinstance(first[-1], Stopped)
    blob = store.load(0)
    assert blob is not None
    progress, packed = Progress.unpack(blob)
    state = torch.load(io.BytesIO(packed), weights_only=True)
    change(state)
    changed = io.BytesIO()
    torch.save(state, changed)
    store.save(0, progress.pack(changed.getvalue()))

    events = train(search, trainer, store)
    (told,) = [event for event in events if isinstance(event, NotResumed)]
    assert told.dataset == "mnist"
    assert len(told.reason.splitlines()) == 1
    assert epochs_of(events) == [("mnist", 1), ("mnist", 2), ("mnist", 3)]  # stage 1 is kept
    assert isinstance(events[-1], Finished)


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_a_torn_state_starts_that_set_again(
    search: SearchFile, trainer: TorchSetTrainer, tmp_path: Path, kept: float
) -> None:
    store = CheckpointStore(folder=tmp_path, study_name="small")
    train(search, trainer, store, stop_after=1)
    progress, packed = Progress.unpack(store.load(0) or b"")
    store.save(0, progress.pack(packed[: int(kept * len(packed))] or b"x"))
    events = train(search, trainer, store)
    assert any(isinstance(event, NotResumed) for event in events)
    assert epochs_of(events)[0] == ("cifar10", 1)
    assert isinstance(events[-1], Finished)


def test_an_unchanged_state_is_gone_on_from(
    search: SearchFile, trainer: TorchSetTrainer, tmp_path: Path
) -> None:
    store = CheckpointStore(folder=tmp_path, study_name="small")
    train(search, trainer, store, stop_after=4)
    events = train(search, trainer, store)
    assert not any(isinstance(event, NotResumed) for event in events)
    assert epochs_of(events) == [("mnist", 2), ("mnist", 3)]


def test_the_code_version_is_that_of_the_start(
    search: SearchFile, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NKAT_REVISION", "aaaaaaaaaaaa")
    running = TorchSetTrainer(search=search, device="cpu", data_dir=None)
    monkeypatch.setenv("NKAT_REVISION", "bbbbbbbbbbbb")  # as a `git pull` in mid-search
    events = train(search, running, CheckpointStore(folder=tmp_path, study_name="small"))
    assert isinstance(events[-1], Finished)
    assert events[-1].facts.code_version.endswith("+gaaaaaaaaaaaa")
