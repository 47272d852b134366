"""Where a set is looked for, and what is said when it is nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from data_files import prepared_arrays, write_npz

from model.data import DataUnavailable, load_dataset
from model.data.load import cached_file, resolve_cache_dir
from nkat_errors import BadInput


@pytest.fixture(autouse=True)
def _no_inherited_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NKAT_DATA_DIR", raising=False)
    monkeypatch.delenv("NKAT_CACHE_DIR", raising=False)


def test_the_users_file_comes_before_the_cache(tmp_path: Path) -> None:
    user, cache = tmp_path / "user", tmp_path / "cache"
    user.mkdir()
    cache.mkdir()
    write_npz(user / "mnist.npz", **prepared_arrays(seed=1))
    write_npz(cache / "mnist.npz", **prepared_arrays(seed=2))
    both = load_dataset("mnist", data_dir=user, cache_dir=cache).info
    cached = load_dataset("mnist", data_dir=None, cache_dir=cache).info
    assert (both.source, cached.source) == ("prepared", "downloaded")
    assert both.checksum != cached.checksum


def test_folders_are_taken_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_npz(tmp_path / "mnist.npz")
    monkeypatch.setenv("NKAT_DATA_DIR", str(tmp_path))
    assert load_dataset("mnist", data_dir=None).info.source == "prepared"
    monkeypatch.delenv("NKAT_DATA_DIR")
    monkeypatch.setenv("NKAT_CACHE_DIR", str(tmp_path))
    assert load_dataset("mnist", data_dir=None).info.source == "downloaded"
    assert resolve_cache_dir(None) == tmp_path
    monkeypatch.delenv("NKAT_CACHE_DIR")
    assert resolve_cache_dir(None).name == "nkat-search"


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"data folder .*/nowhere does not exist") as caught:
        load_dataset("mnist", data_dir=tmp_path / "nowhere")
    assert not isinstance(caught.value, DataUnavailable)


@pytest.mark.parametrize("name", ["sd19_letters", "runes"])
def test_a_set_that_cannot_be_downloaded_names_what_would_help(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataUnavailable, match=rf"no {name}\.npz in .*--data-dir.*NKAT_DATA_DIR"):
        load_dataset(name, data_dir=tmp_path)
    with pytest.raises(DataUnavailable, match="no data folder was named"):
        load_dataset(name, data_dir=None)


@pytest.mark.parametrize("name", ["../mnist", "a/b", "", ".hidden", "mnist.npz/.."])
def test_a_name_is_no_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput, match="a name is letters, digits"):
        load_dataset(name, data_dir=tmp_path)


def test_a_cache_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("not a folder")
    with pytest.raises(
        BadInput,
        match=r"cache folder .*/file/cache cannot be written \(Not a directory\).*NKAT_CACHE_DIR",
    ):
        cached_file("mnist", cache_dir=blocker / "cache")
