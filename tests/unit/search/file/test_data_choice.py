"""Data sets are settled once: the set, else its stand-in, else rendered, else an error."""

from __future__ import annotations

import numpy as np
import pytest

from nkat_errors import BadInput
from search.file.data_choice import settle, settled_before
from search.file.load import parse_search_text

TEXT = """\
study: small
n_trials: 2
gate: {dataset: mnist, threshold: 0.1}
datasets:
  - {name: mnist}
  - {name: letters, limit: 30}
train: {epochs: 2, warmup: 1}
space: {depth: [2, 3]}
"""


def write_set(folder, name, *, classes):
    rng = np.random.default_rng(0)
    arrays = {}
    for part, size in (("train", 20 * classes), ("test", 2 * classes)):
        arrays[f"{part}_images"] = rng.integers(0, 256, (size, 28, 28), np.uint8)
        arrays[f"{part}_labels"] = (np.arange(size) % classes).astype(np.uint8)
    np.savez(folder / f"{name}.npz", **arrays)


@pytest.fixture
def folder(tmp_path):
    write_set(tmp_path, "mnist", classes=10)
    return tmp_path


def settled(text, folder):
    return settle(parse_search_text(text), data_dir=folder, cache_dir=folder / "cache")


def test_prepared_sets_are_taken_as_named(folder):
    write_set(folder, "letters", classes=26)
    found = settled(TEXT, folder)
    assert [e.name for e in found.search_file.datasets] == ["mnist", "letters"]
    assert found.notes == ()
    assert found.infos["letters"].classes == 26


def test_a_stand_in_keeps_its_own_name(folder):
    write_set(folder, "other", classes=26)
    found = settled(TEXT.replace("letters,", "letters, alternatives: [gone, other],"), folder)
    entry = found.search_file.datasets[1]
    assert (entry.name, entry.stand_in_for, entry.limit) == ("other", "letters", 30)
    assert "other STANDS IN for letters" in found.notes[0]
    again = parse_search_text(found.search_file.to_yaml())
    assert again == found.search_file
    assert again.hash() != parse_search_text(TEXT).hash()


def test_nothing_stands_in_unasked(folder):
    with pytest.raises(BadInput, match=r"no letters\.npz in .*--data-dir"):
        settled(TEXT, folder)


def test_rendered_images_only_where_the_file_allows_them(folder):
    text = TEXT.replace("name: letters", "name: sd19_letters")
    with pytest.raises(BadInput, match="sd19_letters"):
        settled(text, folder)
    found = settled(text + "synthetic_fallback: true\n", folder)
    assert found.search_file.datasets[1].synthetic
    assert found.infos["sd19_letters"].source == "synthetic"
    assert "SYNTHETIC" in found.notes[0]


def test_settling_again_changes_nothing(folder):
    write_set(folder, "other", classes=26)
    once = settled(TEXT.replace("letters,", "letters, alternatives: [other],"), folder)
    twice = settle(once.search_file, data_dir=folder, cache_dir=folder / "cache")
    assert twice.search_file == once.search_file


def test_a_stand_in_for_the_gates_set_takes_the_gate_along(folder):
    write_set(folder, "letters", classes=26)
    text = TEXT.replace("dataset: mnist", "dataset: gone").replace(
        "{name: mnist}", "{name: gone, alternatives: [mnist]}"
    )
    assert settled(text, folder).search_file.gate.dataset == "mnist"


def test_a_damaged_file_is_told_before_the_search(folder):
    (folder / "letters.npz").write_bytes(b"no zip file")
    with pytest.raises(BadInput, match=r"letters\.npz"):
        settled(TEXT, folder)


def test_what_was_settled_before_is_taken_without_looking(folder):
    write_set(folder, "other", classes=26)
    text = TEXT.replace("letters,", "letters, alternatives: [gone, other],")
    before = settled(text, folder).search_file
    again = settled_before(parse_search_text(text), parse_search_text(before.to_yaml()))
    assert again is not None
    assert (again.search_file, again.search_file.hash()) == (before, before.hash())
    assert again.notes == ("other: as when the study was made, standing in for letters",)


def test_rendered_images_stay_rendered_where_the_file_lets_them(folder):
    text = TEXT.replace("letters, limit", "emnist_letters, limit") + "synthetic_fallback: true\n"
    before = parse_search_text(text.replace("limit: 30", "limit: 30, synthetic: true"))
    again = settled_before(parse_search_text(text), before)
    assert again is not None
    assert again.search_file.hash() == before.hash()
    assert "SYNTHETIC" in again.notes[0]
    assert settled_before(parse_search_text(text.replace("true", "false")), before) is None


@pytest.mark.parametrize(
    ("old", "new"),
    [("letters, limit", "cifar10, limit"), ("  - {name: letters, limit: 30}\n", "")],
    ids=["another set", "fewer sets"],
)
def test_other_sets_are_settled_anew(old, new):
    asked = parse_search_text(TEXT.replace(old, new))
    assert settled_before(asked, parse_search_text(TEXT)) is None
