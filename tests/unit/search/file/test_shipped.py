"""The search files that come with the package, and what a command takes without --config."""

from __future__ import annotations

from pathlib import Path

import pytest

from search.cli import main
from search.file.load import load_search_file
from search.file.shipped import FULL, LAPTOP, SCHEMA, SOURCE, default_search_file, shipped_file

ROOT = Path(__file__).parents[4]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", [FULL, LAPTOP, SOURCE, SCHEMA])
def test_the_clone_has_each_file_once_in_configs(name: str) -> None:
    assert shipped_file(name) == ROOT / "configs" / name
    assert shipped_file(name).is_file()
    assert (ROOT / "search/configs").is_symlink()


def test_this_folders_file_goes_before_the_shipped_ones(folder: Path) -> None:
    assert default_search_file(gpu=True) == ROOT / "configs/search.yaml"
    assert default_search_file(gpu=False) == ROOT / "configs/laptop.yaml"
    (folder / "search.yaml").write_text("study: mine")
    assert default_search_file(gpu=True) == Path("search.yaml")


@pytest.mark.parametrize(
    ("options", "study"),
    [((), "nkat-round2"), (("--laptop",), "nkat-laptop"), (("--source",), "nkat-source")],
)
def test_init_writes_a_file_that_loads_and_its_schema(
    folder: Path, options: tuple[str, ...], study: str
) -> None:
    assert main(["init", *options]) == 0
    assert load_search_file(folder / "search.yaml").study == study
    first = (folder / "search.yaml").read_text().splitlines()[0]
    assert (folder / first.partition("$schema=")[2]).is_file()


def test_init_replaces_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "search.yaml").write_text("study: mine")
    assert main(["init"]) == 2
    assert "search.yaml: is there already and is not replaced" in capsys.readouterr().err
    assert (folder / "search.yaml").read_text() == "study: mine"
    assert main(["init", "--laptop", "--source"]) == 2
    assert "choose one of them" in capsys.readouterr().err


def test_init_where_nothing_can_be_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir("/proc")
    assert main(["init"]) == 2
    assert "search.yaml: cannot be written" in capsys.readouterr().err


def test_a_file_that_is_not_there_names_init(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rehearse", "--config", "none.yaml"]) == 2
    assert "none.yaml: there is no such file (`nkat-search init`" in capsys.readouterr().err
