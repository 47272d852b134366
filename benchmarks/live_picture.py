"""The live view's picture in the README: one frame of a real search, drawn by rich.

    python benchmarks/live_picture.py --data-dir ~/images --out docs/live.svg

configs/laptop.yaml with 12 trials and two workers on the CPU: some minutes.
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

TRIALS, SHOWN_AT, WORKERS = 12, 7, 2
LONGEST_S = 1_800.0
COLUMNS = 104
CONFIG = Path(__file__).parents[1] / "configs" / "laptop.yaml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nkat-picture-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # under root, Postgres runs as another user
        config = folder / "search.yaml"
        text = CONFIG.read_text("utf-8")
        config.write_text(re.sub(r"(?m)^n_trials: \d+", f"n_trials: {TRIALS}", text), "utf-8")
        search = subprocess.Popen(
            [
                *(sys.executable, "-m", "search", "run", "--config", str(config)),
                *("--data-dir", str(options.data_dir), "--state-dir", str(folder / "runs")),
                *("--workers", str(WORKERS), "--dashboard-port", "0"),
                *("--out", str(folder / "best.yaml")),
            ],
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        try:
            draw(folder / "runs", options.out)
        finally:
            search.terminate()
            search.wait(120)


def draw(folder: Path, out: Path) -> None:
    """Follows the search as `run` does, and draws what it shows after some trials."""
    deadline = time.monotonic() + LONGEST_S
    while not holds_database(folder / "postgres"):
        if time.monotonic() > deadline:
            raise SystemExit("the search did not start")
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
        live = LiveTrials(board=board, search=session.search, clock=time.monotonic)
        progress = SearchProgress(
            console=console, title=session.record.study_name, done=board.counts().done, live=live
        )
        while time.monotonic() < deadline:
            counts = board.counts()
            watch.look(counts)
            workers = [row for row in board.workers() if row.device != "none"]
            progress.update(counts, board.best(), workers, gate=watch.best, warning="")
            curves = [trial.curve for trial in live.running().values() if len(trial.curve) > 1]
            if counts.done >= SHOWN_AT and len(curves) == WORKERS:
                break
            time.sleep(0.5)
    console.export_text(clear=True)  # what was said on the way
    console.print(progress.frame)
    picture = console.export_svg(title="nkat-search run --config configs/laptop.yaml --workers 2")
    # Without the font that it would fetch from elsewhere: any monospace one will do.
    out.write_text(re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL), "utf-8")


if __name__ == "__main__":
    main()
