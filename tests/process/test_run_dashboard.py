"""The dashboard beside `nkat-search run`: whose port it is, and when it ends."""

from __future__ import annotations

import socket
import subprocess
import urllib.error
import urllib.request
from contextlib import AbstractContextManager
from pathlib import Path

import psutil
import pytest
from nkat_command import started
from process_helpers import wait_for

pytestmark = [pytest.mark.process, pytest.mark.postgres]

SEARCH = """
study: tiny
cut_down: true
n_trials: 50
lambda: counted
gate: {dataset: cifar10, threshold: 0.01}
datasets: [{name: cifar10, epochs: 40, limit: 600, validation: 200, synthetic: true}]
model: {embed_dim: 32, depth: 1}
train: {batch_size: 20, warmup: 0}
space: {lr: {low: 1.0e-5, high: 1.0e-2, log: true}}
service: {lease_s: 10}
"""


def running(folder: Path, url: str, port: int) -> AbstractContextManager[subprocess.Popen[str]]:
    (folder / "search.yaml").write_text(SEARCH)
    options = ("--config", "search.yaml", "--grace", "1", "--dashboard-port", port)
    return started("run", *options, folder=folder, storage=url, log=folder / "run.log")


def said(folder: Path) -> str:
    return (folder / "run.log").read_text()


def test_a_port_of_somebody_else_is_said_and_no_address_is_shown(
    database_url: str, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with running(tmp_path, database_url, port) as run:
            wait_for("the news", lambda: "no dashboard: " in said(tmp_path))
            assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in said(tmp_path)
            assert f"http://127.0.0.1:{port}" not in said(tmp_path)
            assert run.poll() is None  # the search goes on


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def test_the_address_is_shown_when_it_answers_and_it_dies_with_its_run(
    database_url: str, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with running(tmp_path, database_url, port) as run:
        wait_for("the address", lambda: f"http://127.0.0.1:{port}" in said(tmp_path))
        wait_for("the first answer", lambda: answers(port), 5)
        below = psutil.Process(run.pid).children(recursive=True)
        pages = [p for p in below if "dashboard" in p.cmdline()]
        assert len(pages) == 1
        run.kill()
        run.wait()
        _, alive = psutil.wait_procs(below, timeout=20)  # workers and their children too
        assert alive == []
    assert not answers(port)
