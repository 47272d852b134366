"""The embedded server for other machines: over TCP, with a password, as a user who owns one
database and nothing else."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from psycopg2 import sql
from sqlalchemy import URL

from nkat_errors import BadInput
from storage.embedded.server import EmbeddedPostgres
from storage.engine import DRIVER

USER = "nkat"
RULES_NAME = "network_hba.conf"
RULES = f"""\
# Written by nkat-search.  The socket's folder lets nobody else in.
local all all trust
host nkat {USER} all scram-sha-256
"""


@contextmanager
def served_over_tcp(
    *, data_dir: Path, listen: str, port: int, password: str, host: str
) -> Iterator[str]:
    """Serves while the block lasts; gives the address for `make_engine`, without the password.

    Args:
        data_dir: as of `EmbeddedPostgres`; data made without TCP will do.
        listen: address to listen on; `0.0.0.0` for all.
        port: 0 chooses a free one.
        password: of the user `nkat`, set at each start.
        host: the name under which others reach this machine.

    Raises:
        BadInput: nothing can listen there, or the server of this folder runs already,
            without TCP.
    """
    chosen = _free_port(listen, port)
    rules = data_dir.expanduser().absolute().with_name(f"{data_dir.name}.{RULES_NAME}")
    rules.parent.mkdir(parents=True, exist_ok=True)
    rules.write_text(RULES)
    rules.chmod(0o644)
    server = EmbeddedPostgres(
        data_dir=data_dir,
        settings={"listen_addresses": listen, "port": str(chosen), "hba_file": str(rules)},
    )
    with server, server.admin() as cursor:
        cursor.execute("SHOW port")
        if cursor.fetchone()[0] != str(chosen):
            raise BadInput(
                f"the database in {data_dir} is in use by a command on this machine: end that "
                "first"
            )
        cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (USER,))
        if cursor.fetchone() is None:
            cursor.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(USER)))
        cursor.execute(
            sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(
                sql.Identifier(USER), sql.Literal(password)
            )
        )
        cursor.execute(
            sql.SQL("ALTER DATABASE {} OWNER TO {}").format(
                sql.Identifier(server.database), sql.Identifier(USER)
            )
        )
        yield URL.create(
            DRIVER, username=USER, host=host, port=chosen, database=server.database
        ).render_as_string(hide_password=False)


def _free_port(listen: str, port: int) -> int:
    family = socket.AF_INET6 if ":" in listen else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((listen, port))
            return int(probe.getsockname()[1])
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadInput(
            f"cannot listen on {listen}:{port} ({reason}): choose another --listen or --port"
        ) from None
