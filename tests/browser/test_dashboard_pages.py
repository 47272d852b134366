"""A finished search in a real browser: list, history plot, notes, artifact, no edits."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.request import Request, urlopen

import pytest
from dashboard_pages import Pages, open_pages

pytestmark = pytest.mark.browser

USER, PASSWORD = "tester", "a long password: with a colon"
SEARCH = """\
study: nkat-browser-test
title: Browser test <b>not bold</b>
cut_down: true
n_trials: 4
lambda: counted
gate: {dataset: cifar10, threshold: THRESHOLD}
datasets:
  - {name: cifar10, synthetic: true, epochs: 2, limit: 500, validation: 200}
  - {name: mnist, synthetic: true, epochs: 1, limit: 300, validation: 100}
model: {conv_stem: tiny, embed_dim: 64}
train: {batch_size: 64, lr: 1.0e-3, warmup: 0.5, ema: 0.9, randaugment_ops: 0}
space: {patch_size: [2, 4], depth: {low: 1, high: 2}}
bound: {kind: off}
"""


@dataclass
class Served:
    """A served dashboard: where it is, and Optuna's ids of its two studies."""

    url: str
    ids: dict[str, int]


def nkat(*arguments: str, state_dir: Path, check: bool = True) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "search", *arguments, "--state-dir", str(state_dir)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=400,
        check=False,
    )
    assert not check or done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """Two searches to their end: everything passes the gate of one, nothing of the other."""
    # Not pytest's folder: it is closed to others, and Postgres does not run as root.
    with TemporaryDirectory(prefix="nkat-browser-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield from serve(folder)


def serve(folder: Path) -> Iterator[Served]:
    state = folder / "state"
    for name, threshold in (("passes", "0.01"), ("fails", "1.2")):
        config = folder / f"{name}.yaml"
        text = SEARCH.replace("THRESHOLD", threshold).replace("browser-test", f"browser-{name}")
        config.write_text(text)
        nkat(
            *("run", "--config", str(config), "--workers", "1", "--dashboard-port", "0"),
            *("--out", str(folder / f"{name}-best.yaml")),
            state_dir=state,
            check=name == "passes",  # without a trial that passed, `run` ends with 1
        )
    password = folder / "password"
    password.write_text(PASSWORD)
    process = subprocess.Popen(
        [sys.executable, "-m", "search", "dashboard", "--port", "0", "--state-dir", str(state)],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ
        | {"NKAT_DASHBOARD_USER": USER, "NKAT_DASHBOARD_PASSWORD_FILE": str(password)},
    )
    assert process.stderr is not None
    try:
        said = ""
        while not (found := re.search(r"http://\S+:\d+", said)):
            line = process.stderr.readline()
            assert line, f"the dashboard ended: {said}"
            said += line
        yield Served(url=found.group(), ids=study_ids(found.group()))
    finally:
        process.terminate()
        assert process.wait(20) == 0
        process.stderr.close()


def study_ids(url: str) -> dict[str, int]:
    token = b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    request = Request(f"{url}/api/studies", headers={"Authorization": f"Basic {token}"})
    with urlopen(request, timeout=30) as response:
        listed = json.load(response)["study_summaries"]
    return {row["study_name"].removeprefix("nkat-browser-"): row["study_id"] for row in listed}


@pytest.fixture(scope="module")
def pages(served: Served) -> Iterator[Pages]:
    with open_pages(url=served.url, user=USER, password=PASSWORD) as found:
        found.errors()  # the login's own
        yield found


def test_both_studies_are_listed(pages: Pages) -> None:
    text = pages.studies()
    assert "nkat-browser-passes" in text
    assert "nkat-browser-fails" in text


def test_the_history_plot_shows_every_trial(pages: Pages, served: Served) -> None:
    assert pages.history(served.ids["passes"]) >= 4


def test_a_complete_trial_says_so_and_offers_its_file(pages: Pages, served: Served) -> None:
    text = pages.trial(served.ids["passes"], 0)
    assert re.match(r"Trial 0: complete: Global TPE score 0\.\d{4}", pages.bold_lines()[0])
    assert "Gate passed" in text
    assert "trial-0.yaml" in text


def test_a_gate_failure_says_why(pages: Pages, served: Served) -> None:
    text = pages.trial(served.ids["fails"], 0)
    assert re.match(
        r"Trial 0: failed the gate: local TPE score \d\.\d+ on cifar10 is below 1\.20",
        pages.bold_lines()[0],
    )
    assert "Gate failed" in text
    assert "Pruned" in text


def test_the_study_note_holds_counts_and_search_file(pages: Pages, served: Served) -> None:
    text = pages.study_note(served.ids["passes"])
    assert "4 of 4 trials count" in pages.bold_lines()[0]
    assert "<b>not bold</b>" in pages.bold_lines()[0], "a title is text, not markup"
    assert "n_trials: 4" in text
    assert "cut-down" in text


@pytest.mark.parametrize("width", [1280, 390])
def test_no_page_is_wider_than_its_window(pages: Pages, served: Served, width: int) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    pages.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    study = served.ids["passes"]
    looks = {
        "studies": pages.studies,
        "history": lambda: pages.history(study),
        "analytics": lambda: pages.plots(f"studies/{study}/analytics"),
        "selection": lambda: pages.plots(f"studies/{study}/smartSelection"),
        "trial": lambda: pages.trial(study, 0),
        "note": lambda: pages.study_note(study),
        "compare": lambda: pages.plots("compare-studies"),
    }
    try:
        for name, look in looks.items():
            look()
            wide = pages.driver.execute_script("return document.documentElement.scrollWidth")
            assert wide <= width, name
    finally:
        pages.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_on_a_phone_a_trial_stands_below_the_list(pages: Pages, served: Served) -> None:
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    pages.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        pages.trial(served.ids["passes"], 0)
        note = pages.driver.find_element("tag name", "strong").rect
        assert note["x"] < 150
        assert note["width"] > 150
    finally:
        pages.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_study_offers_its_report(pages: Pages, served: Served) -> None:
    pages.history(served.ids["passes"])
    assert "report.html" in pages.text()


def test_the_pages_load_without_errors(pages: Pages, served: Served) -> None:
    pages.errors()
    pages.studies()
    pages.history(served.ids["passes"])
    pages.trial(served.ids["passes"], 0)
    assert [line for line in pages.errors() if "favicon" not in line] == []


def test_our_own_pages_load_without_errors(pages: Pages, served: Served) -> None:
    pages.errors()
    pages.driver.get(f"{served.url}/workers?study=nkat-browser-passes")
    assert "4 of 4 trials count" in pages.text()
    assert pages.driver.find_element("tag name", "h1").value_of_css_property("font-size") == "24px"
    pages.driver.find_element("link text", "Report").click()
    assert "4 of 4 trials count" in pages.text()
    assert [line for line in pages.errors() if "favicon" not in line] == []


def test_without_the_login_a_browser_sees_nothing(served: Served) -> None:
    with open_pages(url=served.url, user=USER, password="wrong") as stranger:
        stranger.driver.get(f"{served.url}/dashboard")
        assert "nkat-browser" not in stranger.text()
        assert "Studies" not in stranger.text()
