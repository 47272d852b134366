"""The machine and the versions a figure of the service was taken on (torch is not loaded)."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from storage.embedded import SERVER_VERSION

PACKAGES = ("optuna", "sqlalchemy", "psycopg2-binary")


def facts() -> dict[str, Any]:
    """Processor, cores, load of the last minute, versions."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "load_1min": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "postgres": f"{SERVER_VERSION} (embedded, unix socket, fsync on)",
        **{name: version(name) for name in PACKAGES},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value with at least `share` of all values at or below it; NaN for none."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def text_table(rows: Sequence[Sequence[object]], *, header: Sequence[str]) -> str:
    """Columns aligned to the right, for a terminal or a README."""
    cells = [list(header), *[[str(cell) for cell in row] for row in rows]]
    widths = [max(len(line[i]) for line in cells) for i in range(len(header))]
    lines = [
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in cells
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])
