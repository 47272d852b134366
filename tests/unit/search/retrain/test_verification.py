"""Verdicts and differences of a verification."""

from __future__ import annotations

import pytest
from tiny_best import tiny_best, tiny_search, write_sets

from search.retrain.verification import Verification, VerifiedSet, differences, sentences


@pytest.mark.parametrize(
    ("found", "reproduced"), [(0.80, True), (0.84, True), (0.8401, False), (0.75, False)]
)
def test_two_standard_deviations(found, reproduced):
    one = VerifiedSet(name="mnist", recorded=0.80, found=found, spread=0.02)
    assert one.reproduced is reproduced
    whole = Verification(
        sets=(one,),
        recorded_score=0.6,
        found_score=0.6,
        differences=("code: other",),
        device="CPU",
    )
    assert whole.reproduced is reproduced
    lines = sentences(whole)
    assert lines[0] == "Although it differs: code: other."
    assert lines[-1].startswith("Reproduced" if reproduced else "NOT REPRODUCED: mnist")


def test_changes_that_no_commit_holds_differ(tmp_path, monkeypatch):
    write_sets(tmp_path)
    best = tiny_best(tmp_path, tiny_search())
    for version, expected in (("1.0+gabc", 0), ("1.0+gabc.changed", 1)):
        monkeypatch.setattr("search.retrain.verification.code_version", lambda v=version: v)
        origin = best.provenance.model_copy(update={"code_version": version})
        found = differences(best.model_copy(update={"provenance": origin}), data_dir=tmp_path)
        assert len([one for one in found if one.startswith("code: ")]) == expected


def test_a_checksum_that_was_never_recorded_is_said(tmp_path):
    write_sets(tmp_path)
    best = tiny_best(tmp_path, tiny_search())
    datasets = [one.model_copy(update={"checksum": None}) for one in best.datasets]
    found = differences(best.model_copy(update={"datasets": datasets}), data_dir=tmp_path)
    assert "data: the file does not say which images of shades it was trained on" in found
