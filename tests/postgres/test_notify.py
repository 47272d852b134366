"""The webhook: what a receiver gets, and that a search does not care when there is none."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from nkat_command import started
from optuna_dashboard import get_note
from process_helpers import wait_for
from report_searches import GOOD, Told, report_search, told
from sqlalchemy import Engine

from nkat_errors import BadInput
from search.cli import main
from search.file.load import parse_search_text
from search.service.notify import Notifier, notified
from search.service.orchestrator import Orchestrator
from storage.searches import load_search

pytestmark = pytest.mark.postgres


class Receiver(ThreadingHTTPServer):
    """Keeps what is posted; answers with `status`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.got: list[dict[str, str]] = []
        self.status = 204
        self.url = f"http://127.0.0.1:{self.server_port}/hook/secret"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        assert self.headers["Content-Type"] == "application/json"
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append(json.loads(body))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, format: str, *_arguments: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class Watched:
    """A search and an orchestrator that looks at it when it is told to."""

    def __init__(self, engine: Engine, one: Told, notifier: Notifier) -> None:
        self._now = 0.0
        self._orchestrator = Orchestrator(
            board=one.board,
            search=one.search,
            record=load_search(engine),
            checkpoints=None,
            clock=lambda: self._now,
            observers=[notifier.observe],
        )

    def look(self) -> None:
        self._now += 60
        self._orchestrator.tick()


def test_news_are_posted_once(engine: Engine, receiver: Receiver) -> None:
    with told(engine, report_search(trials=5)) as one, notified(receiver.url) as notifier:
        assert notifier is not None
        one.end(GOOD)
        search = Watched(engine, one, notifier)
        search.look()  # what is there already is no news
        one.end({"cifar10": 0.7})
        search.look()
        one.end(GOOD | {"mnist": 0.995})
        search.look()
        search.look()
        one.board.set_state("pause", "paused: 5 of 8 attempts failed")
        search.look()
        one.board.set_state("run")
        search.look()
        one.end({"cifar10": 0.7})
        one.end({"cifar10": 0.7})
        search.look()
        best = one.board.best()
    assert best is not None
    score = f"Global TPE score {best[1]:.4f} (trial 2)"
    assert [post["text"] for post in receiver.got] == [
        f"reported: new best {score}; 3 of 5 trials count",
        "reported: paused (5 of 8 attempts failed), 3 of 5 trials count; "
        "`nkat-search resume` lets it go on",
        f"reported: done, 5 of 5 trials count; {score}",
    ]
    assert [post["event"] for post in receiver.got] == ["new_best", "pause", "done"]
    assert all(post["content"] == post["text"] for post in receiver.got)
    assert {post["study"] for post in receiver.got} == {"reported"}


def test_a_search_without_workers_is_told_unless_its_pause_was(
    engine: Engine, receiver: Receiver
) -> None:
    with told(engine, report_search(trials=2)) as one, notified(receiver.url) as notifier:
        assert notifier is not None
        search = Watched(engine, one, notifier)
        search.look()
        notifier.gave_up("every worker has ended with 2 trials to go")
        one.board.set_state("pause", "paused: 5 of 8 attempts failed")
        search.look()
        notifier.gave_up("the search has paused")
    assert [post["event"] for post in receiver.got] == ["gave_up", "pause"]
    assert receiver.got[0]["text"] == "reported: ended, every worker has ended with 2 trials to go"


@pytest.mark.parametrize("fault", ["an error", "nobody there"])
def test_a_receiver_that_fails_is_a_line_in_the_log(
    engine: Engine, receiver: Receiver, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    receiver.status = 500
    url = receiver.url if fault == "an error" else "http://127.0.0.1:9/hook/secret"
    with told(engine, report_search(trials=1)) as one, notified(url) as notifier:
        assert notifier is not None
        search = Watched(engine, one, notifier)
        search.look()
        one.end({"cifar10": 0.7})
        search.look()
    assert "webhook at 127.0.0.1: " in caplog.text
    assert "not sent: reported: done, 1 of 1 trials count; none has a score" in caplog.text
    assert "secret" not in caplog.text


def test_a_receiver_that_hangs_holds_nothing_up(engine: Engine) -> None:
    began = time.monotonic()
    with told(engine, report_search(trials=1)) as one, Receiver() as silent:  # answers nothing
        notifier = Notifier(url=silent.url)
        search = Watched(engine, one, notifier)
        search.look()
        one.end({"cifar10": 0.7})
        search.look()
    assert time.monotonic() - began < 8


@pytest.mark.process
def test_orchestrate_posts_to_the_address_of_the_search_file_which_stays_hidden(
    engine: Engine, database_url: str, receiver: Receiver, tmp_path: Path
) -> None:
    text = report_search(trials=1).to_yaml()
    text = text.replace("service:\n", f"service:\n  notify: {receiver.url}\n")
    with told(engine, parse_search_text(text)) as one:
        command = ("orchestrate", "--until-done")
        with started(*command, folder=tmp_path, storage=database_url) as process:
            wait_for("the orchestrator", lambda: len(one.board.workers()) == 2)
            time.sleep(1)  # its first look
            one.end(GOOD)
            _, said = process.communicate(timeout=60)
        note = one.board.with_study("note", get_note)
    assert process.returncode == 0, said
    assert {post["event"] for post in receiver.got} == {"new_best", "done"}
    assert "notify: (hidden)" in note
    assert "secret" not in note


@pytest.mark.parametrize("url", ["ftp://x/y", "http://", "hook", "http://[x/", "http://a b/"])
def test_what_is_no_address_is_bad_input(url: str) -> None:
    text = report_search().to_yaml().replace("service:\n", f"service:\n  notify: '{url}'\n")
    with pytest.raises(BadInput, match=r"service\.notify = .*: must be an address that begins"):
        parse_search_text(text)
    with pytest.raises(BadInput, match=r"--notify .*: must be an address"), notified(url):
        pass


def test_the_option_is_checked_before_the_search_starts(
    engine: Engine, database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with told(engine, report_search()):
        assert main(["orchestrate", "--storage", database_url, "--notify", "hook"]) == 2
    assert "--notify hook: must be an address" in capsys.readouterr().err
