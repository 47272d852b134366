"""optuna-dashboard beside `nkat-search run`: a process of its own that ends with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from search.dashboard.address import ANNOUNCED
from search.logs import LogFormat, rotate
from search.worker.pool import last_line

END_WAIT_S = 10.0


class DashboardProcess:
    """A context in which the dashboard is served on loopback.

    A port that is taken costs the dashboard, not the search; `news` says so.

    Args:
        url: the database.
        port: on 127.0.0.1.
        log_path: gets what the process says, appended.
        log_format: of its lines.
    """

    def __init__(
        self, *, url: str, port: int, log_path: Path, log_format: LogFormat = LogFormat.TEXT
    ) -> None:
        self._url = url
        self._port = port
        self._log_path = log_path
        self._log_format = log_format
        self._log_start = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._up = False

    def __enter__(self) -> Self:
        self._log_path.parent.mkdir(parents=True, exist_ok=True)
        rotate(self._log_path)
        with self._log_path.open("ab") as stream:
            self._log_start = stream.tell()
            command = ["dashboard", "--with-parent", "--port", str(self._port)]
            command += ["--log-format", self._log_format]
            self._process = subprocess.Popen(
                [sys.executable, "-m", "search", *command],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env={**os.environ, "NKAT_STORAGE": self._url},
                start_new_session=True,
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(END_WAIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def news(self) -> str | None:
        """A line when the dashboard has come up (its address) and when it has ended (why)."""
        if self._process is None:
            return None
        if not self._up and ANNOUNCED in self._said():
            self._up = True
            return f"dashboard: http://127.0.0.1:{self._port} (log: {self._log_path})"
        if self._process.poll() is None:
            return None
        self._process = None
        why = last_line(self._said()) or f"it ended without a word, see {self._log_path}"
        return f"no dashboard: {why}; the search goes on without it (--dashboard-port: another)"

    def _said(self) -> str:
        with self._log_path.open("rb") as stream:
            stream.seek(self._log_start)
            return stream.read().decode(errors="replace")
