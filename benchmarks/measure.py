"""What the benchmarks share: hardware facts, timing by CUDA graph, tables, JSON."""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


def hardware() -> dict[str, str]:
    """The machine and the versions a figure was taken on."""
    facts = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "processor": platform.processor() or platform.machine(),
    }
    if torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name()
        facts["cuda"] = str(torch.version.cuda)
        try:
            import triton

            facts["triton"] = triton.__version__
        except ImportError:
            facts["triton"] = "none"
    return facts


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of one call: the median and the extremes of n measurements."""

    median_s: float
    low_s: float
    high_s: float
    n: int

    @property
    def us(self) -> float:
        return self.median_s * 1e6

    @property
    def spread(self) -> float:
        """(high - low) / median."""
        return (self.high_s - self.low_s) / self.median_s


def summary(seconds: Sequence[float]) -> Timing:
    return Timing(statistics.median(seconds), min(seconds), max(seconds), len(seconds))


def time_graphed(work: Callable[[], Any], *, inner: int = 10, n: int = 7) -> Timing:
    """One call of `work`, captured `inner` times in a CUDA graph: no launch overhead.

    Two replays warm up; each of the n measurements is one replay between two events.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(inner):
            work()
    graph.replay()
    graph.replay()
    seconds = []
    for _ in range(n):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        seconds.append(begin.elapsed_time(end) / 1e3 / inner)
    del graph
    return summary(seconds)


def matmul_rate(size: int = 8192) -> float:
    """Measured bf16 matrix rate, FLOP/s, on random data."""
    a = torch.randn(size, size, device="cuda", dtype=torch.bfloat16)
    b = torch.randn(size, size, device="cuda", dtype=torch.bfloat16)
    return 2 * size**3 / time_graphed(lambda: a @ b, inner=5).median_s


def table(rows: Sequence[Sequence[object]], *, header: Sequence[str]) -> str:
    cells = [list(header), *[[str(cell) for cell in row] for row in rows]]
    widths = [max(len(line[i]) for line in cells) for i in range(len(header))]
    lines = [
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in cells
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def write_json(path: Path | None, *, name: str, results: Any) -> None:
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"benchmark": name, "hardware": hardware(), "results": results}
    path.write_text(json.dumps(document, indent=2) + "\n")
