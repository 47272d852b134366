"""Reading and checking one NAME.npz (the prepared format).

    train_images  uint8 [N, H, W] (grey) or [N, H, W, 3] (RGB), H == W
    train_labels  integers [N], values 0..classes-1
    test_images   as train_images
    test_labels   as train_labels

Every way in which a file can be wrong becomes one `BadInput` sentence here, so
that no later module meets a bad array.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model.data.info import Dataset, DatasetInfo, Images, Labels, Source, array_checksum
from model.known_sets import KNOWN_SETS
from nkat_errors import BadInput

ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
_DAMAGE = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error)
"""What numpy and zipfile raise on a truncated or foreign file."""
_REMEDY = "prepare it again (see `nkat-search data prepare`)"


def read_prepared(path: Path, *, name: str, source: Source) -> Dataset:
    """The data set in `path`, its test images unread.

    Args:
        path: the .npz file.
        name: a known name fixes the class count; for any other name the classes
            are the training labels' largest value + 1.
        source: where the file came from.

    Raises:
        BadInput: the file is damaged, lacks an array, or holds wrong values.
    """
    _require_arrays(path)
    images = _read_images(path, "train_images")
    labels = _read_labels(path, "train_labels", count=len(images))
    known = KNOWN_SETS.get(name)
    classes = known.classes if known else int(labels.max()) + 1
    if classes < 2:
        raise BadInput(f"{path}: train_labels holds one class only; two or more are needed")
    _require_range(path, "train_labels", labels, classes)
    channels = images.shape[3]
    test_size = _test_size(path)
    info = DatasetInfo(
        name=name,
        title=known.title if known else name,
        classes=classes,
        channels=channels,
        image_size=images.shape[1],
        # A grey set that nobody described may hold digits or letters: never mirrored.
        flip=known.flip if known else channels == 3,
        source=source,
        checksum=array_checksum(images, labels),
        train_size=len(images),
        test_size=test_size,
        class_names=known.class_names if known else None,
    )

    def read_test() -> tuple[Images, Labels]:
        test_images = _read_images(path, "test_images")
        test_labels = _read_labels(path, "test_labels", count=len(test_images))
        _require_range(path, "test_labels", test_labels, classes)
        return test_images, test_labels

    return Dataset(info=info, train_images=images, train_labels=labels, read_test=read_test)


def _damaged(path: Path, error: BaseException) -> BadInput:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return BadInput(f"{path}: damaged or not an .npz file ({reason}); {_REMEDY}")


def _require_arrays(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            found = {member.removesuffix(".npy") for member in archive.namelist()}
    except _DAMAGE as error:
        raise _damaged(path, error) from error
    missing = [name for name in ARRAYS if name not in found]
    if missing:
        raise BadInput(
            f"{path}: lacks the array {missing[0]!r} (found: "
            f"{', '.join(sorted(found)) or 'none'}); {_REMEDY}"
        )


def _header(path: Path, array: str) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    """Shape and dtype of one array without reading its values (so that the test
    images can be counted unread)."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{array}.npy") as stream:
            version = np.lib.format.read_magic(stream)
            read = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, _, dtype = read(stream)
    except _DAMAGE as error:
        raise _damaged(path, error) from error
    return tuple(int(side) for side in shape), dtype


def _test_size(path: Path) -> int:
    """The number of test images, from the headers alone.

    What the headers show to be wrong is said now, not after the hours of search that
    come before the test images are read.
    """
    shape = _require_image_header(path, "test_images")
    train_shape, _ = _header(path, "train_images")
    if shape[1:] != train_shape[1:]:
        raise BadInput(
            f"{path}: test_images has shape {list(shape)} but train_images has "
            f"{list(train_shape)}: all images of a set must have one shape; {_REMEDY}"
        )
    _require_label_header(path, "test_labels", count=shape[0])
    return shape[0]


def _read(path: Path, array: str) -> npt.NDArray[np.generic]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            values: npt.NDArray[np.generic] = arrays[array]
    except _DAMAGE as error:
        raise _damaged(path, error) from error
    return values


def _require_image_header(path: Path, array: str) -> tuple[int, ...]:
    """The shape of an array of images, checked."""
    shape, dtype = _header(path, array)
    if dtype != np.uint8:
        raise BadInput(f"{path}: {array} is {dtype}, must be uint8 (0..255); {_REMEDY}")
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] != 3):
        raise BadInput(
            f"{path}: {array} has shape {list(shape)}, must be [N, H, W] (grey) or "
            f"[N, H, W, 3] (RGB); {_REMEDY}"
        )
    if 0 in shape:
        raise BadInput(f"{path}: {array} is empty (shape {list(shape)}); {_REMEDY}")
    if shape[1] != shape[2]:
        raise BadInput(
            f"{path}: {array} holds {shape[1]}x{shape[2]} images, but only square ones work; "
            "pad or crop them"
        )
    return shape


def _require_label_header(path: Path, array: str, *, count: int) -> None:
    shape, dtype = _header(path, array)
    if dtype.kind not in "iu":
        raise BadInput(f"{path}: {array} is {dtype}, must be integers; {_REMEDY}")
    if shape != (count,):
        raise BadInput(
            f"{path}: {array} has shape {list(shape)} for {count} images, "
            f"must be [{count}]; {_REMEDY}"
        )


def _read_images(path: Path, array: str) -> Images:
    """uint8 [N, H, W, C], checked."""
    shape = _require_image_header(path, array)
    images = _read(path, array).view(np.uint8)
    return np.ascontiguousarray(images.reshape(*shape[:3], -1))


def _read_labels(path: Path, array: str, *, count: int) -> Labels:
    """int64 [count], checked but for their range."""
    _require_label_header(path, array, count=count)
    return _read(path, array).astype(np.int64)


def _require_range(path: Path, array: str, labels: Labels, classes: int) -> None:
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if wrong.size:
        raise BadInput(
            f"{path}: {array} holds the label {labels[wrong[0]]} (at position {wrong[0]}), "
            f"must be in 0..{classes - 1}; renumber the labels from 0"
        )
