"""Training speed: ours, a plain good PyTorch loop, and the earlier style, side by side.

    python benchmarks/training_speed.py --data DIR [--json FILE] [--quick] [--profile]

The network is the baseline (384 features, depth 7, MLP ratio 2) with the full recipe and
all augmentation, on CIFAR-10.  `ours` is the fast path (n epochs, each timed apart).
`plain` is the same network in a usual good loop: DataLoader with workers, bf16 autocast,
fused AdamW, no wait per step.  `earlier` is what the project started from: DataLoader
with 2 workers, batch 32, fp32, `loss.item()` each step.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from measure import Timing, hardware, matmul_rate, summary, table, write_json

from model.config import ModelConfig, TrainConfig
from model.data.device import DeviceSet, device_sets
from model.data.load import load_dataset
from model.data.split import split
from model.fast.runner import FastRunners
from model.network.cost import model_cost
from model.training.step import PlainRunner

_16 = ModelConfig(pool="mean")
_17 = ModelConfig(pool="cls")
_64 = ModelConfig(conv_stem="off", patch_size=4, pool="mean")
_65 = ModelConfig(conv_stem="off", patch_size=4, pool="cls")
_WINNER = {"conv_stem": "tiny", "patch_size": 1, "depth": 8, "pool": "mean", "top_k": 16}


def _adamw(batch: int) -> TrainConfig:
    return TrainConfig(batch_size=batch)


def _muon(batch: int) -> TrainConfig:
    return TrainConfig(batch_size=batch, optimizer="muon")


CASES: dict[str, tuple[ModelConfig, TrainConfig]] = {
    "17 tokens": (_17, _adamw(128)),
    "16 tokens": (_16, _adamw(128)),
    "16 tokens, muon": (_16, _muon(128)),
    "17 tokens, batch 512": (_17, _adamw(512)),
    "16 tokens, batch 512": (_16, _adamw(512)),
    "16 tokens, batch 512, muon": (_16, _muon(512)),
    "65 tokens, batch 128": (_65, _adamw(128)),
    "64 tokens, batch 128": (_64, _adamw(128)),
    "64 tokens, batch 128, muon": (_64, _muon(128)),
    "65 tokens": (_65, _adamw(512)),
    "64 tokens": (_64, _adamw(512)),
    "64 tokens, muon": (_64, _muon(512)),
    "257 tokens": (ModelConfig(conv_stem="off", patch_size=2, pool="cls"), _adamw(512)),
    # the shape that won Round 2, then one value of the search space changed at a time
    "winner": (ModelConfig(**_WINNER), _muon(128)),
    "winner, stem small": (ModelConfig(**{**_WINNER, "conv_stem": "small"}), _muon(128)),
    "winner, color_norm residual": (ModelConfig(**_WINNER, color_norm="residual"), _muon(128)),
    "winner, color_norm concat": (ModelConfig(**_WINNER, color_norm="concat"), _muon(128)),
    "winner, split_heads": (ModelConfig(**_WINNER, split_heads=True), _muon(128)),
    "winner, channel shuffle": (
        ModelConfig(**_WINNER),
        TrainConfig(batch_size=128, optimizer="muon", channel_shuffle=0.2),
    ),
    "winner, batch 64": (ModelConfig(**_WINNER), _muon(64)),
    "winner, batch 1024": (ModelConfig(**_WINNER), _muon(1024)),
}


def epochs_timed(train_epoch: Callable[[int], Any], *, n: int) -> Timing:
    """Seconds of an epoch; the first, which compiles and warms up, is left out."""
    train_epoch(0)
    torch.cuda.synchronize()
    seconds = []
    for epoch in range(1, n + 1):
        start = time.perf_counter()
        loss = train_epoch(epoch)
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
        assert torch.isfinite(loss), "the run diverged: its speed means nothing"
    return summary(seconds)


def ours(model: ModelConfig, train: TrainConfig, data: DeviceSet, *, n: int) -> Any:
    started = time.perf_counter()
    runner = FastRunners()(model_config=model, train_config=train, train=data, seed=0)
    torch.cuda.synchronize()
    ready = time.perf_counter() - started
    timing = epochs_timed(runner.train_epoch, n=n)
    return runner, timing, ready


def plain(model: ModelConfig, train: TrainConfig, data: DeviceSet, *, n: int) -> Timing:
    """The project's own slow twin: eager steps, augmentation on the device."""
    runner = PlainRunner(model_config=model, train_config=train, train=data, seed=0)
    return epochs_timed(runner.train_epoch, n=n)


def loader_style(
    model: ModelConfig,
    images: Any,
    labels: Any,
    *,
    batch: int,
    workers: int,
    good: bool,
    limit_s: float,
) -> float:
    """Images/s of a DataLoader loop, for `limit_s` seconds.

    Both run the project's own network eagerly (its attention kernel too, in their favour)
    and torchvision's transforms, an image at a time on the workers; the mixing of batches
    and the averaged weights are left out in their favour.
    """
    from torchvision.transforms import v2

    from model.network.vit import build_network

    transform = v2.Compose(
        [
            v2.ToImage(),
            v2.RandomCrop(32, padding=4, padding_mode="reflect"),
            v2.RandomHorizontalFlip(),
            v2.RandAugment(2, 9),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.49, 0.48, 0.45], [0.25, 0.24, 0.26]),
            v2.RandomErasing(1.0, scale=(1 / 16, 1 / 16), ratio=(1.0, 1.0)),
        ]
    )

    class Images(torch.utils.data.Dataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return len(images)

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            return transform(images[index]), int(labels[index])

    loader = torch.utils.data.DataLoader(
        Images(),
        batch_size=batch,
        shuffle=True,
        num_workers=workers,
        drop_last=True,
        pin_memory=good,
        persistent_workers=True,
    )
    network = build_network(model, seed=0, device="cuda").train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-4, fused=good)
    seen, start, total = 0, 0.0, 0.0
    while True:
        for given, wanted in loader:
            x = given.cuda(non_blocking=good)
            y = wanted.cuda(non_blocking=good)
            with torch.autocast("cuda", dtype=torch.bfloat16, enabled=good):
                loss = torch.nn.functional.cross_entropy(network(x).float(), y)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            if not good:
                total += loss.item()
            seen += batch
            if seen == 20 * batch:  # the workers' start and the first steps do not count
                torch.cuda.synchronize()
                start = time.perf_counter()
            if seen > 20 * batch and time.perf_counter() - start > limit_s:
                torch.cuda.synchronize()
                return (seen - 20 * batch) / (time.perf_counter() - start)


def profiled(runner: Any, rows: int = 30) -> str:
    """Device time by kernel, of one epoch."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        runner.train_epoch(0)
        torch.cuda.synchronize()
    return str(
        profiler.key_averages().table(
            sort_by="cuda_time_total", row_limit=rows, max_name_column_width=60
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="ours alone, fewer epochs")
    parser.add_argument("--profile", nargs="*", default=[], help="names of cases")
    parser.add_argument("--cases", nargs="*", default=list(CASES))
    options = parser.parse_args()
    print(hardware())
    rate = matmul_rate()
    print(f"bf16 matrix rate {rate / 1e12:.0f} TFLOP/s")
    dataset = load_dataset("cifar10", data_dir=options.data)
    parts = split(dataset, validation_fraction=0.1, limit=None, seed=0)
    data, _ = device_sets(parts, device="cuda")
    rows, results = [], []
    for name in options.cases:
        model, train = CASES[name]
        batch = train.batch_size
        n = 2 if options.quick else 5
        runner, timing, ready = ours(model, train, data, n=n)
        images = runner.state.steps_per_epoch * batch
        speed = images / timing.median_s
        mfu = speed * model_cost(model).training_flops / rate
        slow = None if options.quick else images / plain(model, train, data, n=1).median_s
        memory = torch.cuda.max_memory_allocated() / 2**30
        row = {
            "case": name,
            "tokens": model.tokens,
            "batch": batch,
            "optimizer": train.optimizer,
            "images_per_s": speed,
            "step_us": timing.median_s / runner.state.steps_per_epoch * 1e6,
            "n": timing.n,
            "spread": timing.spread,
            "mfu": mfu,
            "start_s": ready,
            "memory_gib": memory,
            "plain_images_per_s": slow,
        }
        results.append(row)
        rows.append(
            [
                name,
                batch,
                f"{speed:,.0f}",
                f"{row['step_us']:.0f}",
                f"{timing.spread:.1%}",
                f"{mfu:.1%}",
                f"{ready:.2f}",
                f"{memory:.1f}",
                "-" if slow is None else f"{slow:,.0f}",
            ]
        )
        print(rows[-1], flush=True)
        if name in options.profile:
            print(profiled(runner), flush=True)
        del runner
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    print(
        table(
            rows,
            header=[
                "case",
                "batch",
                "images/s",
                "step_us",
                "spread",
                "MFU",
                "start_s",
                "GiB",
                "eager_images/s",
            ],
        )
    )
    if not options.quick:
        images, labels = parts.train_images, parts.train_labels
        model = ModelConfig(pool="cls")
        good = loader_style(model, images, labels, batch=128, workers=8, good=True, limit_s=8.0)
        earlier = loader_style(model, images, labels, batch=32, workers=2, good=False, limit_s=8.0)
        print(f"good DataLoader loop, batch 128, 8 workers, bf16: {good:,.0f} images/s")
        print(f"earlier style, batch 32, 2 workers, fp32, item(): {earlier:,.0f} images/s")
        results.append({"case": "good DataLoader loop", "images_per_s": good})
        results.append({"case": "earlier style", "images_per_s": earlier})
    write_json(options.json, name="training_speed", results=results)


if __name__ == "__main__":
    main()
