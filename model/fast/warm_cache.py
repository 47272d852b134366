"""Warm engines, kept by shape, the least recently used dropped for memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, Protocol, TypeVar


class Sized(Protocol):
    @property
    def bytes(self) -> int: ...


Key = TypeVar("Key", bound=Hashable)
Warm = TypeVar("Warm", bound=Sized)


class WarmCache(Generic[Key, Warm]):
    """At most `limit_bytes` of warm things; the one taken last always stays.

    Args:
        limit_bytes: sum of the things' own sizes, bytes.
    """

    def __init__(self, *, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._kept: OrderedDict[Key, Warm] = OrderedDict()

    def get(self, key: Key) -> Warm | None:
        """The thing of this key, from now on the most recently used."""
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def make_room(self, needed_bytes: int) -> None:
        """Drop the oldest until `needed_bytes` more fit, all of them if need be."""
        while self._kept and self.bytes + needed_bytes > self._limit:
            self._kept.popitem(last=False)

    def put(self, key: Key, warm: Warm) -> None:
        """Keep it, and drop the oldest until all fits; it stays whatever its size."""
        self._kept[key] = warm
        self._kept.move_to_end(key)
        while len(self._kept) > 1 and self.bytes > self._limit:
            self._kept.popitem(last=False)

    def clear(self) -> None:
        self._kept.clear()

    @property
    def bytes(self) -> int:
        return sum(warm.bytes for warm in self._kept.values())

    def __len__(self) -> int:
        return len(self._kept)
