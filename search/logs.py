"""Log lines of the services: one line an event on stderr, with UTC time, as text or JSON."""

from __future__ import annotations

import enum
import itertools
import json
import logging
import shutil
import sys
import time
from pathlib import Path

MOST_BYTES = 10_000_000
"""Of one log file; then it is put aside."""
KEPT = 3
"""Files put aside: NAME.log.1 is the newest."""


class LogFormat(enum.StrEnum):
    """How a log line looks."""

    TEXT = "text"
    JSON = "json"


_context: dict[str, object] = {}
"""What this process works on; a worker has one trial at a time."""


def set_log_context(**fields: object) -> None:
    """Fields of every later line as JSON, such as trial and attempt; None takes one away."""
    _context.update(fields)
    for name in [name for name, value in _context.items() if value is None]:
        del _context[name]


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, the context, a record's extras."""

    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, object] = {
            "time": f"{at}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= _context
        line |= {k: v for k, v in vars(record).items() if k not in _OF_EVERY_RECORD}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


_OF_EVERY_RECORD = vars(logging.makeLogRecord({})).keys() | {"message", "asctime", "taskName"}


def log_to_stderr(level: str, log_format: LogFormat = LogFormat.TEXT) -> None:
    """Every record from `level` on, once."""
    handler = logging.StreamHandler(sys.stderr)
    formatter: logging.Formatter = JsonLines()
    if log_format is LogFormat.TEXT:
        formatter = logging.Formatter(
            "%(asctime)s %(levelname).1s %(message)s", datefmt="%Y-%m-%dT%H:%M:%SZ"
        )
        formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=[handler], force=True)


def set_up_logging(level: str = "INFO", log_format: LogFormat = LogFormat.TEXT) -> None:
    """The log of a worker or an orchestrator; Optuna's own chatter off.

    Storage logs each call at INFO for its other users; here the worker says the same in
    its own words, and one event is one line.  What storage warns of is said by it alone.
    """
    import warnings

    import optuna

    log_to_stderr(level, log_format)
    logging.getLogger("storage").setLevel(logging.WARNING)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def rotate(path: Path, *, most_bytes: int = MOST_BYTES, kept: int = KEPT) -> None:
    """Puts a log aside when it has grown large, and empties it.

    Its writer holds it open for appending, so it is copied, not renamed; a line written
    in between is lost.  A full disk leaves it as it is.
    """
    try:
        if path.stat().st_size < most_bytes:
            return
        older = [path.with_name(f"{path.name}.{number}") for number in range(1, kept + 1)]
        for newer, older_one in reversed(list(itertools.pairwise(older))):
            if newer.exists():
                newer.replace(older_one)
        shutil.copyfile(path, older[0])
        with path.open("r+b") as stream:
            stream.truncate(0)
    except OSError as error:
        logging.getLogger(__name__).warning("%s was not rotated: %s", path, error)
