"""The one root of every error this project raises on purpose.

It stands beside the three packages because `model` and `storage` must not know
`search` or each other, and still share one root.  The command line turns
`BadInput` into exit code 2 and any other `NkatError` into exit code 1; neither
prints a traceback.
"""

from __future__ import annotations


class NkatError(Exception):
    """Something failed that the user should read about in one sentence."""


class BadInput(NkatError):
    """The user's input cannot work: the message names the value and the remedy."""
