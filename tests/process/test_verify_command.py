"""`verify`: an honest file reproduces, and nothing else does."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from nkat_command import nkat
from tiny_best import tiny_best, tiny_search, write_sets

from search.export.best_reading import load_best
from search.retrain.training_run import RunSpec, train_once

REVISION = {"NKAT_REVISION": "0123456789ab", "COLUMNS": "150"}
"""The code's version, whatever the state of this checkout."""

pytestmark = pytest.mark.process


def verify(folder, *arguments, env=REVISION, cold=False):
    line = ("verify", "best.yaml", "--device", "cpu", "--data-dir", ".", *arguments)
    return nkat(*line, folder=folder, env=env, cold=cold)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A best.yaml with the accuracies that its trainings really give."""
    for name, value in REVISION.items():
        monkeypatch.setenv(name, value)
    write_sets(tmp_path)
    best = tiny_best(tmp_path, tiny_search())
    model, train = best.configuration()
    found = {}
    for one in best.datasets:
        spec = RunSpec(
            model=model,
            train=train,
            entry=one.entry(),
            split_seed=7,
            seed=7,
            device="cpu",
            data_dir=tmp_path,
        )
        found[one.name] = train_once(spec)[0].accuracy
        assert found[one.name] == train_once(spec)[0].accuracy
    tiny_best(tmp_path, tiny_search(), accuracies=found).save(tmp_path / "best.yaml")
    return tmp_path


def test_an_honest_file_reproduces_exactly(folder):
    ended = verify(folder, cold=True)
    assert ended.returncode == 0, ended.stderr
    assert "Reproduced: every accuracy is exactly the recorded one." in ended.stdout
    plain = json.loads(verify(folder, "--json").stdout)
    assert plain["reproduced"]
    assert plain["differences"] == []
    assert plain["found_score"] == plain["recorded_score"]
    assert {one["name"]: one["found"] for one in plain["sets"]} == {
        name: one.accuracy for name, one in load_best(folder / "best.yaml").scores.sets.items()
    }


def test_scores_that_were_never_reached_do_not(folder):
    claimed = {"shades": 1.0, "greys": 1.0}
    search = tiny_search(slow="lr: 3.0e-3 -> lr: 1.0e-9")
    tiny_best(folder, search, accuracies=claimed).save(folder / "best.yaml")
    ended = verify(folder)
    assert ended.returncode == 1, ended.stderr
    assert "NOT REPRODUCED: shades, greys outside" in ended.stdout


def test_what_differs_is_listed_and_nothing_is_trained(folder):
    best = load_best(folder / "best.yaml")
    versions = best.provenance.package_versions | {"torch": "1.0.0", "gone": "2.0"}
    best.model_copy(
        update={"provenance": best.provenance.model_copy(update={"package_versions": versions})}
    ).save(folder / "best.yaml")
    arrays = dict(np.load(folder / "greys.npz"))
    arrays["train_images"][0] ^= 1
    np.savez(folder / "greys.npz", **arrays)
    ended = verify(folder, env={"NKAT_REVISION": "ba9876543210", "COLUMNS": "150"})
    assert ended.returncode == 2
    assert "epoch" not in ended.stderr
    for pattern in (
        r"data: other images of greys \(checksum \w{12}\.\.\. is recorded",
        r"code: \S+\+g0123456789ab is recorded, \S+\+gba9876543210 runs here",
        r"package: torch 1\.0\.0 is recorded, 2\S+ is here",
        r"package: gone 2\.0 is recorded, none is here",
        r"best\.yaml: 4 things differ from the record .*--anyway",
    ):
        assert re.search(pattern, ended.stderr), (pattern, ended.stderr)
    assert "shades" not in ended.stderr
    anyway = verify(folder, "--anyway", "--json")
    plain = json.loads(anyway.stdout)
    assert anyway.returncode == (0 if plain["reproduced"] else 1)
    assert len(plain["differences"]) == 3  # the code is the recorded one here


def test_an_edited_score_is_refused_even_anyway(folder):
    path = folder / "best.yaml"
    text = path.read_text()
    score = load_best(path).scores.global_tpe_score
    path.write_text(text.replace(f"global_tpe_score: {score}", "global_tpe_score: 0.99", 1))
    ended = verify(folder, "--anyway")
    assert ended.returncode == 2
    assert "scores.global_tpe_score = 0.99" in ended.stderr
    assert "it was edited" in ended.stderr


def test_a_data_set_that_is_gone(folder):
    (folder / "greys.npz").unlink()
    ended = verify(folder)
    assert ended.returncode == 2
    assert "greys" in ended.stderr.splitlines()[-1]
