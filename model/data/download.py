"""Fetching an original once, however many workers ask for it at the same time."""

from __future__ import annotations

import contextlib
import errno
import shutil
import socket
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock

from model.data.atomic import write_prepared
from model.data.errors import DataUnavailable
from model.data.originals import read_original
from model.known_sets import KNOWN_SETS
from nkat_errors import BadInput

LOCK_TIMEOUT_S = 3600  # seconds a worker waits while another one downloads
CONNECT_TIMEOUT_S = 30  # seconds without an answer until a mirror is given up
_FAILURES = (OSError, EOFError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error)
"""What urllib, torchvision and the archives raise: no network, a wrong checksum, a cut file."""

_CANNOT_WRITE = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.ENOTDIR,
    errno.EEXIST,
)


def download(
    name: str,
    *,
    folder: Path,
    looked_in: Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> None:
    """Fetches the original through torchvision and keeps it as `folder`/NAME.npz.

    torchvision shows a progress bar on stderr and verifies what it got; its raw files
    are removed once converted.

    Args:
        name: a known, downloadable set.
        folder: the cache; made when it does not exist.
        looked_in: the user's folder that does not have it, for the message.
        progress: told, in one line, what takes long.

    Raises:
        DataUnavailable: it could not be fetched (no network, a mirror's wrong file).
        BadInput: the cache folder cannot be written.
    """
    known = KNOWN_SETS[name]
    say = progress or (lambda _message: None)
    target = folder / f"{name}.npz"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / f"{name}.lock", timeout=LOCK_TIMEOUT_S)
        with _waiting(lock, say, known.title):
            if target.exists():  # another worker was faster
                return
            say(f"downloading {known.title} into {folder}")
            _fetch(name, raw=folder / "raw" / name, target=target)
            say(f"{known.title} is ready: {target}")
    except filelock.Timeout as error:
        raise DataUnavailable(
            f"{known.title}: another process has held {error.lock_file} for more than "
            f"{LOCK_TIMEOUT_S} s; end it, or delete that file, and try again"
        ) from error
    except _FAILURES as error:
        if isinstance(error, OSError) and error.errno in _CANNOT_WRITE:
            raise BadInput(
                f"cache folder {folder} cannot be written ({error.strerror}); name another with "
                "NKAT_CACHE_DIR"
            ) from error
        absent = f"there is no {target.name} in {looked_in} and it" if looked_in else "it"
        raise DataUnavailable(
            f"{known.title}: {absent} could not be downloaded ({_reason(error)}); connect this "
            f"machine to the internet and try again, or put {target.name} into a folder and name "
            "that with --data-dir (NKAT_DATA_DIR)"
        ) from error


def _fetch(name: str, *, raw: Path, target: Path) -> None:
    # torchvision takes a file it finds for whole: nothing of a broken attempt may stay.
    shutil.rmtree(raw, ignore_errors=True)
    try:
        with _bounded_connections(), contextlib.redirect_stdout(sys.stderr):
            # torchvision prints remarks on stdout, where a --json table may be expected.
            train = read_original(name, root=raw, train=True, download=True)
            test = read_original(name, root=raw, train=False, download=True)
        write_prepared(
            target,
            train_images=train.images,
            train_labels=train.labels,
            test_images=test.images,
            test_labels=test.labels,
        )
    finally:
        shutil.rmtree(raw, ignore_errors=True)


@contextlib.contextmanager
def _waiting(
    lock: filelock.BaseFileLock, say: Callable[[str], None], title: str
) -> Iterator[None]:
    """The lock, with a word to the user when another process holds it."""
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        say(f"waiting for another process that downloads {title}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _bounded_connections() -> Iterator[None]:
    """torchvision opens its connections without a time limit: without one of ours a
    silent firewall would hold a worker for many minutes."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(CONNECT_TIMEOUT_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _reason(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
