"""What a rehearsal does to its own workers and database, at given rates and a given seed."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import psutil

from nkat_errors import BadInput
from search.objective.simulated_trainer import ACCIDENT, NAN, TOO_LARGE
from search.worker.training_child import SILENT

KINDS = ("kill", "term", "stall", "kill_child", "drop", "restart")
"""kill -9 and SIGTERM of a worker; SIGSTOP of a worker until its lease is over; kill -9
of a training child; a worker's database connections cut; the database restarted."""

INSIDE = ("oom", "nan", "crash", "hang")
"""Faults that the rehearsed training itself has: shares of configurations that do not fit
into memory or diverge, probabilities per epoch of an exception or of hanging for ever."""


def parse_rates(text: str) -> dict[str, float]:
    """`kill=0.05,drop=0.1` as numbers; `all` is every fault, often enough for 50 trials.

    Raises:
        BadInput: an unknown fault or a rate outside 0..1.
    """
    if text.strip() in ("", "none"):
        return {}
    if text.strip() == "all":
        # Faults from outside are spread evenly: 0.03 is one in 34 trials at the latest.  Those
        # inside are drawn: at these rates 50 trials, of 100 epochs and more, miss one of
        # the four kinds in fewer than 2 of 100 rehearsals.
        rates = dict.fromkeys(KINDS, 0.05) | {"restart": 0.03}
        return rates | {"oom": 0.12, "nan": 0.12, "crash": 0.05, "hang": 0.05}
    rates = {}
    for part in text.split(","):
        name, _, number = part.partition("=")
        name = name.strip()
        try:
            rate = float(number)
        except ValueError:
            rate = -1.0
        if name not in (*KINDS, *INSIDE) or not 0 <= rate <= 1:
            raise BadInput(
                f"--faults {part!r}: must be NAME=RATE with a rate in 0..1 and a name out of "
                f"{', '.join((*KINDS, *INSIDE))}; or `all`, or `none`"
            )
        rates[name] = rate
    return rates


@dataclass(slots=True, kw_only=True)
class Injector:
    """Fires faults while a rehearsal runs.

    A rate is the number of faults of its kind per ended trial, so faults stop when the
    search does.  They come at even distances from a random start: a rehearsal of 1 / rate
    trials has one.  One that finds nothing to strike stays due.

    Args:
        rates: by kind.
        seed: of the draws.
        pids: living workers' process ids by name.
        cut: cuts a worker's database connections.
        restart: restarts the database.
        stall_s: how long a stalled worker is stopped, seconds.
        clock: monotonic seconds.
    """

    rates: Mapping[str, float]
    seed: int
    pids: Callable[[], dict[str, int]]
    cut: Callable[[random.Random], bool]
    restart: Callable[[], None] | None
    stall_s: float
    clock: Callable[[], float]
    fired: Counter[str] = field(default_factory=Counter)
    _draw: random.Random = field(init=False)
    _due: dict[str, float] = field(init=False)
    _seen: int = 0
    _stalled: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._draw = random.Random(self.seed)
        self._due = {kind: self._draw.random() for kind in KINDS if self.rates.get(kind, 0.0) > 0}

    def tick(self, ended_trials: int) -> None:
        """Fires what is due for the trials that ended since the last call."""
        for pid, until in list(self._stalled.items()):
            if self.clock() >= until:
                _signal(pid, signal.SIGCONT)
                del self._stalled[pid]
        ended = max(ended_trials - self._seen, 0)
        self._seen += ended
        for kind in self._due:
            self._due[kind] += ended * self.rates[kind]
            while self._due[kind] >= 1 and self._fire(kind):
                self._due[kind] -= 1
                self.fired[kind] += 1

    def close(self) -> None:
        """Nothing stays stopped."""
        for pid in self._stalled:
            _signal(pid, signal.SIGCONT)
        self._stalled.clear()

    def _fire(self, kind: str) -> bool:
        if kind == "restart":
            if self.restart is None:
                return False
            self.restart()
            return True
        if kind == "drop":
            return self.cut(self._draw)
        pids = sorted(self.pids().values())
        if not pids:
            return False
        pid = self._draw.choice(pids)
        if kind == "kill":
            return _signal(pid, signal.SIGKILL)
        if kind == "term":
            return _signal(pid, signal.SIGTERM)
        if kind == "stall":
            if pid in self._stalled or not _signal(pid, signal.SIGSTOP):
                return False
            self._stalled[pid] = self.clock() + self.stall_s
            return True
        child = _training_child(pid)
        return child is not None and _signal(child, signal.SIGKILL)


def faults_inside(*, outcomes: Iterable[str], failures: Iterable[str]) -> Counter[str]:
    """How often the faults of the training itself struck, by what they left behind.

    Args:
        outcomes: the trials' sentences.
        failures: reasons of the failed attempts.
    """
    found: Counter[str] = Counter()
    for texts, marks in (
        (outcomes, {"oom": TOO_LARGE, "nan": NAN}),
        (failures, {"crash": ACCIDENT, "hang": SILENT}),
    ):
        for text in texts:
            found.update(kind for kind, mark in marks.items() if mark in text)
    return found


def _signal(pid: int, number: signal.Signals) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
        return True
    return False


def _training_child(pid: int) -> int | None:
    """The child that trains: the one that runs multiprocessing's spawn."""
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(pid).children():
            if "spawn_main" in " ".join(child.cmdline()):
                return int(child.pid)
    return None
