"""One bar over all trainings of a recalculation, with the time left.

On something that is not a terminal the same facts come as lines: one when a training ends,
and at most one a minute in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from search.terminal import duration, plain

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from model.training.trainer import EpochResult
    from search.retrain.plan import Plan, PlannedTraining
    from search.retrain.runner import Outcome

LINE_EVERY_S = 60.0
"""Between two lines of a log."""
EPOCHS_BEFORE_ESTIMATE = 2
"""The first epoch also compiles and captures."""


class RecalculationProgress:
    """A `Watcher` that shows the recalculation; made by `showing`.

    Args:
        plan: what is trained; its FLOPs are the bar's length, for an epoch of one set takes
            many times one of another.
        console: where.
        clock: monotonic seconds.
        bar: where the console is a terminal.
    """

    def __init__(
        self,
        *,
        plan: Plan,
        console: Console,
        clock: Callable[[], float],
        bar: tuple[Progress, TaskID] | None,
    ) -> None:
        self._plan = plan
        self._total = len(list(plan.trainings()))
        self._console = console
        self._clock = clock
        self._bar = bar
        self._done = 0.0
        self._timed = 0.0
        self._timed_epochs = 0
        self._timed_since: float | None = None
        self._line_at = clock()
        self._said_estimate = plan.estimate_s is not None

    def resumed(self, finished: int, work: float) -> None:
        self._done = work
        if finished:
            self._line(f"going on: {finished} of {self._total} trainings are finished")
        self._show()

    def began(self, training: PlannedTraining, epochs_done: int) -> None:
        self._done += training.planned.work_per_epoch * epochs_done
        if epochs_done:
            epochs = training.planned.recipe.epochs
            self._line(f"{self._title(training)}: going on after epoch {epochs_done}/{epochs}")
        if self._timed_since is None:
            self._timed_since = self._clock()
        self._show(self._title(training))

    def epoch(self, training: PlannedTraining, result: EpochResult) -> None:
        self._done += training.planned.work_per_epoch
        self._timed += training.planned.work_per_epoch
        self._timed_epochs += 1
        text = (
            f"{self._title(training)}: epoch {result.epoch}/{result.epochs}  "
            f"loss {result.loss:.4f}  {result.images_per_s:,.0f} images/s"
        )
        left = self.left_s()
        if not self._said_estimate and left is not None:
            self._said_estimate = True
            self._line(f"about {duration(left)} to go, by the pace of the first epochs")
        elif self._bar is None and self._clock() - self._line_at >= LINE_EVERY_S:
            self._line(text + ("" if left is None else f"  {duration(left)} left"))
        self._show(text)

    def ended(self, training: PlannedTraining, outcome: Outcome) -> None:
        left_out = training.planned.recipe.epochs - len(outcome.history)
        self._done += training.planned.work_per_epoch * left_out  # it broke down
        if outcome.accuracy is None:
            text = f"BROKE DOWN: {outcome.failure}"
        else:
            text = f"accuracy {outcome.accuracy:.4f} on {outcome.test_images:,} test images"
        left = self.left_s()
        tail = "" if left is None or not round(left) else f"; {duration(left)} left"
        self._line(f"{self._title(training)}: {text}{tail}")
        self._show()

    def left_s(self) -> float | None:
        """Seconds left by the pace of this process; None before it is known."""
        if self._timed_since is None or self._timed_epochs < EPOCHS_BEFORE_ESTIMATE:
            return None
        pace = (self._clock() - self._timed_since) / self._timed
        return max(0.0, self._plan.work - self._done) * pace

    def _title(self, training: PlannedTraining) -> str:
        return f"{training.number + 1}/{self._total} {training.planned.name} seed {training.seed}"

    def _line(self, text: str) -> None:
        self._line_at = self._clock()
        self._console.print(plain(text), soft_wrap=True)

    def _show(self, text: str | None = None) -> None:
        if self._bar is None:
            return
        progress, task = self._bar
        left = self.left_s()
        progress.update(
            task,
            completed=min(1.0, self._done / self._plan.work),
            left="" if left is None else f"{duration(left)} left",
        )
        if text is not None:
            progress.update(task, description=plain(text).plain)


@contextmanager
def showing(
    plan: Plan, *, console: Console, clock: Callable[[], float]
) -> Iterator[RecalculationProgress]:
    """Shows the recalculation while the block runs."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    if not console.is_terminal:
        yield RecalculationProgress(plan=plan, console=console, clock=clock, bar=None)
        return
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[left]}", markup=False),
        console=console,
    ) as progress:
        task = progress.add_task("reading images", total=1.0, left="")
        yield RecalculationProgress(plan=plan, console=console, clock=clock, bar=(progress, task))


def opening(plan: Plan) -> list[str]:
    """What is said before the first training."""
    trainings = len(list(plan.trainings()))
    runs = len(plan.seeds)
    sets = ", ".join(f"{one.name} {one.recipe.epochs}" for one in plan.sets)
    if plan.estimate_s is None:
        length = "how long is said after the first epochs"
    else:
        length = f"about {duration(plan.estimate_s)}, by what the search's trial took"
    lines = [
        f"{trainings} trainings: {len(plan.sets)} data sets, {runs} "
        f"{'seed' if runs == 1 else 'seeds'} each, {plan.epochs} epochs in all ({sets}); {length}."
    ]
    given = plan.settings.train.given()
    if given:
        changed = ", ".join(f"{name} {value}" for name, value in given.items())
        lines.append(f"Recipe of the recalculation, where a set has none of its own: {changed}.")
    return lines
