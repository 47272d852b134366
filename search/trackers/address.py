"""Where a tracker is: `tensorboard:FOLDER`, `mlflow:FOLDER`, `mlflow:URI`, `wandb:FOLDER`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Self

from nkat_errors import BadInput
from search.file.addresses import TRACKER_ADDRESS, is_tracker_address
from search.trackers.sink import Sink


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A tracker that was asked for; opening it may take seconds.

    Args:
        kind: `tensorboard`, `mlflow` or `wandb`: also the package and the extra that it needs.
        target: the rest.
    """

    kind: str
    target: str

    @classmethod
    def of(cls, text: str) -> Self:
        """Reads an address.

        Raises:
            BadInput: it is none, or its package is not installed.
        """
        if not is_tracker_address(text):
            raise BadInput(f"--tracker {text}: must be {TRACKER_ADDRESS}")
        kind, _, target = text.partition(":")
        if not _installed(kind):
            raise BadInput(
                f"--tracker {text}: the package {kind} is not installed; "
                f"pip install 'nkat-search[{kind}]'"
            )
        return cls(kind=kind, target=target)

    def __str__(self) -> str:
        """For messages: a URI's login is left out."""
        return f"{self.kind}:{without_login(self.target)}"

    def open(self, *, study: str, made: datetime, clock: Callable[[], float]) -> Sink:
        """Opens it for a study.

        Args:
            study: its name.
            made: when it was, which tells it from another one of the same name.
            clock: seconds since 1970.
        """
        stamp = f"{made:%Y%m%d-%H%M%S}"
        folder = Path(self.target) / f"{study}-{stamp}"
        if self.kind == "tensorboard":
            from search.trackers.tensorboard import TensorBoardSink

            return TensorBoardSink(folder=folder, clock=clock)
        if self.kind == "wandb":
            from search.trackers.wandb import WandbSink

            return WandbSink(folder=folder, study=study, made=stamp)
        from search.trackers.mlflow import MlflowSink

        return MlflowSink(target=self.target, study=study, made=made.isoformat(), clock=clock)


def _installed(package: str) -> bool:
    """A folder of this name in the working folder, as W&B itself makes one, is no package."""
    found = find_spec(package)
    return found is not None and found.origin is not None


def without_login(text: str) -> str:
    """A text that may hold a URI, its name and password hidden."""
    return re.sub(r"://[^/@\s]*@", "://(hidden)@", text)
