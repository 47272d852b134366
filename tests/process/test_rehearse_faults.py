"""`rehearse --faults`: each kind fires in a rehearsal of 50 trials, or is named."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from nkat_command import nkat, open_folder

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
    with open_folder(SEARCH) as path:
        yield path


def rehearse(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    line = ("rehearse", "--config", "search.yaml", *options)
    return nkat(*line, folder=folder, env={"TMPDIR": str(folder)})


@pytest.mark.process
@pytest.mark.postgres
@pytest.mark.slow
def test_all_faults_fire_in_fifty_trials(folder: Path) -> None:
    for _ in range(2):
        done = rehearse(folder, "--faults", "all", "--workers", "3", "--lease-s", "2", "--json")
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        assert report["held"]
        assert set(report["not_fired"]) == {*KINDS, *INSIDE} - set(report["faults"])
        # Those inside are drawn: 2 of 100 rehearsals miss one, so a second one decides.
        assert set(report["not_fired"]) <= set(INSIDE)
        if not report["not_fired"]:
            break
    assert report["not_fired"] == []


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
