"""Cutting a validation part from the training images (search never sees the test images)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from model.data.info import Dataset, DatasetInfo, Images, Labels
from nkat_errors import BadInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Two disjoint parts of a data set's training images.

    Args:
        info: the whole set's facts.
        train_images: uint8 [N, H, W, C].
        train_labels: int64 [N].
        val_images: uint8 [V, H, W, C].
        val_labels: int64 [V].
        train_index, val_index: positions in the data set's training images, ascending.
    """

    info: DatasetInfo
    train_images: Images = field(repr=False)
    train_labels: Labels = field(repr=False)
    val_images: Images = field(repr=False)
    val_labels: Labels = field(repr=False)
    train_index: Labels = field(repr=False)
    val_index: Labels = field(repr=False)


def split(
    dataset: Dataset,
    *,
    validation_fraction: float | None = None,
    validation_size: int | None = None,
    limit: int | None = None,
    seed: int,
) -> Split:
    """A stratified split: every class keeps its share in both parts, to one image.

    The validation part depends on the seed only, not on `limit`; and a smaller
    `limit` takes a subset of a larger one's images, so that cut-down runs compare.

    Args:
        dataset: what is split.
        validation_fraction: share of the training images held out, [0, 1).
        validation_size: or their number, >= 0 (give exactly one of the two; 0 holds
            none out).
        limit: most images kept for training, >= 1; None keeps all.
        seed: of the choice.

    Raises:
        BadInput: a value out of range, or nothing left to train on.
    """
    total = len(dataset.train_labels)
    held_out = _validation_count(validation_fraction, validation_size, total, dataset.info.name)
    if limit is not None and limit < 1:
        raise BadInput(f"limit = {limit!r}: must be null or a whole number >= 1")

    counts = np.bincount(dataset.train_labels, minlength=dataset.info.classes)
    val_counts = proportional_counts(counts, held_out)
    train_counts = counts - val_counts
    if limit is not None and limit < train_counts.sum():
        train_counts = proportional_counts(train_counts, limit)

    order = _class_orders(dataset.train_labels, dataset.info.classes, seed)
    val_index = _join([order[k][: val_counts[k]] for k in range(len(counts))])
    train_index = _join(
        [order[k][val_counts[k] : val_counts[k] + train_counts[k]] for k in range(len(counts))]
    )
    return Split(
        info=dataset.info,
        train_images=dataset.train_images[train_index],
        train_labels=dataset.train_labels[train_index],
        val_images=dataset.train_images[val_index],
        val_labels=dataset.train_labels[val_index],
        train_index=train_index,
        val_index=val_index,
    )


def proportional_counts(counts: npt.NDArray[np.int64], wanted: int) -> npt.NDArray[np.int64]:
    """`wanted` things shared out in proportion to `counts`, by largest remainder.

    Args:
        counts: [K], >= 0.
        wanted: 0..counts.sum().

    Returns:
        int64 [K], summing to `wanted`, none above its count.
    """
    exact = counts * (wanted / max(int(counts.sum()), 1))
    whole: npt.NDArray[np.int64] = np.floor(exact).astype(np.int64)
    # Stable sort: equal remainders go to the lower labels, on every machine alike.
    by_remainder = np.argsort(-(exact - whole), kind="stable")
    whole[by_remainder[: wanted - int(whole.sum())]] += 1
    return whole


def _validation_count(fraction: float | None, size: int | None, total: int, name: str) -> int:
    if (fraction is None) == (size is None):
        raise BadInput(
            f"validation_fraction = {fraction!r}, validation_size = {size!r}: "
            "give exactly one of them"
        )
    if fraction is not None:
        if not 0 <= fraction < 1:
            raise BadInput(f"validation = {fraction!r}: a share must be in [0, 1)")
        size = round(fraction * total)
    assert size is not None  # for mypy: one of the two is given
    if not 0 <= size < total:
        raise BadInput(
            f"validation = {size!r}: a count must be 0 or more and below the {total} "
            f"training images of {name}"
        )
    return size


def _class_orders(labels: Labels, classes: int, seed: int) -> list[Labels]:
    """Per class, its positions in an order that depends on seed and class only."""
    return [
        np.random.default_rng([seed, label]).permutation(np.flatnonzero(labels == label))
        for label in range(classes)
    ]


def _join(parts: list[Labels]) -> Labels:
    return np.sort(np.concatenate(parts)).astype(np.int64)
