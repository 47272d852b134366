"""The source's baseline on real images: accuracy for each colour norm, and on all four sets.

    python benchmarks/baseline_accuracy.py --data DIR [--seeds 3] [--json FILE] [--quick]

CIFAR-10 is trained with each `color_norm` for 10 and for 40 epochs; then the default one
on the other three sets, which gives the Global TPE score.  Accuracies are on validation
images (10 % of the training images, drawn by class); test images are not read.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from measure import table, write_json

from model.config import ModelConfig, TrainConfig
from model.data.device import DeviceSet, device_sets
from model.data.info import DatasetInfo
from model.data.load import load_dataset
from model.data.split import split
from model.runners import runners_for
from model.training.trainer import Trainer

NORMS = ("off", "layernorm", "residual", "concat")
OTHERS = ("mnist", "fashion_mnist", "sd19_letters")


def load(name: str, folder: Path, device: str) -> tuple[DatasetInfo, DeviceSet, DeviceSet]:
    dataset = load_dataset(name, data_dir=folder)
    train, validation = device_sets(split(dataset, validation_fraction=0.1, seed=0), device=device)
    return dataset.info, train, validation


def run(
    data: tuple[DatasetInfo, DeviceSet, DeviceSet],
    model: ModelConfig,
    recipe: TrainConfig,
    runners: Any,
    device: str,
    seed: int,
) -> dict[str, Any]:
    info, train, validation = data
    started = time.perf_counter()
    trainer = Trainer(
        model_config=model.for_images(
            image_size=info.image_size, channels=info.channels, classes=info.classes
        ),
        train_config=replace(recipe, flip=info.flip),
        train=train,
        validation=validation,
        device=device,
        seed=seed,
        runner=runners,
    )
    last = list(trainer.epochs())[-1]
    return {
        "set": info.name,
        "color_norm": model.color_norm,
        "epochs": recipe.epochs,
        "lr": recipe.lr,
        "seed": seed,
        "accuracy": last.accuracy,
        "raw": last.accuracy_raw,
        "ema": last.accuracy_ema,
        "loss": last.loss,
        "images_per_s": last.images_per_s,
        "seconds": time.perf_counter() - started,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, nargs="+", default=[10, 40])
    parser.add_argument("--lrs", type=float, nargs="*", default=[], help="more peak rates to try")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    device = arguments.device
    runners = runners_for(device)
    found: list[dict[str, Any]] = []

    def note(row: dict[str, Any]) -> None:
        found.append(row)
        print({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}, flush=True)
        if arguments.json:
            write_json(arguments.json, name="baseline_accuracy", results=found)

    cifar10 = load("cifar10", arguments.data, device)
    for epochs in arguments.epochs:
        for norm in NORMS:
            for seed in range(arguments.seeds):
                recipe = TrainConfig(epochs=epochs)
                note(run(cifar10, ModelConfig(color_norm=norm), recipe, runners, device, seed))
    for lr in arguments.lrs:
        for seed in range(arguments.seeds):
            recipe = TrainConfig(epochs=arguments.epochs[-1], lr=lr)
            note(run(cifar10, ModelConfig(), recipe, runners, device, seed))
    for name in OTHERS:
        data = load(name, arguments.data, device)
        for seed in range(arguments.seeds):
            recipe = TrainConfig(epochs=arguments.epochs[-1])
            note(run(data, ModelConfig(), recipe, runners, device, seed))

    rows = []
    keys = dict.fromkeys((r["set"], r["color_norm"], r["epochs"], r["lr"]) for r in found)
    for key in keys:
        mine = [r for r in found if (r["set"], r["color_norm"], r["epochs"], r["lr"]) == key]
        values = [100 * r["accuracy"] for r in mine]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        seconds = statistics.median(r["seconds"] for r in mine)
        rows.append(
            [*map(str, key), f"{statistics.fmean(values):.2f}", f"{spread:.2f}",
             str(len(values)), f"{seconds:.1f}"]
        )  # fmt: skip
    header = ["set", "color_norm", "epochs", "lr", "accuracy %", "std", "n", "s/run"]
    print(table(rows, header=header))


if __name__ == "__main__":
    main()
