"""The progress of a training: a bar on a terminal, lines in a log file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from model.training.trainer import EpochResult

STEP_LINE_EVERY_S = 15.0
"""Least time between two lines within an epoch; epochs shorter than that have none."""


class TrainingProgress(Protocol):
    """Hears of a training's steps and epochs."""

    def step(self, done: int, steps: int) -> None:
        """`done` of the epoch's `steps` are over (never told where a GPU runs epochs whole)."""

    def epoch(self, result: EpochResult) -> None: ...


class StepLines:
    """A line within an epoch, now and then.

    Args:
        title: what is trained.
        epochs: of the whole training.
        say: prints a line.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        title: str,
        *,
        epochs: int,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._title = title
        self._epochs = epochs
        self._say = say
        self._clock = clock
        self._epochs_done = 0
        self._began_at = self._said_at = clock()

    def step(self, done: int, steps: int) -> None:
        now = self._clock()
        if done == steps or now - self._said_at < STEP_LINE_EVERY_S:
            return
        self._said_at = now
        left_s = (now - self._began_at) / done * (steps - done)
        self._say(
            f"{self._title}: epoch {self._epochs_done + 1}/{self._epochs}  step {done}/{steps}  "
            f"about {left_s:,.0f} s to the end of the epoch"
        )

    def epoch_ended(self) -> None:
        self._epochs_done += 1
        self._began_at = self._said_at = self._clock()


class _Lines:
    """One line an epoch, and some within it."""

    def __init__(self, title: str, *, epochs: int, say: Callable[[str], None]) -> None:
        self._title = title
        self._say = say
        self._steps = StepLines(title, epochs=epochs, say=say)

    def step(self, done: int, steps: int) -> None:
        self._steps.step(done, steps)

    def epoch(self, result: EpochResult) -> None:
        self._steps.epoch_ended()
        self._say(f"{self._title}: {epoch_line(result)}")


class _Bar:
    """A bar of epochs that moves within them, with accuracy, images/s and time left."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task
        self._epochs_done = 0
        self._state = ""

    def step(self, done: int, steps: int) -> None:
        state = f"{self._state}step {done}/{steps}"
        self._progress.update(self._task, completed=self._epochs_done + done / steps, state=state)

    def epoch(self, result: EpochResult) -> None:
        self._epochs_done = result.epoch
        state = f"accuracy {result.accuracy:.4f}  {result.images_per_s:,.0f} images/s"
        self._state = f"{state}  "
        self._progress.update(self._task, completed=result.epoch, state=state)


@contextmanager
def epoch_progress(title: str, *, epochs: int, console: Console) -> Iterator[TrainingProgress]:
    """Shows a training until the block ends."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    if not console.is_terminal:
        yield _Lines(
            title,
            epochs=epochs,
            say=lambda line: console.print(line, markup=False, soft_wrap=True),
        )
        return
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[state]}"),
        TimeRemainingColumn(),
        console=console,
    ) as progress:
        yield _Bar(progress, progress.add_task(title, total=epochs, state=""))


def epoch_line(result: EpochResult) -> str:
    """One epoch in one line."""
    return (
        f"epoch {result.epoch}/{result.epochs}  accuracy {result.accuracy:.4f} "
        f"({result.weights})  loss {result.loss:.4f}  {result.images_per_s:,.0f} images/s"
    )
