"""What a command does with an exception that nobody foresaw: one sentence, and a log.

The traceback is for whoever mends it.  A service that logs already (a worker, the
orchestrator) puts it there; any other command puts it into a file of its own, and
NKAT_DEBUG=1 shows it on stderr.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import traceback

DEBUG_VARIABLE = "NKAT_DEBUG"


def sentence_for(error: BaseException) -> str:
    """The sentence on an unforeseen exception, whose traceback is kept."""
    text = "".join(traceback.format_exception(error))
    what = f"unexpected {type(error).__name__}"
    lines = str(error).strip().splitlines()
    if lines:
        what += f": {lines[0]}"
    return f"{what} ({_keep(text)})"


def _keep(text: str) -> str:
    """Puts a traceback away; returns where."""
    if os.environ.get(DEBUG_VARIABLE, "") not in ("", "0"):
        sys.stderr.write(text)
        return "traceback above"
    if logging.getLogger().handlers and logging.getLogger().isEnabledFor(logging.INFO):
        logging.getLogger(__name__).error("%s", text.rstrip())
        return "traceback above"
    try:
        handle, path = tempfile.mkstemp(prefix="nkat-search-", suffix=".log")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(text)
    except OSError:
        return f"{DEBUG_VARIABLE}=1 shows the traceback"
    return f"traceback in {path}; {DEBUG_VARIABLE}=1 shows it"
