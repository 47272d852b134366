"""Seconds from random weights to the gate's accuracy, and to any other.

    python benchmarks/time_to_gate.py --data DIR [--config configs/search.yaml] [--seeds 10]
        [--targets 0.7933 0.85] [--params patch_size=1 depth=7] [--json FILE]

The gate's data set with a search file's own recipe.  What counts is the time inside training
steps until the end of the first epoch whose validation accuracy (10 % of the training images)
reaches the target; evaluation, start-up and compilation are outside the clock: the first
seed trains twice, and its first training is thrown away.  Test images are not read.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

from measure import hardware, table, write_json
from ruamel.yaml import YAML

from model.config import ModelConfig, TrainConfig
from model.data.device import DeviceSet, device_sets
from model.data.load import load_dataset
from model.data.split import split
from model.runners import runners_for
from model.training.step import RunnerFactory
from model.training.trainer import Trainer
from search.file.load import load_search_file

CONFIG = Path(__file__).resolve().parent.parent / "configs/search.yaml"
PARAMS = ("patch_size=1", "conv_stem=tiny", "embed_dim=384", "depth=7", "temperature=0.8",
          "top_p=0.9")  # fmt: skip


def curve(
    model: ModelConfig,
    recipe: TrainConfig,
    sets: tuple[DeviceSet, DeviceSet],
    *,
    device: str,
    runners: RunnerFactory,
    seed: int,
) -> list[tuple[float, float]]:
    """(training seconds so far, accuracy) after each epoch."""
    train, validation = sets
    trainer = Trainer(
        model_config=model,
        train_config=recipe,
        train=train,
        validation=validation,
        device=device,
        seed=seed,
        runner=runners,
    )
    points, seconds = [], 0.0
    for epoch in trainer.epochs():
        seconds += len(train) / epoch.images_per_s
        points.append((seconds, epoch.accuracy))
    return points


def seconds_to(points: list[tuple[float, float]], target: float) -> float | None:
    """Of the first epoch that reaches `target`; None where none does."""
    return next((seconds for seconds, accuracy in points if accuracy >= target), None)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--params", nargs="+", default=PARAMS, metavar="NAME=VALUE")
    parser.add_argument("--targets", type=float, nargs="+", default=[0.7933, 0.85])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--epochs", type=int, help="instead of the file's")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    search = load_search_file(options.config)
    yaml = YAML(typ="safe", pure=True)
    params: dict[str, Any] = {
        name: yaml.load(value) for name, value in (pair.split("=", 1) for pair in options.params)
    }
    entry = search.datasets[0]
    dataset = load_dataset(entry.name, data_dir=options.data)
    sets = device_sets(split(dataset, validation_fraction=0.1, seed=0), device=options.device)
    model, recipe = search.resolve_for(params, entry, dataset.info)
    if options.epochs:
        recipe = TrainConfig.from_dict({**recipe.to_dict(), "epochs": options.epochs})
    runners = runners_for(options.device)
    what = {"device": options.device, "runners": runners}
    curve(model, recipe, sets, seed=0, **what)
    curves = []
    for seed in range(options.seeds):
        curves.append(curve(model, recipe, sets, seed=seed, **what))
        found = ", ".join(
            f"{100 * t:.2f} % {seconds_to(curves[-1], t)} s" for t in options.targets
        )
        print(f"seed {seed}: {found}; at the end {100 * curves[-1][-1][1]:.2f} %", flush=True)
    rows, results = [], []
    for target in options.targets:
        times = [seconds_to(points, target) for points in curves]
        reached = [t for t in times if t is not None]
        mean = f"{statistics.fmean(reached):.1f}" if reached else "-"
        spread = f"{statistics.stdev(reached):.1f}" if len(reached) > 1 else "-"
        rows.append([f"{100 * target:.2f}", mean, spread, f"{len(reached)} of {len(times)}"])
        results.append({"target": target, "seconds": times})
    last = [100 * points[-1][1] for points in curves]
    print(hardware())
    print(f"{entry.name}, {model.tokens} tokens, {recipe.epochs} epochs, {options.config.name}, "
          f"{params}")  # fmt: skip
    print(f"last epoch: {statistics.fmean(last):.2f} % after {curves[0][-1][0]:.1f} s")
    print(table(rows, header=["accuracy %", "seconds, mean", "std", "reached by"]))
    write_json(options.json, name="time_to_gate", results=[*results, {"curves": curves}])


if __name__ == "__main__":
    main()
