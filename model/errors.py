"""What can go wrong in a training, each a class a caller can tell apart."""

from __future__ import annotations

from nkat_errors import NkatError


class Diverged(NkatError):
    """The loss became NaN or infinite: the configuration does not train."""


class OutOfMemory(NkatError):
    """The device's memory was not enough for the network and its batch."""
