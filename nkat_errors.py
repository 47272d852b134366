"""The one root of every error this project raises on purpose.

It stands beside the three packages because `model` and `storage` must not know
`search` or each other, and still share one root.  The command line turns
`BadInput` into exit code 2, `Interrupted` into 130 and any other `NkatError` into 1;
none prints a traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class NkatError(Exception):
    """Something failed that the user should read about in one sentence."""


class BadInput(NkatError):
    """The user's input cannot work: the message names the value and the remedy."""


class Interrupted(NkatError):
    """Ctrl-C ended the work; the message says where."""


def near_miss(name: object, known: Iterable[str]) -> str:
    """`; did you mean 'depth'?` for a near miss, else nothing."""
    close = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def nearest(name: object, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: `; did you mean 'depth'?` for a near
    miss, else the list of what is known."""
    names = sorted(known)
    return near_miss(name, names) or f"; known here: {', '.join(names)}"
