"""MLflow: an experiment per study, in it one run per trial.

A folder holds MLflow's own SQLite file (its older store of plain files is no longer kept
up); any other place is named by its URI.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection
from pathlib import Path

# MLflow reports its use to its makers otherwise; it reads this when it is imported.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from mlflow.entities import Metric, Param, ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from search.trackers.tracked_run import TrackedRun

MOST_METRICS = 1_000
"""In one request of MLflow's."""
MOST_TEXT = 5_000
"""Characters of a tag; MLflow refuses longer ones."""
STUDY_MADE, TRIAL = "nkat.study_made", "nkat.trial"


class MlflowSink:
    """A `Sink`.

    Args:
        target: a folder, or a URI that MLflow knows.
        study: its name, that of the experiment.
        made: tells it from another study of the same name.
        clock: seconds since 1970.
    """

    def __init__(self, *, target: str, study: str, made: str, clock: Callable[[], float]) -> None:
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        self._made = made
        self._clock = clock
        uri, artifacts = target, None
        if "://" not in target:
            folder = Path(target).resolve()
            folder.mkdir(parents=True, exist_ok=True)
            uri, artifacts = f"sqlite:///{folder / 'mlflow.db'}", (folder / "artifacts").as_uri()
        self._client = MlflowClient(tracking_uri=uri)
        self._experiment = self._experiment_of(study, artifacts)

    def _experiment_of(self, study: str, artifacts: str | None) -> str:
        found = self._client.get_experiment_by_name(study)
        if found is not None:
            return str(found.experiment_id)
        try:
            return str(self._client.create_experiment(study, artifact_location=artifacts))
        except MlflowException:  # another process was quicker
            found = self._client.get_experiment_by_name(study)
            if found is None:
                raise
            return str(found.experiment_id)

    def known(self) -> Collection[int]:
        """Runs that were left unfinished by a kill are deleted: they are written again."""
        numbers: set[int] = set()
        page = None
        while True:
            found = self._client.search_runs(
                [self._experiment],
                filter_string=f"tags.`{STUDY_MADE}` = '{self._made}'",
                run_view_type=ViewType.ACTIVE_ONLY,
                max_results=MOST_METRICS,
                page_token=page,
            )
            for run in found:
                if run.info.status == "RUNNING":
                    self._client.delete_run(run.info.run_id)
                else:
                    numbers.add(int(run.data.tags[TRIAL]))
            page = found.token
            if not page:
                return numbers

    def write(self, run: TrackedRun) -> None:
        now_ms = int(self._clock() * 1000)
        tags = {f"nkat.{name}": text[:MOST_TEXT] for name, text in run.tags.items()}
        tags |= {STUDY_MADE: self._made, TRIAL: str(run.number)}
        run_id = self._client.create_run(
            self._experiment,
            run_name=run.name,
            start_time=now_ms - int(run.seconds * 1000),
            tags=tags,
        ).info.run_id
        metrics = [Metric(point.name, point.value, now_ms, point.step) for point in run.points] + [
            Metric(name, value, now_ms, 0) for name, value in run.scores.items()
        ]
        params = [Param(name, str(value)) for name, value in run.params.items()]
        for start in range(0, len(metrics), MOST_METRICS):
            self._client.log_batch(run_id, metrics=metrics[start : start + MOST_METRICS])
        self._client.log_batch(run_id, params=params)
        status = "FAILED" if run.failed else "FINISHED"
        self._client.set_terminated(run_id, status=status, end_time=now_ms)

    def close(self) -> None:
        """The client keeps nothing open."""
