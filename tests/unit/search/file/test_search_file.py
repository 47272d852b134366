"""The search file: round trip, hash, resolution, and every way to get it wrong."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.config import ModelConfig, TrainConfig
from model.data import KNOWN_SETS
from nkat_errors import BadInput
from search.file.load import load_search_file, parse_search_text

ROOT = Path(__file__).parents[4]

TEXT = """\
study: small
n_trials: 4
gate: {dataset: cifar10, threshold: 0.6}
datasets:
  - {name: cifar10}
  - {name: mnist, epochs: 3, limit: 500}
validation: 0.1
model:
  heads: 8
  top_k: 6
train:
  epochs: 10
  warmup: 2
space:
  embed_dim: {low: 384, high: 512, step: 64}
  conv_stem: [off, tiny, small]
  temperature: {low: 0.6, high: 1.0}
  lr: {low: 1.0e-4, high: 1.0e-3, log: true}
service:
  lease_s: 60
"""


def line_of(text: str, word: str) -> int:
    return next(n for n, line in enumerate(text.splitlines(), 1) if word in line)


@pytest.fixture
def search_file():
    return parse_search_text(TEXT)


def test_the_sources_round_2_is_word_for_word():
    found = load_search_file(ROOT / "configs/source.yaml")
    assert found.n_trials == 50
    assert [e.name for e in found.datasets] == [
        "cifar10",
        "mnist",
        "fashion_mnist",
        "emnist_letters",
    ]
    assert (found.gate.dataset, found.gate.threshold, found.cut_down) == ("cifar10", 0.60, False)
    assert {k: p.to_plain() for k, p in found.space.parameters.items()} == {
        "patch_size": {"choices": [2, 4]},
        "conv_stem": {"choices": ["off", "tiny", "small"]},
        "embed_dim": {"low": 384, "high": 512, "step": 64},
        "depth": {"low": 5, "high": 9},
        "temperature": {"low": 0.6, "high": 1.0},
        "top_p": {"low": 0.80, "high": 0.95},
    }
    # The fixed values are the source's baseline, which ModelConfig and TrainConfig hold.
    assert found.resolve(found.baseline()) == (ModelConfig(), TrainConfig())
    assert not found.warnings
    assert not any(entry.limit for entry in found.datasets)


def test_the_default_search_keeps_the_sources_question():
    """Same searched parameters, gate, lambda and budget; only the recipe may differ."""
    ours, source = (load_search_file(ROOT / f"configs/{n}.yaml") for n in ("search", "source"))
    assert (ours.gate, ours.lambda_reading, ours.n_trials) == (
        source.gate, source.lambda_reading, source.n_trials,
    )  # fmt: skip
    assert {e.name for e in ours.datasets} == {e.name for e in source.datasets}
    assert not ours.cut_down
    assert [w.split(" is broken")[0] for w in ours.warnings] == ["limits.tokens = 64"]
    assert not any(entry.limit for entry in ours.datasets)
    assert set(ours.space.parameters) == set(source.space.parameters)
    for name, parameter in source.space.parameters.items():
        if name == "patch_size":  # 1 as well: 64 tokens behind a stem
            assert ours.space.parameters[name].to_plain() == {"choices": [1, 2, 4]}
        else:
            assert ours.space.parameters[name].to_plain() == parameter.to_plain()
    too_large = {**ours.baseline(), "patch_size": 1, "conv_stem": "off"}
    assert "1024 tokens" in str(ours.why_infeasible(too_large))
    assert ours.why_infeasible({**too_large, "conv_stem": "tiny"}) is None


def test_laptop_says_that_it_is_cut_down():
    found = load_search_file(ROOT / "configs/laptop.yaml")
    assert found.cut_down
    assert found.n_trials < 10
    assert found.datasets[0].name == "cifar10"
    assert found.gate.threshold < 0.6


@pytest.mark.parametrize("name", ["search", "laptop"])
def test_round_trip(name):
    found = load_search_file(ROOT / f"configs/{name}.yaml")
    again = parse_search_text(found.to_yaml())
    assert again == found
    assert again.hash() == found.hash()


def test_off_is_a_word_not_a_boolean(search_file):
    assert search_file.space.parameters["conv_stem"].values()[0] == "off"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("study: small", "study: other"),
        ("n_trials: 4", "n_trials: 400"),
        ("n_trials: 4", "n_trials: 4 # a comment\ntitle: other"),
        ("lease_s: 60", "lease_s: 30"),
        ("  epochs: 10\n  warmup: 2", "  warmup: 2.0\n  epochs: 10"),
        ("  top_k: 6\n", ""),  # the default, spelt out or not
        ("[off, tiny, small]", "{choices: [off, tiny, small]}"),
        ("validation: 0.1", "validation: 0.1\nlimits: {}"),
        ("limit: 500", "limit: 500, train: {}"),
        ("epochs: 3", "train: {epochs: 3}"),
    ],
)
def test_hash_stays_where_scores_keep_their_meaning(search_file, old, new):
    assert old in TEXT
    assert parse_search_text(TEXT.replace(old, new)).hash() == search_file.hash()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("threshold: 0.6", "threshold: 0.5"),
        ("limit: 500", "limit: 600"),
        ("validation: 0.1", "validation: 0.2"),
        ("validation: 0.1", "validation: 500"),
        ("epochs: 10", "epochs: 11"),
        ("high: 512", "high: 448"),
        ("[off, tiny, small]", "[off, tiny]"),
        ("n_trials: 4", "n_trials: 4\nseed: 1"),
        ("n_trials: 4", "n_trials: 4\nlambda: counted"),
        ("n_trials: 4", "n_trials: 4\ncut_down: true"),
        ("limit: 500", "limit: 500, synthetic: true"),
        ("validation: 0.1", "validation: 0.1\nlimits: {tokens: 256}"),
        ("limit: 500", "limit: 500, train: {mixup: 0.2}"),
        ("limit: 500", "limit: 500, train: {mixup: 0.1}"),  # the default, but for good
    ],
)
def test_hash_changes_with_the_meaning_of_a_score(search_file, old, new):
    assert old in TEXT
    assert parse_search_text(TEXT.replace(old, new)).hash() != search_file.hash()


def test_resolve(search_file):
    params = {"embed_dim": 448, "conv_stem": "small", "temperature": 0.7, "lr": 5e-4}
    model, train = search_file.resolve(params)
    assert (model.embed_dim, model.conv_stem, model.temperature) == (448, "small", 0.7)
    assert (train.lr, train.epochs, train.warmup) == (5e-4, 10, 2)
    assert search_file.resolve(params, "mnist")[1].epochs == 3


def test_resolve_for_a_data_set_takes_its_shape_and_forbids_flips(search_file):
    params = search_file.baseline()
    for name in ("cifar10", "mnist"):
        known = KNOWN_SETS[name]
        model, train = search_file.resolve_for(params, search_file.dataset(name), known)
        assert (model.image_size, model.channels) == (known.image_size, known.channels)
        assert train.flip is known.flip
    assert KNOWN_SETS["cifar10"].flip
    assert not KNOWN_SETS["mnist"].flip


@pytest.mark.parametrize("change", [{"depth": 3}, {"embed_dim": None}])
def test_resolve_refuses_other_parameters(search_file, change):
    params = search_file.baseline() | change
    params = {name: value for name, value in params.items() if value is not None}
    with pytest.raises(BadInput, match=next(iter(change))):
        search_file.resolve(params)


def test_suggest_gives_every_parameter_and_a_retried_trial_the_same(search_file):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    trial = study.ask()
    params = search_file.space.suggest(trial)
    assert set(params) == set(search_file.space.parameters)
    assert search_file.space.suggest(trial) == params
    waiting = optuna.trial.create_trial(
        state=optuna.trial.TrialState.WAITING,
        params=trial.params,
        distributions=trial.distributions,
    )
    study.add_trial(waiting)
    assert search_file.space.suggest(study.ask()) == params


ROUND_2 = load_search_file(ROOT / "configs/search.yaml")
"""Read once: within the property below it would count towards the time of each example."""


@given(st.integers(0, 2**32 - 1))
def test_whatever_is_suggested_can_be_built(seed):
    search_file = ROUND_2
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    params = search_file.space.suggest(study.ask())
    model, _ = search_file.resolve(params)
    assert 384 <= model.embed_dim <= 512
    assert model.embed_dim % 64 == 0
    assert all(search_file.space.parameters[k].has(v) for k, v in params.items())


# Each: what is replaced by what, a word on the line that is named, words of the message.
BAD = [
    ("  lease_s: 60", "  leases: 60", "leases", ["service.leases", "'lease_s'"]),
    ("  top_k: 6", "  topk: 6", "topk", ["model.topk", "'top_k'"]),
    ("  warmup: 2", "  warm_up: 2", "warm_up", ["train.warm_up", "'warmup'"]),
    ("  embed_dim:", "  embed_dmi:", "embed_dmi", ["space.embed_dmi", "'embed_dim'"]),
    ("step: 64", "stp: 64", "embed_dim", ["space.embed_dim.stp", "'step'"]),
    ("threshold: 0.6", "treshold: 0.6", "gate", ["gate.treshold", "'threshold'"]),
    ("limit: 500", "limits: 500", "mnist", ["datasets[1].limits", "'limit'"]),
    ("n_trials: 4", "n_trails: 4", "n_trails", ["n_trails", "'n_trials'"]),
    ("n_trials: 4", "n_trials: 0", "n_trials", ["n_trials = 0", "in 1..1000000"]),
    ("n_trials: 4", "n_trials: many", "n_trials", ["'many'", "whole number"]),
    ("n_trials: 4", "n_trials: 4.5", "n_trials", ["4.5", "whole number"]),
    ("n_trials: 4", "n_trials: 4\nlambda: thoery", "lambda", ["'thoery'", "theory"]),
    ("validation: 0.1", "validation: 1.5", "validation: 1.5", ["1.5"]),
    ("validation: 0.1", "validation: 0", "validation: 0", ["validation = 0"]),
    ("heads: 8", "heads: 8.5", "heads", ["model.heads = 8.5", "whole number"]),
    ("heads: 8", "heads: 7", "embed_dim", ["embed_dim", "heads = 7"]),
    ("step: 64", "step: 60", "embed_dim", ["space.embed_dim.step = 60", "high: 504"]),
    ("step: 64", "step: 4", "embed_dim", ["388", "multiple of heads = 8"]),
    ("low: 384, high: 512", "low: 512, high: 384", "embed_dim", ["is empty", "512", "384"]),
    ("[off, tiny, small]", "[]", "conv_stem", ["space.conv_stem", "at least one choice"]),
    ("[off, tiny, small]", "[off, tny]", "conv_stem", ["'tny'", "'tiny'"]),
    ("[off, tiny, small]", "[off, off]", "conv_stem", ["'off' stands twice"]),
    ("[off, tiny, small]", "{low: 1, high: 2}", "conv_stem", ["list of choices"]),
    ("[off, tiny, small]", "tiny", "conv_stem", ["'tiny'", "belongs under model"]),
    ("log: true", "log: true, step: 1.0e-4", "lr:", ["step", "logarithmic"]),
    ("low: 1.0e-4", "low: 0.0", "lr:", ["space.lr.low", "> 0"]),
    ("dataset: cifar10", "dataset: mnist", "gate", ["'mnist'", "first of datasets", "'cifar10'"]),
    ("name: mnist", "name: cifar10", "limit", ["datasets[1]", "'cifar10'", "datasets[0]"]),
    ("top_k: 6", "conv_stem: tiny", "conv_stem: [", ["fixed", "searched", "conv_stem"]),
    ("top_k: 6", "classes: 6", "classes", ["the data set decides"]),
    ("top_k: 6", "top_k: .nan", "top_k", ["model.top_k"]),
    ("threshold: 0.6", "threshold: 0.8", "gate", ["0.8", "1.0578", "0.7563"]),
    ("low: 384", "low: 128", "embed_dim", ["lambda", "counted"]),
    ("warmup: 2", "warmup: 3", "warmup", ["warmup = 3", "datasets[1].epochs = 3"]),
    ("train:", "train:\n  mixup: 0.6\n  cutmix: 0.6", "mixup", ["mixup + cutmix"]),
    ("validation: 0.1", "study: again", "study: again", ["'study' stands twice"]),
    ("  heads: 8", "\theads: 8", "heads", ["tab"]),
    ("{name: cifar10}", "{name: [}", "name: [}", ["not readable as YAML"]),
    ("gate: {dataset: cifar10, threshold: 0.6}\n", "", "study", ["'gate' is missing"]),
    ("datasets:", "datasets: 3\nx:", "x:", ["unknown key x"]),
    ("n_trials: 4", "n_trials: 99999999999999999999", "n_trials", ["= 99999999999999999999:"]),
    ("n_trials: 4", "n_trials: 4\nseed: 4294967296", "seed", ["seed = 4294967296", "0..42949"]),
    ("low: 1.0e-4", "low: 1e400", "lr:", ["space.lr.low = 1e400", "double"]),
    ("warmup: 2", "warmup: -1e400", "warmup", ["train.warmup = -1e400"]),
    ("[off, tiny, small]", "[1e999]", "conv_stem", ["space.conv_stem[0] = 1e999"]),
    ("top_k: 6", "nkat_strength: .inf", "nkat", ["model.nkat_strength = inf", "finite number"]),
    ("high: 1.0}", "high: .inf}", "temperature", ["space.temperature.high = inf"]),
    ("low: 0.6", "low: 0", "temperature", ["space.temperature.low = 0.0: must be a number > 0"]),
    ("limit: 500", "train: {mixp: 0}", "mnist", ["datasets[1].train.mixp", "'mixup'"]),
    ("limit: 500", "train: {mixup: 2}", "mnist", ["datasets[1].train.mixup = 2", "[0, 1]"]),
    ("limit: 500", "train: {mixup: 0.9}", "mnist", ["datasets[1].train.mixup + cutmix = 1.1"]),
    ("limit: 500", "train: {warmup: 4}", "mnist", ["train.warmup = 4", "datasets[1].epochs = 3"]),
    ("limit: 500", "train: {epochs: 4}", "mnist", ["datasets[1].epochs = 3", "remove one"]),
    ("limit: 500", "train: 4", "mnist", ["datasets[1].train = 4", "mapping"]),
    ("service:", "limits: {token: 9}\nservice:", "limits", ["limits.token;", "'tokens'"]),
    ("service:", "limits: {tokens: 0}\nservice:", "limits", ["limits.tokens = 0", ">= 1"]),
    (
        "service:",
        "limits: {tokens: 9}\nservice:",
        "limits",
        ["tokens = 9", "16", "conv_stem tiny"],
    ),
]


@pytest.mark.parametrize(("old", "new", "where", "words"), BAD, ids=[b[1][:24] for b in BAD])
def test_bad_file(old, new, where, words):
    assert old in TEXT
    text = TEXT.replace(old, new, 1)
    with pytest.raises(BadInput) as caught:
        parse_search_text(text, name="my.yaml")
    message = str(caught.value)
    assert message.startswith(f"my.yaml line {line_of(text, where)}: ")
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("text", "kind"), [("", "empty"), ("- a\n", "a list"), ("hi\n", "a text")]
)
def test_not_a_mapping(text, kind):
    with pytest.raises(BadInput, match=f"the file is {kind}, but must be a YAML mapping"):
        parse_search_text(text)


def test_missing_file_folder_and_binary(tmp_path):
    with pytest.raises(BadInput, match="no such file"):
        load_search_file(tmp_path / "none.yaml")
    with pytest.raises(BadInput, match="cannot be read"):
        load_search_file(tmp_path)
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match="not a UTF-8 text"):
        load_search_file(tmp_path / "b.yaml")


def test_a_gate_that_only_some_trials_can_pass_is_a_warning():
    text = TEXT.replace("threshold: 0.6", "threshold: 0.7")
    (warning,) = parse_search_text(text).warnings
    assert "1 of the 9 lambdas" in warning
    assert "0.6815" in warning


def test_a_default_warm_up_is_no_error_however_short_the_run():
    found = parse_search_text(TEXT.replace("  warmup: 2\n", ""))
    assert found.resolve(found.baseline(), "mnist")[1].epochs == 3


OWN = TEXT.replace("limit: 500", "train: {randaugment_ops: 0, lr: 3.0e-4, flip: true}")


def test_a_sets_own_recipe_goes_before_the_files_and_the_searched():
    found = parse_search_text(OWN)
    params = found.baseline() | {"lr": 5e-4}
    entry = found.dataset("mnist")
    _, usual = found.resolve(params)
    _, own = found.resolve(params, "mnist")
    assert (usual.randaugment_ops, usual.lr, usual.epochs) == (2, 5e-4, 10)
    assert (own.randaugment_ops, own.lr, own.epochs) == (0, 3e-4, 3)
    assert own.to_dict() == usual.to_dict() | {"randaugment_ops": 0, "lr": 3e-4, "epochs": 3}
    assert found.resolve(params, "cifar10")[1] == usual
    assert not found.resolve_for(params, entry, KNOWN_SETS["mnist"])[1].flip  # still no flips
    assert entry.recipe() == {"randaugment_ops": 0, "lr": 3e-4, "flip": True, "epochs": 3}


def test_a_sets_own_recipe_is_stored():
    found = parse_search_text(OWN)
    again = parse_search_text(found.to_yaml())
    assert again.dataset("mnist").recipe() == found.dataset("mnist").recipe()
    assert (again, again.hash()) == (found, found.hash())


LIMITED = TEXT.replace("service:", "limits: {tokens: 200}\nservice:")


def test_what_breaks_a_limit_is_infeasible_and_says_so():
    found = parse_search_text(LIMITED)
    params = found.baseline()
    assert found.why_infeasible(params | {"conv_stem": "tiny"}) is None
    assert (
        found.why_infeasible(params | {"conv_stem": "off"})
        == "256 tokens are more than limits.tokens = 200"
    )
    (warning,) = found.warnings
    assert "1 of the 3 ways" in warning
    assert "256 (conv_stem off, patch_size 2, pool mean)" in warning
    assert parse_search_text(found.to_yaml()) == found


def test_what_does_not_fit_together_is_infeasible_and_says_so(search_file):
    sentence = search_file.why_infeasible(search_file.baseline() | {"embed_dim": 388})
    assert sentence == "embed_dim = 388: must be a multiple of heads = 8"


@pytest.mark.parametrize("change", [{"depth": 3}, {"embed_dim": None}])
def test_other_parameters_are_an_error_not_infeasible(search_file, change):
    params = search_file.baseline() | change
    params = {name: value for name, value in params.items() if value is not None}
    with pytest.raises(BadInput, match=next(iter(change))):
        search_file.why_infeasible(params)


def test_one_token_a_pixel_of_the_stem_is_64_tokens():
    text = LIMITED.replace("model:", "model:\n  patch_size: 1").replace("[off, tiny", "[tiny")
    found = parse_search_text(text)
    model, _ = found.resolve(found.baseline())
    assert model.tokens == 64
    assert found.why_infeasible(found.baseline()) is None


LONG = TEXT.replace(
    "service:", "recalculation: {epochs_factor: 4, runs: 5, train: {cutmix: 0.5}}\nservice:"
)


def test_the_recalculation_is_no_part_of_the_search():
    found = parse_search_text(LONG)
    assert found.hash() == parse_search_text(TEXT).hash()
    assert parse_search_text(found.to_yaml()) == found
    assert found.recalculation.epochs(10) == 40
    assert found.recalculation.train.given() == {"cutmix": 0.5}
    assert parse_search_text(TEXT).recalculation.runs == 3
    assert "recalculation" not in parse_search_text(TEXT).to_dict()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("runs: 5", "run: 5", ["recalculation.run;", "'runs'"]),
        ("runs: 5", "runs: 0", ["recalculation.runs = 0", "1..1000"]),
        ("epochs_factor: 4", "epochs_factor: 0", ["recalculation.epochs_factor = 0", "> 0"]),
        ("{cutmix: 0.5}", "{cutmx: 0.5}", ["recalculation.train.cutmx", "'cutmix'"]),
        ("{cutmix: 0.5}", "{epochs: 9}", ["recalculation.train.epochs", "epochs_factor"]),
        ("{cutmix: 0.5}", "{cutmix: 0.95}", ["mixup + cutmix = 1.05", "in the recalculation"]),
        ("{cutmix: 0.5}", "{warmup: 12}", ["train.warmup = 12", "epochs = 12"]),
        ("epochs_factor: 4", "epochs_factor: 0.5", ["warmup = 2", "epochs = 2"]),
    ],
)
def test_a_bad_recalculation_is_refused(old, new, words):
    assert old in LONG
    with pytest.raises(BadInput) as caught:
        parse_search_text(LONG.replace(old, new, 1), name="my.yaml")
    for word in words:
        assert word in str(caught.value)
