"""Seconds from a new configuration to the end of its first training step.

    python benchmarks/start_up.py [--json FILE]

Each case is measured in a fresh process: first with an empty kernel cache (a cold
machine), then with the cache the first one left (a new worker), and inside each the
configurations follow each other as in a warm worker: first one, the same shape with
other values, another depth, another width.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measure import hardware, table, write_json

REPEATS = 2


def child() -> None:
    start = time.perf_counter()
    import torch
    from noise import noise_set

    from model.config import ModelConfig, TrainConfig
    from model.fast.runner import FastRunners

    found: dict[str, float] = {"imports": time.perf_counter() - start}
    start = time.perf_counter()
    torch.zeros(1, device="cuda")
    found["CUDA context"] = time.perf_counter() - start
    data = noise_set(1280, device="cuda")
    runners = FastRunners()
    cases = {
        "first configuration": ModelConfig(pool="cls"),
        "same shape, other values": ModelConfig(
            pool="cls", temperature=0.9, top_k=4, top_p=0.9, dropout_attn=0.1
        ),
        "same shape, other values again": ModelConfig(pool="cls", temperature=0.7, top_p=0.85),
        "other depth": ModelConfig(pool="cls", depth=5),
        "other width": ModelConfig(pool="cls", embed_dim=448),
        "65 tokens": ModelConfig(pool="cls", conv_stem="off", patch_size=4),
    }
    for name, model in cases.items():
        torch.cuda.synchronize()
        start = time.perf_counter()
        runner = runners(
            model_config=model, train_config=TrainConfig(batch_size=1280), train=data, seed=1
        )
        runner.train_epoch(0)  # one step: a batch is the whole set
        torch.cuda.synchronize()
        found[name] = time.perf_counter() - start
    print(json.dumps(found))


def measured(cache: str) -> dict[str, float]:
    environment = {**os.environ, "TRITON_CACHE_DIR": cache}
    done = subprocess.run(
        [sys.executable, __file__, "--child"],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", action="store_true")
    options = parser.parse_args()
    if options.child:
        child()
        return
    print(hardware())
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as cache:
        cold = measured(cache)
        warm = [measured(cache) for _ in range(REPEATS)]
    for name in cold:
        again = [run[name] for run in warm]
        results.append({"case": name, "cold_s": cold[name], "cached_s": again})
    rows = [
        [
            r["case"],
            f"{r['cold_s']:.2f}",
            f"{sorted(r['cached_s'])[REPEATS // 2]:.2f}",
            f"{min(r['cached_s']):.2f}-{max(r['cached_s']):.2f}",
        ]
        for r in results
    ]
    print(
        table(rows, header=["case", "empty cache s", "cached s (median)", f"range of {REPEATS}"])
    )
    write_json(options.json, name="start_up", results=results)


if __name__ == "__main__":
    main()
