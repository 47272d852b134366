"""Reading NAME.npz: what is taken from a good file, what is said about a bad one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from data_files import prepared_arrays, write_npz

from model.data import load_dataset
from nkat_errors import BadInput


def test_a_grey_file_becomes_images_with_one_channel(tmp_path: Path) -> None:
    arrays = prepared_arrays(size=28)
    write_npz(tmp_path / "mnist.npz", **arrays)
    dataset = load_dataset("mnist", data_dir=tmp_path)
    info = dataset.info
    assert (info.title, info.classes, info.channels, info.image_size) == ("MNIST", 10, 1, 28)
    assert (info.source, info.flip) == ("prepared", False)
    assert (info.train_size, info.test_size) == (60, 20)
    assert dataset.train_images.dtype == np.uint8
    assert dataset.train_labels.dtype == np.int64
    assert np.array_equal(dataset.train_images[..., 0], arrays["train_images"])
    test_images, test_labels = dataset.read_test()
    assert np.array_equal(test_images[..., 0], arrays["test_images"])
    assert np.array_equal(test_labels, arrays["test_labels"])


@pytest.mark.parametrize(("channels", "flip"), [(1, False), (3, True)])
def test_an_unknown_set_says_what_it_is_by_its_arrays(
    tmp_path: Path, channels: int, flip: bool
) -> None:
    write_npz(tmp_path / "runes.npz", **prepared_arrays(channels=channels, classes=7))
    info = load_dataset("runes", data_dir=tmp_path).info
    assert (info.name, info.title, info.classes, info.channels) == ("runes", "runes", 7, channels)
    # Grey images of an unknown kind may be characters: never mirrored.
    assert info.flip is flip
    assert info.class_names is None


def test_test_images_stay_unread_until_asked_for(tmp_path: Path) -> None:
    """Damage in the test images' bytes is met by read_test, not by loading."""
    arrays = prepared_arrays(size=28)
    path = write_npz(tmp_path / "mnist.npz", **arrays)
    raw = bytearray(path.read_bytes())
    # Far from the header, which is read (in blocks) to count the images.
    raw[raw.find(arrays["test_images"].tobytes()[-64:])] ^= 0xFF
    path.write_bytes(bytes(raw))
    dataset = load_dataset("mnist", data_dir=tmp_path)
    assert dataset.info.test_size == 20
    with pytest.raises(BadInput, match=r"mnist\.npz: damaged or not an \.npz file \(Bad CRC-32"):
        dataset.read_test()


def test_the_checksum_follows_values_not_files(tmp_path: Path) -> None:
    arrays = prepared_arrays()
    write_npz(tmp_path / "a.npz", **arrays)
    np.savez_compressed(
        tmp_path / "b.npz",
        **(arrays | {"train_labels": arrays["train_labels"].astype(np.int32)}),
    )
    changed = arrays["train_images"].copy()
    changed[3, 2, 1] ^= 1
    write_npz(tmp_path / "c.npz", **(arrays | {"train_images": changed}))
    first, second, third = (
        load_dataset(name, data_dir=tmp_path).info.checksum for name in ("a", "b", "c")
    )
    assert len(first) == 64
    assert first == second
    assert first != third


GOOD = prepared_arrays()
BAD_ARRAYS = {
    "lacks an array": ({"test_labels": None}, r"lacks the array 'test_labels' \(found: test_im"),
    "wrong dtype": (
        {"train_images": GOOD["train_images"].astype(np.float32)},
        r"train_images is float32, must be uint8",
    ),
    "wrong shape": (
        {"train_images": GOOD["train_images"].reshape(60, 64)},
        r"train_images has shape \[60, 64\], must be \[N, H, W\]",
    ),
    "two channels": (
        {"train_images": np.zeros((60, 8, 8, 2), np.uint8)},
        r"shape \[60, 8, 8, 2\], must be",
    ),
    "not square": (
        {"train_images": np.zeros((60, 8, 9), np.uint8)},
        r"8x9 images, but only square",
    ),
    "empty": ({"train_images": np.zeros((0, 8, 8), np.uint8)}, r"train_images is empty"),
    "counts differ": (
        {"train_labels": GOOD["train_labels"][:59]},
        r"train_labels has shape \[59\] for 60 images",
    ),
    "labels from 1": (
        {"train_labels": GOOD["train_labels"] + 1},
        r"train_labels holds the label 10 \(at position 9\), must be in 0\.\.9",
    ),
    "a negative label": (
        {"train_labels": GOOD["train_labels"].astype(np.int16) - 1},
        r"holds the label -1 \(at position 0\), must be in 0\.\.9",
    ),
    "labels with fractions": (
        {"train_labels": GOOD["train_labels"].astype(np.float64)},
        r"train_labels is float64, must be integers",
    ),
    "no test images": (
        {"test_images": np.zeros((0, 8, 8), np.uint8), "test_labels": np.zeros(0, np.uint8)},
        r"test_images is empty",
    ),
    "test counts differ": (
        {"test_labels": np.zeros(19, np.uint8)},
        r"test_labels has shape \[19\] for 20 images",
    ),
    "another test shape": (
        {"test_images": np.zeros((20, 9, 9), np.uint8)},
        r"test_images has shape \[20, 9, 9\] but train_images has \[60, 8, 8\]",
    ),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_a_bad_array_is_one_sentence_that_names_file_and_value(tmp_path: Path, case: str) -> None:
    changes, message = BAD_ARRAYS[case]
    path = write_npz(tmp_path / "mnist.npz", **changes)
    with pytest.raises(BadInput, match=message) as caught:
        load_dataset("mnist", data_dir=tmp_path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_test_labels_are_checked_when_read(tmp_path: Path) -> None:
    write_npz(tmp_path / "mnist.npz", test_labels=np.full(20, 10, np.uint8))
    dataset = load_dataset("mnist", data_dir=tmp_path)
    with pytest.raises(BadInput, match=r"test_labels holds the label 10"):
        dataset.read_test()


def test_one_class_alone_is_refused(tmp_path: Path) -> None:
    write_npz(tmp_path / "same.npz", train_labels=np.zeros(60, np.uint8))
    with pytest.raises(BadInput, match="one class only"):
        load_dataset("same", data_dir=tmp_path)


@pytest.mark.parametrize("kept", [0, 1, 100, 3000])
def test_a_cut_file_is_one_sentence(tmp_path: Path, kept: int) -> None:
    path = write_npz(tmp_path / "mnist.npz")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(BadInput, match=r"mnist\.npz: damaged or not an \.npz file") as caught:
        load_dataset("mnist", data_dir=tmp_path)
    assert "\n" not in str(caught.value)


def test_pickled_objects_are_refused_not_run(tmp_path: Path) -> None:
    objects = np.array([{"a": 1}] * 60, dtype=object)
    write_npz(tmp_path / "mnist.npz", train_labels=objects)
    with pytest.raises(BadInput, match="train_labels is object, must be integers"):
        load_dataset("mnist", data_dir=tmp_path)


def test_loading_and_splitting_need_no_torch() -> None:
    code = (
        "import sys; import model.data; import model.data.survey; "
        "sys.exit(any(name.split('.')[0] in ('torch', 'torchvision') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
