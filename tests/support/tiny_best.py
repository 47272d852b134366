"""A best.yaml of a search that never ran: a tiny network on two tiny sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from model.data import load_dataset
from search.export.best_file import BestFile
from search.file.load import parse_search_text
from search.file.search_file import SearchFile
from search.objective.judge import Judge
from search.provenance import DataSource
from search.score.tpe_score import Lambdas
from search.study.past import Past
from search.study.trial_attributes import TrialAttributes, TrialFacts
from search.study.trial_record import TrialRecord
from search.study.verdict import Effort, SetResult

SEARCH = """
study: tiny
n_trials: 1
seed: 7
lambda: counted
gate: {dataset: shades, threshold: 0.01}
datasets:
  - {name: shades, limit: 60, validation: 30, epochs: 2}
  - {name: greys, limit: 60, stand_in_for: emnist_letters, train: {randaugment_ops: 1}}
model: {depth: 1, conv_stem: tiny, heads: 4}
train: {epochs: 1, warmup: 0.25, batch_size: 16, lr: 3.0e-3, ema: 0.8, mixup: 0.0, cutmix: 0.0}
space: {embed_dim: [16, 32]}
recalculation: {epochs_factor: 4, runs: 2, train: {randaugment_ops: 0, cutmix: 0.1}}
"""
PARAMS = {"embed_dim": 16}


def write_sets(folder: Path, *, classes: int = 4, train: int = 120, test: int = 40) -> Path:
    """Two sets whose classes are shades with noise: easily told apart."""
    rng = np.random.default_rng(0)
    for name, shape in (("shades", (16, 16, 3)), ("greys", (16, 16))):
        arrays: dict[str, Any] = {}
        for part, size in (("train", train), ("test", test)):
            labels = np.arange(size) % classes
            shades = labels.reshape(-1, *(1 for _ in shape)) * (200 // classes)
            images = shades + rng.integers(0, 30, (size, *shape))
            arrays[f"{part}_images"] = images.astype(np.uint8)
            arrays[f"{part}_labels"] = labels.astype(np.uint8)
        np.savez(folder / f"{name}.npz", **arrays)
    return folder


def tiny_search(**replace: str) -> SearchFile:
    """The search file; every key of `replace` stands for one of its texts."""
    text = SEARCH
    for new in replace.values():
        old, new = new.split(" -> ")
        assert old in text
        text = text.replace(old, new)
    return parse_search_text(text)


def tiny_best(
    folder: Path,
    search: SearchFile,
    *,
    accuracies: dict[str, float] | None = None,
    params: dict[str, Any] | None = None,
) -> BestFile:
    """The exported trial.

    Args:
        folder: of the data sets.
        accuracies: on validation images, as the search found them.
        params: the trial's, by name.
    """
    found = accuracies or {"shades": 0.6, "greys": 0.5}
    results = {name: SetResult(accuracy=a, weights="ema") for name, a in found.items()}
    lambdas = Lambdas(theory=-29.7, counted=4.0, parameters=0.1)
    effort = Effort(epochs=3, seconds_stage1=2.0, seconds_stage2=1.0)
    verdict = Judge(search=search, lambdas=lambdas).after_set(results, effort, Past())
    assert verdict is not None
    sources = []
    for name in found:
        info = load_dataset(name, data_dir=folder).info
        sources.append(
            DataSource(
                name=name,
                source="prepared",
                train_size=info.train_size,
                checksum=info.checksum,
            )
        )
    facts = TrialFacts(parameters=3000, tokens=16, device="CPU", data=tuple(sources))
    trial = TrialRecord(
        number=0,
        state="complete",
        value=verdict.value,
        params=params or PARAMS,
        attributes=TrialAttributes(verdict=verdict, facts=facts),
    )
    return BestFile.of_trial(trial, search)
