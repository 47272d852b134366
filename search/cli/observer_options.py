"""Options of what is told of a search: Prometheus, a webhook, trackers."""

from __future__ import annotations

from typing import Annotated

import typer

MetricsPortOption = Annotated[
    int | None,
    typer.Option(
        "--metrics-port",
        envvar="NKAT_METRICS_PORT",
        metavar="PORT",
        min=0,
        max=65535,
        help="Serve /metrics for Prometheus (default: service.metrics_port of the search file, "
        "else none); 0: none.",
    ),
]
MetricsHostOption = Annotated[
    str,
    typer.Option(
        "--metrics-host",
        envvar="NKAT_METRICS_HOST",
        metavar="ADDRESS",
        help="Address that the metrics are served on; whoever can reach it can read them.",
    ),
]
NotifyOption = Annotated[
    str | None,
    typer.Option(
        "--notify",
        envvar="NKAT_NOTIFY",
        metavar="URL",
        help="Webhook that gets a JSON with `text` when the search ends, pauses or finds a new "
        "best trial (default: service.notify of the search file, else none).",
    ),
]
TrackerOption = Annotated[
    list[str] | None,
    typer.Option(
        "--tracker",
        metavar="KIND:PLACE",
        help="Experiment tracker that every ended trial is written to: tensorboard:FOLDER, "
        "mlflow:FOLDER, mlflow:URI or wandb:FOLDER; may be given again (default: service.trackers "
        "of the search file, else none).  Needs the extra of that name: pip install "
        "'nkat-search[mlflow]'.",
    ),
]
