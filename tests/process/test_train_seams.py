"""`train` where it meets the user: outputs, progress, Ctrl-C, and what it was trained on."""

from __future__ import annotations

import io
import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from nkat_command import nkat, started
from process_helpers import wait_for
from rich.console import Console

from model.training.evaluation import Evaluation
from model.training.trainer import EpochResult
from search.retrain.epoch_progress import StepLines, epoch_progress

pytestmark = pytest.mark.process

QUICK = ["--dataset", "cifar10", "--embed-dim", "32", "--depth", "1", "--warmup", "0"]
QUICK += ["--device", "cpu"]


WIDE = {"COLUMNS": "200"}


def train(*arguments: object) -> subprocess.CompletedProcess[str]:
    return nkat("train", *QUICK, *arguments, env=WIDE)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    arrays = {}
    for part, size in (("train", 300), ("test", 100)):
        arrays[f"{part}_images"] = rng.integers(0, 256, (size, 32, 32, 3), dtype=np.uint8)
        arrays[f"{part}_labels"] = (np.arange(size) % 10).astype(np.uint8)
    np.savez(tmp_path / "cifar10.npz", **arrays)
    return tmp_path


@pytest.mark.parametrize(
    ("limit", "sentence"),
    [
        (["--limit", 100], "cifar10: trained on 100 of 300 training images (--limit)."),
        ([], "cifar10: trained on all 300 training images."),
    ],
)
def test_a_formal_run_says_how_many_images_it_was_trained_on(
    images: Path, limit: list[object], sentence: str
) -> None:
    done = train("--data-dir", images, "--epochs", 1, "--test", *limit)
    assert done.returncode == 0, done.stderr
    assert sentence in done.stdout
    assert done.stdout.count("rained on all") == (not limit)


@pytest.mark.parametrize("out", ["/proc/x.json", "/proc/new/x.json", "folder", "file/x.json"])
def test_an_output_that_cannot_be_written_is_said_before_the_training(
    images: Path, out: str
) -> None:
    (images / "folder").mkdir()
    (images / "file").write_text("a file where a folder should be")
    path = out if out.startswith("/") else str(images / out)
    done = train("--data-dir", images, "--epochs", 9999, "--out", path)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith(f"nkat-search: --out {path}: ")


def test_looking_at_an_output_changes_no_file(images: Path) -> None:
    out = images / "result.json"
    out.write_text("an earlier result")
    done = train("--data-dir", images, "--epochs", 1, "--lr", "many", "--out", out)
    assert done.returncode == 2
    assert out.read_text() == "an earlier result"
    assert {path.name for path in images.iterdir()} == {"cifar10.npz", "result.json"}


@dataclass
class Started:
    """A `train` under way, its messages in a file."""

    process: subprocess.Popen[str]
    log: Path

    def wait_to_say(self, words: str) -> None:
        wait_for(words, lambda: words in self.log.read_text())

    def end(self) -> str:
        out, _ = self.process.communicate(timeout=60)
        assert "Traceback" not in self.log.read_text()
        return out


@contextmanager
def training(folder: Path, *arguments: object) -> Iterator[Started]:
    log = folder / "stderr.log"
    line = ("train", *QUICK, "--data-dir", folder, *arguments)
    with started(*line, folder=folder, env=WIDE, stdout=subprocess.PIPE, log=log) as process:
        yield Started(process, log)


def test_a_result_that_finds_no_room_after_all_is_printed(images: Path) -> None:
    out = images / "results" / "result.json"
    with training(images, "--epochs", 3, "--out", out) as train:
        train.wait_to_say("epoch 1/3")
        out.parent.write_text("in the way")
        printed = train.end()
    assert train.process.returncode == 1
    assert "could not be written after all" in train.log.read_text()
    report = json.loads(printed[printed.index("\n{") :])
    assert report["sets"][0]["epochs"] == 3


def test_ctrl_c_says_where_it_was(images: Path) -> None:
    with training(images, "--epochs", 5000) as train:
        train.wait_to_say("epoch 2/5000")
        train.process.send_signal(signal.SIGINT)
        assert train.end() == ""
    assert train.process.returncode == 130
    last = train.log.read_text().splitlines()[-1]
    assert last.startswith("nkat-search: interrupted in epoch ")
    assert "/5000 of cifar10" in last


def test_ctrl_c_keeps_the_runs_that_have_ended(images: Path) -> None:
    out = images / "result.json"
    with training(images, "--epochs", 20, "--runs", 50, "--out", out) as train:
        train.wait_to_say("cifar10 2/50: epoch 1/20")
        train.process.send_signal(signal.SIGINT)
        printed = train.end()
    assert train.process.returncode == 130
    assert "interrupted in epoch" in printed
    report = json.loads(out.read_text())
    assert 1 <= len(report["sets"][0]["runs"]) < 50
    assert report["interrupted"].startswith("interrupted in epoch")


def test_a_slow_epoch_is_seen_to_move() -> None:
    seconds, said = [0.0], []
    lines = StepLines("cifar10", epochs=40, say=said.append, clock=lambda: seconds[0])
    for _ in range(2):
        for done in range(1, 101):
            seconds[0] += 0.25
            lines.step(done, 100)
        lines.epoch_ended()
    assert said == [
        f"cifar10: epoch {epoch}/40  step 60/100  about 10 s to the end of the epoch"
        for epoch in (1, 2)
    ]


def test_the_bar_moves_within_an_epoch() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=160)
    result = EpochResult(
        epoch=1,
        epochs=4,
        loss=1.0,
        evaluation=Evaluation(accuracy_raw=0.5, accuracy_ema=0.25),
        images_per_s=55.0,
        seconds=100.0,
    )
    with epoch_progress("[b]cifar10", epochs=4, console=console) as progress:
        progress.step(1, 2)
    assert "step 1/2" in screen.getvalue()
    assert "[b]cifar10" in screen.getvalue()
    with epoch_progress("cifar10", epochs=4, console=console) as progress:
        progress.epoch(result)
    assert "accuracy 0.5000  55 images/s" in screen.getvalue()
