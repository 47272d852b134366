"""optuna-dashboard, served so that it may leave this machine: see `dashboard_guard`."""

from __future__ import annotations

import ipaddress
import logging
import os
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import sqlalchemy
import waitress
from optuna.storages import RDBStorage
from optuna_dashboard import wsgi
from sqlalchemy import Engine

from nkat_errors import BadInput
from search.dashboard.address import ANNOUNCED
from search.dashboard.artifacts import ExportedTrials, exporter, reporter
from search.dashboard.guard import Guard, Login
from search.dashboard.pages import OwnPages
from storage.engine import make_engine
from storage.schema import wait_for_schema

logger = logging.getLogger(__name__)

THREADS = 6
"""Requests answered at once; each may hold one database connection."""

MIN_PASSWORD = 8
"""Characters; a shorter one is refused."""


def login_from(environment: Mapping[str, str] = os.environ) -> Login | None:
    """The login named by NKAT_DASHBOARD_USER and NKAT_DASHBOARD_PASSWORD_FILE.

    Returns:
        None when neither is set.

    Raises:
        BadInput: one without the other, a file that cannot be read, a short password.
    """
    user = environment.get("NKAT_DASHBOARD_USER", "")
    file = environment.get("NKAT_DASHBOARD_PASSWORD_FILE", "")
    if not user and not file:
        return None
    if not user or ":" in user:
        raise BadInput(f"NKAT_DASHBOARD_USER = {user!r}: must be a name without a colon")
    if not file:
        raise BadInput("NKAT_DASHBOARD_USER is set, NKAT_DASHBOARD_PASSWORD_FILE is not: set both")
    try:
        password = Path(file).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"NKAT_DASHBOARD_PASSWORD_FILE: cannot read {file}: {error}") from error
    if len(password) < MIN_PASSWORD:
        raise BadInput(f"{file}: a dashboard password needs at least {MIN_PASSWORD} characters")
    return Login(user=user, password=password)


def editable_from(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether NKAT_DASHBOARD_EDITABLE switches edits on (1, true, yes, on)."""
    value = environment.get("NKAT_DASHBOARD_EDITABLE", "").strip().lower()
    if value in ("", "0", "false", "no", "off"):
        return False
    if value in ("1", "true", "yes", "on"):
        return True
    raise BadInput(f"NKAT_DASHBOARD_EDITABLE = {value!r}: must be 1 or 0")


def trusted_proxy_from(environment: Mapping[str, str] = os.environ) -> str | None:
    """The address of the proxy named by NKAT_DASHBOARD_TRUSTED_PROXY, whose X-Forwarded-For
    says where a request comes from; None when it is not set.

    Raises:
        BadInput: neither an address nor a name that is known here.
    """
    name = environment.get("NKAT_DASHBOARD_TRUSTED_PROXY", "").strip()
    if not name:
        return None
    try:
        return str(socket.getaddrinfo(name, None)[0][4][0])
    except (OSError, UnicodeError) as error:
        raise BadInput(
            f"NKAT_DASHBOARD_TRUSTED_PROXY = {name!r}: must be an address or a name known here "
            f"({error})"
        ) from None


def make_app(*, engine: Engine, login: Login | None, editable: bool) -> Guard:
    """The guarded dashboard of the database behind `engine` (whose tables exist)."""
    storage = RDBStorage(
        engine.url.render_as_string(hide_password=False),
        engine_kwargs={
            "pool_pre_ping": True,  # a restarted Postgres costs one request, not all of them
            "pool_size": THREADS,
            "max_overflow": 0,
            "connect_args": {"application_name": "nkat-dashboard", "connect_timeout": 10},
        },
        skip_table_creation=True,
    )

    def healthy() -> bool:
        with engine.connect() as connection:
            return bool(connection.execute(sqlalchemy.text("SELECT 1")).scalar() == 1)

    files = ExportedTrials(export=exporter(engine), report=reporter(engine))
    app = wsgi(storage, artifact_store=files)
    pages = OwnPages(app=app, engine=engine)
    return Guard(app=pages, login=login, editable=editable, healthy=healthy)


def make_server(*, app: Guard, host: str, port: int, trusted_proxy: str | None = None) -> Any:
    """A waitress server, listening, not yet answering (`run()` answers until stopped).

    Args:
        trusted_proxy: its X-Forwarded-For is believed; everybody else's is dropped.

    Raises:
        BadInput: nobody may listen beyond loopback without a login; the port is taken.
    """
    if not app.has_login and not _is_loopback(host):
        raise BadInput(
            f"--host {host} is open to other machines: set NKAT_DASHBOARD_USER and "
            "NKAT_DASHBOARD_PASSWORD_FILE, or listen on 127.0.0.1"
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        # Ours rather than waitress's own, which leaks its socket when the port is taken.
        listening = socket.create_server((host, port), family=family)
    except OSError as error:
        raise BadInput(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    proxy: dict[str, Any] = {"clear_untrusted_proxy_headers": True}
    if trusted_proxy is not None:
        proxy |= {"trusted_proxy": trusted_proxy, "trusted_proxy_headers": {"x-forwarded-for"}}
    return waitress.create_server(app, sockets=[listening], threads=THREADS, ident=None, **proxy)


def serve(
    *,
    storage_url: str,
    host: str = "127.0.0.1",
    port: int = 8080,
    login: Login | None = None,
    editable: bool = False,
    trusted_proxy: str | None = None,
    wait_s: float = 60.0,
) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Args:
        storage_url: postgresql+psycopg2://...
        host: address to listen on; beyond loopback only with a login.
        port: TCP port, 0 chooses a free one.
        login: who may look; None is everybody who can reach the address.
        editable: lets the dashboard's own edits (delete, rename, notes) through.
        trusted_proxy: see `make_server`.
        wait_s: how long to wait for the database and its tables, seconds.
    """
    engine = make_engine(storage_url, application_name="nkat-dashboard", wait_s=wait_s)
    wait_for_schema(engine, wait_s)
    app = make_app(engine=engine, login=login, editable=editable)
    server = make_server(app=app, host=host, port=port, trusted_proxy=trusted_proxy)
    signal.signal(signal.SIGTERM, _exit_cleanly)
    sys.stderr.write(
        f"{ANNOUNCED}{host}:{server.effective_port} "
        f"({'login needed' if login else 'no login'}, {'editable' if editable else 'read-only'})\n"
    )
    try:
        server.run()
    finally:
        server.close()
        engine.dispose()


def _exit_cleanly(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)  # waitress closes its sockets and returns from run()


def _is_loopback(host: str) -> bool:
    try:
        addresses = {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
    except OSError as error:
        raise BadInput(f"--host {host}: not an address of this machine ({error})") from error
    return all(ipaddress.ip_address(address).is_loopback for address in addresses)
