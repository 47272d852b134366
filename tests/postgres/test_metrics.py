"""/metrics as Prometheus reads it: scraped over HTTP from a search in a real database."""

from __future__ import annotations

import signal
import socket
import time
import urllib.request
from pathlib import Path

import pytest
from nkat_command import started
from process_helpers import wait_for
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from report_searches import mixed_search, orchestrator_of, report_search, told
from sqlalchemy import Engine

from search.cli import main
from search.file.load import parse_search_text
from search.file.shipped import LAPTOP as LAPTOP_NAME
from search.file.shipped import shipped_file
from search.service.metrics_endpoint import metrics_served

pytestmark = pytest.mark.postgres

LAPTOP = shipped_file(LAPTOP_NAME)
OPEN_METRICS = "application/openmetrics-text; version=1.0.0"
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def scraped(port: int) -> Samples:
    """Every sample, by its name and labels."""
    ask = urllib.request.Request(
        f"http://127.0.0.1:{port}/metrics", headers={"Accept": OPEN_METRICS}
    )
    with urllib.request.urlopen(ask, timeout=10) as reply:
        assert reply.headers["Content-Type"].startswith("application/openmetrics-text")
        families = list(text_string_to_metric_families(reply.read().decode()))
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_a_scrape_says_what_the_database_says(engine: Engine) -> None:
    search = report_search(trials=40)
    port = free_port()
    with (
        told(engine, search) as one,
        metrics_served(host="127.0.0.1", port=port) as metrics,
    ):
        assert metrics is not None
        assert not any(name == "nkat_trials" for name, _ in scraped(port)), "nothing seen yet"
        mixed_search(one)
        under_way = one.claim()
        one.board.progress(under_way, stage="1", dataset="cifar10", epoch=2, images_per_s=4321.5)
        orchestrator_of(one, engine, [metrics.observe]).tick()
        samples = scraped(port)
        counts = one.board.counts()
        best = one.board.best()

    def value(name: str, **labels: str) -> float:
        return samples[name, tuple(sorted(labels.items()))]

    for state in ("complete", "pruned", "running", "waiting", "failed"):
        assert value("nkat_trials", state=state) == getattr(counts, state), state
    outcomes = {"complete": 4, "gate": 12, "bound": 1, "out_of_memory": 1, "infeasible": 1}
    for outcome in ("complete", "gate", "bound", "out_of_memory", "infeasible", "given_up"):
        assert value("nkat_trials_finished_total", outcome=outcome) == outcomes.get(outcome, 0)
    assert value("nkat_trials_budget") == 40
    assert value("nkat_attempts_failed_total") == 1
    assert value("nkat_attempts_lost_total") == 0
    assert best is not None
    assert value("nkat_best_score") == best[1]
    assert value("nkat_best_gate_margin") == pytest.approx(0.84 / 1.3222193 - 0.6, abs=1e-6)
    assert value("nkat_images_per_second", device="cpu", host="here") == 4321.5
    (beat,) = (v for (name, _), v in samples.items() if name.startswith("nkat_worker_last_hea"))
    assert 0 <= time.time() - beat < 60
    # 12 stopped at the gate after 6 to 17 s; the others took 9, 10, 10, 10 and 12 s.
    assert value("nkat_stage_duration_seconds_bucket", stage="1", le="10.0") == 5 + 4
    assert value("nkat_stage_duration_seconds_count", stage="1") == 17
    assert value("nkat_stage_duration_seconds_count", stage="2") == 5
    assert value("nkat_gpu_seconds_total", stage="1", outcome="gate") == sum(range(6, 18))
    assert value("nkat_search_state", nkat_search_state="run") == 1
    assert any(name == "nkat_build_info" for name, _ in samples)
    labels = {label for _, pairs in samples for label, _ in pairs}
    assert not labels & {"trial", "number", "worker_id", "study"}


@pytest.mark.process
def test_orchestrate_serves_them_until_it_is_stopped(
    engine: Engine, database_url: str, tmp_path: Path
) -> None:
    port = free_port()

    def seen() -> bool:
        try:
            return ("nkat_trials_budget", ()) in scraped(port)
        except OSError:
            return False

    options = ("--metrics-port", port)
    with (
        told(engine, report_search(trials=3)),
        started("orchestrate", *options, folder=tmp_path, storage=database_url) as process,
    ):
        wait_for("the metrics", seen)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
        assert process.returncode == 0, said


@pytest.mark.parametrize("command", ["orchestrate", "run"])
def test_a_taken_port_is_bad_input(
    engine: Engine, database_url: str, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    more = {"run": ["--config", str(LAPTOP), "--synthetic", "--dashboard-port", "0"]}
    with told(engine, report_search()), socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        arguments = [command, "--storage", database_url, "--metrics-port", port]
        assert main([*arguments, *more.get(command, [])]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith(f"nkat-search: --metrics-port {port}: cannot listen on 127.0.0.1:")
    assert said.endswith("(Address already in use); choose another port, or 0 for no metrics")


def test_the_search_file_can_name_the_port() -> None:
    plain = report_search().to_yaml()
    assert "metrics_port" not in plain, "an older nkat-search must be able to read it"
    named = parse_search_text(plain.replace("service:\n", "service:\n  metrics_port: 9464\n"))
    assert named.service.metrics_port == 9464
    assert parse_search_text(named.to_yaml()) == named
    assert named.hash() == report_search().hash()
