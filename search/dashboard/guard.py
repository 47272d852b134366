"""A door in front of optuna-dashboard, which has no login and can delete studies.

A WSGI wrapper around any WSGI application: Basic authentication compared in
constant time and slowed down after wrong passwords, only reading unless edits are
switched on, no edits from other web sites, security headers on every answer, and an
open `/healthz` that answers for the database behind.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import json
import logging
import math
import time
from base64 import b64decode
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from search.dashboard.headers import with_headers
from search.dashboard.wrong_logins import WrongLogins, client_name

logger = logging.getLogger(__name__)

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]

HEALTH_PATH = "/healthz"
HEALTH_CACHE_S = 2.0
"""The open health page asks the database at most this often, whoever calls it."""

_READING = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """Who may look. `repr` never shows the password."""

    user: str
    password: str

    def __repr__(self) -> str:
        return f"Login(user={self.user!r}, password='...')"

    def allows(self, authorization: str) -> bool:
        """Whether an `Authorization` header holds this user and password.

        Both are compared whole and by digest, so that the time taken says nothing
        about how much of either was right.
        """
        scheme, _, encoded = authorization.partition(" ")
        if scheme.lower() != "basic":
            return False
        try:
            user, _, password = b64decode(encoded, validate=True).partition(b":")
        except (binascii.Error, ValueError):
            return False
        user_ok = _same(user, self.user)
        password_ok = _same(password, self.password)
        return user_ok and password_ok


class Guard:
    """WSGI application: `app`, behind a login and read-only.

    Args:
        app: what is guarded.
        login: who may look; None lets everybody (a server on loopback only).
        editable: lets changing requests through.
        healthy: asks the database; raises or returns False when it does not answer.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        *,
        app: Application,
        login: Login | None,
        editable: bool,
        healthy: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._login = login
        self._editable = editable
        self._healthy = healthy
        self._clock = clock
        self._wrong = WrongLogins(clock=clock)
        self._health: tuple[float, bool] | None = None

    @property
    def has_login(self) -> bool:
        return self._login is not None

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")

        def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            return start_response(status, with_headers(path, headers), *rest)

        # optuna-dashboard fails on a request without it.
        environ.setdefault("HTTP_ACCEPT_ENCODING", "")
        try:
            return self._answer(path, environ, start)
        except Exception:
            logger.exception("%s %s failed", environ.get("REQUEST_METHOD"), path)
            return _text(start, "500 Internal Server Error", "it failed; the log says why\n")

    def _answer(
        self, path: str, environ: Environ, start_response: StartResponse
    ) -> Iterable[bytes]:
        if path == HEALTH_PATH:
            return self._answer_health(start_response)
        if self._login is not None:
            refused = self._refuse_login(self._login, environ, start_response)
            if refused is not None:
                return refused
        method = environ.get("REQUEST_METHOD", "GET")
        if method not in _READING:
            if not self._editable:
                return _refuse(
                    start_response,
                    f"this dashboard is read-only ({method} refused); start it with "
                    "NKAT_DASHBOARD_EDITABLE=1 to allow edits",
                )
            if not _same_site(environ):
                return _refuse(start_response, "edits from another web site are refused")
        return self._app(environ, start_response)

    def _refuse_login(
        self, login: Login, environ: Environ, start_response: StartResponse
    ) -> Iterable[bytes] | None:
        """The refusal of a request without the right login; None lets it through."""
        given = environ.get("HTTP_AUTHORIZATION", "")
        if given:  # a browser's first try carries none
            address = environ.get("REMOTE_ADDR", "")
            right, wait_s, in_a_row = self._wrong.try_login(address, lambda: login.allows(given))
            if right:
                return None
            if wait_s > 0:
                seconds = math.ceil(wait_s)
                return _text(
                    start_response,
                    "429 Too Many Requests",
                    f"too many wrong logins: try again in {seconds} s\n",
                    [("Retry-After", str(seconds))],
                )
            logger.warning("wrong login from %s, %d in a row", client_name(address), in_a_row)
        return _text(
            start_response,
            "401 Unauthorized",
            "login needed\n",
            [("WWW-Authenticate", 'Basic realm="nkat-search", charset="UTF-8"')],
        )

    def _answer_health(self, start_response: StartResponse) -> Iterable[bytes]:
        now = self._clock()
        if self._health is None or now - self._health[0] >= HEALTH_CACHE_S:
            try:
                ok = self._healthy()
            except Exception as error:
                # Whatever the driver raises means the same here: no answer from the database.
                logger.warning("health check: %s", str(error).splitlines()[0])
                ok = False
            self._health = (now, ok)
        if self._health[1]:
            return _text(start_response, "200 OK", "ok\n")
        return _text(start_response, "503 Service Unavailable", "the database does not answer\n")


def _same(given: bytes, wanted: str) -> bool:
    digest = hashlib.sha256
    return hmac.compare_digest(digest(given).digest(), digest(wanted.encode()).digest())


def _same_site(environ: Environ) -> bool:
    """Whether a changing request comes from this dashboard's own pages (or no browser).

    A browser sends the login along with any site's form, so the login alone does
    not show that the user meant it.
    """
    fetch_site = environ.get("HTTP_SEC_FETCH_SITE")
    if fetch_site is not None:
        return fetch_site in ("same-origin", "none")
    origin = environ.get("HTTP_ORIGIN")
    return origin is None or urlsplit(origin).netloc == environ.get("HTTP_HOST")


def _refuse(start_response: StartResponse, reason: str) -> Iterable[bytes]:
    body = json.dumps({"reason": reason})
    return _send(start_response, "403 Forbidden", body, "application/json", [])


def _text(
    start_response: StartResponse,
    status: str,
    body: str,
    headers: list[tuple[str, str]] | None = None,
) -> Iterable[bytes]:
    return _send(start_response, status, body, "text/plain; charset=utf-8", headers or [])


def _send(
    start_response: StartResponse,
    status: str,
    body: str,
    content_type: str,
    headers: list[tuple[str, str]],
) -> Iterable[bytes]:
    data = body.encode()
    about = [("Content-Type", content_type), ("Content-Length", str(len(data)))]
    start_response(status, [*about, *headers])
    return [data]
