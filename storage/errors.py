"""The errors a caller of `storage` must tell apart (all are `NkatError`)."""

from __future__ import annotations

from nkat_errors import BadInput, NkatError


class LeaseLost(NkatError):
    """The trial was taken from this worker and nothing was written; claim the next one."""


class ToldElsewhere(LeaseLost):
    """The trial was finished from outside (dashboard, notebook) while it was leased.

    The ticket was settled by the trial's final state; this worker's result was not written.
    """


class DatabaseGone(NkatError):
    """The database could not be reached for longer than the allowed outage."""


class UnknownWorker(NkatError):
    """The worker has no row in this database (never registered, or the tables were remade)."""


class StudyGone(NkatError):
    """The study was deleted or renamed while it was being worked on."""


class SearchDiffers(BadInput):
    """The study exists with another search file; the message shows the difference."""


class SchemaMissing(NkatError):
    """The tables are not there (yet): call `ensure_schema` first."""
