"""How a search is kept alive: the search file's `service` section."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from search.file.addresses import TRACKER_ADDRESS, TrackerAddress, WebAddress
from search.file.base import Section


class ServiceSection(Section):
    """How the search is kept alive; none of it changes what a score means."""

    lease_s: float = Field(
        default=60,
        ge=1,
        description="seconds without a worker's beat until its trial is given to another",
    )
    max_attempts: int = Field(
        default=3, ge=1, le=1000, description="tries of a trial before it is given up"
    )
    checkpoint_every_s: float = Field(
        default=30,
        ge=0,
        description="least seconds between two checkpoints, which are written at the end of an "
        "epoch (on a GPU an epoch can take less time than its checkpoint); the end of a data set "
        "is always saved",
    )
    stall_s: float = Field(
        default=600,
        ge=1,
        description="seconds without progress until a training is ended as stalled",
    )
    max_worker_failures: int = Field(
        default=3, ge=1, description="failures in a row after which a worker stops itself"
    )
    max_failure_rate: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="share of failed attempts above which the search pauses",
    )
    metrics_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="`run` and `orchestrate` serve metrics for Prometheus on this TCP port "
        "(option --metrics-port)",
    )
    notify: WebAddress | None = Field(
        default=None,
        description="webhook: `run` and `orchestrate` post a JSON with `text` to this address "
        "when the search ends, pauses or finds a new best trial (option --notify); whoever reads "
        "the database reads it",
    )
    trackers: Annotated[tuple[TrackerAddress, ...], Field(strict=False)] | None = Field(
        default=None,
        description="experiment trackers that `run` and `orchestrate` write each ended trial to: "
        f"{TRACKER_ADDRESS} (option --tracker)",
    )
    bound_check: bool | None = Field(
        default=None,
        description="older files: true is `bound: {kind: exact}`, false `bound: {kind: off}`",
    )
