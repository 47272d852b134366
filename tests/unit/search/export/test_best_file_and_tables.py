"""best.yaml round trip, choosing trials, the final table and what the gate saved."""

from __future__ import annotations

import datetime

import pytest
from rich.console import Console

from nkat_errors import BadInput
from search.export.best_file import BestFile, load_best, numbered
from search.export.configuration import choose
from search.export.tables import (
    report_dict,
    saved_by_gate,
    summary_lines,
    trial_frame,
    trial_table,
)
from search.file.load import parse_search_text
from search.provenance import code_version, package_versions, read_data_note
from search.score.tpe_score import score_all
from search.study.trial_record import TrialRecord, best_first, pick

SEARCH = parse_search_text("""\
study: small
title: A small one
n_trials: 4
cut_down: true
seed: 3
gate: {dataset: cifar10, threshold: 0.5}
datasets:
  - {name: cifar10}
  - name: sd19_letters
    epochs: 3
    train: {randaugment_ops: 0, cutout: 8}
    limit: 500
    stand_in_for: emnist_letters
  - {name: mnist, synthetic: true, validation: 200}
train: {epochs: 10, warmup: 2}
space:
  embed_dim: {low: 384, high: 512, step: 64}
  conv_stem: [off, tiny, small]
""")
CHECKSUM = "ab" * 32
NOTE = (
    f"cifar10: prepared, 50000 images, sha256 {CHECKSUM}; "
    f"sd19_letters: prepared, 11919 images, sha256 {CHECKSUM}; "
    f"mnist: synthetic, 2000 images, sha256 {CHECKSUM}"
)


def complete(number: int, accuracies: dict[str, float]) -> TrialRecord:
    lam = 20.0
    scores = score_all(accuracies, lam)
    attributes = {f"accuracy_{name}": value for name, value in accuracies.items()}
    attributes |= {f"tpe_{name}": value for name, value in scores.local.items()}
    attributes |= {f"weights_{name}": "ema" for name in accuracies}
    attributes |= {
        "global_tpe_score": scores.global_tpe_score,
        "consistency": scores.consistency,
        "robustness": scores.robustness,
        "generalization": scores.generalization,
        "gate_score": scores.local["cifar10"],
        "gate_margin": scores.local["cifar10"] - 0.5,
        "lambda_theory": lam,
        "lambda_counted": 28.0,
        "lambda_parameters": 8.4,
        "parameters": 8_400_000,
        "tokens": 16,
        "seconds_stage1": 10.0,
        "seconds_stage2": 3600.0,
        "device": "a card",
        "data_note": NOTE,
        "attempt": 2,
        "outcome": "complete",
    }
    return TrialRecord(
        number=number,
        state="complete",
        value=scores.global_tpe_score,
        params={"embed_dim": 384, "conv_stem": "off"},
        user_attrs=attributes,
    )


def stopped(number: int, seconds_stage2: float = 0.0) -> TrialRecord:
    return TrialRecord(
        number=number,
        state="pruned",
        value=0.3,
        params={"embed_dim": 448, "conv_stem": "small"},
        user_attrs={
            "gate_score": 0.3,
            "gate_margin": -0.2,
            "accuracy_cifar10": 0.4,
            "seconds_stage2": seconds_stage2,
            "outcome": "failed the gate",
        },
    )


TRIALS = [
    stopped(0),
    complete(1, {"cifar10": 0.7, "sd19_letters": 0.8, "mnist": 0.9}),
    complete(2, {"cifar10": 0.8, "sd19_letters": 0.8, "mnist": 0.9}),
    stopped(3, seconds_stage2=1800.0),
    TrialRecord(number=4, state="running", value=None, params={}),
]
NOW = datetime.datetime(2026, 11, 22, 12, 0, tzinfo=datetime.UTC)


def test_best_file_round_trip(tmp_path):
    best = BestFile.of_trial(TRIALS[2], SEARCH, now=NOW)
    path = tmp_path / "out" / "best.yaml"
    best.save(path)
    again = load_best(path)
    assert again == best
    assert again.configuration() == SEARCH.resolve(TRIALS[2].params)
    assert [p.name for p in path.parent.iterdir()] == ["best.yaml"]


def test_best_file_says_what_it_is(tmp_path):
    best = BestFile.of_trial(TRIALS[2], SEARCH, study="small-2", now=NOW)
    origin = best.provenance
    assert (origin.study, origin.trial, origin.attempt, origin.seed) == ("small-2", 2, 2, 3)
    assert origin.date_utc == "2026-11-22T12:00:00Z"
    assert origin.search_hash == SEARCH.hash()
    assert "torch" in origin.package_versions
    assert best.datasets[1].checksum == CHECKSUM
    assert (best.datasets[1].epochs, best.datasets[0].epochs) == (3, 10)
    text = best.to_yaml()
    assert text.startswith("# CUT-DOWN SEARCH")
    assert "# Note: mnist: rendered (synthetic) images" in text
    assert "# Note: sd19_letters stands in for EMNIST letters" in text
    assert best.model["conv_stem"] == "off"  # a word again after the round trip:
    path = tmp_path / "b.yaml"
    best.save(path)
    assert load_best(path).model["conv_stem"] == "off"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("format: nkat-best/1\n", "", ["'format' is missing"]),
        ("format: nkat-best/1", "format: nkat-best/9", ["nkat-best/9", "nkat-best/1"]),
        ("conv_stem: off\n  patch", "conv_stem: of\n  patch", ["model", "'of'"]),
        ("embed_dim: 384\n  depth", "embed_dim: 385\n  depth", ["385", "heads = 8"]),
        ("cut_down: true", "cut_dwn: true", ["cut_dwn", "'cut_down'"]),
        ("threshold: 0.5", "threshold: high", ["gate.threshold = 'high'"]),
        ("  depth: 7", "  depht: 7", ["unknown key model.depht; did you mean 'depth'?"]),
        ("  epochs: 10\n", "  epoch: 10\n", ["unknown key train.epoch; did you mean 'epochs'?"]),
        ("  depth: 7", "  depth: 0", ["model.depth = 0: must be a whole number >= 1"]),
        ("  cutmix: 0.2", "  cutmix: 0.95", ["train.mixup + cutmix = 1.05"]),
        ("  heads: 8", "  classes: 8", ["model.classes: the data set decides it"]),
        (
            "randaugment_ops: 0",
            "randaugment_op: 0",
            ["unknown key datasets[1].train.randaugment_op; did you mean 'randaugment_ops'?"],
        ),
        ("  source: prepared", "  sorce: prepared", ["datasets[0].sorce", "'source'"]),
    ],
)
def test_damaged_best_file(tmp_path, old, new, words):
    text = BestFile.of_trial(TRIALS[2], SEARCH, now=NOW).to_yaml()
    assert old in text
    path = tmp_path / "best.yaml"
    damaged = text.replace(old, new, 1)
    path.write_text(damaged)
    with pytest.raises(BadInput) as caught:
        load_best(path)
    for word in ("line ", *words):
        assert word in str(caught.value)
    if new.startswith("  "):  # the key's own line, where the first word of `new` stands
        rows = damaged.splitlines()
        line = next(n for n, row in enumerate(rows, 1) if new.split()[0] in row)
        if "cutmix" not in new:  # the rule names mixup first
            assert f"line {line}: " in str(caught.value)


def test_a_sets_own_recipe_is_recorded_and_used_again(tmp_path):
    best = BestFile.of_trial(TRIALS[2], SEARCH, now=NOW)
    assert best.datasets[1].train.given() == {"randaugment_ops": 0, "cutout": 8}
    assert best.datasets[0].train.given() == {}
    best.save(tmp_path / "best.yaml")
    entry = load_best(tmp_path / "best.yaml").datasets[1].entry()
    assert entry.recipe() == {"randaugment_ops": 0, "cutout": 8, "epochs": 3}
    assert choose(tmp_path / "best.yaml").own_recipes() == {
        "sd19_letters": {"randaugment_ops": 0, "epochs": 3}
    }


def test_a_foreign_trial_cannot_be_exported():
    attributes = {k: v for k, v in TRIALS[1].user_attrs.items() if k != "tpe_mnist"}
    bare = TrialRecord(
        number=7, state="complete", value=0.5, params=TRIALS[1].params, user_attrs=attributes
    )
    with pytest.raises(BadInput, match="trial 7 has no attribute 'tpe_mnist'"):
        BestFile.of_trial(bare, SEARCH)


def test_choosing_trials():
    assert [t.number for t in best_first(TRIALS)] == [2, 1]
    assert [t.number for t in pick(TRIALS, number=None, top=5)] == [2, 1]
    assert [t.number for t in pick(TRIALS, number=1, top=1)] == [1]
    with pytest.raises(BadInput, match="trial 0 is pruned, not complete: failed the gate"):
        pick(TRIALS, number=0, top=1)
    with pytest.raises(BadInput, match="trial 99 does not exist"):
        pick(TRIALS, number=99, top=1)
    with pytest.raises(BadInput, match="no trial is complete yet"):
        pick([TRIALS[0]], number=None, top=1)


def test_numbered_names(tmp_path):
    path = tmp_path / "best.yaml"
    assert numbered(path, 1) == path
    assert numbered(path, 3).name == "best-3.yaml"


def test_table_has_the_ended_trials_best_first():
    frame = trial_frame(TRIALS, SEARCH)
    assert list(frame["trial"]) == [2, 1, 0, 3]
    assert frame["global_tpe_score"].isna().tolist() == [False, False, True, True]
    assert trial_frame([], SEARCH).empty


def test_gate_saves_the_mean_stage_2_of_each_stop():
    saved = saved_by_gate(TRIALS)
    assert (saved.stopped, saved.passed, saved.stage2_seconds) == (2, 2, 3600.0)
    # Two stops would have taken two hours; one of them spent half an hour there.
    assert saved.hours == pytest.approx(1.5)
    assert saved_by_gate([TRIALS[0]]).hours is None


def test_report_as_plain_values_and_as_table():
    report = report_dict(TRIALS, SEARCH)
    assert report["best_trial"] == 2
    assert report["trials"][2]["global_tpe_score"] is None
    assert report["saved_by_gate"]["hours"] == pytest.approx(1.5)
    console = Console(width=200, record=True, file=None, quiet=False)
    with console.capture() as captured:
        console.print(trial_table(TRIALS, SEARCH))
    text = captured.get()
    assert "CUT DOWN" in text
    assert "failed the gate" in text
    lines = " ".join(summary_lines(TRIALS, SEARCH))
    assert "Best: trial 2" in lines
    assert "sd19_letters stands in for emnist_letters" in lines
    assert "mnist: rendered (synthetic)" in lines


def test_no_passing_trial_is_said():
    assert "No trial passed" in summary_lines([TRIALS[0]], SEARCH)[0]
    assert report_dict([TRIALS[0]], SEARCH)["best_trial"] is None


def test_data_note_is_read_back():
    found = read_data_note(NOTE + "; a remark")
    assert list(found) == ["cifar10", "sd19_letters", "mnist"]
    assert (found["mnist"].source, found["mnist"].train_size) == ("synthetic", 2000)


def test_versions(tmp_path):
    assert {"python", "torch", "optuna"} <= set(package_versions())
    assert "+g" not in code_version(tmp_path)
