"""The work folder of a recalculation: what is finished, and the training under way.

    plan.json                     what is trained; another plan is refused
    results/cifar10-seed0.json    a finished training
    weights/cifar10.safetensors   weights of the first seed
    trainings-<hash>/             checkpoint of the training under way

Everything is written whole or not at all, so a killed recalculation goes on from here.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from nkat_errors import BadInput
from storage.checkpoints import CheckpointStore


class WorkDir:
    """See the module's docstring.

    Args:
        folder: made when it is missing.
        identity: of the plan (`Plan.identity`).

    Raises:
        BadInput: the folder holds another recalculation, or cannot be written.
    """

    def __init__(self, *, folder: Path, identity: Mapping[str, Any]) -> None:
        self.folder = folder
        self.checkpoints = CheckpointStore(folder=folder, study_name="trainings")
        plan, wanted = folder / "plan.json", json.loads(json.dumps(identity))
        try:
            for below in (self._results, self._weights):
                below.mkdir(parents=True, exist_ok=True)
            if plan.exists():
                _require_same(folder, json.loads(plan.read_text(encoding="utf-8")), wanted)
            else:
                write_whole(plan, json.dumps(wanted, indent=2).encode())
        except json.JSONDecodeError:
            raise BadInput(f"{plan}: damaged; delete {folder} to begin again") from None
        except OSError as error:
            raise BadInput(f"{folder}: cannot be written ({error.strerror})") from None

    @property
    def _results(self) -> Path:
        return self.folder / "results"

    @property
    def _weights(self) -> Path:
        return self.folder / "weights"

    def result(self, training: str) -> dict[str, Any] | None:
        """What a finished training gave; None while it is not finished."""
        path = self._results / f"{training}.json"
        if not path.exists():
            return None
        plain: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return plain

    def finish(self, training: str, number: int, result: Mapping[str, Any]) -> None:
        """Records a finished training, whose checkpoints are then of no more use."""
        text = json.dumps(result, allow_nan=False)
        write_whole(self._results / f"{training}.json", text.encode())
        self.checkpoints.discard(number)

    def weights(self, dataset: str) -> Path:
        """Where the weights of a set's first seed are kept until the end."""
        return self._weights / f"{dataset}.safetensors"

    def remove(self) -> None:
        """Deletes the folder: everything is written elsewhere."""
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def only_process(folder: Path) -> Iterator[None]:
    """Keeps a second process out of a work folder.

    Raises:
        BadInput: another process is at work there.
    """
    lock = FileLock(folder / "lock")  # the kernel frees it when its process is gone
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise BadInput(
            f"{folder}: another process is recalculating there; wait for it, or give another "
            "--work-dir"
        ) from None
    except OSError as error:
        raise BadInput(f"--work-dir {folder}: cannot be written ({error.strerror})") from None
    try:
        yield
    finally:
        lock.release()


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file so that it is there whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _require_same(folder: Path, there: Any, wanted: dict[str, Any]) -> None:
    if there == wanted:
        return
    plain = there if isinstance(there, dict) else {}
    key = next(key for key in (*wanted, *plain) if plain.get(key) != wanted.get(key))
    raise BadInput(
        f"{folder} holds another recalculation (its {key} {_difference(plain, wanted, key)}); "
        "give another --work-dir, or delete the folder to begin again"
    )


def _difference(there: dict[str, Any], wanted: dict[str, Any], key: str) -> str:
    """The first value that differs, by the keys that lead to it."""
    path, old, new = [], there.get(key), wanted.get(key)
    while isinstance(old, dict) and isinstance(new, dict):
        below = next(name for name in (*new, *old) if old.get(name) != new.get(name))
        path.append(below)
        old, new = old.get(below), new.get(below)
    where = f"[{'.'.join(path)}] " if path else ""
    return f"{where}is {old!r}, this one's {new!r}"
