"""The entry for other engines: a worker as a function that Ray, Dask or a pool calls.

The worker is a process of its own, so it may be called from any thread, and it sees the GPUs
that the engine gave (CUDA_VISIBLE_DEVICES).  When the engine kills the caller, the worker
hands its trial back; what it leaves undone another worker takes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from nkat_errors import NkatError
from search.exit_codes import EXIT_DONE


class WorkerFailed(NkatError):
    """A worker ended in another way than that the search is over."""


def work(
    storage: str,
    *,
    study: str | None = None,
    checkpoint_dir: str | Path | None = None,
    data_dir: str | Path | None = None,
    device: str = "auto",
    threads: int | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Works on a study until it is done or stopped.

    Args:
        storage: postgresql+psycopg2://...; a password in it goes through the environment, which
            other users of the machine cannot read.
        study: its name; None is the newest.
        checkpoint_dir: shared by the workers, so that another can go on with a lost trial.
        data_dir: prepared data sets.
        device: as of `nkat-search worker`.
        threads: CPU threads; None for torch's choice.
        environment: further variables.

    Returns:
        A sentence for the engine's log.

    Raises:
        WorkerFailed: the worker failed, or was asked to stop; call again to go on.
    """
    options = {
        "--study": study,
        "--checkpoint-dir": checkpoint_dir,
        "--data-dir": data_dir,
        "--device": device,
        "--threads": threads,
    }
    given = [
        word for name, value in options.items() if value is not None for word in (name, str(value))
    ]
    ended = subprocess.run(
        # Told by the kernel when the calling process or thread is gone.
        [sys.executable, "-m", "search", "worker", "--with-parent", *given],
        env={**os.environ, **(environment or {}), "NKAT_STORAGE": storage},
        check=False,
    )
    if ended.returncode != EXIT_DONE:
        raise WorkerFailed(
            f"the worker ended with exit code {ended.returncode}; its own lines say why"
        )
    return "the search is over"
