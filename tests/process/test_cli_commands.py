"""The command line as a user types it: real processes, exit codes, no tracebacks."""

from __future__ import annotations

import importlib.metadata
import json
import shlex
import subprocess
import sys

import numpy as np
import pytest
from nkat_command import ROOT, environment, nkat, sentence

from model.config import ModelConfig, TrainConfig
from search.export.best_file import BestFile
from search.file.load import load_search_file
from search.objective.judge import Judge
from search.provenance import DataSource
from search.score.tpe_score import Lambdas
from search.study.past import Past
from search.study.trial_attributes import TrialAttributes, TrialFacts
from search.study.trial_record import TrialRecord
from search.study.verdict import Effort, SetResult

LAPTOP = str(ROOT / "configs/laptop.yaml")

SOURCE_LINE = shlex.split(
    "--dataset cifar10 --conv_stem tiny --patch_size 2 --embed_dim 384 --depth 7 "
    "--temperature 0.65 --top_k 6 --top_p 0.80 --nkat_strength 0.0024 --nkat_decay 0.99 "
    "--dropout_attn 0.17 --dropout_embed 0.08 --mixup 0.1 --cutmix 0.2 --randaugment 2 9 "
    "--cutout 8 --lr 2e-4 --epochs 40 --warmup 5 --ema 0.9995 --clip_grad 1.0"
)
QUICK = shlex.split("--embed-dim 32 --depth 1 --epochs 2 --warmup 1 --limit 100 --validation 50")

pytestmark = pytest.mark.process


@pytest.fixture
def images(tmp_path):
    """A data folder with a small CIFAR-10: each class is a shade of grey and noise."""
    rng = np.random.default_rng(0)
    arrays = {}
    for part, size in (("train", 300), ("test", 100)):
        labels = np.arange(size) % 10
        noise = rng.integers(0, 20, (size, 32, 32, 3))
        arrays[f"{part}_images"] = (labels[:, None, None, None] * 23 + noise).astype(np.uint8)
        arrays[f"{part}_labels"] = labels.astype(np.uint8)
    np.savez(tmp_path / "cifar10.npz", **arrays)
    return tmp_path


@pytest.mark.parametrize("spell", [lambda a: a, lambda a: a.replace("_", "-")])
def test_source_line_means_the_baseline(spell):
    line = [spell(a) for a in SOURCE_LINE[2:]]
    done = nkat("describe", *line, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["model"] == ModelConfig().to_dict()
    assert found["train"] == TrainConfig().to_dict()
    assert found["name"] == "the source's baseline"


def test_every_option_of_the_source_line_is_heard():
    """Other values than the defaults, so that an option nobody reads would show."""
    line = shlex.split(
        "--conv_stem small --patch_size 4 --embed_dim 448 --depth 6 --temperature 0.7 "
        "--top_k none --top_p 0.9 --nkat_strength 0.1 --nkat_decay 0.5 --dropout_attn 0.2 "
        "--dropout_embed 0.1 "
        "--mixup 0.2 --cutmix 0.3 --randaugment 3 10 --cutout 6 --lr 1e-3 --epochs 41 --warmup 6 "
        "--ema 0.99 --clip_grad none"
    )
    found = json.loads(nkat("describe", *line, "--json").stdout)
    assert found["model"] == ModelConfig(
        conv_stem="small", patch_size=4, embed_dim=448, depth=6, temperature=0.7, top_k=None,
        top_p=0.9, nkat_strength=0.1, nkat_decay=0.5, dropout_attn=0.2, dropout_embed=0.1,
    ).to_dict()  # fmt: skip
    assert found["train"] == TrainConfig(
        mixup=0.2, cutmix=0.3, randaugment_ops=3, randaugment_magnitude=10, cutout=6, lr=1e-3,
        epochs=41, warmup=6.0, ema=0.99, clip_grad=None,
    ).to_dict()  # fmt: skip


def test_source_line_trains(images, tmp_path):
    out = tmp_path / "result.json"
    line = ("train", *SOURCE_LINE, *QUICK, "--data-dir", images, "--runs", 2, "--out", out)
    done = nkat(*line, cold=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    (row,) = found["sets"]
    assert [run["seed"] for run in row["runs"]] == [0, 1]
    assert row["std"] is not None
    assert (row["epochs"], row["train_images"], row["evaluated_images"]) == (2, 100, 50)
    assert found["train"]["randaugment_magnitude"] == 9
    assert found["on"] == "validation"
    assert "epoch 2/2" in done.stderr
    assert "cifar10" in done.stdout


def test_formal_recalculation_trains_on_all_and_reads_the_test_images(images):
    done = nkat("train", *QUICK[:8], "--test", "--data-dir", images, "--json")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["sets"]
    assert (row["train_images"], row["evaluated_images"]) == (300, 100)
    assert row["runs"][0]["on"] == "test"
    assert row["runs"][0]["weights"] == "ema"


@pytest.mark.parametrize(
    ("options", "code", "word"),
    [
        # Shades of grey are told apart at once without augmentation, and not at all
        # with a learning rate of (nearly) nothing.
        ("--lr 3e-3 --randaugment 0 0 --ema 0.5 --epochs 8 --batch-size 16", 0, "GO: "),
        ("--lr 1e-9 --epochs 1", 1, "NO-GO: "),
    ],
)
def test_smoke_says_go_or_no_go(images, options, code, word):
    fixed = "--warmup 0.5 --embed-dim 64 --depth 1 --mixup 0 --cutmix 0"
    options = shlex.split(f"{options} {fixed}")
    done = nkat("smoke", *options, "--data-dir", images, cold=bool(code))
    assert done.returncode == code, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1].startswith(word)
    assert "accuracy" in lines[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "--conv_stem", "tny"], ["--conv-stem tny", "did you mean 'tiny'"]),
        (["train", "--conv_stm", "tiny"], ["--conv-stm", "--conv-stem"]),
        (["train", "--depth", "deep"], ["--depth deep", "whole number"]),
        (["train", "--depth", "0"], ["--depth 0", "whole number in 1..1000"]),
        (["train", "--top-k", "0"], ["--top-k 0", "none or a whole number in 1..1000000"]),
        (["train", "--lr", "1e400"], ["--lr 1e400", "a number > 0"]),
        (["train", "--randaugment", "2", "99"], ["randaugment_magnitude = 99", "0..30"]),
        (["train", "--embed-dim", "100"], ["embed_dim = 100", "heads = 8"]),
        (["train", "--epochs", "3", "--warmup", "5"], ["--warmup 5", "3 epochs"]),
        (["smoke", "--warmup", "10"], ["--warmup 10", "10 epochs"]),
        (["smoke", "--validation", "0.2"], ["No such option: --validation; see"]),
        (["schema", "--out", "/dev/null/x"], ["--out /dev/null/x"]),
        (["train", "--config", "nowhere.yaml"], ["nowhere.yaml", "no such file"]),
        (["train", "--data-dir", "/nowhere"], ["/nowhere", "does not exist"]),
        (["train", "--device", "cuda:99"], ["cuda:99"]),
        (["train", "--device", "abacus"], ["abacus"]),
        (["train", "--validation", "-1"], ["--validation -1"]),
        (["smoke", "--dataset", "no_such_set"], ["no_such_set", "--data-dir"]),
        (["explain", "--lambda", "0"], ["lambda = 0"]),
        (["explain", "--config", "README.md/x"], ["README.md/x"]),
        (["export", "--trial", "1", "--top", "2"], ["--trial 1", "--top 2"]),
        (
            ["create", "--config", LAPTOP, "--storage", "mysql://u@h/d"],
            ["postgresql+psycopg2"],
        ),
        (["data", "check", "../x"], ["'../x'"]),
        (["exprot"], ["exprot", "export"]),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)
def test_bad_input_is_one_sentence_and_exit_code_2(arguments, words, tmp_path):
    line = sentence(nkat(*arguments, folder=tmp_path, env={"PYTHONPATH": str(ROOT)}))
    for word in words:
        assert word in line


def test_bad_search_file_names_key_line_and_nearest_name(tmp_path):
    text = (ROOT / "configs/search.yaml").read_text().replace("\n  depth:", "\n  dept:")
    (tmp_path / "s.yaml").write_text(text)
    number = next(n for n, row in enumerate(text.splitlines(), 1) if "  dept:" in row)
    line = sentence(nkat("explain", "--config", tmp_path / "s.yaml"))
    assert f"s.yaml line {number}: unknown key space.dept; did you mean 'depth'?" in line


def test_damaged_data_file(tmp_path):
    (tmp_path / "cifar10.npz").write_bytes(b"not a zip")
    assert "cifar10.npz" in sentence(nkat("train", "--data-dir", tmp_path))


def test_explain_shows_the_arithmetic():
    found = json.loads(nkat("explain", "--config", "configs/search.yaml", "--json").stdout)
    assert found["lambda"] == 20
    assert round(found["largest"], 4) == 0.7563
    assert [round(need["accuracy"], 4) for need in found["needs"]] == [0.7933, 0.9256]
    assert round(found["forecast"], 3) == 0.592
    assert round(found["forecast_lambda"], 1) == 11.2
    text = nkat("explain", env={"COLUMNS": "200"}, cold=True).stdout
    for word in ("0.7933", "0.9256", "0.7563", "0.592", "11.2", "1.3222"):
        assert word in text


def test_describe_shows_tokens_parameters_and_three_lambdas():
    found = json.loads(nkat("describe", "--json").stdout)
    assert found["shapes"][0]["tokens"] == 16
    assert 7_000_000 < found["shapes"][0]["parameters"] < 10_000_000
    assert found["lambdas"]["theory"] == 20
    assert found["lambdas"]["counted"] == 28
    assert found["slow_on_gpu"] == {}
    shown = nkat("describe", env={"COLUMNS": "200"}, cold=True)
    assert "MLP 384->768->384" in shown.stdout


def test_describe_says_what_a_gpu_would_train_step_by_step():
    options = ["--split-heads", "--conv-stem", "off", "--patch-size", "1"]
    done = nkat("describe", *options, env={"COLUMNS": "300"})
    assert done.returncode == 0
    assert "step by step" in done.stderr
    assert "1024 tokens of 48 a head are too large (32x32x3, 10 classes)" in done.stderr
    assert "784 tokens of 48 a head are too large (28x28x1, 26 classes)" in done.stderr


def test_help_teaches_and_is_quick_to_import():
    done = nkat("--help", env={"COLUMNS": "120"})
    assert done.returncode == 0
    for command in (
        "create",
        "export",
        "report",
        "recalculate",
        "verify",
        "train",
        "smoke",
        "describe",
        "explain",
        "data",
    ):
        assert command in done.stdout
        shown = nkat(command, "--help", env={"COLUMNS": "120"})
        assert shown.returncode == 0
        assert "nkat-search " + command in shown.stdout
    probe = "import search.cli, sys; print([m for m in ('torch', 'optuna') if m in sys.modules])"
    heavy = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert heavy.stdout.strip() == "[]"


def test_no_flag_looks_as_if_it_took_a_value():
    for command in ([], ["train"], ["data", "check"]):
        shown = nkat(*command, "--help", env={"COLUMNS": "120"})
        assert "--help" in shown.stdout
        assert "<bool>" not in shown.stdout


def test_help_says_range_unit_and_default_of_a_field():
    shown = " ".join(nkat("train", "--help", env={"COLUMNS": "250"}).stdout.split())
    assert "keys kept per query by mass; 1 keeps all (in (0, 1]) [default: 0.8]" in shown
    assert "0 turns it off (in 0..1024, pixels) [default: 8]" in shown


def test_version():
    done = nkat("--version", cold=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"nkat-search {importlib.metadata.version('nkat-search')}")


def test_a_shell_completes_commands_and_options():
    def completed(words, place):
        asked = {"_NKAT_SEARCH_COMPLETE": "complete_bash", "COMP_CWORD": str(place)}
        return nkat(env=asked | {"COMP_WORDS": words}).stdout.split()

    assert completed("nkat-search res", 1) == ["resume", "restore"]
    assert completed("nkat-search run --metrics", 2) == ["--metrics-port", "--metrics-host"]
    # Else it is for the shell that pytest was started from.
    any_shell = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    assert "complete" in nkat("--show-completion", "bash", env=any_shell).stdout


def test_schema_is_printed_or_written(tmp_path):
    shipped = (ROOT / "configs/search.schema.json").read_text()
    assert nkat("schema", cold=True).stdout == shipped
    out = tmp_path / "new" / "schema.json"
    assert nkat("schema", "--out", out).returncode == 0
    assert out.read_text() == shipped


def printed_by(program: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
        env=environment(),
    )
    return done.stdout.strip()


def test_one_command_does_not_load_what_the_others_need():
    probe = (
        "import sys; from search.cli import main; code = main(['healthcheck']); "
        "heavy = ('model.config', 'torch', 'optuna', 'ruamel'); "
        "print(code, [name for name in heavy if name in sys.modules])"
    )
    assert printed_by(probe) == "2 []"


def test_a_bad_file_or_field_is_said_before_torch_is_loaded():
    probe = (
        "import sys; from search.cli import main; "
        "lines = ('train --config no.yaml', 'train --embed-dim 100', 'smoke --config no.yaml', "
        "'recalculate no.yaml', 'verify no.yaml', 'describe --config no.yaml'); "
        "print([main(line.split()) for line in lines], 'torch' in sys.modules)"
    )
    assert printed_by(probe) == "[2, 2, 2, 2, 2, 2] False"


def test_a_short_run_without_warmup_uses_half_of_it(images):
    quick = ["--embed-dim", 32, "--depth", 1, "--limit", 60, "--data-dir", images, "--json"]
    done = nkat("train", "--epochs", 1, "--validation", 50, *quick)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["sets"][0]["epochs"] == 1
    done = nkat("smoke", "--epochs", 2, *quick)
    assert done.returncode == 1, done.stderr  # NO-GO, but trained
    assert json.loads(done.stdout)["epochs"] == 2


OWN_RECIPE = """\
study: own
n_trials: 1
lambda: counted
gate: {dataset: cifar10, threshold: 0.1}
datasets:
  - {name: cifar10, limit: 60, validation: 50, epochs: 2, train: {cutout: 3, lr: 1.0e-3}}
model: {depth: 1, patch_size: 1}
train: {epochs: 5, warmup: 1}
space: {embed_dim: [32, 64]}
"""


def test_train_smoke_and_explain_know_a_sets_own_recipe(images, tmp_path):
    (tmp_path / "own.yaml").write_text(OWN_RECIPE)
    file = ["--config", tmp_path / "own.yaml"]
    data = ["--data-dir", images, "--json"]
    own = {"cutout": 3, "lr": 0.001}
    done = nkat("train", *file, *data)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["sets"][0]["own_recipe"], found["sets"][0]["epochs"]) == (own, 2)
    assert found["model"]["patch_size"] == 1
    # The command line goes before the set's own.
    found = json.loads(nkat("train", *file, *data, "--cutout", 0, "--epochs", 3).stdout)
    assert (found["sets"][0]["own_recipe"], found["sets"][0]["epochs"]) == ({"lr": 0.001}, 3)
    assert found["train"]["cutout"] == 0
    done = nkat("smoke", *file, *data, "--epochs", 2)
    assert json.loads(done.stdout)["train_images"] == 60, done.stderr
    found = json.loads(nkat("explain", *file, "--json").stdout)
    assert found["own_recipes"] == {"cifar10": own | {"epochs": 2}}
    shown = nkat("explain", *file, env={"COLUMNS": "200"}).stdout
    assert "cifar10 has a recipe of its own: lr 0.001, cutout 3, epochs 2." in shown


def test_data_check_says_what_is_here(images):
    done = nkat("data", "check", "--json", "--data-dir", images, env={"NKAT_CACHE_DIR": "/none"})
    assert done.returncode == 1  # three of the four originals are not here
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert rows["cifar10"]["train_size"] == 300
    assert rows["mnist"]["path"] is None
    assert nkat("data", "check", "cifar10", "--data-dir", images, cold=True).returncode == 0


def test_a_damaged_set_is_said_beside_the_good_ones(images, tmp_path):
    (tmp_path / "cifar10.npz").write_bytes((images / "cifar10.npz").read_bytes())
    (tmp_path / "mnist.npz").write_bytes(b"not a zip")
    done = nkat("data", "check", "--json", "--data-dir", tmp_path, env={"NKAT_CACHE_DIR": "/none"})
    assert done.returncode == 2
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert rows["mnist"]["damaged"]
    assert rows["cifar10"]["train_size"] == 300
    assert "mnist.npz" in done.stderr


def test_an_exported_configuration_trains_to_the_same_score(images, tmp_path):
    """As a search would have it: a trial's accuracies, exported, trained again."""
    text = """\
study: one
n_trials: 1
cut_down: true
seed: 5
lambda: counted
gate: {dataset: cifar10, threshold: 0.01}
datasets: [{name: cifar10, limit: 100, validation: 50}]
model: {depth: 1}
train: {epochs: 2, warmup: 1, batch_size: 32, lr: 1.0e-3}
space: {embed_dim: [32, 64]}
"""
    (tmp_path / "one.yaml").write_text(text)
    data = ["--data-dir", images, "--device", "cpu", "--json"]
    first = json.loads(nkat("train", "--config", tmp_path / "one.yaml", *data).stdout)
    (row,) = first["sets"]
    search_file = load_search_file(tmp_path / "one.yaml")
    lambdas = Lambdas(theory=-29.7, counted=4.0, parameters=0.1)
    verdict = Judge(search=search_file, lambdas=lambdas).after_set(
        {"cifar10": SetResult(accuracy=row["mean"], weights="ema")}, Effort(), Past()
    )
    assert verdict is not None
    source = DataSource(
        name="cifar10", source="prepared", train_size=300, checksum=row["checksum"]
    )
    facts = TrialFacts(parameters=1, tokens=16, device="cpu", data=(source,))
    trial = TrialRecord(
        number=0,
        state="complete",
        value=verdict.value,
        params={"embed_dim": 32},
        attributes=TrialAttributes(verdict=verdict, facts=facts),
    )
    BestFile.of_trial(trial, search_file).save(tmp_path / "best.yaml")
    done = nkat("train", "--config", tmp_path / "best.yaml", *data)
    assert done.returncode == 0, done.stderr
    again = json.loads(done.stdout)
    recorded = again["sets"][0]["recorded"]
    assert (recorded["difference"], recorded["agrees"], recorded["same_data"]) == (0, True, True)
    assert again["global_tpe_score"] == verdict.value
    assert (again["model"], again["train"]) == (first["model"], first["train"])
    assert "cut-down search" in done.stderr
    shown = nkat("train", "--config", tmp_path / "best.yaml", *data[:-1], "--epochs", "3")
    assert shown.returncode == 0, shown.stderr
    assert "recorded" not in shown.stdout  # changed: the record is no reference any more
