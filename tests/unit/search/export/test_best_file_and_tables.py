"""best.yaml round trip, choosing trials, the final table."""

from __future__ import annotations

import datetime
import json
from dataclasses import replace

import pytest
from rich.console import Console

from nkat_errors import BadInput
from search.export.best_file import BestFile, numbered
from search.export.best_reading import load_best
from search.export.choice import check_replaceable, pick, pick_nearest
from search.export.configuration import choose
from search.export.tables import (
    report_dict,
    summary_lines,
    trial_frame,
    trial_table,
)
from search.file.load import parse_search_text
from search.file.search_file import SearchFile
from search.file.yaml_text import dump_yaml
from search.objective.judge import Judge
from search.provenance import DataSource, code_version, package_versions
from search.score.tpe_score import Lambdas
from search.study.past import Past
from search.study.trial_attributes import TrialAttributes, TrialFacts
from search.study.trial_record import TrialRecord, best_first
from search.study.verdict import Effort, SetResult
from storage.records import TrialRow

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
SOURCES = tuple(
    DataSource(name=name, source=source, train_size=size, checksum=CHECKSUM)
    for name, source, size in (
        ("cifar10", "prepared", 50000),
        ("sd19_letters", "prepared", 11919),
        ("mnist", "synthetic", 2000),
    )
)
FACTS = TrialFacts(parameters=8_400_000, tokens=16, device="a card", data=SOURCES)
LAMBDAS = Lambdas(theory=20.0, counted=28.0, parameters=8.4)
PARAMS = {"embed_dim": 384, "conv_stem": "off"}


def ended(
    number: int, accuracies: dict[str, float], effort: Effort, *, search: SearchFile = SEARCH
) -> TrialRecord:
    """As the database gives it back."""
    results = {name: SetResult(accuracy=a, weights="ema") for name, a in accuracies.items()}
    verdict = Judge(search=search, lambdas=LAMBDAS).after_set(
        results, effort, Past(best_global=2.0)
    )
    assert verdict is not None
    flat = TrialAttributes(verdict=verdict, facts=FACTS, attempt=2, worker="w").to_flat()
    return TrialRecord.of(
        TrialRow(
            number=number,
            state="COMPLETE" if verdict.complete else "PRUNED",
            value=verdict.value if verdict.complete else verdict.gate.score,
            params=PARAMS if verdict.complete else {"embed_dim": 448, "conv_stem": "small"},
            user_attrs=json.loads(json.dumps(flat)),
        )
    )


def complete(number: int, accuracies: dict[str, float]) -> TrialRecord:
    effort = Effort(epochs=30, seconds_stage1=10.0, seconds_stage2=3600.0)
    return ended(number, accuracies, effort)


def stopped(number: int, seconds_stage2: float = 0.0) -> TrialRecord:
    """At the gate, or (with seconds in stage 2) by the bound."""
    accuracies = {"cifar10": 0.7, "sd19_letters": 0.5} if seconds_stage2 else {"cifar10": 0.4}
    return ended(number, accuracies, Effort(seconds_stage1=10, seconds_stage2=seconds_stage2))


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
        ("  depth: 7", "  depth: 0", ["model.depth = 0: must be a whole number in 1..1000"]),
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


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("scores", "global_tpe_score"), 0.9, ["scores.global_tpe_score = 0.9", "mean accuracy"]),
        (("scores", "global_tpe_score"), None, ["scores.global_tpe_score", "nearest"]),
        (("scores", "consistency"), 0.5, ["scores.consistency = 0.5"]),
        (("scores", "generalization"), 0.5, ["scores.generalization = 0.5"]),
        (("scores", "robustness"), 0.9, ["scores.robustness = 0.9"]),
        (("scores", "robustness"), 2.0, ["scores.robustness = 2.0", "[0, 1]"]),
        (("scores", "sets", "mnist", "accuracy"), 1.2, ["mnist.accuracy = 1.2", "must be"]),
        (("scores", "sets", "mnist", "accuracy"), -0.1, ["mnist.accuracy = -0.1", "must be"]),
        (("scores", "sets", "mnist", "accuracy"), 0.95, ["mnist.tpe_score", "it was edited"]),
        (("scores", "sets", "mnist", "tpe_score"), 0.7, ["mnist.tpe_score = 0.7"]),
        (("lambda", "value"), 19.0, ["lambda.value = 19", "its reading is theory"]),
        (("lambda", "value"), 0.0, ["lambda.value = 0.0", "> 0"]),
        (("gate", "score"), 0.7, ["gate.score = 0.7", "the one of cifar10"]),
        (("gate", "margin"), 0.7, ["gate.margin = 0.7", "score - threshold"]),
        (("gate", "dataset"), "mnist", ["gate.score", "the one of mnist"]),
        (("network", "tokens"), 0, ["network.tokens = 0"]),
    ],
)
def test_numbers_that_do_not_follow_from_each_other_are_refused(tmp_path, path, value, words):
    plain = BestFile.of_trial(TRIALS[2], SEARCH, now=NOW).model_dump(by_alias=True)
    here = plain
    for key in path[:-1]:
        here = here[key]
    here[path[-1]] = value
    file = tmp_path / "best.yaml"
    file.write_text(dump_yaml(plain))
    with pytest.raises(BadInput) as caught:
        load_best(file)
    assert len(str(caught.value).splitlines()) == 1
    for word in ("line ", *words):
        assert word in str(caught.value)


def test_a_stopped_trial_becomes_a_nearest_file_and_is_never_taken_for_best(tmp_path):
    nearest = BestFile.of_trial(TRIALS[0], SEARCH, now=NOW)
    assert nearest.kind == "nearest"
    text = nearest.to_yaml()
    assert "# NEAREST, NOT BEST" in text.splitlines()[1]
    path = tmp_path / "nearest.yaml"
    nearest.save(path)
    assert load_best(path) == nearest
    path.write_text(text.replace("kind: nearest", "kind: best"))
    with pytest.raises(BadInput, match="has no entry for sd19_letters"):
        load_best(path)
    path.write_text(text.replace("global_tpe_score: null", "global_tpe_score: 0.9"))
    with pytest.raises(BadInput, match=r"global_tpe_score = 0.9: a nearest\.yaml has none"):
        load_best(path)
    bare = TrialRecord(number=5, state="fail", value=None, params={}, outcome="given up")
    with pytest.raises(BadInput, match="trial 5 has no attribute 'outcome'"):
        BestFile.of_trial(bare, SEARCH)


def test_an_export_replaces_its_own_kind_and_search_alone(tmp_path):
    path = tmp_path / "best.yaml"
    best = BestFile.of_trial(TRIALS[2], SEARCH, now=NOW)
    check_replaceable(path, best)
    best.save(path)
    check_replaceable(path, BestFile.of_trial(TRIALS[1], SEARCH, now=NOW))
    with pytest.raises(BadInput, match="of kind best, not nearest; give another --out, or --forc"):
        check_replaceable(path, BestFile.of_trial(TRIALS[0], SEARCH, now=NOW))
    for other in (
        BestFile.of_trial(TRIALS[2], SEARCH, study="small-2", now=NOW),
        BestFile.of_trial(TRIALS[2], replace(SEARCH, seed=4), now=NOW),
    ):
        with pytest.raises(BadInput, match=r"holds trial 2 of another search \(study small, "):
            check_replaceable(path, other)
    path.write_text("study: a search file\n")
    with pytest.raises(BadInput, match="is no export"):
        check_replaceable(path, best)


def test_a_foreign_trial_cannot_be_exported():
    attributes = TRIALS[1].whole().to_flat()
    del attributes["accuracy_mnist"]
    bare = TrialRow(
        number=7, state="COMPLETE", value=0.5, params=TRIALS[1].params, user_attrs=attributes
    )
    with pytest.raises(BadInput, match="trial 7 has no attribute 'accuracy_mnist'"):
        BestFile.of_trial(TrialRecord.of(bare), SEARCH)


def test_choosing_trials():
    assert [t.number for t in best_first(TRIALS)] == [2, 1]
    assert [t.number for t in pick(TRIALS, SEARCH, number=None, top=5)] == [2, 1]
    assert [t.number for t in pick(TRIALS, SEARCH, number=1, top=1)] == [1]
    with pytest.raises(BadInput, match="trial 0 is pruned, not complete: failed the gate"):
        pick(TRIALS, SEARCH, number=0, top=1)
    with pytest.raises(BadInput, match="trial 99 does not exist"):
        pick(TRIALS, SEARCH, number=99, top=1)
    with pytest.raises(BadInput, match=r"no best configuration yet: .* export --nearest"):
        pick([TRIALS[0]], SEARCH, number=None, top=1)
    with pytest.raises(BadInput, match="none of 0 ended trials was trained"):
        pick([TRIALS[4]], SEARCH, number=None, top=1)
    assert pick_nearest([TRIALS[0], TRIALS[4]]) is TRIALS[0]
    with pytest.raises(BadInput, match="trial 2 is complete"):
        pick_nearest(TRIALS)
    with pytest.raises(BadInput, match="--nearest: none of 0 ended trials"):
        pick_nearest([TRIALS[4]])


def test_numbered_names(tmp_path):
    path = tmp_path / "best.yaml"
    assert numbered(path, 1) == path
    assert numbered(path, 3).name == "best-3.yaml"


def test_table_has_the_ended_trials_best_first():
    frame = trial_frame(TRIALS, SEARCH)
    assert list(frame["trial"]) == [2, 1, 3, 0]  # 3 passed the gate, 0 did not
    assert frame["global_tpe_score"].isna().tolist() == [False, False, True, True]
    assert trial_frame([], SEARCH).empty


def shown(table: object, *, width: int) -> str:
    console = Console(width=width)
    with console.capture() as captured:
        console.print(table)
    return captured.get()


def test_at_80_columns_four_sets_fit_and_more_lose_no_number():
    names = ["cifar10", "mnist", "fashion_mnist", "emnist_letters", "a_fifth", "a_sixth"]
    for count in (4, 6):
        sets = ", ".join(names[:count])
        search = parse_search_text(f"""\
study: small
title: "[bold]b[/bold] [/]"
n_trials: 4
gate: {{dataset: cifar10, threshold: 0.5}}
datasets: [{sets}]
space: {{embed_dim: [384, 448], conv_stem: ["off", small]}}
""")
        accuracies = {name: 0.91 + 0.01 * i for i, name in enumerate(names[:count])}
        trial = ended(1234, accuracies, Effort(), search=search)
        text = shown(trial_table([trial], search), width=80)
        assert "[bold]b[/bold] [/]" in text
        assert "…" not in text
        assert all(len(line) <= 80 for line in text.splitlines())
        for accuracy in accuracies.values():
            assert f"{100 * accuracy:.2f}" in text
        mean = sum(accuracies.values()) / count
        for word in (f"{100 * mean:.2f}", "20", f"{trial.value:.4f}", "lambda", "mean"):
            assert word in text
        assert text.count("1234") == (2 if count == 4 else 3)  # one table of scores, or two


def test_report_as_plain_values_and_as_table():
    report = report_dict(TRIALS, SEARCH)
    assert report["best_trial"] == 2
    assert report["trials"][2]["global_tpe_score"] is None
    # Two stops would have taken two hours; one of them spent half an hour there.
    assert report["saved"]["hours"] == pytest.approx(1.5)
    assert (report["trials"][0]["lambda"], report["trials"][2]["mean_accuracy"]) == (20.0, None)
    text = shown(trial_table(TRIALS, SEARCH), width=200)
    assert "CUT DOWN" in text
    assert "failed the gate" in text
    lines = " ".join(summary_lines(TRIALS, SEARCH))
    assert "Best: trial 2" in lines
    assert "4 trials ended: 2 complete, 2 stopped early." in lines
    assert "Stopping early saved 1.500 device-hours" in lines
    assert "sd19_letters stands in for emnist_letters" in lines
    assert "mnist: rendered (synthetic)" in lines


def test_no_passing_trial_is_said():
    assert "No trial passed" in summary_lines([TRIALS[0]], SEARCH)[0]
    assert report_dict([TRIALS[0]], SEARCH)["best_trial"] is None


def test_a_name_with_a_dot_keeps_its_source_and_checksum():
    search = parse_search_text("""\
study: dotted
n_trials: 1
gate: {dataset: my.images_v1.2, threshold: 0.1}
datasets: [my.images_v1.2]
space: {embed_dim: [384, 448], conv_stem: [off, tiny]}
""")
    source = DataSource(name="my.images_v1.2", source="prepared", train_size=7, checksum=CHECKSUM)
    results = {"my.images_v1.2": SetResult(accuracy=0.5, weights="raw")}
    verdict = Judge(search=search, lambdas=LAMBDAS).after_set(results, Effort(epochs=1), Past())
    assert verdict is not None
    flat = TrialAttributes(verdict=verdict, facts=replace(FACTS, data=(source,))).to_flat()
    row = TrialRow(number=0, state="COMPLETE", value=verdict.value, params=PARAMS, user_attrs=flat)
    (dataset,) = BestFile.of_trial(TrialRecord.of(row), search).datasets
    assert (dataset.source, dataset.train_size, dataset.checksum) == ("prepared", 7, CHECKSUM)


def test_versions(tmp_path):
    assert {"python", "torch", "optuna"} <= set(package_versions())
    assert "+g" not in code_version(tmp_path)
