"""`nkat-search healthcheck` against a real database: healthy is who was heard of."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from search.cli import main
from search.cli.healthcheck import Unhealthy, check, lease_of
from storage.board import Board
from storage.engine import make_engine
from storage.searches import create_search

pytestmark = pytest.mark.postgres

HOST = "container-1"
LEASE_S = 30


class World:
    """One search in a database, and a board whose clock can be set back."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._engine = make_engine(url)
        create_search(
            self._engine,
            study_name="health",
            search_text=f"study: health\nservice: {{lease_s: {LEASE_S}}}\n",
            search_hash="x",
            budget=1,
        )

    def board(self, *, heard_of_s_ago: float = 0) -> Board:
        then = datetime.now(UTC) - timedelta(seconds=heard_of_s_ago)
        clock = None if heard_of_s_ago == 0 else lambda: then
        return Board(engine=self._engine, study_name="health", clock=clock)

    def register(self, *, heard_of_s_ago: float = 0, host: str = HOST, note: str = "") -> None:
        board = self.board(heard_of_s_ago=heard_of_s_ago)
        board.register_worker(host=host, pid=1, device="cpu", note=note)
        board.close()

    def check(self, *, max_age_s: float | None = None) -> str:
        return check(storage=self.url, host=HOST, max_age_s=max_age_s)

    def close(self) -> None:
        self._engine.dispose()


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    made = World(database_url)
    yield made
    made.close()


def test_a_host_nobody_has_heard_of_is_unhealthy(world: World) -> None:
    world.register(host="another")
    with pytest.raises(Unhealthy, match="no worker has registered from host container-1"):
        world.check()


def test_a_fresh_beat_is_healthy(world: World) -> None:
    world.register(note="orchestrator")
    assert world.check().startswith("orchestrator on container-1 (cpu) was heard of")


def test_the_search_files_lease_is_the_limit(world: World) -> None:
    world.register(heard_of_s_ago=LEASE_S - 10)
    world.check()
    with pytest.raises(Unhealthy, match="allowed are 5 s"):
        world.check(max_age_s=5)


def test_an_old_beat_is_unhealthy_however_alive_the_process(world: World) -> None:
    world.register(heard_of_s_ago=LEASE_S + 10)
    with pytest.raises(Unhealthy, match=r"last heard of 4\d s ago, allowed are 30 s"):
        world.check()


def test_one_living_gpu_keeps_the_container(world: World) -> None:
    world.register(heard_of_s_ago=500)
    world.register()
    world.check()


def test_a_retired_worker_is_unhealthy_and_says_why(world: World) -> None:
    board = world.board()
    board.retire_worker(
        board.register_worker(host=HOST, pid=1, device="cpu"), "5 failures in a row"
    )
    board.close()
    with pytest.raises(Unhealthy, match="said good-bye: 5 failures in a row"):
        world.check()


def test_the_command_line_has_exit_codes_for_a_container(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["healthcheck", "--storage", world.url, "--host", HOST]
    assert main(arguments) == 1
    world.register()
    assert main(arguments) == 0
    assert "was heard of" in capsys.readouterr().out


def test_no_database_is_one_sentence_without_the_password() -> None:
    url = "postgresql+psycopg2://nkat:secret-word@127.0.0.1:1/nkat"
    with pytest.raises(Unhealthy, match="the database does not answer") as error:
        check(storage=url, host=HOST, max_age_s=None)
    assert "secret-word" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "lease_s"),
    [("service: {lease_s: 12.5}", 12.5), ("service: {}", 60.0), ("study: x", 60.0), ("", 60.0)],
)
def test_the_lease_is_read_from_the_stored_file(text: str, lease_s: float) -> None:
    assert lease_of(text) == lease_s
