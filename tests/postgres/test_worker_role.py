"""A worker's own database user: enough for a whole search, too little to break one."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from process_helpers import QUICK, search_file, service
from sqlalchemy import Engine
from sqlalchemy.exc import ProgrammingError

from nkat_errors import BadInput
from search.cli import main
from search.cli.healthcheck import Unhealthy, check
from storage.engine import make_engine
from storage.worker_role import grant_worker_role

pytestmark = [pytest.mark.postgres, pytest.mark.process]

ROLE = "nkat_worker"
FORBIDDEN = (
    "DELETE FROM studies",
    "DELETE FROM trials",
    "TRUNCATE nkat_attempt",
    "DROP TABLE nkat_ticket",
    "UPDATE studies SET study_name = 'mine'",
    "UPDATE nkat_search SET command = 'stop'",
    "INSERT INTO nkat_ticket (study_name) VALUES ('tested')",
    "DELETE FROM nkat_ticket",
    "CREATE TABLE mine (a integer)",
    "CREATE ROLE other",
)


@contextmanager
def role(owner: Engine, name: str = ROLE) -> Iterator[str]:
    """The role's URL; the role belongs to the server, so it is taken away again."""
    grant_worker_role(owner, name, password="it's \\ a secret")
    try:
        yield owner.url.set(username=name).render_as_string(hide_password=False)
    finally:
        with owner.begin() as connection:
            connection.execute(sa.text(f'DROP OWNED BY "{name}"'))
            connection.execute(sa.text(f'DROP ROLE "{name}"'))


def test_a_whole_search_runs_as_the_role_which_can_break_nothing(
    database_url: str, engine: Engine, tmp_path: Path
) -> None:
    with (
        role(engine) as url,
        service(database_url, tmp_path, search_file(trials=4), QUICK) as tested,
    ):
        grant_worker_role(engine, ROLE, password=None)  # again changes nothing
        tested.url = url
        tested.start().wait(60)
        tested.wait_until_done()
        tested.check_exact()
        with pytest.raises(Unhealthy, match="said good-bye: the search is done"):
            check(storage=url, host=socket.gethostname(), max_age_s=None)
        as_worker = make_engine(url)
        for statement in FORBIDDEN:
            with (
                as_worker.connect() as connection,
                pytest.raises(ProgrammingError, match=r"permission denied|must be owner"),
            ):
                connection.execute(sa.text(statement))
        as_worker.dispose()


def test_owners_and_superusers_are_refused(engine: Engine) -> None:
    with pytest.raises(BadInput, match="is the user of --storage"):
        grant_worker_role(engine, str(engine.url.username), password=None)
    with pytest.raises(BadInput, match="1 to 63 bytes"):
        grant_worker_role(engine, "é" * 40, password=None)


def test_who_may_not_make_roles_is_told_what_to_do(engine: Engine) -> None:
    with role(engine, "nkat_small") as url:
        small = make_engine(url)
        with pytest.raises(BadInput, match="may not give out the role 'other'") as error:
            grant_worker_role(small, "other", password="secret-word")
        small.dispose()
    assert "secret-word" not in str(error.value)


def test_create_gives_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "password"
    empty.write_text("\n")
    alone = ["create", "--worker-password-file", str(empty)]
    assert main(alone) == 2
    assert "needs --worker-role" in capsys.readouterr().err
    assert main([*alone, "--worker-role", ROLE]) == 2
    assert "is empty" in capsys.readouterr().err
