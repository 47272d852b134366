"""What every ring of tests may ask for: a real Postgres, one server a process of pytest.

`database_url` is a fresh database with all tables (a copy of a template: some
milliseconds), `empty_database_url` one without any.  Tests run in several processes
(`make test`: pytest-xdist); each has a server of its own, which its tests may restart.
"""

from __future__ import annotations

import itertools
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from storage.embedded import EmbeddedPostgres
from storage.engine import make_engine
from storage.schema import ensure_schema

# As the command line does it (search/cli/__init__.py): before torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# The tests' networks are too small for threads, and the cores are for other tests.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Without a GPU the kernels run in Triton's interpreter.  Triton decides when it is loaded,
# which any test may cause (torch's compiler loads it).
if not any(Path("/dev").glob("nvidia[0-9]*")):
    os.environ.setdefault("TRITON_INTERPRET", "1")

TEMPLATE = "with_tables"
_numbers = itertools.count()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One process of pytest more than cores (but 4 at most), because many tests wait: for a
    lease to end, for a process to start."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min((cores or 1) + 1, 4)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Several processes share the tests: the long ones come first, so that none is left
    to one process alone at the end."""
    if hasattr(config, "workerinput"):
        items.sort(key=_starts_late)


def _starts_late(item: pytest.Item) -> int:
    ranks = ("slow", "process", "postgres")
    found = [rank for rank, name in enumerate(ranks) if item.get_closest_marker(name)]
    return min(found, default=len(ranks))


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """A command that runs in this process sets up its log, which would outlive the test and
    keep later ones from seeing what is logged."""
    loggers = [logging.getLogger(name) for name in (None, "storage")]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
    root = loggers[0]
    for handler in [one for one in root.handlers if type(one) is logging.StreamHandler]:
        root.removeHandler(handler)


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """The server.  A test may restart it; it must be up again when the test ends."""
    # Not pytest's own folder: it is closed to the user that Postgres runs as under root.
    folder = Path(tempfile.mkdtemp(prefix="nkat-tests-"))
    folder.chmod(0o711)
    # No fsync: quick, and only a power cut would lose anything.  Commits stay synchronous:
    # tests crash the server, and what it has confirmed must be there afterwards.
    fast = {"fsync": "off", "full_page_writes": "off"}
    try:
        with EmbeddedPostgres(data_dir=folder / "pg", settings=fast) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def _template(postgres: EmbeddedPostgres) -> str:
    postgres.create_database(TEMPLATE)
    engine = make_engine(postgres.url_of(TEMPLATE))
    ensure_schema(engine)
    engine.dispose()  # a template must have no connections
    return TEMPLATE


@pytest.fixture
def empty_database_url(postgres: EmbeddedPostgres) -> Iterator[str]:
    """A database without a table."""
    name = f"test_{next(_numbers)}"
    postgres.create_database(name)
    yield postgres.url_of(name)
    postgres.drop_database(name)


@pytest.fixture
def database_url(postgres: EmbeddedPostgres, _template: str) -> Iterator[str]:
    """A database with Optuna's tables and ours, and nothing in them."""
    name = f"test_{next(_numbers)}"
    postgres.create_database(name, template=_template)
    yield postgres.url_of(name)
    postgres.drop_database(name)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An engine on `database_url`."""
    engine = make_engine(database_url)
    yield engine
    engine.dispose()
