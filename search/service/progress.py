"""The search as it runs, on a terminal: one bar, one line of scores, the workers.

On something that is not a terminal (a log, CI) the same facts come as plain lines,
one whenever a trial ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from search.service.live import LiveTrials
from search.service.next_steps import cost_line
from search.service.sparkline import sparkline
from search.study.nearest import AtTheGate
from search.terminal import duration, plain
from storage.records import Counts, WorkerRow
from storage.states import WorkerState


def time_left_s(counts: Counts, recent: Sequence[float], workers: int) -> float | None:
    """Seconds until the budget is used up, at the pace of the last trials.

    A mean over all trials would lag behind: a sampler that has learnt draws trials of
    another cost than the first ones.

    Args:
        counts: of the search; a trial under way counts as half done.
        recent: seconds of the trials that ended last.
        workers: that work at the same time.
    """
    if not recent:
        return None
    left = counts.left
    left_trials = left - min(counts.running, left) / 2
    return sum(recent) / len(recent) * left_trials / max(workers, 1)


def done_of(counts: Counts) -> str:
    """`50/50 trials`, later `50/50 trials + 3/6 repeats`."""
    repeats = f" + {counts.repeats_done}/{counts.repeats} repeats" if counts.repeats else ""
    return f"{counts.done}/{counts.budget} trials{repeats}"


def worker_line(row: WorkerRow, live: LiveTrials) -> str:
    """`cuda:0 on vm: trial 12, stage 1, cifar10 epoch 3 of 12  ▁▃▅ 0.475 (gate 0.6)`."""
    where = f"{row.device} on {row.host}"
    if row.trial is None:
        return (
            f"{where}: idle" if row.state is WorkerState.ALIVE else f"{where}: {row.state.value}"
        )
    parts = [f"trial {row.trial}"]
    if row.attempt and row.attempt > 1:
        parts.append(f"attempt {row.attempt}")
    trial = live.running().get(row.trial)
    if row.stage and row.dataset:
        planned = live.epochs(trial.params, row.dataset) if trial else None
        of = "" if planned is None else f" of {planned}"
        parts += [f"stage {row.stage}", f"{row.dataset} epoch {row.epoch}{of}"]
    line = f"{where}: " + ", ".join(parts)
    if trial is None or not trial.curve:
        return line
    score, gate = trial.curve[-1], live.threshold
    return f"{line}  {sparkline(trial.curve, top=gate)} {score:.3f} (gate {gate:g})"


class SearchProgress:
    """A context that shows the search until it is left.

    Args:
        console: where.
        title: what runs.
        done: trials that count already.
        live: what trials under way have reached.

    Attributes:
        frame: what a terminal shows now.
    """

    def __init__(self, *, console: Console, title: str, done: int, live: LiveTrials) -> None:
        self._console = console
        self._title = title
        self._live_trials = live
        self._shown = done
        self._warned = ""
        self._cost_told = False
        self.frame = Group()
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("trials"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
        )
        self._task = self._bar.add_task(title, total=None, completed=done, left="")
        self._live = Live(console=console, refresh_per_second=4) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def say_cost(self, counts: Counts, workers: int) -> None:
        """Prints, once and as soon as it is known, how long the rest will take.

        Args:
            counts: of the search.
            workers: that work at the same time.
        """
        more = counts.left
        seconds = (
            () if self._cost_told or not more else self._live_trials.ended(counts.ended).seconds
        )
        left_s = time_left_s(counts, seconds, workers)
        if left_s is not None:
            line = cost_line(seconds, left_s, more, workers=workers)
            self._console.print(plain(line), soft_wrap=True)
            self._cost_told = True

    def update(
        self,
        counts: Counts,
        best: tuple[int, float] | None,
        workers: Sequence[WorkerRow],
        *,
        gate: AtTheGate | None,
        warning: str,
    ) -> None:
        """Shows the search as it is.

        Args:
            counts: in numbers.
            best: number and Global TPE score of the best trial.
            workers: living ones.
            gate: how the trial nearest to passing stood at the gate.
            warning: shown above the rest, once; empty for none.
        """
        if warning and warning != self._warned:
            self._console.print(plain(f"WARNING: {warning}", "bold yellow"), soft_wrap=True)
            self._warned = warning
        alive = sum(row.state is WorkerState.ALIVE for row in workers)
        if counts.ended != self._shown:
            self.say_cost(counts, alive)
        ended = self._live_trials.ended(counts.ended)
        left_s = time_left_s(counts, ended.seconds, alive)
        left = "" if left_s is None else f"about {duration(left_s)} left"
        facts = self._facts(counts, best)
        if self._live is not None:
            total = counts.budget + counts.repeats
            self._bar.update(self._task, total=total, completed=counts.ended, left=left)
            lines = [plain(facts)]
            if gate is not None:
                lines.append(plain(gate.short()))
            if ended.saved:
                lines.append(plain(ended.saved))
            lines += [plain(f"  {worker_line(row, self._live_trials)}") for row in workers]
            lines += [plain(f"  {line}", "dim") for line in ended.newest]
            self.frame = Group(self._bar, *lines)
            self._live.update(self.frame)
        elif counts.ended != self._shown:
            parts = [done_of(counts), facts, gate and gate.short(), left]
            self._console.print(plain("; ".join(p for p in parts if p)), soft_wrap=True)
        self._shown = counts.ended

    @staticmethod
    def _facts(counts: Counts, best: tuple[int, float] | None) -> str:
        parts = [f"{counts.complete} complete", f"{counts.pruned} pruned"]
        if counts.lost or counts.failed_attempts:
            parts.append(f"{counts.lost + counts.failed_attempts} attempts lost or failed")
        parts.append(
            "no Global TPE score yet"
            if best is None
            else f"best Global TPE score {best[1]:.4f} (trial {best[0]})"
        )
        return ", ".join(parts)
