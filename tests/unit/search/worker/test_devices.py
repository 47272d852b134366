"""CPU threads of a worker: the cores shared out, within the container's limit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from search.worker import devices
from search.worker.devices import MOST_CPU_WORKERS, threads_per_worker, worker_devices

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


def test_without_a_gpu_each_core_gets_a_worker_up_to_four(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "gpu_count", lambda: 0)
    limit = tmp_path / "cpu.max"
    assert worker_devices(workers=None, cpu_max=limit) == ["cpu"] * min(MOST_CPU_WORKERS, CORES)
    assert worker_devices(workers=3, cpu_max=limit) == ["cpu"] * 3
    limit.write_text("100000 100000")
    assert worker_devices(workers=None, cpu_max=limit) == ["cpu"]
    monkeypatch.setattr(devices, "gpu_count", lambda: 2)
    assert worker_devices(workers=None) == ["cuda:0", "cuda:1"]
    assert worker_devices(workers=3) == ["cuda:0", "cuda:1", "cuda:0"]
