"""/workers and /report of the dashboard, of searches in a real database."""

from __future__ import annotations

import re
from base64 import b64encode
from typing import Any

import pytest
from report_searches import GOOD, ParsedPage, mixed_search, report_search, told
from sqlalchemy import Engine

from search.dashboard.guard import Guard, Login
from search.dashboard.server import make_app
from search.service.status import snapshot
from search.study.overview import studies
from search.study.session import opened
from storage.records import Claim

pytestmark = pytest.mark.postgres

LOGIN = Login(user="anna", password="long enough")
AUTHORIZATION = "Basic " + b64encode(b"anna:long enough").decode()


def answer(app: Guard, path: str, query: str = "", **environ: str) -> tuple[str, str]:
    """Status and body of a GET with the login."""
    said: list[Any] = []
    environ = {"HTTP_AUTHORIZATION": AUTHORIZATION, "REMOTE_ADDR": "127.0.0.1"} | environ
    parts = app({"PATH_INFO": path, "QUERY_STRING": query} | environ, lambda *s: said.extend(s))
    return str(said[0]), b"".join(parts).decode()


@pytest.fixture
def app(engine: Engine) -> Guard:
    return make_app(engine=engine, login=LOGIN, editable=False)


def words_of(page: str) -> str:
    return " ".join(re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL).split())


def test_it_shows_who_does_what_and_what_was_lost(engine: Engine, app: Guard) -> None:
    search = report_search(trials=40, title="'<i>Odd</i> & co'")
    with told(engine, search) as one:
        mixed_search(one)
        second = one.board.register_worker(host="<b>far</b>", pid=77, device="cuda:1")
        one.worker, first = second, one.worker
        under_way = one.claim()
        one.board.progress(
            under_way, stage="1", dataset="cifar10", epoch=3, images_per_s=43210.7, saved=True
        )
        one.board.set_worker_reason(second, "the disk of checkpoints is full")
        one.board.set_state("pause", "<lunch>")
        one.board.retire_worker(first, "gone")  # with a trial that it had
        one.board.reap(60)
        counts, (best, value) = one.board.counts(), one.board.best() or (-1, 0.0)
    assert counts.lost == 1
    status, page = answer(app, "/workers")
    assert status == "200 OK"
    assert "<i>" not in page
    assert "<b>far" not in page
    text = words_of(page)
    assert "&lt;i&gt;Odd&lt;/i&gt; &amp; co" in text
    assert "Study reported: pause (&lt;lunch&gt;); nkat-search resume lets it go on." in text
    assert f"{counts.done} of 40 trials count: 4 complete" in text
    assert f"Best Global TPE score {value:.4f} (trial {best})" in text
    row = re.search(r"cuda:1 &lt;b&gt;far&lt;/b&gt;, 77 alive (.*?) Trials lost", text)
    assert row, text
    assert f" {under_way.number} 1 stage 1, cifar10, epoch 3" in row[1]
    assert "the disk of checkpoints is full" in row[1]
    assert " 43,211 " in row[1]
    again = text.partition("last reason")[2]
    assert "failed, complete RuntimeError: &lt;i&gt;odd&lt;/i&gt;" in again
    assert "lost with its worker" in again
    assert "No orchestrator is there" in text
    assert ". Rungs, gate and bound stopped 13 trials and saved about " in text


def test_every_search_and_its_report_is_a_link_away(engine: Engine, app: Guard) -> None:
    with told(engine, report_search(study="one")) as one:
        one.end({"cifar10": 0.7})
    with told(engine, report_search(study="two")):
        pass
    page = ParsedPage(answer(app, "/workers")[1])
    assert "/report?study=two" in page.links
    assert "/workers?study=one" in page.links
    status, report = answer(app, "/report", "study=one")
    assert status == "200 OK"
    assert "1 of 20 trials count" in words_of(report)


def test_what_is_not_there_and_who_may_not_look(engine: Engine, app: Guard) -> None:
    status, page = answer(app, "/workers")
    assert status.startswith("404")
    assert "there is no search in this database" in page
    with told(engine, report_search()):
        pass
    status, page = answer(app, "/workers", "study=%3Cscript%3E")
    assert status.startswith("404")
    assert "<script>" not in page
    for path in ("/workers", "/report"):
        assert answer(app, path, HTTP_AUTHORIZATION="")[0].startswith("401")


def test_it_is_made_once_for_many(engine: Engine, app: Guard) -> None:
    with told(engine, report_search()) as one:
        before = answer(app, "/workers")
        assert isinstance(one.claim(), Claim)
        assert answer(app, "/workers") == before


def test_a_paused_search_that_is_done_is_done_everywhere(
    engine: Engine, app: Guard, database_url: str
) -> None:
    with told(engine, report_search(trials=1)) as one:
        one.board.set_state("pause", "lunch")
        assert studies(database_url)[0].state == "pause"
        one.board.set_state("run")
        one.end(GOOD)
        one.board.set_state("pause", "lunch")
    assert studies(database_url)[0].state == "done"
    with opened(database_url, None, role="test") as session:
        seen = snapshot(session)
    assert (seen["state"], seen["message"]) == ("done", "")
    assert "Study reported: done . 1 of 1 trials" in words_of(answer(app, "/workers")[1])
