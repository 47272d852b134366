"""Weights & Biases, offline: a folder per study, in it one folder per trial with its run.

Nothing is sent anywhere; `wandb sync FOLDER/*/trial-*/wandb/offline-run-*` uploads the runs.
A trial's folder is written beside its place and moved there, so a kill leaves no half one.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

# W&B reports its own errors to its makers otherwise; it reads this when it is imported.
os.environ.setdefault("WANDB_ERROR_REPORTING", "false")

import wandb

from search.trackers.run_folders import clear, known, written
from search.trackers.tracked_run import TrackedRun

SETTINGS = wandb.Settings(
    console="off",
    disable_git=True,
    disable_job_creation=True,
    mode="offline",
    reinit="create_new",
    save_code=False,
    silent=True,
    x_disable_machine_info=True,
    x_disable_meta=True,
    x_disable_stats=True,
    x_save_requirements=False,
)
"""The run is the trial's, not this process's: nothing of the process is recorded."""


class WandbSink:
    """A `Sink`.

    Args:
        folder: of this study's runs.
        study: its name, that of the project.
        made: a short text that tells it from another study of the same name.
    """

    def __init__(self, *, folder: Path, study: str, made: str) -> None:
        self._folder = folder
        self._study = study
        self._made = made
        clear(folder)

    def known(self) -> Collection[int]:
        return known(self._folder)

    def write(self, run: TrackedRun) -> None:
        with written(self._folder, run.name) as folder:
            started = wandb.init(
                project=self._study,
                id=f"{self._made}-{run.number}",
                name=run.name,
                dir=str(folder),
                config={**run.params, "nkat": dict(run.tags)},
                tags=sorted({run.tags[name] for name in ("state", "ending") if name in run.tags}),
                settings=SETTINGS,
            )
            try:
                for step in sorted({point.step for point in run.points}):
                    now = {point.name: point.value for point in run.points if point.step == step}
                    started.log(now, step=step)
                started.summary.update(dict(run.scores))
            finally:
                started.finish(exit_code=int(run.failed))

    def close(self) -> None:
        """W&B's own process ends with this one."""
