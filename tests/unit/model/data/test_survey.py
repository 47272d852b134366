"""`data prepare` and `data check`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from data_files import prepared_arrays, write_npz

from model.data import DataUnavailable
from model.data.survey import ORIGINALS, check, prepare
from nkat_errors import BadInput


def test_one_bad_file_does_not_hide_the_others(tmp_path: Path) -> None:
    data, cache = tmp_path / "data", tmp_path / "cache"
    data.mkdir()
    cache.mkdir()
    write_npz(data / "mnist.npz", **prepared_arrays(size=28))
    write_npz(cache / "fashion_mnist.npz", **prepared_arrays(size=28))
    write_npz(data / "runes.npz", **prepared_arrays(classes=5))
    (data / "cifar10.npz").write_bytes(b"PK not really")
    rows = {row.name: row for row in check(data, cache_dir=cache)}
    assert tuple(rows)[:4] == ORIGINALS
    assert set(rows) == {*ORIGINALS, "runes"}
    assert rows["mnist"].problems == ()
    assert rows["mnist"].info is not None
    assert rows["mnist"].mean == pytest.approx(0.5, abs=0.02)
    fashion = rows["fashion_mnist"].info
    assert fashion is not None
    assert fashion.source == "downloaded"
    assert rows["emnist_letters"].problems == ("not on this machine",)
    assert rows["cifar10"].damaged
    assert "damaged" in rows["cifar10"].problems[0]
    as_json = json.loads(json.dumps([row.to_dict() for row in rows.values()]))
    assert as_json[1]["train_size"] == 60


def test_doubts_are_told(tmp_path: Path) -> None:
    arrays = prepared_arrays(size=8)
    arrays["train_labels"][arrays["train_labels"] == 4] = 3
    arrays["test_images"][:3] = arrays["train_images"][10:13]
    write_npz(tmp_path / "mnist.npz", **arrays)
    (row,) = check(tmp_path, ["mnist"])
    assert not row.damaged
    assert row.problems == (
        "8x8x1 images, but MNIST has 28x28x1",
        "no training image of label 4 (1 labels lack images)",
        "3 of 20 test images are also training images",
    )


def test_damage_in_the_test_images_is_found(tmp_path: Path) -> None:
    write_npz(tmp_path / "mnist.npz", test_labels=np.full(20, 77, np.uint8))
    (row,) = check(tmp_path, ["mnist"])
    assert row.damaged
    assert "label 77" in row.problems[0]


def test_prepare_says_what_is_there_and_stops_at_what_is_not(tmp_path: Path) -> None:
    write_npz(tmp_path / "mnist.npz", **prepared_arrays(size=28))
    (info,) = prepare(["mnist"], data_dir=tmp_path)
    assert (info.name, info.source) == ("mnist", "prepared")
    with pytest.raises(DataUnavailable, match="runes"):
        prepare(["mnist", "runes"], data_dir=tmp_path)
    with pytest.raises(BadInput, match="does not exist"):
        check(tmp_path / "nowhere")
