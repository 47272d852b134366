"""That a process still goes round its loop, told to `nkat-search healthcheck --process`.

A file's time, in a folder of this machine: it needs no database, so an outage of the
database, in which everybody only waits, does not look like a process that hangs.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)

FOLDER_VARIABLE = "NKAT_ALIVE_DIR"
EVERY_S = 2.0


@contextmanager
def life_sign(*, clock: Callable[[], float] = time.monotonic) -> Iterator[Callable[[], None]]:
    """A function to call often while the block lasts; it writes at most every 2 s.

    Nothing is written unless $NKAT_ALIVE_DIR names a folder.
    """
    folder = os.environ.get(FOLDER_VARIABLE)
    if not folder:
        yield lambda: None
        return
    file = Path(folder) / str(os.getpid())
    due = clock()

    def show() -> None:
        nonlocal due
        if clock() < due:
            return
        due = clock() + EVERY_S
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{os.getpid()}\n")
        except OSError as error:
            log.warning("%s: cannot write %s (%s)", FOLDER_VARIABLE, file, error.strerror)

    try:
        yield show
    finally:
        file.unlink(missing_ok=True)


def newest_sign_s(folder: Path, *, now: float) -> float | None:
    """Age of the newest sign of any process, seconds; None when there is none.

    Args:
        now: as of time.time().
    """
    ages = []
    for file in folder.glob("*"):
        try:
            ages.append(now - file.stat().st_mtime)
        except OSError:
            continue
    return min(ages, default=None)
