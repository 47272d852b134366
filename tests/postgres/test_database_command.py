"""`nkat-search database`: in over TCP with the password, and in no other way."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
from nkat_command import open_folder, started
from sqlalchemy import make_url

from search.cli import main
from storage.embedded import EmbeddedPostgres
from storage.engine import make_engine
from storage.schema import ensure_schema

pytestmark = [pytest.mark.postgres, pytest.mark.process]


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder("") as path:
        (path / "secret").write_text("a secret'\n")
        yield path


@pytest.mark.slow
def test_others_come_in_with_the_password_only(folder: Path) -> None:
    words = ["--password-file", "secret", "--listen", "127.0.0.1", "--host", "127.0.0.1"]
    with started(
        *("database", "--state-dir", folder / "state", "--url-file", folder / "url", *words),
        folder=folder,
        stdout=subprocess.PIPE,
    ) as server:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        assert (folder / "url").read_text().strip() == address
        url = make_url(address)
        assert (url.username, url.password, url.host) == ("nkat", None, "127.0.0.1")
        engine = make_engine(url.set(password="a secret'").render_as_string(hide_password=False))
        ensure_schema(engine)  # the user owns the database
        engine.dispose()
        for user, password, database in (
            ("nkat", "wrong", "nkat"),
            ("postgres", "a secret'", "nkat"),
            ("nkat", "a secret'", "postgres"),
        ):
            with pytest.raises(psycopg2.OperationalError, match=r"password|pg_hba"):
                psycopg2.connect(
                    host="127.0.0.1", port=url.port, user=user, password=password, dbname=database
                )
        # On this machine the owner's other commands come in through the socket, as always.
        with EmbeddedPostgres(data_dir=folder / "state" / "postgres") as joined:
            assert f"port={url.port}" in joined.url
            make_engine(joined.url).dispose()
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 128 + signal.SIGTERM
    # Without TCP again, as `run` would start it.
    with EmbeddedPostgres(data_dir=folder / "state" / "postgres") as alone:
        with alone.admin() as cursor:
            cursor.execute("SHOW listen_addresses")
            assert cursor.fetchone() == ("",)
        assert "port=" not in alone.url


def test_a_port_that_is_taken(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        words = ["database", "--password-file", "secret", "--listen", "192.0.2.77"]
        assert main([*words, "--state-dir", str(folder / "state")]) == 2
    assert "cannot listen on 192.0.2.77:0" in capsys.readouterr().err
