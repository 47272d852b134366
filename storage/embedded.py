"""A real Postgres for people who have none: started from a wheel, kept in a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self


def default_data_dir() -> Path:
    """Where the embedded server keeps its data unless told otherwise."""
    raise NotImplementedError


class EmbeddedPostgres:
    """Starts the server of `data_dir`, or joins the one that runs there already.

        with EmbeddedPostgres(data_dir=Path("runs/postgres")) as server:
            engine = make_engine(server.url)

    No TCP port: a unix socket that only this user can reach.  Who started the server
    stops it; who joined leaves it running.  The data stay for the next start.

    Args:
        data_dir: made when missing.
        settings: server settings beside the usual ones, for example {"fsync": "off"}.
        database: made when missing; `url` points to it.
    """

    def __init__(
        self,
        *,
        data_dir: Path,
        settings: Mapping[str, str] | None = None,
        database: str = "nkat",
    ) -> None:
        raise NotImplementedError

    @property
    def url(self) -> str:
        """postgresql+psycopg2://... for `make_engine`."""
        raise NotImplementedError

    @property
    def owner(self) -> bool:
        """True when leaving this context stops the server."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        raise NotImplementedError

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        raise NotImplementedError

    def restart(self, *, mode: str = "fast", pause_s: float = 0.0) -> None:
        """Stop ("fast", "immediate") and start again, `pause_s` seconds later (tests)."""
        raise NotImplementedError
