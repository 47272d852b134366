"""The served dashboard's door, knocked at over HTTP: guessing, proxies, plain clients."""

from __future__ import annotations

import http.client
import re
import signal
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from nkat_command import command, environment

pytestmark = [pytest.mark.process, pytest.mark.postgres]

PASSWORD = "a long password"


@dataclass
class Served:
    """A dashboard process; `log` is complete when it has ended."""

    port: int
    log: list[str] = field(default_factory=list)

    def ask(self, path: str, *, password: str = PASSWORD, client: str = "") -> int:
        """The status of one GET by a client that names no encoding.

        Args:
            client: where a proxy says that the request comes from.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.putrequest("GET", path, skip_accept_encoding=True)
        token = b64encode(f"anna:{password}".encode()).decode()
        connection.putheader("Authorization", f"Basic {token}")
        if client:
            # The first entry is what the client itself claims; the last is the proxy's.
            connection.putheader("X-Forwarded-For", f"10.9.8.7, {client}")
        connection.endheaders()
        with connection.getresponse() as answer:
            answer.read()
            status = answer.status
        connection.close()
        return status


@contextmanager
def served(url: str, folder: Path, **variables: str) -> Iterator[Served]:
    (folder / "password").write_text(PASSWORD)
    variables |= {
        "NKAT_DASHBOARD_USER": "anna",
        "NKAT_DASHBOARD_PASSWORD_FILE": str(folder / "password"),
    }
    process = subprocess.Popen(
        command("dashboard", "--port", "0"),
        cwd=folder,
        env=environment(storage=url, env=variables),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        said = process.stderr.readline()
        found = re.search(r":(\d+) \(login needed", said)
        assert found, said
        dashboard = Served(port=int(found[1]))
        yield dashboard
        process.send_signal(signal.SIGTERM)
        lines = process.communicate(timeout=30)[1].splitlines()
        # On a busy machine the web server adds that requests are waiting.
        dashboard.log += [line for line in lines if "wrong login" in line]
    finally:
        process.kill()
        process.wait()


def test_guessing_through_a_trusted_proxy_slows_down_the_guesser_alone(
    database_url: str, tmp_path: Path
) -> None:
    with served(database_url, tmp_path, NKAT_DASHBOARD_TRUSTED_PROXY="127.0.0.1") as dashboard:
        for page in ("/dashboard", "/static/bundle.js", "/favicon.ico", "/api/studies"):
            assert dashboard.ask(page, client="203.0.113.9") == 200, page
        guesses = [dashboard.ask("/", password=f"x{i}", client="203.0.113.5") for i in range(50)]
        assert guesses[:5] == [401] * 5
        assert guesses.count(429) > 40
        assert dashboard.ask("/", client="203.0.113.5") == 429
        assert dashboard.ask("/api/studies", client="203.0.113.9") == 200
    line = r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ W wrong login from 203\.0\.113\.5, 1 in a row"
    assert re.fullmatch(line, dashboard.log[0])
    assert len(dashboard.log) == guesses.count(401)


def test_nobody_else_says_who_asks(database_url: str, tmp_path: Path) -> None:
    with served(database_url, tmp_path) as dashboard:
        assert dashboard.ask("/", password="wrong", client="203.0.113.5") == 401
    assert dashboard.log[0].endswith("wrong login from 127.0.0.1, 1 in a row")
