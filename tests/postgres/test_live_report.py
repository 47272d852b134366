"""The page of a search under way: at most once a minute, only when something ended."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from report_searches import GOOD, ParsedPage, report_search, told
from sqlalchemy import Engine

from search.service.live_report import EVERY_S, LiveReport
from search.study.session import opened

pytestmark = pytest.mark.postgres


def test_the_page_is_renewed_at_most_once_a_minute(
    engine: Engine, database_url: str, tmp_path: Path
) -> None:
    now = 100.0
    path = tmp_path / "report.html"
    with (
        told(engine, report_search()) as one,
        opened(database_url, None, role="test") as session,
    ):
        live = LiveReport(session=session, path=path, clock=lambda: now)

        def tick() -> tuple[str, int]:
            """What it says, and how many trials the page knows."""
            said = live.tick(one.board.counts())
            text = ParsedPage(path.read_text()).text[""] if path.exists() else ""
            found = re.search(r"(\d+) of 20 trials count", text)
            return said, int(found[1]) if found else 0

        assert tick() == ("", 0), "nothing has ended: no page yet"
        one.end(GOOD)
        said, trials = tick()
        assert said == f"report, renewed while the search runs: {path.as_uri()}"
        assert trials == 1
        assert f'http-equiv="refresh" content="{EVERY_S:.0f}"' in path.read_text()
        one.end({"cifar10": 0.7})
        now += EVERY_S - 1
        assert tick() == ("", 1), "a minute is not over"
        now += 1
        assert tick() == ("", 2)
        before = path.read_text()
        now += 2 * EVERY_S
        assert tick() == ("", 2)
        assert path.read_text() == before, "nothing has ended since"
        live.close()
        assert "refresh" not in path.read_text(), "the search cannot go on"
        assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_a_page_that_cannot_be_written_is_said_once_and_stops_nothing(
    engine: Engine, database_url: str, tmp_path: Path
) -> None:
    now = 100.0
    path = tmp_path / "report.html"
    path.write_text("mine")
    with (
        told(engine, report_search()) as one,
        opened(database_url, None, role="test") as session,
    ):
        live = LiveReport(session=session, path=path, clock=lambda: now)
        one.end(GOOD)
        assert "WARNING: no report: BadInput" in live.tick(one.board.counts())
        one.end(GOOD)
        now += EVERY_S
        assert live.tick(one.board.counts()) == ""
    assert path.read_text() == "mine"
