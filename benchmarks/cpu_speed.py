"""Training speed on a CPU: ours against the naive form, side by side.

    python benchmarks/cpu_speed.py [--images 2000] [--epochs 3] [--json FILE]

The networks of configs/laptop.yaml with its recipe, on images of noise.  `naive` is what
one writes first: DataLoader with 2 workers, torchvision's transforms an image at a time,
attention filtered by sorts, AdamW as it comes, `loss.item()` each step, and neither
averaged weights nor an end of each epoch's evaluation (both in its favour).  `ours` is
`PlainRunner`, and the same with the images channels last.  The forms take turns, an epoch
each; a form's first epoch is left out.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

# As nkat-search sets it; before torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from measure import hardware, table, write_json
from noise import noise_set
from torchvision.transforms import v2

from model.config import ModelConfig, TrainConfig
from model.data.device import DeviceSet
from model.kernels.reference import reference_keep
from model.network import attention
from model.network.vit import build_network
from model.training.step import PlainRunner
from search.file.load import load_search_file

CONFIG = Path(__file__).resolve().parent.parent / "configs/laptop.yaml"
NETWORKS = {
    "64 features, depth 2, patch 4": {"embed_dim": 64, "depth": 2, "patch_size": 4},
    "128 features, depth 3, patch 2": {"embed_dim": 128, "depth": 3, "patch_size": 2},
}
Epoch = Callable[[], None]


def sorted_attention(q: Any, k: Any, v: Any, **options: Any) -> Any:
    """Top-k and top-p as one writes them first, in float32."""
    scores = q @ k.transpose(-2, -1) / (q.shape[-1] ** 0.5 * options["temperature"])
    with torch.no_grad():
        keep = reference_keep(scores, top_k=options["top_k"], top_p=options["top_p"])
    return torch.softmax(scores.masked_fill(~keep, float("-inf")), dim=-1) @ v


def naive(model: ModelConfig, recipe: TrainConfig, images: Any, labels: Any) -> Epoch:
    transform = v2.Compose(
        [
            v2.ToImage(),
            v2.RandomCrop(32, padding=recipe.crop_padding, padding_mode="reflect"),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.5, 0.5, 0.5], [0.29, 0.29, 0.29]),
        ]
    )

    class Images(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return len(images)

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            return transform(images[index]), int(labels[index])

    loader = torch.utils.data.DataLoader(
        Images(),
        batch_size=recipe.batch_size,
        shuffle=True,
        num_workers=2,
        drop_last=True,
        persistent_workers=True,
    )
    network = build_network(model, seed=0).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.lr)

    def epoch() -> None:
        ours = attention.nkat_attention
        attention.nkat_attention = sorted_attention
        try:
            for given, wanted in loader:
                loss = torch.nn.functional.cross_entropy(network(given), wanted)
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimizer.step()
                loss.item()
        finally:
            attention.nkat_attention = ours

    return epoch


def ours(model: ModelConfig, recipe: TrainConfig, data: DeviceSet, *, last: bool) -> Epoch:
    runner = PlainRunner(model_config=model, train_config=recipe, train=data, seed=0)
    done = 0

    def epoch() -> None:
        nonlocal done
        float(runner.train_epoch(done))
        done += 1

    if last:
        runner.state.network.to(memory_format=torch.channels_last)
        network, forward = runner.state.network, runner.state.network.forward

        def channels_last(images: torch.Tensor) -> torch.Tensor:
            return forward(images.contiguous(memory_format=torch.channels_last))

        network.forward = channels_last
    return epoch


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    facts = {**hardware(), "threads": torch.get_num_threads()}
    print(facts)
    data = noise_set(options.images, device="cpu")
    images = data.images.permute(0, 2, 3, 1).numpy()
    labels = data.labels.numpy()
    search = load_search_file(CONFIG)
    rows, results = [], []
    for name, sizes in NETWORKS.items():
        model, recipe = search.resolve({**sizes, "temperature": 0.7, "top_p": 0.9}, "cifar10")
        forms = {
            "naive": naive(model, recipe, images, labels),
            "ours": ours(model, recipe, data, last=False),
            "ours, channels last": ours(model, recipe, data, last=True),
        }
        seconds: dict[str, list[float]] = {form: [] for form in forms}
        for turn in range(options.epochs + 1):
            for form, epoch in forms.items():
                start = time.perf_counter()
                epoch()
                if turn:
                    seconds[form].append(time.perf_counter() - start)
        used = options.images // recipe.batch_size * recipe.batch_size
        slow = median(seconds["naive"])
        for form, taken in seconds.items():
            middle = median(taken)
            spread = (max(taken) - min(taken)) / middle
            rows.append(
                [name, form, f"{used / middle:,.0f}", f"{slow / middle:.2f}", f"{spread:.0%}"]
            )
            results.append(
                {"network": name, "form": form, "images_per_s": used / middle,
                 "against_naive": slow / middle, "n": len(taken), "spread": spread}
            )  # fmt: skip
    print(table(rows, header=["network", "form", "images/s", "against naive", "spread"]))
    write_json(options.json, name="cpu_speed", results=results)


if __name__ == "__main__":
    main()
