"""`status` on a terminal of 80 columns: texts as they are, numbers whole."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from search.service.status import tables
from search.study.nearest import AtTheGate

COUNTS = {
    "budget": 50, "done": 11, "leased": 2, "open": 37, "complete": 1, "pruned": 10, "running": 2,
    "waiting": 0, "failed": 1, "attempts": 14, "retries": 1, "lost": 1, "failed_attempts": 1,
    "handed_back": 0, "closed": 0, "late": 0, "failure_rate": 0.1,
    "repeats": 0, "repeats_done": 0,
}  # fmt: skip
GATE = AtTheGate(
    trial=3, dataset="cifar10", score=0.5560, threshold=0.6, accuracy=0.7351,
    accuracy_needed=0.7933, lam=20.0,
)  # fmt: skip


def view(outcome: str) -> dict[str, Any]:
    row: dict[str, Any] = {
        "number": 1234,
        "state": "COMPLETE",
        "value": 0.6789,
        "mean_accuracy": 0.8977,
        "lambda": 28.33,
        "attempts": 2,
        "user_attrs": {"outcome": outcome},
        "reason": "",
    }
    return COUNTS | {
        "study": "small",
        "state": "run",
        "message": "[/] paused",
        "cut_down": False,
        "best": {"trial": 1234, "global_tpe_score": 0.6789},
        "gate": GATE.to_dict() | {"text": GATE.short()},
        "saved": {"text": "stopping early saved 0.100 device-hours"},
        "finalists": {"text": "finalists: 2 of 6 new runs have ended"},
        "repeats": 6,
        "repeats_done": 2,
        "workers": [],
        "trials": [row, row | {"number": 7, "state": "FAIL", "user_attrs": {}, "reason": "[red]"}],
    }


def shown(thing: object, width: int = 80) -> str:
    console = Console(width=width)
    with console.capture() as captured:
        console.print(thing)
    return captured.get()


def test_outcomes_are_text_and_numbers_are_whole() -> None:
    text = shown(tables(view("failed: [/] [bold]x[/bold] :smile:")))
    assert "[/] paused" in text
    assert "failed: [/] [bold]x[/bold]" in " ".join(text.split())
    assert "[red]" in text
    for number in ("1234", "0.6789", "89.77", "28.33"):
        assert number in text
    assert "best gate margin -0.0440 (trial 3: accuracy 0.7351, needs 0.7933)" in text
    assert "stopping early saved 0.100 device-hours" in text
    assert "11 of 50 trials + 2 of 6 repeats count" in text
    assert "finalists: 2 of 6 new runs have ended" in text
