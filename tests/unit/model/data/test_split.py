"""Stratified, deterministic, disjoint."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.data import Dataset, DatasetInfo, Split, split
from model.data.split import proportional_counts
from nkat_errors import BadInput


def unbalanced(counts: tuple[int, ...]) -> Dataset:
    """Image i is filled with i's two bytes, so that it can be recognised."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts)).astype(np.int64)
    images = np.arange(len(labels), dtype="<u2").view(np.uint8).reshape(-1, 1, 2, 1)
    images = np.repeat(images, 2, axis=1)
    info = DatasetInfo(
        name="made_up",
        title="made up",
        classes=len(counts),
        channels=1,
        image_size=2,
        flip=False,
        source="prepared",
        checksum="",
        train_size=len(labels),
        test_size=1,
    )

    def no_test() -> tuple[np.ndarray, np.ndarray]:
        raise AssertionError("the test images were read")

    return Dataset(info=info, train_images=images, train_labels=labels, read_test=no_test)


DATASET = unbalanced((2000, 100, 79, 257, 1, 2))


def shares(labels: np.ndarray) -> np.ndarray:
    return np.bincount(labels, minlength=6)


def same(one: Split, other: Split) -> bool:
    return np.array_equal(one.train_index, other.train_index) and np.array_equal(
        one.val_index, other.val_index
    )


@given(
    fraction=st.floats(0, 0.9),
    limit=st.none() | st.integers(1, 3000),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=60, deadline=None)
def test_parts_are_disjoint_stratified_and_hold_their_own_images(
    fraction: float, limit: int | None, seed: int
) -> None:
    parts = split(DATASET, validation_fraction=fraction, limit=limit, seed=seed)
    total = len(DATASET.train_labels)
    held_out = round(fraction * total)
    kept = total - held_out if limit is None else min(limit, total - held_out)
    assert (len(parts.train_index), len(parts.val_index)) == (kept, held_out)
    assert not set(parts.train_index) & set(parts.val_index)
    for images, labels, index in (
        (parts.train_images, parts.train_labels, parts.train_index),
        (parts.val_images, parts.val_labels, parts.val_index),
    ):
        assert len(set(index)) == len(index)
        assert np.array_equal(images, DATASET.train_images[index])
        assert np.array_equal(labels, DATASET.train_labels[index])
    counts = shares(DATASET.train_labels)
    assert np.abs(shares(parts.val_labels) - counts * held_out / total).max() < 1
    rest = counts - shares(parts.val_labels)
    assert np.abs(shares(parts.train_labels) - rest * kept / rest.sum()).max() < 1


def test_equal_seeds_give_equal_splits_and_others_do_not() -> None:
    first = split(DATASET, validation_size=240, seed=7)
    assert same(first, split(DATASET, validation_size=240, seed=7))
    assert not same(first, split(DATASET, validation_size=240, seed=8))
    assert same(first, split(DATASET, validation_fraction=240 / 2439, seed=7))


def test_a_limit_neither_moves_the_validation_part_nor_reshuffles() -> None:
    whole = split(DATASET, validation_fraction=0.1, seed=3)
    middle = split(DATASET, validation_fraction=0.1, limit=900, seed=3)
    small = split(DATASET, validation_fraction=0.1, limit=300, seed=3)
    assert np.array_equal(whole.val_index, small.val_index)
    assert set(small.train_index) <= set(middle.train_index) <= set(whole.train_index)


def test_nothing_held_out_is_allowed_for_the_final_run() -> None:
    parts = split(DATASET, validation_size=0, seed=0)
    assert len(parts.train_labels) == len(DATASET.train_labels)
    assert parts.val_images.shape == (0, 2, 2, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give exactly one"),
        ({"validation_fraction": 0.1, "validation_size": 10}, "give exactly one"),
        ({"validation_fraction": 1.0}, r"validation = 1\.0: a share must be in \[0, 1\)"),
        ({"validation_fraction": -0.1}, "a share must be"),
        ({"validation_size": 2439}, "below the 2439 training images of made_up"),
        ({"validation_size": -1}, "must be 0 or more"),
        ({"validation_size": 10, "limit": 0}, "limit = 0"),
    ],
)
def test_bad_values_are_named(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        split(DATASET, seed=0, **arguments)  # type: ignore[arg-type]


@given(counts=st.lists(st.integers(0, 50), min_size=1, max_size=8), share=st.floats(0, 1))
def test_shares_add_up_and_never_exceed_what_is_there(counts: list[int], share: float) -> None:
    there = np.array(counts)
    wanted = round(share * int(there.sum()))
    found = proportional_counts(there, wanted)
    assert found.sum() == wanted
    assert bool(((found >= 0) & (found <= there)).all())
