"""What `run` says of the work ahead: how long it will take, and what to type afterwards."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean

from search.terminal import duration
from storage.records import Counts

STORAGE_SHOWN = "$NKAT_STORAGE"
"""A database's address may hold its password: the line shows this in its place."""


def going_on(counts: Counts) -> str:
    """That the search is not new; empty for one that is."""
    if counts.over:
        return f"all {counts.wanted} are done already"
    every = counts.ended + counts.left
    return f"going on, {counts.ended} of {every} done" if counts.attempts else ""


def cost_line(seconds: Sequence[float], left_s: float, more: int, *, workers: int) -> str:
    """`about 12 s a trial so far: about 10 min for 49 more`.

    Args:
        seconds: of the trials that ended last; at least one.
        left_s: until the budget is used up.
        more: trials that are left.
        workers: that work at the same time.
    """
    together = f" with {workers} workers" if workers > 1 else ""
    return (
        f"about {duration(fmean(seconds))} a trial so far: about {duration(left_s)} for {more} "
        f"more{together}"
    )


def next_steps(
    out: Path, *, study: str, data_dir: Path | None, state_dir: Path | None, storage: bool
) -> Iterator[str]:
    """Commands to type after a search that ended with a best.yaml, as lines.

    Args:
        out: the best.yaml.
        study: its name.
        data_dir, state_dir: as they were given to `run`.
        storage: a database was named.
    """
    images = ("--data-dir", str(data_dir)) if data_dir is not None else ()
    where = ("--state-dir", str(state_dir)) if state_dir is not None else ()
    database = f" --storage {STORAGE_SHOWN}" if storage else ""
    steps = (
        (shlex.join(("recalculate", str(out), *images)), "in full, several seeds, test images"),
        (shlex.join(("report", "--study", study, *where)) + database, "the page, made anew"),
        (shlex.join(("dashboard", *where)) + database, "optuna-dashboard, in a browser"),
    )
    width = max(len(command) for command, _ in steps)
    yield "next:"
    for command, why in steps:
        yield f"  nkat-search {command:<{width}}  # {why}"
