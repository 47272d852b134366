"""Do the fast path and its plain twin reach the same accuracy?

    python benchmarks/accuracy_parity.py --data DIR [--seeds 5] [--epochs 10] [--json FILE]

The baseline network on CIFAR-10, full recipe, the same seeds on both paths (their random
numbers differ from the first dropout on, so single runs differ as two seeds do).  The
accuracy is that of the last epoch on validation images (10 % of the training images,
drawn by class); test images are not read.  Runs of the plain path share the GPU, some
processes at a time: it is bound by launches.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import statistics
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from measure import hardware, table, write_json

PATHS = ("fast", "plain")


def run(path: str, seed: int, folder: Path, epochs: int) -> dict[str, Any]:
    """One training, in a process of its own."""
    from model.config import ModelConfig, TrainConfig
    from model.data.device import device_sets
    from model.data.load import load_dataset
    from model.data.split import split
    from model.fast.runner import FastRunners
    from model.training.step import PlainRunner
    from model.training.trainer import Trainer

    parts = split(load_dataset("cifar10", data_dir=folder), validation_fraction=0.1, seed=0)
    train, validation = device_sets(parts, device="cuda")
    trainer = Trainer(
        model_config=ModelConfig(),
        train_config=TrainConfig(epochs=epochs),
        train=train,
        validation=validation,
        device="cuda",
        seed=seed,
        runner=FastRunners() if path == "fast" else PlainRunner,
    )
    last = list(trainer.epochs())[-1]
    return {
        "path": path,
        "seed": seed,
        "accuracy": last.accuracy,
        "raw": last.accuracy_raw,
        "loss": last.loss,
        "images_per_s": last.images_per_s,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--at-once", type=int, default=5, help="trainings at a time")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print(hardware())
    found: list[dict[str, Any]] = []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.at_once, mp_context=context) as pool:
        waiting = [
            pool.submit(run, path, seed, options.data, options.epochs)
            for path in PATHS
            for seed in range(options.seeds)
        ]
        for done in waiting:
            found.append(done.result())
            print(found[-1], flush=True)
    rows, means, errors = [], [], []
    for path in PATHS:
        values = [100 * row["accuracy"] for row in found if row["path"] == path]
        spread = statistics.stdev(values) if len(values) > 1 else math.nan
        means.append(statistics.fmean(values))
        errors.append(spread / math.sqrt(len(values)))
        rows.append([path, len(values), f"{means[-1]:.2f}", f"{spread:.2f}"])
    print(table(rows, header=["path", "n", "accuracy %", "std"]))
    difference, error = means[0] - means[1], math.hypot(*errors)
    print(
        f"fast - plain: {difference:+.2f} points, standard error {error:.2f} "
        f"({options.epochs} epochs)"
    )
    write_json(
        options.json,
        name="accuracy_parity",
        results={"runs": found, "difference": difference, "standard_error": error},
    )


if __name__ == "__main__":
    main()
