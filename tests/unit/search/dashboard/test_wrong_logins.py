"""How wrong passwords slow down the next ones."""

from __future__ import annotations

import pytest

from search.dashboard.wrong_logins import (
    FORGET_S,
    FREE_TRIES,
    LONGEST_WAIT_S,
    MOST_A_MINUTE,
    MOST_CLIENTS,
    UNKNOWN,
    WrongLogins,
    client_name,
)

ME = "192.0.2.7"


class Door:
    """Wrong logins at a time that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.logins = WrongLogins(clock=lambda: self.now)

    def wrong(self, address: str = ME) -> float:
        """Seconds to wait; 0 when the wrong password was looked at."""
        right, wait_s, _ = self.logins.try_login(address, lambda: False)
        assert not right
        return wait_s

    def right(self, address: str = ME) -> bool:
        return self.logins.try_login(address, lambda: True)[0]


@pytest.fixture
def door() -> Door:
    return Door()


def looked_at(door: Door, seconds: float, address: str = ME) -> int:
    """How many passwords of a client that never stops trying are looked at."""
    end = door.now + seconds
    count = 0
    while door.now < end:
        count += door.wrong(address) == 0
        door.now += 0.01
    return count


def test_a_few_mistakes_cost_nothing(door: Door) -> None:
    assert [door.wrong() for _ in range(FREE_TRIES)] == [0] * FREE_TRIES
    assert door.wrong() == 1.0


def test_the_wait_doubles_up_to_a_limit(door: Door) -> None:
    assert looked_at(door, 10) == FREE_TRIES + 3  # after 1, 3 and 7 s
    assert looked_at(door, 1200) < 30
    door.wrong()
    assert door.wrong() <= LONGEST_WAIT_S


def test_the_right_password_is_not_looked_at_while_one_must_wait(door: Door) -> None:
    for _ in range(FREE_TRIES):
        door.wrong()
    assert not door.right()
    door.now += 1.1
    assert door.right()
    assert door.wrong() == 0, "the right one ends the count"


def test_another_client_does_not_wait(door: Door) -> None:
    looked_at(door, 5)
    assert door.wrong("192.0.2.8") == 0


def test_it_is_forgotten_after_a_while(door: Door) -> None:
    looked_at(door, 100)
    door.now += FORGET_S + 1
    assert [door.wrong() for _ in range(FREE_TRIES)] == [0] * FREE_TRIES


def test_many_addresses_do_not_help(door: Door) -> None:
    assert door.right("198.51.100.1")
    tries = [door.wrong(f"10.0.{i // 250}.{i % 250}") for i in range(500)]
    assert tries.count(0) == MOST_A_MINUTE
    assert door.wrong("203.0.113.9") == 60.0
    assert door.right("198.51.100.1"), "who has logged in before is let in"
    door.now += 60.1
    assert door.wrong("203.0.113.9") == 0


def test_memory_is_bounded(door: Door) -> None:
    for i in range(3 * MOST_CLIENTS):
        door.now += 1.1
        door.wrong(f"10.1.{i // 250}.{i % 250}")
        door.right(f"10.2.{i // 250}.{i % 250}")
    assert len(door.logins._clients) == MOST_CLIENTS
    assert len(door.logins._known) == MOST_CLIENTS


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:aaaa::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:bbbb::9", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("", UNKNOWN),
        ("evil\nline", UNKNOWN),
    ],
)
def test_the_name_of_a_client(address: str, name: str) -> None:
    assert client_name(address) == name
