"""Slows down guessing: who sent wrong passwords waits before the next one is looked at.

Counted by client address, and over all clients, since one attacker may have many
addresses.  Nothing is kept but numbers, of so many clients at most.
"""

from __future__ import annotations

import ipaddress
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

FREE_TRIES = 5
"""Wrong passwords in a row that cost nothing: people mistype."""
LONGEST_WAIT_S = 60.0
"""The wait is 1 s after the first try that is not free and doubles with each further one."""
FORGET_S = 900.0
"""After so long without a wrong password a client starts again."""
MOST_A_MINUTE = 60
"""Wrong passwords of all clients together.  Beyond it only clients that have logged in
before are listened to."""
MOST_CLIENTS = 1000
"""Clients that are remembered, wrong and right ones each; then the oldest are forgotten."""
UNKNOWN = "unknown"

T = TypeVar("T")


@dataclass(slots=True)
class _Client:
    wrong: int = 0
    last: float = 0.0
    wait_until: float = 0.0


class WrongLogins:
    """See the module's docstring.  Safe for many threads.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._clients: OrderedDict[str, _Client] = OrderedDict()
        self._known: OrderedDict[str, None] = OrderedDict()
        self._recent: deque[float] = deque(maxlen=MOST_A_MINUTE)

    def try_login(self, address: str, right: Callable[[], bool]) -> tuple[bool, float, int]:
        """One try, if this client may have one now.

        Args:
            address: of the client.
            right: looks at the password; not called while the client must wait.

        Returns:
            Whether it was right; seconds to wait, 0 when it was looked at; wrong ones in a
            row.
        """
        name = client_name(address)
        with self._lock:
            now = self._clock()
            client = self._clients.get(name)
            if client is not None and now - client.last > FORGET_S:
                del self._clients[name]
                client = None
            wait_s = self._wait_s(name, client, now)
            if wait_s > 0:
                return False, wait_s, 0 if client is None else client.wrong
            if right():
                self._clients.pop(name, None)
                _remember(self._known, name, None)
                return True, 0.0, 0
            client = client or _Client()
            client.wrong += 1
            client.last = now
            if client.wrong >= FREE_TRIES:
                client.wait_until = now + min(2.0 ** (client.wrong - FREE_TRIES), LONGEST_WAIT_S)
            _remember(self._clients, name, client)
            self._recent.append(now)
            return False, 0.0, client.wrong

    def _wait_s(self, name: str, client: _Client | None, now: float) -> float:
        wait_s = 0.0 if client is None else client.wait_until - now
        if name not in self._known and len(self._recent) == MOST_A_MINUTE:
            wait_s = max(wait_s, self._recent[0] + 60.0 - now)
        return wait_s


def client_name(address: str) -> str:
    """The address as it is counted and logged; of IPv6 the network, which one host has whole.

    Whatever is no address (a proxy may pass on any text) counts as one client.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return UNKNOWN
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((int(parsed), 64), strict=False))
    return str(parsed)


def _remember(table: OrderedDict[str, T], name: str, value: T) -> None:
    table[name] = value
    table.move_to_end(name)
    if len(table) > MOST_CLIENTS:
        table.popitem(last=False)
