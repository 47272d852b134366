"""`predict` and `attention` as a user types them, on weights of a network never trained."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from nkat_command import done, nkat
from PIL import Image
from tiny_weights import digit, small_config, write_weights

from search.cli import main
from search.exit_codes import EXIT_BAD_INPUT

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("predict")
    write_weights(folder / "w.safetensors", small_config())
    Image.fromarray(digit()).save(folder / "light.png")
    Image.fromarray(255 - digit(140)).convert("RGB").save(folder / "dark [bold].png")
    (folder / "words.png").write_text("words")
    whole = (folder / "w.safetensors").read_bytes()
    (folder / "half.safetensors").write_bytes(whole[: len(whole) // 2])
    return folder


@pytest.fixture
def folder(made, tmp_path):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_predict_tells_labels(folder, monkeypatch, capsys):
    images = ("light.png", "dark [bold].png")
    found = json.loads(done(nkat("predict", "w.safetensors", *images, "--json", folder=folder)))
    assert [one["image"] for one in found] == list(images)
    assert [one["inverted"] for one in found] == [False, True]
    for one in found:
        top = one["top"]
        assert (one["label"], one["probability"]) == (top[0]["label"], top[0]["probability"])
        assert len({entry["label"] for entry in top}) == 3
        shares = [entry["probability"] for entry in top]
        assert shares == sorted(shares, reverse=True)
        assert 0.75 < sum(shares) < 1  # 3 of 4 classes
    monkeypatch.chdir(folder)
    assert main(["predict", "w.safetensors", *images]) == 0
    table = capsys.readouterr().out
    assert "dark [bold].png" in table
    assert "1 image dark on light" in table


def test_attention_writes_a_picture(folder, monkeypatch, capsys):
    arguments = ("attention", "w.safetensors", "light.png", "--out", "new/a.png")
    said = json.loads(done(nkat(*arguments, "--token", "1,2", "--json", folder=folder)))
    assert said["picture"] == "new/a.png"
    assert said["images"][0]["query"] == [1, 2]
    with Image.open(folder / "new/a.png") as picture:
        assert picture.format == "PNG"
        assert np.asarray(picture).std() > 10
    assert [path.name for path in (folder / "new").iterdir()] == ["a.png"]
    monkeypatch.chdir(folder)
    assert main(list(arguments)) == 0
    table = capsys.readouterr().out
    assert "written: new/a.png" in table
    assert "+0.1000" in table  # alpha


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["predict", "none.safetensors", "light.png"], "none.safetensors: there is no such file"),
        (["predict", "half.safetensors", "light.png"], "half.safetensors: damaged"),
        (["predict", "light.png", "light.png"], "light.png: damaged or not a safetensors"),
        (["predict", "w.safetensors", "light.png", "words.png"], "words.png: not an image"),
        (["predict", "w.safetensors"], "Missing argument"),
        (["predict", "w.safetensors", "light.png", "--device", "abacus"], "--device abacus"),
        (["attention", "w.safetensors", "none.png"], "none.png: there is no such file"),
        (["attention", "w.safetensors", "light.png", "--token", "9,0"], "4 x 4"),
        (["attention", "w.safetensors", "light.png", "--token", "x"], "--token x: must be ROW"),
        (["attention", "w.safetensors", *["light.png"] * 17], "at most 16"),
        (["attention", "w.safetensors", "light.png", "--out", "words.png/a.png"], "--out"),
    ],
    ids=lambda value: " ".join(value)[:50] if isinstance(value, list) else "",
)
def test_bad_input_is_one_sentence(folder, arguments, words, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert main(arguments) == EXIT_BAD_INPUT  # in this process: loading torch takes 2 s
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("nkat-search: ")
    assert words in line
    assert not (folder / "attention.png").exists()
