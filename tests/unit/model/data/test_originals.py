"""Downloads and conversion, with torchvision's real classes on small files in the
originals' own formats (no network)."""

from __future__ import annotations

import functools
import gzip
import hashlib
import http.server
import os
import pickle
import socket
import string
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from data_files import write_cifar_batch, write_idx
from torchvision.datasets import CIFAR10

from model.data import DataUnavailable, load_dataset
from model.data.atomic import write_prepared
from model.data.originals import read_original


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


@pytest.mark.parametrize(
    ("name", "folder"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")]
)
def test_mnist_and_its_relative_are_taken_as_they_are(
    tmp_path: Path, name: str, folder: str
) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (12, 28, 28), dtype=np.uint8)
    labels = np.arange(12) % 10
    raw = tmp_path / folder / "raw"
    for part in ("train", "t10k"):
        write_idx(raw / f"{part}-images-idx3-ubyte", images)
        write_idx(raw / f"{part}-labels-idx1-ubyte", labels)
    for train in (True, False):
        arrays = read_original(name, root=tmp_path, train=train, download=True)
        assert np.array_equal(arrays.images, images)
        assert np.array_equal(arrays.labels, labels)


def test_emnist_letters_are_made_upright_and_counted_from_0(tmp_path: Path) -> None:
    upright = np.zeros((26, 28, 28), np.uint8)
    upright[:, 3, 5:20] = 255  # a bar along the top, and one down the left, longer
    upright[:, 3:26, 5] = 128
    upright[np.arange(26), 27, np.arange(26)] = 9
    raw = tmp_path / "EMNIST" / "raw"
    for part in ("train", "test"):
        # As published: transposed, letters 1..26.
        write_idx(raw / f"emnist-letters-{part}-images-idx3-ubyte", upright.transpose(0, 2, 1))
        write_idx(raw / f"emnist-letters-{part}-labels-idx1-ubyte", np.arange(1, 27))
    for train in (True, False):
        arrays = read_original("emnist_letters", root=tmp_path, train=train, download=True)
        assert np.array_equal(arrays.images, upright)
        assert arrays.images.flags.c_contiguous
        assert np.array_equal(arrays.labels, np.arange(26))
    write_prepared(
        tmp_path / "emnist_letters.npz",
        train_images=arrays.images,
        train_labels=arrays.labels,
        test_images=arrays.images,
        test_labels=arrays.labels,
    )
    info = load_dataset("emnist_letters", data_dir=tmp_path).info
    assert info.classes == 26
    assert info.class_names == tuple(string.ascii_lowercase)


def test_cifar_planes_become_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (30, 32, 32, 3), dtype=np.uint8)
    labels = [int(label) for label in np.arange(30) % 10]
    folder = tmp_path / CIFAR10.base_folder
    names = [f"data_batch_{i}" for i in range(1, 6)]
    for i, name in enumerate(names):
        write_cifar_batch(folder / name, images[i * 6 : i * 6 + 6], labels[i * 6 : i * 6 + 6])
    write_cifar_batch(folder / "test_batch", images, labels)
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    # torchvision verifies the published files' sums; ours are other files.
    monkeypatch.setattr(CIFAR10, "train_list", [[name, md5(folder / name)] for name in names])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", md5(folder / "test_batch")]])
    monkeypatch.setitem(CIFAR10.meta, "md5", md5(folder / "batches.meta"))
    for train in (True, False):
        arrays = read_original("cifar10", root=tmp_path, train=train, download=True)
        assert np.array_equal(arrays.images, images)
        assert np.array_equal(arrays.labels, labels)


def test_without_network_both_ways_out_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_args: object, **_kwargs: object) -> object:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    said: list[str] = []
    timeout = socket.getdefaulttimeout()
    user, cache = tmp_path / "user", tmp_path / "cache"
    user.mkdir()
    with pytest.raises(DataUnavailable) as caught:
        load_dataset("mnist", data_dir=user, cache_dir=cache, progress=said.append)
    message = str(caught.value)
    assert message.startswith(f"MNIST: there is no mnist.npz in {user} and it could not be")
    for word in ("Name or service not known", "connect", "--data-dir", "NKAT_DATA_DIR"):
        assert word in message
    assert "\n" not in message
    assert said == [f"downloading MNIST into {cache}"]
    # Nothing half-done stays, and the process's sockets are as they were.
    assert [path.name for path in cache.rglob("*") if path.suffix != ".lock"] == ["raw"]
    assert socket.getdefaulttimeout() == timeout


WORKERS = textwrap.dedent(
    """
    import os, sys
    from pathlib import Path
    from torchvision.datasets import MNIST
    from model.data import load_dataset

    mirror, cache, sums = sys.argv[1], Path(sys.argv[2]), sys.argv[3].split(",")
    MNIST.mirrors = [mirror]
    MNIST.resources = [(name, md5) for (name, _), md5 in zip(MNIST.resources, sums)]
    children = []
    for _ in range(4):
        child = os.fork()
        if not child:
            said = []
            info = load_dataset("mnist", data_dir=None, cache_dir=cache, progress=said.append).info
            fetched = any("downloading" in one for one in said)
            os.write(1, f"{info.source} {info.checksum} {fetched}\\n".encode())
            os._exit(0)
        children.append(child)
    sys.exit(any(os.waitpid(child, 0)[1] for child in children))
    """
)


class Mirror(http.server.SimpleHTTPRequestHandler):
    """Serves a folder and remembers what was fetched."""

    fetched: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.fetched.append(self.path)
        super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


def test_workers_that_start_at_once_download_once(tmp_path: Path) -> None:
    """Four processes, torchvision's own download from a mirror on this machine."""
    served, cache = tmp_path / "served", tmp_path / "cache"
    rng = np.random.default_rng(0)
    sums = []
    for part, count in (("train", 300), ("t10k", 50)):
        write_idx(tmp_path / "images", rng.integers(0, 256, (count, 28, 28), dtype=np.uint8))
        write_idx(tmp_path / "labels", np.arange(count) % 10)
        served.mkdir(exist_ok=True)
        for kind, code in (("images", "idx3"), ("labels", "idx1")):
            target = served / f"{part}-{kind}-{code}-ubyte.gz"
            target.write_bytes(gzip.compress((tmp_path / kind).read_bytes()))
            sums.append(md5(target))

    Mirror.fetched.clear()
    handler = functools.partial(Mirror, directory=str(served))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        mirror = f"http://127.0.0.1:{server.server_address[1]}/"
        done = subprocess.run(
            [sys.executable, "-c", WORKERS, mirror, str(cache), ",".join(sums)],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            env={k: v for k, v in os.environ.items() if "proxy" not in k.lower()},
        )
        server.shutdown()
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert len(lines) == 4
    assert {source for source, _, _ in lines} == {"downloaded"}
    assert len({checksum for _, checksum, _ in lines}) == 1
    assert [fetched for _, _, fetched in lines].count("True") == 1
    assert set(Mirror.fetched) == {f"/{path.name}" for path in served.iterdir()}
    # torchvision asks twice for a file: to follow redirects, then to keep it.
    assert max(Counter(Mirror.fetched).values()) <= 2
    assert {path.name for path in cache.rglob("*")} == {"mnist.npz", "mnist.lock", "raw"}


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    class Broken:
        def astype(self, _dtype: type) -> object:
            raise OSError("no space left")

    images = np.zeros((3, 8, 8), np.uint8)
    with pytest.raises(OSError, match="no space left"):
        write_prepared(
            tmp_path / "mnist.npz",
            train_images=images,
            train_labels=Broken(),  # type: ignore[arg-type]
            test_images=images,
            test_labels=np.zeros(3, np.int64),
        )
    assert list(tmp_path.iterdir()) == []
