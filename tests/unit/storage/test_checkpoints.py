"""Checkpoints on good, full, read-only and torn disks."""

from __future__ import annotations

import io
import logging
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import BinaryIO

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from storage.checkpoints import CheckpointStore


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(folder=tmp_path / "checkpoints", study_name="a study / with ü")


def _files(store: CheckpointStore) -> list[Path]:
    return sorted(path for path in store.folder.rglob("*") if path.is_file())


def test_newest_is_loaded_and_two_generations_are_kept(store: CheckpointStore) -> None:
    assert store.load(3) is None
    for epoch in range(5):
        assert store.save(3, f"epoch {epoch}".encode())
    assert store.load(3) == b"epoch 4"
    assert len(_files(store)) == 2
    assert store.load(4) is None
    assert store.files() == _files(store)


def test_torch_writes_straight_to_the_file(store: CheckpointStore) -> None:
    state = {"weights": torch.randn(50, 50), "epoch": 3}
    assert store.save(0, lambda file: torch.save(state, file))
    loaded = torch.load(io.BytesIO(store.load(0) or b""))
    assert torch.equal(loaded["weights"], state["weights"])


@pytest.mark.parametrize("damage", ["turned", "torn", "empty", "gone"])
def test_damaged_newest_falls_back_to_the_one_before(
    store: CheckpointStore, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    store.save(1, b"before " * 100)
    store.save(1, b"newest " * 100)
    newest = _files(store)[-1]
    content = bytearray(newest.read_bytes())
    if damage == "turned":
        content[10] ^= 1
        newest.write_bytes(content)
    elif damage == "torn":
        newest.write_bytes(content[:-50])
    elif damage == "empty":
        newest.write_bytes(b"")
    else:
        newest.unlink()
    assert store.load(1) == b"before " * 100
    assert ("damaged" in caplog.text) == (damage != "gone")
    assert store.save(1, b"after")
    assert store.load(1) == b"after"


@given(payload=st.binary(max_size=300), cut=st.integers(1, 40), flip=st.integers(0, 10_000))
def test_no_damage_passes_for_a_checkpoint(
    tmp_path_factory: pytest.TempPathFactory, payload: bytes, cut: int, flip: int
) -> None:
    store = CheckpointStore(folder=tmp_path_factory.mktemp("c"), study_name="s")
    store.save(0, payload)
    (path,) = _files(store)
    whole = path.read_bytes()
    assert store.load(0) == payload
    path.write_bytes(whole[:-cut])
    assert store.load(0) is None
    turned = bytearray(whole)
    turned[flip % len(whole)] ^= 0x10
    path.write_bytes(turned)
    assert store.load(0) is None


def test_a_writer_that_fails_leaves_the_old_one(store: CheckpointStore) -> None:
    store.save(0, b"good")

    def broken(file: BinaryIO) -> None:
        file.write(b"half")
        raise RuntimeError("the model's fault, not the disk's")

    with pytest.raises(RuntimeError, match="model's fault"):
        store.save(0, broken)
    assert store.enabled
    assert store.load(0) == b"good"
    assert len(_files(store)) == 1  # no half-written file is left


def test_killed_while_writing_leaves_the_old_one(store: CheckpointStore) -> None:
    store.save(0, b"good")
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from storage.checkpoints import CheckpointStore\n"
        "def die(file):\n"
        "    file.write(b'x' * 100000); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
        "CheckpointStore(folder=Path(sys.argv[1]), study_name='a study / with ü').save(0, die)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(store.folder.parent)], check=False)
    assert done.returncode == -9
    assert store.load(0) == b"good"
    store.save(0, b"next")
    assert store.load(0) == b"next"
    store.discard(0)
    assert _files(store) == []


def test_sweep_takes_only_what_is_over(store: CheckpointStore) -> None:
    for number in range(4):
        store.save(number, b"x")
    (store.folder / "notes.txt").write_text("somebody's own")
    assert store.sweep({0, 2, 99}) == [0, 2]
    assert store.load(0) is None
    assert store.load(1) == store.load(3) == b"x"
    assert store.sweep({0, 2}) == []
    store.discard(77)


def test_studies_of_one_folder_do_not_meet(tmp_path: Path) -> None:
    same_letters = [
        CheckpointStore(folder=tmp_path, study_name="a b"),
        CheckpointStore(folder=tmp_path, study_name="a_b"),
        CheckpointStore(folder=tmp_path, study_name="a b", salt="made anew"),
    ]
    for number, store in enumerate(same_letters):
        store.save(0, str(number).encode())
    assert [store.load(0) for store in same_letters] == [b"0", b"1", b"2"]


FULL_DISK = """
import logging, resource, sys
from pathlib import Path
from storage.checkpoints import CheckpointStore
logging.basicConfig(level=logging.WARNING, format="%(message)s")
store = CheckpointStore(folder=Path(sys.argv[1]), study_name="s")
assert store.save(0, b"fits")
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
def payload(file):
    try:
        for _ in range(10):
            file.write(b"x" * 50_000)
    except OSError as error:
        if sys.argv[2] == "torch":
            raise RuntimeError("unexpected pos 50112 vs 50008") from error  # as torch does
        raise
for _ in range(3):
    assert not store.save(0, payload)
assert not store.enabled and "File too large" in store.disabled_because
assert store.load(0) == b"fits"
assert len([path for path in store.folder.rglob("*") if path.is_file()]) == 1
print("went on")
"""


@pytest.mark.parametrize("writer", ["plain", "torch"])
def test_full_disk_is_one_warning_and_no_crash(tmp_path: Path, writer: str) -> None:
    """RLIMIT_FSIZE stands in for the disk's end: the same OSError in the same places."""
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path), writer],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "went on", done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("checkpoints are off")


def test_real_torch_on_a_full_disk(tmp_path: Path) -> None:
    store = CheckpointStore(folder=tmp_path, study_name="s")
    state = {"weights": torch.randn(200, 200)}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        assert not store.save(0, lambda file: torch.save(state, file))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "File too large" in (store.disabled_because or "")


def test_folder_that_cannot_be_made(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    (tmp_path / "file").write_text("in the way")
    store = CheckpointStore(folder=tmp_path / "file", study_name="s")
    assert not store.save(0, b"x")
    assert not store.save(0, b"x")
    assert store.load(0) is None
    assert store.sweep({0}) == []
    assert store.files() == []
    store.discard(0)
    assert len(caplog.records) == 1


READ_ONLY = """
import os, sys
from pathlib import Path
from storage.checkpoints import CheckpointStore
os.chmod(sys.argv[1], 0o555)
if os.geteuid() == 0:
    os.setgid(65534); os.setuid(65534)  # a mode does not stop root
store = CheckpointStore(folder=Path(sys.argv[1]), study_name="s")
assert not store.save(0, b"x")
print(store.disabled_because)
"""


def test_read_only_folder() -> None:
    # Not tmp_path: pytest closes its folders to other users, and this is about the mode.
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", READ_ONLY, folder], capture_output=True, text=True, check=False
        )
    assert "Permission denied" in done.stdout, done.stderr
