"""AdamW against Muon (for the blocks' matrices): accuracy by epoch on CIFAR-10.

    python benchmarks/optimizers.py --data DIR [--device cpu] [--images 5000] [--epochs 8]

A network of configs/laptop.yaml (128 features, depth 3, patch 2) with its recipe, each
optimiser with each peak learning rate, the same seeds.  Accuracies are of the last epoch,
on validation images; test images are not read.
"""

from __future__ import annotations

import argparse
import os
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

# As nkat-search sets it; before torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from measure import hardware, table, write_json

from model.data.device import device_sets
from model.data.load import load_dataset
from model.data.split import split
from model.runners import runners_for
from model.training.trainer import Trainer
from search.file.load import load_search_file

CONFIG = Path(__file__).resolve().parent.parent / "configs/laptop.yaml"
PARAMS = {"patch_size": 2, "embed_dim": 128, "depth": 3, "temperature": 0.7, "top_p": 0.9}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--lrs", type=float, nargs="+", default=[1e-3, 3e-3])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print(hardware())
    model, recipe = load_search_file(CONFIG).resolve(PARAMS, "cifar10")
    parts = split(
        load_dataset("cifar10", data_dir=options.data),
        validation_fraction=0.1,
        limit=options.images,
        seed=0,
    )
    train, validation = device_sets(parts, device=options.device)
    runners = runners_for(options.device)
    rows: list[list[str]] = []
    results: list[dict[str, Any]] = []
    for optimizer in ("adamw", "muon"):
        for lr in options.lrs:
            curves = []
            for seed in range(options.seeds):
                trainer = Trainer(
                    model_config=model,
                    train_config=replace(
                        recipe, optimizer=optimizer, lr=lr, epochs=options.epochs
                    ),
                    train=train,
                    validation=validation,
                    device=options.device,
                    seed=seed,
                    runner=runners,
                )
                curves.append([100 * epoch.accuracy for epoch in trainer.epochs()])
                print(optimizer, lr, seed, [round(a, 1) for a in curves[-1]], flush=True)
            last = [curve[-1] for curve in curves]
            spread = statistics.stdev(last) if len(last) > 1 else 0.0
            half = statistics.fmean(curve[options.epochs // 2 - 1] for curve in curves)
            rows.append(
                [optimizer, f"{lr:g}", f"{half:.1f}", f"{statistics.fmean(last):.1f}",
                 f"{spread:.1f}", str(len(last))]
            )  # fmt: skip
            results.append({"optimizer": optimizer, "lr": lr, "curves": curves})
    header = ["optimizer", "lr", f"after {options.epochs // 2} of {options.epochs} epochs, %",
              "last epoch, %", "std", "n"]  # fmt: skip
    print(table(rows, header=header))
    write_json(options.json, name="optimizers", results=results)


if __name__ == "__main__":
    main()
