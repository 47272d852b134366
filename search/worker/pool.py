"""The worker processes of one machine: started, watched, started again, stopped.

Each is the same `nkat-search worker` that a user could start by hand, in a session
of its own so that a Ctrl-C in the terminal reaches only the command in front, which
then asks the workers to stop in good order.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from nkat_errors import BadInput
from search.exit_codes import EXIT_BAD_INPUT, EXIT_FAILED
from search.logs import rotate

log = logging.getLogger(__name__)

RESTART_BACKOFF_S = 2.0
"""Doubled at each restart of the same worker."""
LONGEST_BACKOFF_S = 60.0
MAX_RESTARTS = 5
"""Restarts of one worker in one run, after ends that are not its own decision."""
LOG_TAIL_CHARACTERS = 4000


@dataclass(slots=True)
class _Slot:
    """One worker's place: its command, its log, its process."""

    name: str
    command: Sequence[str]
    log_path: Path | None
    process: subprocess.Popen[bytes] | None = None
    stream: IO[bytes] | None = None
    restarts: int = 0
    start_at: float = 0.0
    ended: bool = False


class WorkerPool:
    """Keeps one process per command running until each has ended for good.

    Args:
        commands: by name, the arguments after `nkat-search`.
        log_folder: gets NAME.log, appended and rotated; None lets the workers write where we do.
        environment: added to this process's.
        clock: monotonic seconds.
        max_restarts: of one worker, after ends that are not its own decision; None for
            no limit.
        backoff_s: before the first restart, doubled at each further one (at most 60 s);
            without a limit on restarts it stays the same.
    """

    def __init__(
        self,
        *,
        commands: Mapping[str, Sequence[str]],
        log_folder: Path | None,
        environment: dict[str, str] | None = None,
        clock: Callable[[], float],
        max_restarts: int | None = MAX_RESTARTS,
        backoff_s: float = RESTART_BACKOFF_S,
    ) -> None:
        if log_folder is not None:
            log_folder.mkdir(parents=True, exist_ok=True)
        self._environment = {**os.environ, **(environment or {})}
        self._clock = clock
        self._max_restarts = max_restarts
        self._backoff_s = backoff_s
        self._slots = [
            _Slot(
                name=name,
                command=command,
                log_path=None if log_folder is None else log_folder / f"{name}.log",
            )
            for name, command in commands.items()
        ]

    @property
    def all_ended(self) -> bool:
        return all(slot.ended for slot in self._slots)

    def pids(self) -> dict[str, int]:
        """Living workers' process ids by name."""
        return {s.name: s.process.pid for s in self._slots if s.process and not s.ended}

    def tick(self) -> list[str]:
        """Starts what is due; returns a line for each worker that failed for good.

        Raises:
            BadInput: a worker says that the user's input cannot work.
        """
        lines = []
        for slot in self._slots:
            if slot.ended:
                continue
            if slot.log_path is not None and slot.process is not None:
                rotate(slot.log_path)
            if slot.process is None:
                if self._clock() >= slot.start_at:
                    self._start(slot)
                continue
            code = slot.process.poll()
            if code is not None:
                line = self._on_end(slot, code)
                if line:
                    lines.append(line)
        return lines

    def stop(self, *, grace_s: float) -> None:
        """SIGTERM to all, SIGKILL to those that are still there after `grace_s`."""
        for slot in self._slots:
            if slot.process is not None and slot.process.poll() is None:
                slot.process.send_signal(signal.SIGTERM)
        deadline = self._clock() + grace_s
        for slot in self._slots:
            if slot.process is not None:
                try:
                    slot.process.wait(max(deadline - self._clock(), 0.1))
                except subprocess.TimeoutExpired:
                    log.warning("%s did not stop within %.0f s and is killed", slot.name, grace_s)
                    slot.process.kill()
                    slot.process.wait()
            slot.ended = True
            self._close(slot)

    def _start(self, slot: _Slot) -> None:
        self._close(slot)
        if slot.log_path is not None:
            slot.stream = slot.log_path.open("ab")
        slot.process = subprocess.Popen(
            [sys.executable, "-m", "search", *slot.command],
            stdin=subprocess.DEVNULL,
            stdout=slot.stream,
            stderr=slot.stream,
            env=self._environment,
            start_new_session=True,
        )

    def _on_end(self, slot: _Slot, code: int) -> str | None:
        slot.process = None
        if code == 0:
            slot.ended = True
            return None
        last = self._last_line(slot)
        if code == EXIT_BAD_INPUT:
            slot.ended = True
            raise BadInput(last)
        used_up = self._max_restarts is not None and slot.restarts >= self._max_restarts
        if code == EXIT_FAILED or used_up:
            slot.ended = True
            return f"{slot.name} ended: {last}"
        doublings = 0 if self._max_restarts is None else slot.restarts
        slot.start_at = self._clock() + min(self._backoff_s * 2**doublings, LONGEST_BACKOFF_S)
        slot.restarts += 1
        log.warning("%s ended with code %d and is started again", slot.name, code)
        return None

    def _last_line(self, slot: _Slot) -> str:
        if slot.log_path is None:
            return "its message stands above"
        text = slot.log_path.read_bytes()[-LOG_TAIL_CHARACTERS:].decode(errors="replace")
        return last_line(text) or f"no message, see {slot.log_path}"

    def _close(self, slot: _Slot) -> None:
        if slot.stream is not None:
            slot.stream.close()
            slot.stream = None


def last_line(text: str) -> str:
    """What a command of ours said last, without its name; empty when it said nothing."""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("nkat-search: ") if lines else ""
