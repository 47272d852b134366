"""`recalculate` as a user types it: real processes, real kills, the same bits."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import torch
from nkat_command import ROOT, nkat, started
from process_helpers import wait_for
from tiny_best import tiny_best, tiny_search, write_sets

from model.data import load_dataset
from model.data.device import DeviceSet
from search.export.best_reading import load_best
from search.retrain.weights import load_weights
from search.score.tpe_score import global_tpe_score

CPU = ("--device", "cpu", "--data-dir", ".")

pytestmark = pytest.mark.process


def recalculate(*arguments, folder):
    return nkat("recalculate", *CPU, *arguments, folder=folder, env={"COLUMNS": "150"})


def told(ended):
    """The sentence of a command that was refused; notes may stand before it."""
    assert ended.returncode == 2, ended.stdout + ended.stderr
    return ended.stderr.strip().splitlines()[-1]


@pytest.fixture
def folder(tmp_path):
    write_sets(tmp_path)
    tiny_best(tmp_path, tiny_search()).save(tmp_path / "best.yaml")
    return tmp_path


def found(path):
    """All that must be the same bits: what was measured, and the weights."""
    result = load_best(path).recalculation.result
    measured = {
        name: ([(run.accuracy, run.loss) for run in one.runs], one.confusion, one.test_checksum)
        for name, one in result.sets.items()
    }
    weights = {
        one.weights_file: (path.parent / one.weights_file).read_bytes()
        for one in result.sets.values()
    }
    return measured, weights, result.scores


def test_what_it_finds_says_and_leaves(folder):
    done = recalculate(folder / "best.yaml", folder=folder)
    out = folder / "best-recalculated" / "best.yaml"
    best = load_best(out)
    result = best.recalculation.result
    assert done.returncode == (0 if result.passed else 1)
    assert result.passed  # shades are easily told apart
    assert result.seeds == [7, 8]
    assert (result.epochs_factor, result.train.given()) == (
        4,
        {"cutmix": 0.1, "randaugment_ops": 0},
    )
    shades, greys = result.sets["shades"], result.sets["greys"]
    assert (shades.epochs, greys.epochs) == (8, 4)
    assert (shades.train_images, shades.test_images) == (120, 40)  # no limit, nothing held out
    assert greys.stand_in_for == "emnist_letters"
    assert greys.title == "greys"
    assert best.model_copy(update={"recalculation": None}) == load_best(
        folder / "best.yaml"
    ).model_copy(update={"recalculation": None})
    assert sorted(p.name for p in out.parent.iterdir()) == [
        "README.md",
        "best-greys.safetensors",
        "best-shades.safetensors",
        "best.yaml",
    ]
    assert "4 trainings: 2 data sets, 2 seeds each, 24 epochs in all" in done.stderr
    for words in ("Global TPE score", "PASS", ">= 0.70", ">= 0.80", ">= 0.75", "shades", "greys"):
        assert words in done.stdout

    network, facts = load_weights(out.parent / "best-shades.safetensors")
    assert (facts.dataset, facts.seed, facts.weights, facts.epochs) == ("shades", 7, "ema", 8)
    dataset = load_dataset("shades", data_dir=folder)
    images, labels = dataset.read_test()
    test = DeviceSet.from_arrays(images, labels, info=dataset.info, device="cpu")
    mean, std = (torch.tensor(one).view(1, -1, 1, 1) for one in (facts.mean, facts.std))
    answers = network((test.images / 255 - mean) / std).argmax(1)
    assert float((answers == test.labels).double().mean()) == shades.runs[0].accuracy


@pytest.mark.slow
def test_killed_twice_it_ends_in_the_same_bits(folder):
    arguments = [folder / "best.yaml", "--epochs-factor", 12]
    whole = recalculate(*arguments, "--out", folder / "whole" / "best.yaml", folder=folder)
    assert whole.returncode in (0, 1), whole.stderr

    out, work = folder / "killed" / "best.yaml", folder / "work"
    arguments += ["--out", out, "--work-dir", work, "--checkpoint-every", 0]
    for number in (0, 2):
        with started("recalculate", *arguments, *CPU, folder=folder) as child:
            wait_for(
                f"a checkpoint of training {number}",
                lambda n=number: any(work.glob(f"trainings-*/trial-{n:06d}/*.ckpt")),
            )
            child.kill()
        assert child.returncode == -signal.SIGKILL
        assert not out.exists()
    assert len(list((work / "results").iterdir())) == 2
    done = recalculate(*arguments, folder=folder)
    assert "going on: 2 of 4 trainings are finished" in done.stderr
    assert "greys seed 7: going on after epoch" in done.stderr
    assert done.returncode == whole.returncode
    assert found(out) == found(folder / "whole" / "best.yaml")
    assert not work.exists()


def test_the_test_images_are_read_once(folder):
    quick = ["--runs", 1, "--epochs-factor", 1, "--json"]
    first = recalculate(folder / "best.yaml", *quick, folder=folder)
    plain = json.loads(first.stdout)
    assert plain["test_images_read"] is True
    assert plain["scores"]["global_tpe_score"]["std"] is None  # of one seed
    out = Path(plain["file"])
    for file in (folder / "best.yaml", out):  # also by way of the file it was made from
        line = told(recalculate(file, *quick, "--out", out, folder=folder))
        assert "records a recalculation already" in line
        assert "--again" in line
    again = recalculate(out, *quick, "--out", out, "--again", folder=folder)
    assert again.returncode == first.returncode
    assert json.loads(again.stdout)["sets"]["shades"]["confusion"]


def test_a_failed_target_is_exit_code_1(folder):
    search = tiny_search(slow="lr: 3.0e-3 -> lr: 1.0e-9")
    tiny_best(folder, search).save(folder / "slow.yaml")
    done = recalculate(folder / "slow.yaml", "--runs", 1, folder=folder)
    assert done.returncode == 1
    assert "FAIL" in done.stdout


def test_a_training_that_breaks_down_counts_as_0_and_is_named(folder):
    search = tiny_search(
        wild="train: {randaugment_ops: 1} -> train: {lr: 1.0e+30, clip_grad: null}"
    )
    tiny_best(folder, search).save(folder / "wild.yaml")
    done = recalculate(folder / "wild.yaml", "--runs", 1, folder=folder)
    assert done.returncode in (0, 1), done.stderr
    assert "greys, seed 7, BROKE DOWN: the training loss is nan" in done.stdout
    best = load_best(folder / "wild-recalculated" / "wild.yaml")
    result = best.recalculation.result
    mean = result.sets["shades"].accuracy.mean / 2
    assert result.scores.global_tpe_score.mean == global_tpe_score([mean], best.lambda_.value)
    assert (result.scores.robustness.mean, result.scores.robustness.verdict) == (0.5, "FAIL")
    assert result.scores.generalization.mean == 0
    assert result.sets["greys"].runs[0].accuracy is None
    assert result.sets["greys"].weights_file is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.yaml"], ["nowhere.yaml", "no such file"]),
        (
            [str(ROOT / "configs/search.yaml")],
            ["search.yaml", "not an exported"],
        ),
        (["best.yaml", "--epochs-factor", "0"], ["--epochs-factor 0", "> 0"]),
        (["best.yaml", "--runs", "0"], ["--runs"]),
        (["best.yaml", "--out", "foreign/best.yaml"], ["foreign/README.md", "no model card"]),
        (["best.yaml", "--out", "other.yaml"], ["other.yaml", "another trial"]),
        (["best.yaml", "--device", "abacus"], ["abacus"]),
        (["best.yaml", "--epochs-factor", "0.01"], ["warmup", "epochs_factor"]),
    ],
    ids=lambda value: " ".join(value)[:40],
)
def test_bad_input_is_one_sentence_before_anything_is_trained(folder, arguments, words):
    (folder / "foreign").mkdir()
    (folder / "foreign" / "README.md").write_text("# mine\n")
    search = tiny_search(warm="warmup: 0.25 -> warmup: 0.9", seed="seed: 7 -> seed: 8")
    if "0.01" in arguments:
        search = tiny_search(warm="warmup: 0.25 -> warmup: 1.0", long="epochs: 1, -> epochs: 2,")
        tiny_best(folder, search).save(folder / "best.yaml")
    tiny_best(folder, search).save(folder / "other.yaml")
    line = told(recalculate(*arguments, folder=folder))
    assert line.startswith("nkat-search: ")
    for word in words:
        assert word in line
    assert not list(folder.rglob("*.ckpt"))


def test_a_work_folder_of_another_plan_or_process_is_refused(folder):
    arguments = [folder / "best.yaml", "--work-dir", folder / "work"]
    with started("recalculate", *arguments, *CPU, "--runs", 9, folder=folder):
        wait_for("its plan", (folder / "work" / "plan.json").exists)
        assert "another process" in told(recalculate(*arguments, folder=folder))
    refused = told(recalculate(*arguments, folder=folder))
    assert "holds another recalculation (seeds is [7, 8, 9" in refused
    assert "--work-dir" in refused


def test_train_test_points_to_it(folder):
    done = nkat(
        "train", "--config", "best.yaml", "--test", "--dataset", "greys", *CPU, folder=folder
    )
    assert done.returncode == 0, done.stderr
    assert "nkat-search recalculate best.yaml" in done.stderr
