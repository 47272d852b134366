"""A search in which nothing passes the gate: what it says, and what it leaves."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from nkat_command import nkat
from process_helpers import search_file, service

from search.export.best_file import BestScore
from search.export.best_reading import load_best
from search.objective.simulated_trainer import Rehearsal
from search.score.seeds import OVER_ALL
from search.score.tpe_score import score_all

pytestmark = [pytest.mark.process, pytest.mark.postgres]

TITLE = "[bold]b[/bold] [/]"
"""rich would take it for markup, and for markup that does not fit together."""
SEARCH = f"""
study: tiny
title: "{TITLE}"
cut_down: true
n_trials: 2
lambda: counted
gate: {{dataset: cifar10, threshold: 1.2}}
datasets:
  - {{name: cifar10, limit: 200, validation: 100, synthetic: true}}
  - {{name: mnist, limit: 200, validation: 100, synthetic: true}}
model: {{embed_dim: 32, depth: 1, conv_stem: tiny}}
train: {{epochs: 1, batch_size: 20, warmup: 0, randaugment_ops: 0}}
space: {{patch_size: [2, 4]}}
service: {{lease_s: 10}}
"""


call = partial(nkat, env={"COLUMNS": "80"})


@pytest.mark.slow
def test_run_ends_with_the_arithmetic_and_nearest_yaml(tmp_path: Path, database_url: str) -> None:
    (tmp_path / "search.yaml").write_text(SEARCH)
    run = ("run", "--config", "search.yaml", "--dashboard-port", "0", "--out", "out/best.yaml")
    done = call(*run, folder=tmp_path, storage=database_url)
    assert done.returncode == 1
    assert TITLE in done.stdout
    assert "best gate margin -" in done.stderr  # while it ran
    nearest = load_best(tmp_path / "out/nearest.yaml")
    assert not (tmp_path / "out/best.yaml").exists()
    assert (nearest.kind, nearest.scores.global_tpe_score) == ("nearest", None)
    assert list(nearest.scores.sets) == ["cifar10"]
    # lambda is 4 (one block): the gate takes 1.2 * log10(5) = 0.8388.
    accuracy = nearest.scores.sets["cifar10"].accuracy
    said = done.stderr.strip().splitlines()[-1]
    assert f"trial {nearest.provenance.trial} came nearest" in said
    assert f"{-nearest.gate.margin:.4f} below the gate of 1.20" in said
    assert f"1.20 * log10(1 + 4) = 0.8388, and it reached {accuracy:.4f}" in said
    assert f"({100 * (0.838764 - accuracy):.2f} points short)" in said
    assert str(tmp_path / "out/nearest.yaml") in said

    refused = call("export", folder=tmp_path, storage=database_url)
    assert refused.returncode == 2
    assert f"and it reached {accuracy:.4f}" in refused.stderr
    assert "`nkat-search export --nearest`" in refused.stderr
    exported = call("export", "--nearest", folder=tmp_path, storage=database_url)
    assert exported.returncode == 0, exported.stderr
    assert "NOT BEST" in exported.stdout
    assert load_best(tmp_path / "nearest.yaml").scores == nearest.scores
    kept = (tmp_path / "search.yaml").read_text()
    over = ("export", "--nearest", "--out", "search.yaml")
    other = call(*over, folder=tmp_path, storage=database_url)
    assert other.returncode == 2
    assert "--force" in other.stderr
    assert (tmp_path / "search.yaml").read_text() == kept
    assert call(*over, "--force", folder=tmp_path, storage=database_url).returncode == 0

    # It trains as a best.yaml does, on all sets; one of them has a record to compare with.
    trained = call("train", "--config", "nearest.yaml", "--json", folder=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert "no best.yaml" in trained.stderr
    report = json.loads(trained.stdout)
    assert ["recorded" in row for row in report["sets"]] == [True, False]
    assert report["sets"][0]["mean"] == pytest.approx(accuracy)
    table = call("train", "--config", "nearest.yaml", folder=tmp_path)
    assert "recorded on validation images: none" in table.stdout


@pytest.mark.slow
def test_a_result_that_does_not_come_back_is_exit_code_1(
    tmp_path: Path, database_url: str
) -> None:
    text = SEARCH.replace("threshold: 1.2", "threshold: 0.01").replace(
        "n_trials: 2", "n_trials: 1"
    )
    (tmp_path / "search.yaml").write_text(text)
    done = call(
        "run", "--config", "search.yaml", "--dashboard-port", "0",
        folder=tmp_path, storage=database_url,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    odd = ("export", "--out", "[/]/[bold].yaml")
    shown = call(*odd, folder=tmp_path, storage=database_url, cold=True).stdout
    assert "[/]/[bold].yaml" in shown
    two = call("export", "--top", "3", folder=tmp_path, storage=database_url)
    assert two.returncode == 0
    assert "--top 3: 1 written" in two.stderr
    assert TITLE in (tmp_path / "best.yaml").read_text()
    assert call("train", "--config", "best.yaml", folder=tmp_path).returncode == 0
    # The record of a luckier machine: every number in it fits, its accuracy does not.
    best = load_best(tmp_path / "best.yaml")
    lucky = dict.fromkeys(best.scores.sets, 1.0)
    scores = score_all(lucky, best.lambda_.value)
    gate = best.gate.model_copy(
        update={"score": scores.local["cifar10"], "margin": scores.local["cifar10"] - 0.01}
    )
    sets = {
        name: BestScore(accuracy=1.0, tpe_score=scores.local[name], weights="ema")
        for name in lucky
    }
    over_all = {name: getattr(scores, name) for name in OVER_ALL}
    changed = best.model_copy(
        update={"gate": gate, "scores": best.scores.model_copy(update={"sets": sets} | over_all)}
    )
    changed.save(tmp_path / "lucky.yaml")
    train = ("train", "--config", "lucky.yaml")
    outside = call(*train, folder=tmp_path)
    assert outside.returncode == 1
    assert "OUTSIDE two standard deviations" in outside.stdout
    json_too = call(*train, "--json", folder=tmp_path)
    assert json_too.returncode == 1
    assert json.loads(json_too.stdout)["sets"][0]["recorded"]["agrees"] is False
    # Other images or another recipe: the record is no reference.
    assert call(*train, "--limit", "20", folder=tmp_path).returncode == 0


def test_a_search_that_passes_nothing_says_so_once_after_the_start_up(
    tmp_path: Path, database_url: str
) -> None:
    table = tmp_path / "table.csv"
    sets = "accuracy_cifar10,accuracy_mnist,accuracy_fashion_mnist,accuracy_emnist_letters"
    table.write_text(f"depth,temperature,{sets}\n5,0.7,0.7,0.9,0.9,0.9\n")
    plan = Rehearsal(epoch_s=0.0, epochs=1, table=str(table))
    search = replace(search_file(trials=13, threshold=0.75), title=TITLE)
    with service(database_url, tmp_path, search, plan) as tested:
        worker = tested.start()
        watching = call("orchestrate", "--until-done", folder=tmp_path, storage=database_url)
        assert worker.wait(60) == 0
        assert watching.returncode == 0, watching.stderr
        said = [line for line in watching.stderr.splitlines() if "trials are over and" in line]
        assert len(said) == 1
        assert re.search(
            r"trial \d+ came nearest: its local TPE score on cifar10 is 0\.\d{4}", said[0]
        )
        assert "log10(1 + 20)" in said[0]  # 5 blocks: the fewest, so the best score

        shown = call("status", folder=tmp_path, storage=database_url)
        assert shown.returncode == 0, shown.stderr
        assert "best gate margin -0.2206 (trial " in shown.stdout
        assert "accuracy 0.7000, needs 0.9917)" in shown.stdout
        view = json.loads(call("status", "--json", folder=tmp_path, storage=database_url).stdout)
        assert view["title"] == TITLE
        assert view["gate"]["margin"] == pytest.approx(0.7 / 1.3222193 - 0.75, abs=1e-6)
        assert {row["state"] for row in view["trials"]} == {"PRUNED"}
        assert all(row["reason"].startswith("failed the gate") for row in view["trials"])
