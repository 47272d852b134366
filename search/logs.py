"""Log lines of the services: one line an event on stderr, with UTC time."""

from __future__ import annotations

import logging
import sys
import time


def log_to_stderr(level: str) -> None:
    """Every record from `level` on, once."""
    handler = logging.StreamHandler(sys.stderr)
    formatter = logging.Formatter(
        "%(asctime)s %(levelname).1s %(message)s", datefmt="%Y-%m-%dT%H:%M:%SZ"
    )
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=[handler], force=True)


def set_up_logging(level: str = "INFO") -> None:
    """The log of a worker or an orchestrator; Optuna's own chatter off.

    Storage logs each call at INFO for its other users; here the worker says the same in
    its own words, and one event is one line.  What storage warns of is said by it alone.
    """
    import warnings

    import optuna

    log_to_stderr(level)
    logging.getLogger("storage").setLevel(logging.WARNING)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
