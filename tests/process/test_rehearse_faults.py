"""`rehearse --faults`: each kind fires in a rehearsal of 50 trials, or is named."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from search.rehearsal.faults import INSIDE, KINDS, Injector, parse_rates

SEARCH = """
study: rehearsed
n_trials: 50
lambda: counted
gate: {dataset: cifar10, threshold: 0.05}
datasets: [{name: cifar10}, {name: mnist}]
space:
  depth: {low: 5, high: 9}
  temperature: {low: 0.6, high: 1.0}
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short and open, for a database server that runs as another user under root."""
    made = Path(tempfile.mkdtemp(prefix="nkat-faults-"))
    made.chmod(0o755)
    (made / "search.yaml").write_text(SEARCH)
    yield made
    shutil.rmtree(made, ignore_errors=True)


def rehearse(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "search", "rehearse", "--config", str(folder / "search.yaml"),
         *options],
        capture_output=True,
        text=True,
        timeout=400,
        env={**os.environ, "TMPDIR": str(folder), "OMP_NUM_THREADS": "1"},
        check=False,
    )  # fmt: skip


@pytest.mark.process
@pytest.mark.postgres
@pytest.mark.slow
def test_all_faults_fire_in_fifty_trials(folder: Path) -> None:
    done = rehearse(folder, "--faults", "all", "--workers", "3", "--lease-s", "2", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["not_fired"] == []
    assert set(report["faults"]) == {*KINDS, *INSIDE}
    assert report["held"]


@pytest.mark.process
@pytest.mark.postgres
def test_a_kind_that_never_fired_is_named(folder: Path) -> None:
    faults = "kill=0.001,hang=0.0001,oom=1"
    done = rehearse(folder, "--faults", faults, "--trials", "3", "--epoch-s", "0")
    assert done.returncode == 0, done.stderr
    assert "3 oom" in done.stdout
    words = " ".join(done.stderr.split())
    assert "asked for and never fired, so not rehearsed: kill, hang" in words


def fired(rates: dict[str, float], *, trials: int, seed: int, lost: int = 0) -> Counter[str]:
    """What an injector fires at a worker that is not there for its first `lost` looks."""
    looks = 0

    def cut(_draw: object) -> bool:
        nonlocal looks
        looks += 1
        return looks > lost

    injector = Injector(
        rates=rates,
        seed=seed,
        pids=dict,
        cut=cut,
        restart=lambda: None,
        stall_s=1.0,
        clock=lambda: 0.0,
    )
    for ended in range(trials + 1):
        injector.tick(ended)
    return injector.fired


@pytest.mark.parametrize("seed", range(20))
def test_faults_from_outside_come_as_often_as_their_rate_says(seed: int) -> None:
    rates = {kind: parse_rates("all")[kind] for kind in ("drop", "restart")}
    assert all(fired(rates, trials=50, seed=seed)[kind] >= 1 for kind in rates)
    assert fired({"drop": 0.25}, trials=100, seed=seed)["drop"] == 25
    assert fired({"drop": 0.25}, trials=100, seed=seed, lost=10)["drop"] == 25  # stays due
