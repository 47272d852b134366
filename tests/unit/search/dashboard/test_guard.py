"""The door in front of optuna-dashboard, with the real dashboard behind it."""

from __future__ import annotations

import gzip
import io
import json
from base64 import b64encode
from dataclasses import dataclass, field
from wsgiref.util import setup_testing_defaults

import optuna
import pytest
from optuna_dashboard import wsgi

from search.dashboard.guard import Guard, Login

PASSWORD = "correct horse: battery"
LOGIN = Login(user="anna", password=PASSWORD)


@dataclass
class Answer:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def json(self) -> dict[str, object]:
        value = json.loads(self.body)
        assert isinstance(value, dict)
        return value


class Site:
    """A guarded dashboard with one study."""

    def __init__(self, *, editable: bool) -> None:
        self.storage = optuna.storages.InMemoryStorage()
        study = optuna.create_study(storage=self.storage, study_name="guarded")
        self.study_id = study._study_id
        self._guard = Guard(
            app=wsgi(self.storage), login=LOGIN, editable=editable, healthy=lambda: True
        )

    def ask(
        self, method: str, path: str, *, headers: dict[str, str] | None = None, body: object = None
    ) -> Answer:
        data = b"" if body is None else json.dumps(body).encode()
        environ: dict[str, object] = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "HTTP_HOST": "127.0.0.1:8080",
            "REMOTE_ADDR": "127.0.0.1",
            "CONTENT_TYPE": "application/json",
            "CONTENT_LENGTH": str(len(data)),
            "wsgi.input": io.BytesIO(data),
        }
        for name, value in (headers or {}).items():
            environ["HTTP_" + name.upper().replace("-", "_")] = value
        setup_testing_defaults(environ)
        answer = Answer()

        def start(status: str, sent: list[tuple[str, str]], *_: object) -> None:
            answer.status = int(status.split()[0])
            answer.headers = dict(sent)

        parts = self._guard(environ, start)
        answer.body = b"".join(parts)
        if hasattr(parts, "close"):  # as a server does it
            parts.close()
        return answer

    def delete_study(self, headers: dict[str, str] | None = None) -> int:
        return self.ask(
            "DELETE",
            f"/api/studies/{self.study_id}",
            headers=login_header() | (headers or {}),
            body={"remove_associated_artifacts": False},
        ).status

    def names(self) -> list[str]:
        return optuna.get_all_study_names(self.storage)


def login_header(user: str = "anna", password: str = PASSWORD) -> dict[str, str]:
    encoded = b64encode(f"{user}:{password}".encode()).decode()
    return {"Authorization": f"Basic {encoded}"}


@pytest.fixture
def readonly() -> Site:
    return Site(editable=False)


@pytest.fixture
def editable() -> Site:
    return Site(editable=True)


@pytest.mark.parametrize(
    "path", ["/", "/dashboard", "/api/studies", "/csv/0", "/static/bundle.js"]
)
def test_nothing_is_shown_without_a_login(readonly: Site, path: str) -> None:
    answer = readonly.ask("GET", path)
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith("Basic realm=")
    assert answer.body == b"login needed\n"


@pytest.mark.parametrize(
    "header",
    [
        login_header(password="wrong"),
        login_header(user="Anna"),
        login_header(password=PASSWORD + " "),
        login_header(user="", password=""),
        {"Authorization": "Basic"},
        {"Authorization": "Basic ###"},
        {"Authorization": "Bearer " + b64encode(f"anna:{PASSWORD}".encode()).decode()},
    ],
)
def test_a_wrong_login_is_refused(readonly: Site, header: dict[str, str]) -> None:
    assert readonly.ask("GET", "/api/studies", headers=header).status == 401


def test_the_right_login_sees_the_study(readonly: Site) -> None:
    answer = readonly.ask("GET", "/api/studies", headers=login_header())
    assert answer.status == 200
    assert b'"study_name": "guarded"' in answer.body
    assert answer.headers["X-Frame-Options"] == "DENY"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("DELETE", "/api/studies/{}", {"remove_associated_artifacts": False}),
        ("POST", "/api/studies/{}/rename", {"study_name": "other"}),
        ("POST", "/api/studies", {"study_name": "new", "directions": ["maximize"]}),
        ("PUT", "/api/studies/{}/note", {"version": 1, "body": "mine"}),
    ],
)
def test_read_only_refuses_every_edit(
    readonly: Site, method: str, path: str, body: dict[str, object]
) -> None:
    path = path.format(readonly.study_id)
    answer = readonly.ask(method, path, headers=login_header(), body=body)
    assert answer.status == 403
    assert "read-only" in str(answer.json()["reason"])
    assert readonly.names() == ["guarded"]
    assert readonly.storage.get_study_system_attrs(readonly.study_id) == {}


def test_the_switch_allows_edits(editable: Site) -> None:
    assert editable.delete_study() == 204
    assert editable.names() == []


@pytest.mark.parametrize(
    "headers",
    [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://elsewhere.example"}],
)
def test_another_site_cannot_edit_with_the_users_login(
    editable: Site, headers: dict[str, str]
) -> None:
    assert editable.delete_study(headers) == 403
    assert editable.names() == ["guarded"]


def test_the_dashboards_own_pages_can_edit(editable: Site) -> None:
    assert editable.delete_study({"Origin": "http://127.0.0.1:8080"}) == 204


def test_health_needs_no_login_and_answers_for_the_database() -> None:
    answers = iter([True, False])
    asked = 0
    now = 0.0

    def healthy() -> bool:
        nonlocal asked
        asked += 1
        answer = next(answers, None)
        if answer is None:
            raise ConnectionError("no database")
        return answer

    guard = Guard(
        app=wsgi(optuna.storages.InMemoryStorage()),
        login=Login(user="anna", password=PASSWORD),
        editable=False,
        healthy=healthy,
        clock=lambda: now,
    )

    def status() -> str:
        said: list[str] = []
        list(guard({"PATH_INFO": "/healthz"}, lambda line, _headers: said.append(line)))
        return said[0]

    assert status() == "200 OK"
    assert status() == "200 OK", "within two seconds the database is not asked again"
    assert asked == 1
    now = 2.5
    assert status() == "503 Service Unavailable"
    now = 5.0
    assert status() == "503 Service Unavailable", "an error is an answer too"
    assert asked == 3


def test_guessing_is_slowed_down_and_logged(
    readonly: Site, caplog: pytest.LogCaptureFixture
) -> None:
    answers = [
        readonly.ask("GET", "/api/studies", headers=login_header(password=f"guess {i}"))
        for i in range(1000)
    ]
    assert [answer.status for answer in answers].count(401) < 10
    assert answers[-1].status == 429
    assert int(answers[-1].headers["Retry-After"]) >= 1
    assert readonly.ask("GET", "/api/studies", headers=login_header()).status == 429
    assert caplog.messages[0] == "wrong login from 127.0.0.1, 1 in a row"
    assert len(caplog.messages) < 10
    assert "guess" not in caplog.text


@pytest.mark.parametrize(
    ("path", "cache"),
    [
        ("/healthz", "no-store"),
        ("/api/studies", "no-store"),
        ("/nowhere", "no-store"),
        ("/static/bundle.js", "private, no-cache"),
    ],
)
@pytest.mark.parametrize("headers", [login_header(), {}], ids=["inside", "outside"])
def test_every_answer_has_the_headers(
    readonly: Site, path: str, cache: str, headers: dict[str, str]
) -> None:
    given = readonly.ask("GET", path, headers=headers).headers
    assert given["Cache-Control"] == cache
    assert given["X-Content-Type-Options"] == "nosniff"
    assert "frame-ancestors 'none'" in given["Content-Security-Policy"]
    assert "default-src 'self'" in given["Content-Security-Policy"]


def test_a_client_without_accept_encoding_gets_the_pages(readonly: Site) -> None:
    plain = readonly.ask("GET", "/static/bundle.js", headers=login_header())
    assert plain.status == 200
    assert "Content-Encoding" not in plain.headers
    packed = readonly.ask(
        "GET", "/static/bundle.js", headers=login_header() | {"Accept-Encoding": "gzip"}
    )
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body
    assert readonly.ask("GET", "/favicon.ico", headers=login_header()).status == 200


def test_a_fault_of_the_application_is_an_answer_too() -> None:
    def broken(_environ: object, _start: object) -> list[bytes]:
        raise RuntimeError("secret")

    guard = Guard(app=broken, login=None, editable=False, healthy=lambda: True)
    said: list[object] = []
    body = b"".join(guard({"PATH_INFO": "/"}, lambda *parts: said.extend(parts)))
    assert said[0] == "500 Internal Server Error"
    assert b"secret" not in body


def test_a_login_never_shows_its_password() -> None:
    assert PASSWORD not in repr(Login(user="anna", password=PASSWORD))
