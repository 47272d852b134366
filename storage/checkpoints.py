"""Checkpoints on a disk that may be full, read-only or torn: bytes in, bytes out.

Layout: FOLDER/<study>-<8 hex>/trial-000012/000003.ckpt; the last two generations of each
living trial are kept, so disk use is at most (2 x living trials + 1 being written per
worker) x the size of one checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO


@dataclass(frozen=True, slots=True)
class DiskUse:
    """What the study's checkpoints take now."""

    files: int
    bytes: int


class CheckpointStore:
    """One study's checkpoints, keyed by trial number.

    Args:
        folder: made when missing; may be shared by all studies and workers.
        study_name: names the sub-folder.

    A full or read-only disk gives one warning, then `enabled` is False and every call
    does nothing: training goes on without checkpoints.
    """

    def __init__(self, *, folder: Path, study_name: str) -> None:
        raise NotImplementedError

    @property
    def enabled(self) -> bool:
        """False after the disk refused a write."""
        raise NotImplementedError

    @property
    def disabled_because(self) -> str | None:
        """One sentence, None while enabled."""
        raise NotImplementedError

    def save(self, number: int, payload: bytes | Callable[[BinaryIO], object]) -> bool:
        """Write a checkpoint of trial `number` atomically; True when it is on the disk.

        payload: the bytes, or a function that writes them to a file
        (`lambda file: torch.save(state, file)`).
        """
        raise NotImplementedError

    def load(self, number: int) -> bytes | None:
        """The newest undamaged checkpoint of trial `number`, None when there is none."""
        raise NotImplementedError

    def discard(self, number: int) -> None:
        """Delete the checkpoints of a trial that is over."""
        raise NotImplementedError

    def sweep(self, live: Collection[int]) -> list[int]:
        """Delete the checkpoints of all trials but `live`; returns their numbers.

        live: `Board.live_numbers()` read *before* the call.
        """
        raise NotImplementedError

    def disk_use(self) -> DiskUse:
        """Count the files and their bytes."""
        raise NotImplementedError
