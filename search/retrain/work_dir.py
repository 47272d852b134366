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
from contextlib import contextmanager, suppress
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
        plan, wanted = self._plan, json.loads(json.dumps(identity))
        try:
            if not plan.exists():
                _require_empty(folder)
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
    def _plan(self) -> Path:
        return plan_of(self.folder)

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
        """Deletes its own files: all is written elsewhere."""
        # First: without its plan, what a killed removal leaves is never taken for results.
        self._plan.unlink(missing_ok=True)
        for below in (self._results, self._weights, self.checkpoints.folder):
            shutil.rmtree(below, ignore_errors=True)


def plan_of(folder: Path) -> Path:
    """The file that says that a recalculation is under way in a work folder."""
    return folder / "plan.json"


def lock_of(folder: Path) -> Path:
    """The file that the process at work holds locked."""
    return folder / "lock"


@contextmanager
def only_process(folder: Path) -> Iterator[None]:
    """Keeps a second process out of a work folder; deletes the folder if nothing is in it
    when the block ends.

    Raises:
        BadInput: another process is at work there.
    """
    lock = FileLock(lock_of(folder))  # the kernel frees it when its process is gone
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
        if not plan_of(folder).exists():
            lock_of(folder).unlink(missing_ok=True)
        lock.release()
        with suppress(OSError):  # the usual case: it is not empty
            folder.rmdir()


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file so that it is there whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _require_empty(folder: Path) -> None:
    """Files of somebody else's must neither be taken for results nor be deleted."""
    others = sorted(path.name for path in folder.glob("*") if path != lock_of(folder))
    if others:
        raise BadInput(
            f"--work-dir {folder} holds {others[0]!r} and no recalculation under way; name an "
            "empty or a new folder"
        )


def _require_same(folder: Path, there: Any, wanted: dict[str, Any]) -> None:
    if there == wanted:
        return
    plain = there if isinstance(there, dict) else {}
    key = next(key for key in (*wanted, *plain) if plain.get(key) != wanted.get(key))
    raise BadInput(
        f"{folder} holds another recalculation ({_difference(plain, wanted, key)}); "
        "give another --work-dir, or delete the folder to begin again"
    )


def _difference(there: dict[str, Any], here: dict[str, Any], key: str) -> str:
    """The first value that differs, after the keys that lead to it."""
    path, old, new = [key], there.get(key), here.get(key)
    while isinstance(old, dict) and isinstance(new, dict):
        below = next(name for name in (*new, *old) if old.get(name) != new.get(name))
        path.append(below)
        old, new = old.get(below), new.get(below)
    return f"{'.'.join(path)} is {old!r} there, {new!r} here"
