"""CPU threads of a worker: the cores shared out, within the container's limit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from search.worker.devices import threads_per_worker

CORES = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("text", "threads"),
    [
        ("max 100000", CORES),
        ("100000 100000", 1),
        ("50000 100000", 1),
        (f"{CORES * 1000_000} 100000", CORES),
        ("nonsense", CORES),
        (None, CORES),
    ],
)
def test_a_containers_limit_counts(tmp_path: Path, text: str | None, threads: int) -> None:
    limit = tmp_path / "cpu.max"
    if text is not None:
        limit.write_text(text + "\n")
    assert threads_per_worker(1, cpu_max=limit) == threads


def test_workers_share_the_cores(tmp_path: Path) -> None:
    none = tmp_path / "none"
    assert threads_per_worker(CORES, cpu_max=none) == 1
    assert threads_per_worker(10 * CORES, cpu_max=none) == 1
    assert threads_per_worker(0, cpu_max=none) == CORES
