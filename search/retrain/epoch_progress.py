"""The progress of a training on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from model.training.trainer import EpochResult


@contextmanager
def epoch_progress(
    title: str, *, epochs: int, console: Console
) -> Iterator[Callable[[EpochResult], None]]:
    """A bar with accuracy, images/s and time left; one line an epoch where the console is
    no terminal (a log file)."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    if not console.is_terminal:
        yield lambda result: console.print(
            f"{title}: {epoch_line(result)}", markup=False, soft_wrap=True
        )
        return
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[state]}"),
        TimeRemainingColumn(),
        console=console,
    ) as progress:
        task = progress.add_task(title, total=epochs, state="")

        def show(result: EpochResult) -> None:
            state = f"accuracy {result.accuracy:.4f}  {result.images_per_s:,.0f} images/s"
            progress.update(task, completed=result.epoch, state=state)

        yield show


def epoch_line(result: EpochResult) -> str:
    """One epoch in one line."""
    return (
        f"epoch {result.epoch}/{result.epochs}  accuracy {result.accuracy:.4f} "
        f"({result.weights})  loss {result.loss:.4f}  {result.images_per_s:,.0f} images/s"
    )
