"""`nkat-search report` as a user types it, and what `run` does where it can leave no page.

That it leaves one beside best.yaml: test_tutorial.py.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from nkat_command import TINY_TRAINING, done, nkat, sentence
from report_searches import GOOD, ParsedPage, mixed_search, report_search, told
from sqlalchemy import Engine

pytestmark = [pytest.mark.process, pytest.mark.postgres]

SEARCH = (
    TINY_TRAINING
    + """
study: tiny
cut_down: true
n_trials: 2
lambda: counted
gate: {dataset: cifar10, threshold: THRESHOLD}
datasets:
  - {name: cifar10, limit: 200, validation: 100, synthetic: true}
  - {name: mnist, limit: 200, validation: 100, synthetic: true}
space: {patch_size: [2, 4]}
service: {lease_s: 10}
"""
)
RUN = ("run", "--config", "search.yaml", "--dashboard-port", "0", "--out", "out/best.yaml")


def test_the_command_writes_a_page_and_says_so(
    tmp_path: Path, engine: Engine, database_url: str
) -> None:
    with told(engine, report_search(trials=40)) as one:
        mixed_search(one)
        best = one.board.best()
    made = nkat("report", "--json", folder=tmp_path, storage=database_url, cold=True)
    said = json.loads(done(made))
    assert made.stderr == ""
    page = tmp_path / "report.html"
    assert said == {
        "path": "report.html",
        "study": "reported",
        "trials": 20,
        "size_bytes": page.stat().st_size,
    }
    assert best is not None
    assert ParsedPage(page.read_text()).values["verdict"][0] == best[1]
    again = nkat("report", "--out", "page.html", folder=tmp_path, storage=database_url)
    assert done(again).startswith("page.html: study reported, 20 trials (")


def test_bad_input_is_one_sentence(tmp_path: Path, engine: Engine, database_url: str) -> None:
    with told(engine, report_search()) as one:
        one.end(GOOD)
    (tmp_path / "mine.html").write_text("mine")
    for arguments, why in (
        (("--study", "other"), "'other'"),
        (("--out", "mine.html"), "mine.html is there and is no report"),
        (("--out", "mine.html/page.html"), "cannot be written"),
    ):
        ended = nkat("report", *arguments, folder=tmp_path, storage=database_url)
        assert why in sentence(ended)
    assert (tmp_path / "mine.html").read_text() == "mine"
    nowhere = nkat("report", folder=tmp_path)
    assert "no database named" in sentence(nowhere)
    assert not (tmp_path / "report.html").exists()


def test_a_page_that_cannot_be_written_is_a_warning(tmp_path: Path, database_url: str) -> None:
    (tmp_path / "search.yaml").write_text(SEARCH.replace("THRESHOLD", "1.2"))
    mine = tmp_path / "out/report.html"
    mine.parent.mkdir()
    mine.write_text("mine")
    ended = nkat(*RUN, folder=tmp_path, storage=database_url)
    assert ended.returncode == 1
    assert ended.stdout.count("WARNING: no report: ") == 1
    assert "is no report" in ended.stdout
    assert mine.read_text() == "mine"
    assert "came nearest" in ended.stderr
    mine.unlink()
    again = nkat(*RUN, folder=tmp_path, storage=database_url)
    assert again.returncode == 1
    text = ParsedPage(mine.read_text()).text
    assert "No trial passed the gate" in text["verdict"]
    assert "rendered images, no real data" in text["verdict"] + text["sets"]
