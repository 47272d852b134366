"""What can go wrong in a training, each a class a caller can tell apart."""

from __future__ import annotations

from nkat_errors import BadInput, NkatError


class Diverged(NkatError):
    """The loss became NaN or infinite: the configuration does not train."""


class OutOfMemory(NkatError):
    """The device's memory was not enough for the network and its batch."""


class BadField(BadInput):
    """A configuration cannot have this value, or not these values together.

    Args:
        text: one sentence: name, value, rule.
        fields: the names of the fields it is about, the likeliest culprit first.
    """

    def __init__(self, text: str, *, fields: tuple[str, ...]) -> None:
        super().__init__(text)
        self.fields = fields
