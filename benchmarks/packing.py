"""Several trainings at once on one GPU against one, and on several GPUs against one.

    python benchmarks/packing.py [--json FILE] [--most 8] [--seconds 4] [--gpus 2]

17 tokens, batch 128, 45,000 images of noise: the shape that fills a GPU least.
Trainings run in processes of their own (with and without NVIDIA's MPS daemon where it is
installed), or on streams of one process.  What counts is the sum of their images/s,
which is trials per hour but for a factor.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from measure import hardware, table, write_json
from noise import noise_set

from model.config import ModelConfig, TrainConfig
from model.data.device import DeviceSet
from model.fast.runner import FastRunners

MODEL, TRAIN = ModelConfig(pool="cls"), TrainConfig(batch_size=128)


def training_set() -> DeviceSet:
    return noise_set(45_000, device="cuda")


def child(seconds: float) -> None:
    """Train until `seconds` after the parent's word; print images/s."""
    signal.alarm(90)  # a service that hangs shall not hang the benchmark
    runner = FastRunners()(
        model_config=MODEL, train_config=TRAIN, train=training_set(), seed=os.getpid()
    )
    runner.train_epoch(0)
    torch.cuda.synchronize()
    print("ready", flush=True)
    sys.stdin.readline()
    start, epochs = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        runner.train_epoch(epochs + 1)
        torch.cuda.synchronize()
        epochs += 1
    images = epochs * runner.state.steps_per_epoch * runner.state.batch_size
    print(images / (time.perf_counter() - start), flush=True)


def processes(count: int, options: argparse.Namespace, *, gpus: int = 1) -> float:
    """Sum of images/s of `count` processes a GPU."""
    command = [sys.executable, __file__, "--child"]
    command += ["--seconds", str(options.seconds)]
    children = []
    for index in range(count * gpus):
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": str(index % gpus)}
        children.append(
            subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment,
            )
        )
    for each in children:
        assert each.stdout is not None
        assert each.stdout.readline().strip() == "ready"
    for each in children:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    total = 0.0
    for each in children:
        assert each.stdout is not None
        total += float(each.stdout.readline())
        each.wait()
    return total


def streams(count: int, data: DeviceSet, seconds: float) -> float:
    """Sum of images/s of `count` trainings on streams of this process, step by step."""
    runners = []
    for seed in range(count):
        runner = FastRunners()(model_config=MODEL, train_config=TRAIN, train=data, seed=seed)
        runner.train_epoch(0)
        runners.append((runner, torch.cuda.Stream()))
    torch.cuda.synchronize()
    engines = [(runner._engine, stream) for runner, stream in runners]  # type: ignore[attr-defined]
    start, rounds = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        for engine, _ in engines:
            engine.values.counter.zero_()
        torch.cuda.synchronize()
        for _ in range(engines[0][0].steps):
            for engine, stream in engines:
                with torch.cuda.stream(stream):
                    engine._graph.replay()
        torch.cuda.synchronize()
        rounds += 1
    images = rounds * engines[0][0].steps * TRAIN.batch_size * count
    return images / (time.perf_counter() - start)


@contextlib.contextmanager
def mps() -> Iterator[bool]:
    """NVIDIA's multi-process service, with a private pipe folder; False without it."""
    control = shutil.which("nvidia-cuda-mps-control")
    if control is None:
        yield False
        return
    with tempfile.TemporaryDirectory() as folder:
        private = {"CUDA_MPS_PIPE_DIRECTORY": folder, "CUDA_MPS_LOG_DIRECTORY": folder}
        os.environ.update(private)
        started = subprocess.run([control, "-d"], check=False, capture_output=True)
        try:
            yield started.returncode == 0
        finally:
            subprocess.run([control], input=b"quit\n", check=False, capture_output=True)
            for name in private:
                os.environ.pop(name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--most", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--gpus", type=int, default=0, help="one process a GPU, 1 against N")
    parser.add_argument("--child", action="store_true")
    options = parser.parse_args()
    if options.child:
        child(options.seconds)
        return
    print(hardware())
    counts = [count for count in (1, 2, 4, 8) if count <= options.most]
    found: list[tuple[str, int, float]] = []

    def note(how: str, count: int, images_per_s: float) -> None:
        found.append((how, count, images_per_s))
        print(how, count, f"{images_per_s:,.0f}", flush=True)

    if options.gpus > 1:
        note("GPUs", 1, processes(1, options))
        note("GPUs", options.gpus, processes(1, options, gpus=options.gpus))
    else:
        for count in counts:
            note("processes", count, processes(count, options))
        with mps() as running:
            if not running:
                print("no MPS here: nvidia-cuda-mps-control is missing or refused")
            else:
                for count in counts:
                    try:
                        note("processes with MPS", count, processes(count, options))
                    except (AssertionError, ValueError) as failure:
                        print("processes with MPS", count, f"failed: {failure!r}")
                        break
        data = training_set()
        for count in counts:
            note("streams", count, streams(count, data, options.seconds))
    one = found[0][2]
    rows = [[how, count, f"{speed:,.0f}", f"{speed / one:.2f}"] for how, count, speed in found]
    print(table(rows, header=["how", "at once", "images/s", "against one"]))
    write_json(
        options.json,
        name="packing",
        results=[
            {"how": how, "at_once": count, "images_per_s": speed, "against_one": speed / one}
            for how, count, speed in found
        ],
    )


if __name__ == "__main__":
    main()
