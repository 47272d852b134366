"""Addresses that can be refused without asking any server."""

from __future__ import annotations

import pytest
from sqlalchemy.engine import make_url

from nkat_errors import BadInput
from storage.engine import check_url, shown

GOOD = "postgresql+psycopg2://u:geheim@h:5432/d"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql://u:geheim@h/d", "write postgresql+psycopg2://u:***@h/d"),
        ("postgresql+psycopg://u:geheim@h/d", "write postgresql+psycopg2://u:***@h/d"),
        ("postgresql+asyncpg://u:geheim@h/d", "write postgresql+psycopg2://u:***@h/d"),
        ("postgres://u:geheim@h/d", "write postgresql+psycopg2://u:***@h/d"),
        ("sqlite:///x.db", "must be Postgres, not 'sqlite'"),
        ("mysql+pymysql://u:geheim@h/d", "must be Postgres"),
        ("not a url geheim", "must look like"),
        ("postgresql+psycopg2://u:geheim@h:port/d", "must look like"),
        ("postgresql+psycopg2://u:a@geheim@h/d", "%40"),
        ("postgresql+psycopg2://u:geheim@h", "names no database"),
        ("", "must look like"),
    ],
)
def test_refused_in_one_sentence_without_the_password(url: str, told: str) -> None:
    with pytest.raises(BadInput) as caught:
        check_url(url)
    message = str(caught.value)
    assert told in message
    assert "geheim" not in message
    assert "\n" not in message


def test_good_ones_pass() -> None:
    assert check_url(GOOD).database == "d"
    assert check_url("postgresql+psycopg2://u@/d?host=/tmp/socket").query["host"] == "/tmp/socket"


def test_shown_hides_every_secret() -> None:
    url = make_url(GOOD + "?password=geheim&sslpassword=geheim&sslmode=require")
    assert shown(url) == "postgresql+psycopg2://u:***@h:5432/d?sslmode=require"
