"""docs/tutorial.md, command by command: what it promises is there afterwards.

`run` is a process of its own, as it starts workers; the others run in this one, for each would
load torch again.
"""

from __future__ import annotations

import json
from pathlib import Path

import onnxruntime
import pandas as pd
import pytest
from doc_blocks import blocks_of, commands
from nkat_command import nkat
from PIL import Image
from report_searches import ParsedPage

from search.cli import main
from search.export.best_reading import load_best

pytestmark = [pytest.mark.process, pytest.mark.postgres]


def test_every_command_of_the_tutorial(
    tmp_path: Path,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NKAT_STORAGE", database_url)
    monkeypatch.setenv("COLUMNS", "200")
    # A checkout with changes cannot verify; here the code is the same all the time.
    monkeypatch.setenv("NKAT_REVISION", "tutorial")
    said: dict[str, str] = {}
    seen: dict[str, object] = {}
    for language, text in blocks_of("tutorial.md"):
        if language == "yaml":
            Path("search.yaml").write_text(text, encoding="utf-8")
            continue
        if language == "python":
            exec(text, seen)
            said["python"] = capsys.readouterr().out
            continue
        assert language == "sh"
        for arguments in commands(text):
            name = " ".join(word for word in arguments[:2] if word[0] != "-" and "." not in word)
            if name == "run":
                ended = nkat(
                    *arguments,
                    folder=tmp_path,
                    storage=database_url,
                    env={"NKAT_REVISION": "tutorial"},
                )
                assert ended.returncode == 0, ended.stderr
                said[name] = ended.stdout
                continue
            code = main(arguments)
            out, err = capsys.readouterr()
            assert code == 0, (arguments, err)
            said[name] = out
    run_left_a_page(said["run"], tmp_path)
    assert "tutorial" in said["study list"]
    assert said["study show"].splitlines()[0].startswith("trial,state,lr,top_p")
    assert "Reproduced" in said["verify"], said["verify"]
    assert "PASS" in said["recalculate"]
    the_trained_network_reads(said, tmp_path)
    trials = seen["trials"]
    assert isinstance(trials, pd.DataFrame)
    assert len(trials) == 2


def run_left_a_page(said: str, folder: Path) -> None:
    page = folder / "report.html"
    lines = said.strip().splitlines()
    best = next(at for at, line in enumerate(lines) if line.startswith("best configuration: "))
    lines = lines[: best + 2]
    assert lines[-1] == f"report: {page.as_uri()}"
    assert "refresh" not in page.read_text(), "nothing more will come"
    text = ParsedPage(page.read_text()).text
    assert "Best Global TPE score" in text["verdict"]
    assert "Cut down" in text[""]
    assert "1 worker made 2 attempts" in text["timeline"]
    assert ParsedPage((folder / "page.html").read_text()).drawings["timeline"] == 1


def the_trained_network_reads(said: dict[str, str], folder: Path) -> None:
    best = load_best(folder / "best-recalculated" / "best.yaml")
    assert best.recalculation.result is not None
    assert best.recalculation.result.sets["mnist"].accuracy.mean > 0.8
    (row,) = [line for line in said["predict"].splitlines() if line.startswith("seven.png")]
    assert row.split()[1] == "7"
    assert "1 image dark on light" in said["predict"]
    with Image.open(folder / "attention.png") as picture:
        assert picture.width > 1000
    assert "(('7', " in said["python"]
    session = onnxruntime.InferenceSession(
        folder / "mnist.onnx", providers=["CPUExecutionProvider"]
    )
    names = session.get_modelmeta().custom_metadata_map["class_names"]
    assert json.loads(names) == list("0123456789")
