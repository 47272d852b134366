"""Which devices this machine trains on, without importing torch into this process."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

from nkat_errors import BadInput

PROBE = "import torch; print(torch.cuda.device_count() if torch.cuda.is_available() else 0)"
PROBE_TIMEOUT_S = 120.0
MOST_CPU_WORKERS = 4
"""Of a search without a GPU, one thread each where there are no more cores: so small networks gain
little from a second thread, and each worker takes about 0.7 GB."""

CPU_MAX = Path("/sys/fs/cgroup/cpu.max")
"""Within a container: its CPU time and the period that it is for, in microseconds."""


@cache
def gpu_count() -> int:
    """GPUs that torch can use here; asked once, for the answer takes a process that loads torch.

    Asked in a process of its own: a parent that has initialised CUDA holds several
    hundred MB of GPU memory and never trains.
    """
    if not any(Path("/dev").glob("nvidia[0-9]*")) and not Path("/dev/dxg").exists():
        return 0
    try:
        answer = subprocess.run(
            [sys.executable, "-c", PROBE],
            capture_output=True,
            text=True,
            timeout=PROBE_TIMEOUT_S,
            check=True,
        )
        return int(answer.stdout.strip())
    except (subprocess.SubprocessError, ValueError):
        return 0


def worker_devices(*, workers: int | None, cpu_max: Path = CPU_MAX) -> list[str]:
    """One device name per worker: every GPU once; on a machine without one, `cpu` for each
    core, up to `MOST_CPU_WORKERS`.

    Args:
        workers: how many; None for the number above.  More workers than GPUs share them in turn.
    """
    if workers is not None and workers < 1:
        raise BadInput(f"--workers {workers}: must be 1 or more")
    gpus = gpu_count()
    names = [f"cuda:{i}" for i in range(gpus)]
    if not names:
        names = ["cpu"] * min(MOST_CPU_WORKERS, threads_per_worker(1, cpu_max=cpu_max))
    return [names[i % len(names)] for i in range(workers or len(names))]


def threads_per_worker(workers: int, *, cpu_max: Path = CPU_MAX) -> int:
    """CPU threads each training child gets: the cores shared out, at least one.

    A container's CPU limit counts as well.  It is this worker's alone, so it is not shared.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    share = (cores or 1) // max(workers, 1)
    return max(1, min(share, _cpu_limit(cpu_max) or share))


def _cpu_limit(cpu_max: Path) -> int | None:
    """Whole cores that the control group allows; None for no limit."""
    try:
        quota, period = cpu_max.read_text().split()
        return None if quota == "max" else math.ceil(int(quota) / int(period))
    except (OSError, ValueError, ZeroDivisionError):
        return None
