"""The live view's picture in the README: one frame of a rehearsal, drawn by rich.

    python benchmarks/live_picture.py --out docs/live.svg

Real worker processes and a real database, made-up accuracies: a search in half a minute.
"""

from __future__ import annotations

import argparse
import io
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from search.service.gate_watch import GateWatch
from search.service.live import LiveTrials
from search.service.progress import SearchProgress
from search.study.session import database, opened
from storage.embedded.folders import holds_database

TRIALS, SHOWN_AT, WORKERS, EPOCHS = 50, 26, 4, 12
LONGEST_S = 180.0
COLUMNS = 104


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory(prefix="nkat-picture-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # under root, Postgres runs as another user
        rehearsal = subprocess.Popen(
            [
                *(sys.executable, "-m", "search", "rehearse", "--keep", str(folder)),
                *("--trials", str(TRIALS), "--workers", str(WORKERS), "--seed", "3"),
                *("--epochs", str(EPOCHS), "--epoch-s", "0.3"),
            ],
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        try:
            draw(folder, out)
        finally:
            rehearsal.terminate()
            rehearsal.wait(60)


def draw(folder: Path, out: Path) -> None:
    """Follows the search as `run` does, and draws what it shows after some trials."""
    deadline = time.monotonic() + LONGEST_S
    while not holds_database(folder / "postgres"):
        if time.monotonic() > deadline:
            raise SystemExit("the rehearsal did not start")
        time.sleep(0.2)
    time.sleep(3)  # its tables
    console = Console(
        record=True, force_terminal=True, width=COLUMNS, file=io.StringIO(), legacy_windows=False
    )
    with (
        database(None, folder) as url,
        opened(url, None, role="picture", wait_s=30.0) as session,
    ):
        board, watch = session.board, GateWatch(session.board)
        live = LiveTrials(
            board=board, search=session.search, clock=time.monotonic, made_up_epochs=EPOCHS
        )
        progress = SearchProgress(
            console=console, title=session.record.study_name, done=board.counts().done, live=live
        )
        while time.monotonic() < deadline:
            counts = board.counts()
            watch.look(counts)
            workers = [row for row in board.workers() if row.device != "none"]
            progress.update(counts, board.best(), workers, gate=watch.best, warning="")
            if counts.done >= SHOWN_AT:
                break
            time.sleep(0.5)
    console.export_text(clear=True)  # what was said on the way
    console.print(progress.frame)
    picture = console.export_svg(title="nkat-search run (a rehearsal: made-up accuracies)")
    # Without the font that it would fetch from elsewhere: any monospace one will do.
    out.write_text(re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL), "utf-8")


if __name__ == "__main__":
    main()
