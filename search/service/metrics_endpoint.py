"""Where the metrics are scraped: http://HOST:PORT/metrics, OpenMetrics to those who ask for it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server

from nkat_errors import BadInput
from search.provenance import code_version, package_versions
from search.service.metrics import SearchMetrics

log = logging.getLogger(__name__)


@contextmanager
def metrics_served(
    *, host: str, port: int | None, checkpoint_dir: Path | None = None
) -> Iterator[SearchMetrics | None]:
    """Serves metrics while the block lasts; gives their observer.

    Args:
        host: the address to listen on; who can reach it can read.
        port: TCP port; None or 0 for no metrics at all.
        checkpoint_dir: the folder whose disk is watched.

    Raises:
        BadInput: the port is taken, or the address is none of this machine.
    """
    if not port:
        yield None
        return
    metrics = SearchMetrics(
        versions={"version": code_version(), **package_versions()}, checkpoint_dir=checkpoint_dir
    )
    registry = CollectorRegistry()
    registry.register(metrics)
    ProcessCollector(registry=registry)
    try:
        server, thread = start_http_server(port, addr=host, registry=registry)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadInput(
            f"--metrics-port {port}: cannot listen on {host}:{port} ({reason}); choose another "
            "port, or 0 for no metrics"
        ) from None
    log.info("metrics: http://%s:%d/metrics", host, port)
    try:
        yield metrics
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
