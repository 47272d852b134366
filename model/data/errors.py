"""What goes wrong when a data set is looked for."""

from __future__ import annotations

from nkat_errors import BadInput


class DataUnavailable(BadInput):
    """A set is neither in the data folder nor to be had by download (a damaged file or
    a wrong folder is plain `BadInput`: there the user means to use that file)."""
