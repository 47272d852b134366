"""The dashboard's settings from the environment, and where it refuses to listen."""

from __future__ import annotations

import socket
from pathlib import Path

import optuna
import pytest
from optuna_dashboard import wsgi

from nkat_errors import BadInput
from search.dashboard.guard import Guard, Login
from search.dashboard.server import editable_from, login_from, make_server, trusted_proxy_from


def guard(login: Login | None) -> Guard:
    return Guard(
        app=wsgi(optuna.storages.InMemoryStorage()),
        login=login,
        editable=False,
        healthy=lambda: True,
    )


def test_login_comes_from_a_user_name_and_a_password_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("long enough \n")
    login = login_from({"NKAT_DASHBOARD_USER": "anna", "NKAT_DASHBOARD_PASSWORD_FILE": str(file)})
    assert login == Login(user="anna", password="long enough ")
    assert login_from({}) is None


@pytest.mark.parametrize(
    ("user", "password", "words"),
    [
        ("anna", None, "PASSWORD_FILE is not"),
        ("", "long enough", "must be a name"),
        ("an:na", "long enough", "without a colon"),
        ("anna", "short", "at least 8 characters"),
    ],
)
def test_a_half_login_is_an_error(
    tmp_path: Path, user: str, password: str | None, words: str
) -> None:
    environment = {"NKAT_DASHBOARD_USER": user}
    if password is not None:
        file = tmp_path / "password"
        file.write_text(password)
        environment["NKAT_DASHBOARD_PASSWORD_FILE"] = str(file)
    with pytest.raises(BadInput, match=words):
        login_from(environment)


def test_a_missing_password_file_is_named(tmp_path: Path) -> None:
    environment = {
        "NKAT_DASHBOARD_USER": "anna",
        "NKAT_DASHBOARD_PASSWORD_FILE": str(tmp_path / "nowhere"),
    }
    with pytest.raises(BadInput, match="nowhere"):
        login_from(environment)


@pytest.mark.parametrize(("value", "editable"), [("", False), ("0", False), ("1", True)])
def test_the_edit_switch(value: str, editable: bool) -> None:
    assert editable_from({"NKAT_DASHBOARD_EDITABLE": value}) is editable


def test_a_mistyped_edit_switch_is_an_error() -> None:
    with pytest.raises(BadInput, match="ture"):
        editable_from({"NKAT_DASHBOARD_EDITABLE": "ture"})


def test_the_proxy_comes_by_address_or_name() -> None:
    assert trusted_proxy_from({}) is None
    variable = "NKAT_DASHBOARD_TRUSTED_PROXY"
    assert trusted_proxy_from({variable: "192.0.2.1"}) == "192.0.2.1"
    assert trusted_proxy_from({variable: "localhost"}) in ("127.0.0.1", "::1")
    with pytest.raises(BadInput, match=r"no\.such\.proxy\.invalid"):
        trusted_proxy_from({variable: "no.such.proxy.invalid"})


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_no_listening_beyond_loopback_without_a_login(host: str) -> None:
    with pytest.raises(BadInput, match="open to other machines"):
        make_server(app=guard(None), host=host, port=0)


def test_a_taken_port_is_one_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(BadInput, match=f"cannot listen on 127.0.0.1:{port}"):
            make_server(app=guard(None), host="127.0.0.1", port=port)
