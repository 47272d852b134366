"""Pages of our own in front of optuna-dashboard: /workers and /report; its own, made to fit.

optuna-dashboard does not wrap a trial's attributes, which makes the page as wide as the
longest one, and puts cards beside each other on a phone as well.  A few rules of style
(fit.css), put into its one page, mend both.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs

from sqlalchemy import Engine

from nkat_errors import BadInput, NkatError
from search.dashboard.guard import Application, Environ, StartResponse
from search.dashboard.workers_page import render_workers
from search.file.load import parse_search_text
from search.study.session import Session
from storage.board import Board
from storage.records import SearchRecord
from storage.searches import list_searches, load_search

WORKERS, REPORT = "/workers", "/report"
DASHBOARD = "/dashboard"
KEPT_S = {WORKERS: 2.0, REPORT: 30.0}
"""A page is made once in so long, however many look at it."""
MOST_KEPT = 20
OUTAGE_S = 5.0
"""How long a page is tried while the database is away."""


class OwnPages:
    """WSGI application: our pages; everything else goes to the application behind.

    Args:
        app: optuna-dashboard.
        engine: the database.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        *,
        app: Application,
        engine: Engine,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._engine = engine
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, str], tuple[float, str]] = {}

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path not in KEPT_S:
            if path.startswith(DASHBOARD) and environ.get("REQUEST_METHOD") == "GET":
                return self._fitted(environ, start_response)
            return self._app(environ, start_response)
        given = parse_qs(environ.get("QUERY_STRING", "")).get("study", [""])[0]
        try:
            status, html = "200 OK", self._page(path, given)
        except BadInput as error:  # no such study
            status, html = "404 Not Found", _sentence(error)
        except NkatError as error:
            status, html = "503 Service Unavailable", _sentence(error)
        body = html.encode()
        start_response(
            status,
            [("Content-Type", "text/html; charset=utf-8"), ("Content-Length", str(len(body)))],
        )
        return [] if environ.get("REQUEST_METHOD") == "HEAD" else [body]

    def _fitted(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """The dashboard's page with our rules of style in it."""
        said: list[Any] = []

        def start(status: str, headers: list[tuple[str, str]], *_rest: Any) -> Any:
            said[:] = [status, headers]
            return said.append  # nobody writes by it

        body = b"".join(self._app(environ, start))
        status, headers = said[:2]
        body = body.replace(b"</head>", f"<style>{_rules()}</style></head>".encode(), 1)
        kept = [(name, value) for name, value in headers if name.lower() != "content-length"]
        start_response(status, [*kept, ("Content-Length", str(len(body)))])
        return [body]

    def _page(self, path: str, study: str) -> str:
        """One is made at a time: a report takes a core for a while."""
        with self._lock:
            record = load_search(self._engine, study or None)
            key = (path, record.study_name)
            made_at, html = self._kept.get(key, (0.0, ""))
            if not html or self._clock() - made_at >= KEPT_S[path]:
                html = self._made(path, record)
                if len(self._kept) >= MOST_KEPT:
                    self._kept.clear()
                self._kept[key] = (self._clock(), html)
            return html

    def _made(self, path: str, record: SearchRecord) -> str:
        from search.report.page import Report  # as heavy as all the rest

        search = parse_search_text(record.search_text, name=f"study {record.study_name}")
        board = Board(
            engine=self._engine,
            study_name=record.study_name,
            lease_s=search.service.lease_s,
            outage_s=OUTAGE_S,
        )
        session = Session(engine=self._engine, record=record, search=search, board=board)
        try:
            if path == REPORT:
                return Report.of(session).html
            names = [one.study_name for one in list_searches(self._engine)]
            return render_workers(session, studies=names)
        finally:
            board.close()


def _sentence(error: NkatError) -> str:
    return f"<!doctype html><title>nkat-search</title><p>{escape(str(error))}</p>"


@cache
def _rules() -> str:
    return files("search.dashboard").joinpath("fit.css").read_text(encoding="utf-8")
