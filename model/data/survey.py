"""What `nkat-search data prepare` and `data check` do: fetch every set, look into every set."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from model.data.info import Dataset, DatasetInfo, Images, Labels
from model.data.load import (
    Progress,
    find_prepared,
    load_dataset,
    require_name,
    resolve_cache_dir,
    resolve_data_dir,
)
from model.data.prepared import read_prepared
from model.known_sets import KNOWN_SETS, ORIGINALS
from nkat_errors import BadInput


@dataclass(frozen=True, slots=True, kw_only=True)
class SetReport:
    """One row of `data check`.

    Args:
        name: the set.
        info: its facts; None when it is not here or cannot be read.
        path: the file; None when it is not here.
        mean: of the training images' values / 255, over all channels.
        problems: sentences; empty when all is well.
        damaged: the file is here but cannot be used.
    """

    name: str
    info: DatasetInfo | None = None
    path: Path | None = None
    mean: float | None = None
    problems: tuple[str, ...] = ()
    damaged: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values, the facts' keys beside the report's."""
        row = asdict(self)
        facts = row.pop("info") or {}
        return facts | row | {"path": str(self.path) if self.path else None}


def prepare(
    names: Iterable[str],
    *,
    data_dir: Path | None,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
) -> list[DatasetInfo]:
    """Makes sure that every set is on this machine: downloads what is not.

    Raises:
        BadInput: the first set that can be had in no way, or a damaged file.
    """
    return [
        load_dataset(name, data_dir=data_dir, cache_dir=cache_dir, progress=progress).info
        for name in names
    ]


def check(
    data_dir: Path | None,
    names: Iterable[str] | None = None,
    *,
    cache_dir: Path | None = None,
) -> list[SetReport]:
    """Reads every set that is here, training and test images; downloads nothing.

    A damaged file is a row with its problem, not an exception, so that one bad file
    does not hide the state of the others.

    Args:
        data_dir: the user's folder; None means $NKAT_DATA_DIR.
        names: the sets; None means the four originals and every file in the folder.
        cache_dir: where downloads are kept; None as in `load_dataset`.

    Raises:
        BadInput: the folder does not exist, or a name cannot be one.
    """
    if names is None:
        folder = resolve_data_dir(data_dir)
        here = sorted(path.stem for path in folder.glob("*.npz")) if folder else []
        names = dict.fromkeys((*ORIGINALS, *here))
    return [_check_one(name, data_dir=data_dir, cache_dir=cache_dir) for name in names]


def _check_one(name: str, *, data_dir: Path | None, cache_dir: Path | None) -> SetReport:
    require_name(name)
    prepared = find_prepared(name, data_dir=data_dir)
    path = prepared or resolve_cache_dir(cache_dir) / f"{name}.npz"
    if not path.exists():
        return SetReport(name=name, problems=("not on this machine",))
    try:
        dataset = read_prepared(path, name=name, source="prepared" if prepared else "downloaded")
        # Looked at for damage only: no score comes of it.
        test_images, test_labels = dataset.read_test()
    except BadInput as error:
        return SetReport(name=name, path=path, problems=(str(error),), damaged=True)
    return SetReport(
        name=name,
        info=dataset.info,
        path=path,
        mean=round(float(dataset.train_images.mean(dtype=np.float64)) / 255, 4),
        problems=tuple(_doubts(dataset, test_images, test_labels)),
    )


def _doubts(dataset: Dataset, test_images: Images, test_labels: Labels) -> Iterable[str]:
    """What can be used but should be known."""
    info = dataset.info
    known = KNOWN_SETS.get(info.name)
    if known and (known.image_size, known.channels) != (info.image_size, info.channels):
        yield (
            f"{info.image_size}x{info.image_size}x{info.channels} images, but {known.title} has "
            f"{known.image_size}x{known.image_size}x{known.channels}"
        )
    for part, labels in (("training", dataset.train_labels), ("test", test_labels)):
        absent = np.flatnonzero(np.bincount(labels, minlength=info.classes) == 0)
        if absent.size:
            yield f"no {part} image of label {absent[0]} ({absent.size} labels lack images)"
    seen = {image.tobytes() for image in dataset.train_images}
    copies = sum(image.tobytes() in seen for image in test_images)
    if copies:
        yield f"{copies} of {len(test_images)} test images are also training images"
