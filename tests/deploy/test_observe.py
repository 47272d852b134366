"""The dashboard and the alerts ask for metrics that there are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest
from report_searches import mixed_search, orchestrator_of, report_search, told
from sqlalchemy import Engine

from search.service.metrics import SearchMetrics

OBSERVE = Path(__file__).resolve().parents[2] / "deploy" / "observe"
METRIC = re.compile(r"\bnkat_[a-z0-9_]+")


def asked_for() -> dict[str, set[str]]:
    """Metric names by where they are asked for."""
    dashboard = json.loads((OBSERVE / "grafana/dashboards/nkat.json").read_text())
    found = {
        panel["title"]: set(METRIC.findall(" ".join(t["expr"] for t in panel["targets"])))
        for panel in dashboard["panels"]
    }
    (group,) = yaml.safe_load((OBSERVE / "alerts.yml").read_text())["groups"]
    return found | {rule["alert"]: set(METRIC.findall(rule["expr"])) for rule in group["rules"]}


@pytest.mark.postgres
def test_every_metric_that_is_asked_for_is_served(engine: Engine, tmp_path: Path) -> None:
    search = report_search(trials=40)
    metrics = SearchMetrics(versions={"version": "1"}, checkpoint_dir=tmp_path)
    with told(engine, search) as one:
        mixed_search(one)
        one.board.progress(one.claim(), stage="1", dataset="cifar10", epoch=2, images_per_s=1.0)
        orchestrator_of(one, engine, [metrics.observe]).tick()
    registry = CollectorRegistry()
    registry.register(metrics)
    served = {
        re.split(r"[{ ]", line)[0]
        for line in generate_latest(registry).decode().splitlines()
        if not line.startswith("#")
    }
    missing = {place: names - served for place, names in asked_for().items() if names - served}
    assert missing == {}


def test_alerts_name_their_alarm_and_what_to_do() -> None:
    (group,) = yaml.safe_load((OBSERVE / "alerts.yml").read_text())["groups"]
    assert [rule["alert"] for rule in group["rules"]] == [
        "NkatNoLiveWorker",
        "NkatFailureRate",
        "NkatCheckpointDisk",
    ]
    assert all({"summary", "todo"} == set(rule["annotations"]) for rule in group["rules"])


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not here")
def test_promtool_agrees() -> None:
    for words in (["check", "config", "prometheus.yml"], ["test", "rules", "alerts_test.yml"]):
        done = subprocess.run(
            ["promtool", *words], cwd=OBSERVE, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
