"""TensorBoard: a folder per study, in it one folder of events per trial.

A trial's folder is written beside its place and moved there, so a kill leaves no half one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams.metadata import (
    NULL_TENSOR,
    SESSION_END_INFO_TAG,
    create_summary_metadata,
)
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.plugins.text.summary_v2 import text_pb
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from search.trackers.run_folders import clear, known, written
from search.trackers.tracked_run import TrackedRun


class TensorBoardSink:
    """A `Sink`.

    Args:
        folder: of this study's runs.
        clock: seconds since 1970.
    """

    def __init__(self, *, folder: Path, clock: Callable[[], float]) -> None:
        self._folder = folder
        self._clock = clock
        clear(folder)

    def known(self) -> Collection[int]:
        return known(self._folder)

    def write(self, run: TrackedRun) -> None:
        now = self._clock()
        with written(self._folder, run.name) as folder:
            writer = EventFileWriter(str(folder))

            def add(summary: Summary, step: int = 0) -> None:
                writer.add_event(Event(wall_time=now, step=step, summary=summary))

            add(hparams_pb(dict(run.params), trial_id=run.name, start_time_secs=now - run.seconds))
            for point in run.points:
                add(_scalar(point.name, point.value), point.step)
            for name, value in run.scores.items():
                add(_scalar(name, value))
            add(text_pb("about", _table(run)))
            add(_end(failed=run.failed, at=now))
            writer.close()

    def close(self) -> None:
        """Nothing is kept open."""


def _scalar(name: str, value: float) -> Summary:
    return Summary(value=[Summary.Value(tag=name, simple_value=value)])


def _end(*, failed: bool, at: float) -> Summary:
    """TensorBoard has a function for it that needs TensorFlow."""
    status = api_pb2.STATUS_FAILURE if failed else api_pb2.STATUS_SUCCESS
    about = HParamsPluginData(session_end_info=SessionEndInfo(status=status, end_time_secs=at))
    value = Summary.Value(
        tag=SESSION_END_INFO_TAG, metadata=create_summary_metadata(about), tensor=NULL_TENSOR
    )
    return Summary(value=[value])


def _table(run: TrackedRun) -> str:
    rows = [f"| {name} | {text.replace('|', '/')} |" for name, text in run.tags.items()]
    return "\n".join(["| what | |", "| --- | --- |", *rows])
