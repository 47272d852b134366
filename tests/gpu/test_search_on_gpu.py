"""The search's own way of training on a real GPU: trainer, child, gate, stage 2, checkpoints."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from search.file.load import parse_search_text
from search.objective.messages import (
    EpochDone,
    Event,
    Failed,
    Finished,
    Job,
    NotResumed,
    PlainPath,
    Ready,
    Stopped,
)
from search.objective.torch_trainer import TorchSetTrainer
from search.objective.two_stages import TwoStageObjective
from search.study.verdict import Ending
from search.worker.child import ChildSettings
from search.worker.child_handle import Died
from search.worker.training_child import TrainingChild
from storage.checkpoints import CheckpointStore

pytestmark = pytest.mark.gpu

GPU = "cuda:0"
EPOCHS = 4
SEARCH = """
study: small
n_trials: 4
lambda: counted
gate: {dataset: colours, threshold: 0.30}
datasets:
  - {name: colours, validation: 100}
  - {name: shades, validation: 100}
model: {embed_dim: 64, depth: 2}
train: {epochs: 4, batch_size: 32, warmup: 0, ema: 0.5, randaugment_ops: 0, mixup: 0, cutmix: 0,
        cutout: 0, crop_padding: 0, flip: false}
space:
  lr: {low: 1.0e-9, high: 1.0e-2, log: true}
service: {checkpoint_every_s: 0}
"""
# lambda is 8, so the gate needs an accuracy of 0.286; chance is 0.1.
LEARNS, CANNOT_LEARN = {"lr": 3e-3}, {"lr": 1e-9}


def prepared(path: Path, *, size: int, channels: int) -> None:
    """A set whose classes are brightnesses, with noise."""
    random = np.random.default_rng(size)
    arrays: dict[str, Any] = {}
    for part, count in (("train", 740), ("test", 20)):
        labels = np.arange(count) % 10
        shape = (count, size, size, channels) if channels == 3 else (count, size, size)
        shades = (labels * 24).reshape(count, *[1] * (len(shape) - 1))
        arrays[f"{part}_images"] = (shades + random.integers(0, 20, shape)).astype(np.uint8)
        arrays[f"{part}_labels"] = labels.astype(np.uint8)
    np.savez(path, **arrays)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    prepared(folder / "colours.npz", size=32, channels=3)
    prepared(folder / "shades.npz", size=28, channels=1)
    return folder


@pytest.fixture(scope="module")
def child(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrainingChild]:
    made = TrainingChild(
        settings=ChildSettings(
            search_text=SEARCH,
            device=GPU,
            data_dir=images,
            checkpoint_dir=tmp_path_factory.mktemp("checkpoints"),
            study_name="small",
            checkpoint_salt="",
            threads=2,
        ),
        stall_s=60.0,
        clock=time.monotonic,
        sleep=time.sleep,
    )
    yield made
    made.end()


def heard(child: TrainingChild, *last: type) -> list[Event]:
    """What the child says until an event of these kinds."""
    events: list[Event] = []
    deadline = time.monotonic() + 100
    while not events or not isinstance(events[-1], last):
        event = child.listen(0.5)
        assert not isinstance(event, Died), event
        assert time.monotonic() < deadline
        if event is not None:
            events.append(event)
    return events


def epochs_of(events: list[Event]) -> list[tuple[int, str, int]]:
    return [(e.stage, e.dataset, e.epoch) for e in events if isinstance(e, EpochDone)]


ALL_EPOCHS = [
    (stage, name, epoch)
    for stage, name in ((1, "colours"), (2, "shades"))
    for epoch in range(1, EPOCHS + 1)
]


def test_a_child_that_failed_is_replaced_and_the_next_one_trains_both_stages(
    child: TrainingChild,
) -> None:
    child.start()
    (ready,) = heard(child, Ready)
    assert isinstance(ready, Ready)
    assert ready.device == torch.cuda.get_device_name(GPU)
    assert child.send(Job(trial_number=0, attempt=1, params={"lr": "no number"}))
    assert isinstance(heard(child, Failed)[-1], Failed)
    assert not child.ready
    heard(child, Ready)  # of another process
    assert child.send(Job(trial_number=0, attempt=2, params=LEARNS))
    events = heard(child, Finished, Failed)
    assert epochs_of(events) == ALL_EPOCHS
    assert not any(isinstance(event, PlainPath) for event in events)
    last = events[-1]
    assert isinstance(last, Finished)
    assert last.verdict.complete
    assert last.verdict.gate.passed
    assert set(last.verdict.results) == {"colours", "shades"}
    assert last.facts is not None
    assert last.facts.device == torch.cuda.get_device_name(GPU)


def test_the_gate_keeps_a_trial_from_stage_2(child: TrainingChild) -> None:
    child.start()
    if not child.ready:
        heard(child, Ready)
    assert child.send(Job(trial_number=1, attempt=1, params=CANNOT_LEARN))
    events = heard(child, Finished, Failed)
    assert epochs_of(events) == ALL_EPOCHS[:EPOCHS]
    last = events[-1]
    assert isinstance(last, Finished)
    assert last.verdict.ending is Ending.GATE
    assert not last.verdict.gate.passed


class Training:
    """The objective in this process, on one device, with checkpoints that devices share."""

    def __init__(self, images: Path, folder: Path, device: str, text: str = SEARCH) -> None:
        search = parse_search_text(text)
        self._objective = TwoStageObjective(
            search=search,
            trainer=TorchSetTrainer(search=search, device=device, data_dir=images),
            checkpoints=CheckpointStore(folder=folder, study_name="small"),
            clock=time.monotonic,
        )

    def run(self, *, stop_after: int = 99) -> list[Event]:
        events: list[Event] = []
        job = Job(trial_number=0, attempt=1, params=LEARNS)
        self._objective.run(job, events.append, lambda: len(epochs_of(events)) >= stop_after)
        return events


def test_a_trial_goes_on_from_its_checkpoint_on_the_same_gpu(images: Path, tmp_path: Path) -> None:
    training = Training(images, tmp_path, GPU)
    assert isinstance(training.run(stop_after=2)[-1], Stopped)
    events = Training(images, tmp_path, GPU).run(stop_after=4)
    assert epochs_of(events) == ALL_EPOCHS[2:6]
    again = training.run()  # on a warm engine
    assert epochs_of(again) == ALL_EPOCHS[6:]
    assert isinstance(again[-1], Finished)


@pytest.mark.parametrize(("first", "second"), [("cpu", GPU), (GPU, "cpu")])
def test_a_checkpoint_of_another_kind_of_device_starts_its_set_again(
    images: Path, tmp_path: Path, first: str, second: str
) -> None:
    assert isinstance(Training(images, tmp_path, first).run(stop_after=5)[-1], Stopped)
    events = Training(images, tmp_path, second).run()
    (told,) = [event for event in events if isinstance(event, NotResumed)]
    assert told.dataset == "shades"
    assert "device is" in told.reason
    assert epochs_of(events) == ALL_EPOCHS[EPOCHS:]  # stage 1 is kept
    last = events[-1]
    assert isinstance(last, Finished)
    assert last.verdict.complete


def test_a_configuration_that_the_captured_step_cannot_run_says_so(
    images: Path, tmp_path: Path
) -> None:
    text = SEARCH.replace("train: {epochs: 4", "train: {precision: fp32, epochs: 1")
    events = Training(images, tmp_path, GPU, text).run()
    told = [event for event in events if isinstance(event, PlainPath)]
    assert [(event.dataset, event.reason) for event in told] == [
        (dataset, "precision is fp32") for dataset in ("colours", "shades")[: len(told)]
    ]
    assert told
    assert isinstance(events[-1], Finished)
