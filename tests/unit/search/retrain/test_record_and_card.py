"""What a recalculation leaves: the record, its check at reading, the model card."""

from __future__ import annotations

import datetime
from dataclasses import replace

import pytest
from ruamel.yaml import YAML
from tiny_best import tiny_best, tiny_search, write_sets

from nkat_errors import BadInput
from search.export.best_reading import load_best
from search.export.choice import check_replaceable
from search.export.recalculation_record import BestRecalculation
from search.file.yaml_text import dump_yaml
from search.retrain.model_card import is_model_card, model_card
from search.retrain.plan import Plan
from search.retrain.recalculation_report import recorded, sentences
from search.retrain.runner import Outcome

NOW = datetime.datetime(2026, 11, 24, 12, 0, tzinfo=datetime.UTC)
ROWS = ((9, 1, 0, 0), (0, 10, 0, 0), (0, 0, 10, 0), (2, 0, 0, 8))
OUTCOME = Outcome(
    accuracy=37 / 40,
    weights="ema",
    test_images=40,
    test_checksum="cd" * 32,
    loss=0.5,
    seconds=2.0,
    history=(0.5, 0.9),
    confusion=ROWS,
)
SECOND = replace(OUTCOME, accuracy=0.9, confusion=None)
PLACE = ("recalculation", "result")


@pytest.fixture
def best(tmp_path):
    write_sets(tmp_path)
    plain = tiny_best(tmp_path, tiny_search())
    plan = Plan.of(plain, settings=plain.recalculation, device="CPU", data_dir=tmp_path)
    outcomes = {"shades": [OUTCOME, SECOND], "greys": [OUTCOME, SECOND]}
    files = {"shades": "best-shades.safetensors"}
    return recorded(plan, outcomes, weights_files=files, now=NOW)


def test_the_record_survives_the_file(best, tmp_path):
    best.save(tmp_path / "best.yaml")
    assert load_best(tmp_path / "best.yaml") == best
    text = (tmp_path / "best.yaml").read_text()
    assert "# Recalculated: Global TPE score 1.3055 +- 0.0253 on test images (2 seeds)" in text
    assert "- [9, 1, 0, 0]\n" in text  # a row of the matrix on a line
    assert best.recalculation.result.sets["shades"].per_class == {
        "0": 0.9, "1": 1.0, "2": 1.0, "3": 0.8,
    }  # fmt: skip
    assert any("shades: the hardest class is 3" in line for line in sentences(best))


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("scores", "global_tpe_score", "mean"), 1.4, ["global_tpe_score.mean = 1.4", "edited"]),
        (("scores", "global_tpe_score", "verdict"), "FAIL", ["verdict = FAIL", "PASS"]),
        (("scores", "global_tpe_score", "target"), 0.1, ["target = 0.1", "0.7"]),
        (("scores", "consistency", "std"), 0.5, ["consistency.std = 0.5"]),
        (("scores", "robustness", "mean"), 0.5, ["robustness.mean = 0.5"]),
        (("scores", "generalization", "mean"), None, ["generalization.mean = None"]),
        (("sets", "shades", "accuracy", "mean"), 0.99, ["shades.accuracy.mean = 0.99"]),
        (("sets", "greys", "tpe_score", "std"), 0.0, ["greys.tpe_score.std = 0"]),
        (("sets", "shades", "runs", 0, "accuracy"), 0.95, ["confusion counts 37 right of 40"]),
        (("sets", "shades", "runs", 1, "accuracy"), 0.95, ["shades.accuracy.mean"]),
        (("sets", "shades", "runs", 1, "accuracy"), 1.5, ["accuracy = 1.5", "<= 1"]),
        (("sets", "shades", "runs", 1, "seed"), 9, ["the seeds [7, 9], not [7, 8]"]),
        (("sets", "shades", "confusion"), [[1, 2], [3, 4]], ["4 rows of 4"]),
        (("test_images_read",), False, ["test_images_read = False"]),
    ],
)
def test_an_edited_number_is_refused(best, tmp_path, path, value, words):
    plain = best.model_dump(by_alias=True)
    here = plain
    for key in (*PLACE, *path[:-1]):
        here = here[key]
    here[path[-1]] = value
    file = tmp_path / "best.yaml"
    file.write_text(dump_yaml(plain))
    with pytest.raises(BadInput) as caught:
        load_best(file)
    for word in ("line ", *words):
        assert word in str(caught.value)


def test_a_set_that_is_missing_is_refused(best, tmp_path):
    plain = best.model_dump(by_alias=True)
    del plain["recalculation"]["result"]["sets"]["greys"]
    file = tmp_path / "best.yaml"
    file.write_text(dump_yaml(plain))
    with pytest.raises(BadInput, match=r"sets are shades: must be .* shades, greys"):
        load_best(file)


def test_an_export_does_not_replace_a_recalculated_file(best, tmp_path):
    path = tmp_path / "best.yaml"
    best.save(path)
    new = best.model_copy(update={"recalculation": BestRecalculation()})
    with pytest.raises(BadInput, match=r"records a recalculation .* --force"):
        check_replaceable(path, new)
    new.save(path)
    check_replaceable(path, new)


def test_the_card_says_it_all_and_its_head_is_yaml(best):
    titled = best.model_copy(update={"title": "<b> [x](y) | `code`", "cut_down": True})
    text = model_card(titled, file_name="best.yaml")
    assert is_model_card(text)
    head = YAML(typ="safe").load(text.split("\n---\n")[0].removeprefix("---\n"))
    (entry,) = head["model-index"]
    assert [one["dataset"]["type"] for one in entry["results"]] == ["shades", "greys"]
    assert entry["results"][0]["metrics"][0]["value"] == pytest.approx((37 / 40 + 0.9) / 2)
    body = text.split("\n---\n", 1)[1]
    for words in (
        "| Global TPE score | 1.3055 | 0.0253 | >= 0.70 | PASS |",
        "| Generalization | 1.3055 | 0.0253 |  |  |",
        "| shades | 0.9125 +- 0.0177 |",
        "best-shades.safetensors",
        "greys stands in for EMNIST letters",
        "| 3 | 2 | 0 | 0 | 8 |",
        r"\<b\> \[x\](y) \| \`code\`",
        "Quote no score",
        "CPU",
        "2026-11-24T12:00:00Z",
        "all trainings together took 8 s",
    ):
        assert words in body, words


def test_other_pages_are_no_card_of_ours():
    assert not is_model_card("# My project\n")
    assert not is_model_card("---\nlibrary_name: timm\n---\nlibrary_name: nkat-search\n")
