"""Log lines as JSON, and log files that do not grow for ever."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from search.logs import JsonLines, rotate, set_log_context


@pytest.fixture(autouse=True)
def _no_context() -> Iterator[None]:
    yield
    set_log_context(worker=None, trial=None)


def line(message: str, *arguments: object, **more: object) -> dict[str, object]:
    record = logging.makeLogRecord(
        {"name": "a.b", "levelno": 30, "levelname": "WARNING", "msg": message, "args": arguments}
        | {"created": 1_700_000_000.25, "msecs": 250.0}
        | more
    )
    text = JsonLines().format(record)
    assert "\n" not in text
    value = json.loads(text)
    assert isinstance(value, dict)
    return value


def test_a_line_is_one_object() -> None:
    assert line("two\nlines, %d%%", 5) == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "warning",
        "logger": "a.b",
        "message": "two\nlines, 5%",
    }


def test_context_stands_in_every_line_and_a_records_own_fields_go_before_it() -> None:
    set_log_context(worker="w1", trial=3)
    assert line("x")["trial"] == 3
    assert line("x", trial=7, path=Path("/tmp"))["trial"] == 7
    assert line("x", path=Path("/tmp"))["path"] == "/tmp"
    set_log_context(trial=None)
    assert "trial" not in line("x")
    assert line("x")["worker"] == "w1"


def test_an_exception_is_a_field() -> None:
    try:
        raise ValueError("odd")
    except ValueError:
        found = line("it failed", exc_info=sys.exc_info())
    assert str(found["exception"]).endswith("ValueError: odd")


def test_a_large_file_is_put_aside_while_it_is_written_to(tmp_path: Path) -> None:
    path = tmp_path / "worker-0.log"
    with path.open("ab", buffering=0) as writer:
        for turn in range(6):
            writer.write(f"turn {turn} ".encode() * 20)
            rotate(path, most_bytes=100, kept=3)
            assert path.stat().st_size == 0
        writer.write(b"short")
        rotate(path, most_bytes=100, kept=3)
    assert path.read_bytes() == b"short"
    kept = {file.name: file.read_text()[:6] for file in tmp_path.iterdir() if file != path}
    assert kept == {f"worker-0.log.{i}": f"turn {6 - i}" for i in (1, 2, 3)}


def test_a_folder_that_is_gone_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rotate(tmp_path / "no" / "worker-0.log")
    assert "was not rotated" in caplog.text
