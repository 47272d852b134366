"""What each change of the recipe is worth: many trainings from one plan, one row each.

    python benchmarks/recipe.py --data DIR --plan benchmarks/plans/NAME.yaml --out FILE.csv
    python benchmarks/recipe.py --table FILE.csv

A plan names a base configuration and changes of it.  Every training is appended to the CSV
file as soon as it ends, and one that is there already is not trained again: a plan can be
stopped anywhere (or by `--limit-s`) and goes on with the same command.  Accuracies are on
validation images (10 % of the training images, drawn by class); test images are not read.

    base:
      model: {conv_stem: tiny, patch_size: 1}
      train: {epochs: 20, optimizer: muon, lr: 2.0e-3}
    runs:
      - {name: base, set: cifar10, seeds: [0, 1, 2]}
      - {name: cutmix, set: cifar10, seeds: [0], train: {cutmix: 0.5}}
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from measure import table
from ruamel.yaml import YAML

from model.config import ModelConfig, TrainConfig
from model.data.device import DeviceSet, device_sets
from model.data.info import DatasetInfo
from model.data.load import load_dataset
from model.data.split import split
from model.errors import Diverged
from model.runners import runners_for
from model.training.step import RunnerFactory
from model.training.trainer import Trainer

COLUMNS = (
    "key", "plan", "name", "variant", "set", "checksum", "seed", "accuracy", "best",
    "accuracies", "raw", "ema", "train_s", "seconds", "images_per_s", "tokens", "device",
    "torch", "date", "model", "train",
)  # fmt: skip
"""variant: what the code did that no field says (of experiments that were not kept);
accuracy: of the last epoch; best: of any epoch; accuracies, raw, ema: of each epoch (the
better of the two, raw weights, averaged weights), JSON; train_s: seconds inside training
steps; seconds: of the whole training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One training of a plan."""

    plan: str
    name: str
    dataset: str
    seed: int
    model: ModelConfig
    train: TrainConfig

    @property
    def key(self) -> str:
        """12 hex digits of everything that decides the result."""
        what = [self.dataset, self.seed, self.model.to_dict(), self.train.to_dict()]
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]


def planned(path: Path) -> Iterator[Planned]:
    """A plan's trainings, in its order."""
    plan = YAML(typ="safe", pure=True).load(path)
    base = plan["base"]
    for run in plan["runs"]:
        for dataset in [run["set"]] if isinstance(run["set"], str) else run["set"]:
            for seed in run.get("seeds", [0]):
                yield Planned(
                    plan=path.stem,
                    name=run["name"],
                    dataset=dataset,
                    seed=seed,
                    model=ModelConfig.from_dict({**base["model"], **run.get("model", {})}),
                    train=TrainConfig.from_dict({**base["train"], **run.get("train", {})}),
                )


class Sets:
    """The data sets on the device, each loaded once."""

    def __init__(self, *, folder: Path, device: str) -> None:
        self._folder, self._device = folder, device
        self._loaded: dict[str, tuple[DatasetInfo, DeviceSet, DeviceSet]] = {}

    def __getitem__(self, name: str) -> tuple[DatasetInfo, DeviceSet, DeviceSet]:
        if name not in self._loaded:
            dataset = load_dataset(name, data_dir=self._folder)
            parts = split(dataset, validation_fraction=0.1, seed=0)
            self._loaded[name] = (dataset.info, *device_sets(parts, device=self._device))
        return self._loaded[name]


def train(run: Planned, sets: Sets, *, device: str, runners: RunnerFactory) -> dict[str, Any]:
    """Trains to the end; the row of the table."""
    info, training, validation = sets[run.dataset]
    model = run.model.for_images(
        image_size=info.image_size, channels=info.channels, classes=info.classes
    )
    began = time.perf_counter()
    trainer = Trainer(
        model_config=model,
        train_config=replace(run.train, flip=run.train.flip and info.flip),
        train=training,
        validation=validation,
        device=device,
        seed=run.seed,
        runner=runners,
    )
    best: list[float] = []
    raw: list[float] = []
    ema: list[float] = []
    train_s, rate = 0.0, 0.0
    try:
        for epoch in trainer.epochs():
            best.append(epoch.accuracy)
            raw.append(epoch.accuracy_raw)
            ema.append(epoch.accuracy_ema)
            rate = epoch.images_per_s
            train_s += len(training) / rate
    except Diverged as error:
        print(f"{run.name}: {error}", file=sys.stderr)
        best.append(0.0)
    return {
        "key": run.key,
        "plan": run.plan,
        "name": run.name,
        "variant": "",
        "set": run.dataset,
        "checksum": info.checksum[:12],
        "seed": run.seed,
        "accuracy": round(best[-1], 5),
        "best": round(max(best), 5),
        "accuracies": json.dumps([round(a, 5) for a in best]),
        "raw": json.dumps([round(a, 5) for a in raw]),
        "ema": json.dumps([round(a, 5) for a in ema]),
        "train_s": round(train_s, 2),
        "seconds": round(time.perf_counter() - began, 2),
        "images_per_s": round(rate),
        "tokens": model.tokens,
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else "cpu",
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
        "model": json.dumps(run.model.to_dict()),
        "train": json.dumps(run.train.to_dict()),
    }


def read_rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    csv.field_size_limit(1 << 24)
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def append_row(path: Path, row: dict[str, Any]) -> None:
    """One line, written whole; the heading first where the file is new."""
    new = not path.exists()
    with path.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


def show(rows: list[dict[str, str]]) -> str:
    """Mean and standard deviation over the seeds of each plan, name and set."""
    groups: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    for row in rows:
        name = ", ".join(filter(None, (row["name"], row["variant"])))
        groups.setdefault((row["plan"], name, row["set"]), []).append(row)
    lines = []
    for (plan, name, dataset), group in groups.items():
        accuracies = [100 * float(row["accuracy"]) for row in group]
        spread = f"{statistics.stdev(accuracies):.2f}" if len(group) > 1 else "-"
        epochs = len(json.loads(group[0]["accuracies"]))
        lines.append(
            [plan, name, dataset, group[0]["tokens"], str(epochs),
             f"{statistics.fmean(accuracies):.2f}", spread, str(len(group)),
             f"{statistics.fmean(float(row['train_s']) for row in group):.1f}"]
        )  # fmt: skip
    header = ["plan", "name", "set", "tokens", "epochs", "accuracy %", "std", "n", "train s"]
    return table(lines, header=header)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder of the prepared sets")
    parser.add_argument("--plan", type=Path, action="append", default=[])
    parser.add_argument("--out", type=Path, help="CSV file that rows are appended to")
    parser.add_argument("--table", type=Path, help="only print the table of this file")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument(
        "--limit-s", type=float, default=float("inf"), help="start no training after that"
    )
    options = parser.parse_args()
    if options.table:
        print(show(read_rows(options.table)))
        return
    if not (options.data and options.plan and options.out):
        parser.error("--data, --plan and --out are needed (or --table alone)")
    began = time.perf_counter()
    sets = Sets(folder=options.data, device=options.device)
    runners = runners_for(options.device)
    done = {row["key"] for row in read_rows(options.out)}
    for run in [run for path in options.plan for run in planned(path)]:
        if run.key in done:
            continue
        if time.perf_counter() - began > options.limit_s:
            print(f"stopped after {options.limit_s:.0f} s; the same command goes on")
            break
        row = train(run, sets, device=options.device, runners=runners)
        append_row(options.out, row)
        done.add(run.key)
        print(
            f"{row['name']:24s} {row['set']:14s} seed {row['seed']}  "
            f"{100 * row['accuracy']:6.2f} %  {row['train_s']:6.1f} s  "
            f"{row['images_per_s']:7,d} images/s",
            flush=True,
        )
    print(show(read_rows(options.out)))


if __name__ == "__main__":
    main()
