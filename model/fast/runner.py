"""Runs of the fast path, for `Trainer(runner=FastRunners())`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from model.augment import Mix
from model.config import ModelConfig, TrainConfig
from model.data.device import DeviceSet
from model.fast.captured_evaluation import RepeatedEvaluation
from model.fast.engine import Engine, predicted_bytes
from model.fast.limits import why_not
from model.fast.run_values import shape_of, table_rows
from model.fast.state import FastState, copy_counters
from model.fast.warm_cache import WarmCache
from model.training.evaluation import count_correct, evaluation_batch
from model.training.state import TrainingState
from model.training.step import OnStep, PlainRunner, RunnerFactory, StepRunner
from nkat_errors import NkatError

_SHARE_OF_MEMORY = 0.4
"""Of the device's memory, for warm engines that no run uses."""


class FastRunners:
    """Makes runners and keeps their engines warm: a `RunnerFactory`.

    A run of a shape seen before starts without compiling or capturing anything.  What
    the fast path cannot run, `PlainRunner` does.  One run at a time uses an engine: a
    newer run of the same shape takes it over.

    Args:
        limit_bytes: device memory for warm engines; None is 40 % of the device's.
    """

    def __init__(self, *, limit_bytes: int | None = None) -> None:
        self._limit = limit_bytes
        self._cache: WarmCache[tuple[object, ...], Engine] | None = None

    def __call__(
        self,
        *,
        model_config: ModelConfig,
        train_config: TrainConfig,
        train: DeviceSet,
        seed: int,
    ) -> StepRunner:
        reason = why_not(model_config, train_config, device=train.device)
        if reason is not None:
            return PlainRunner(
                model_config=model_config,
                train_config=train_config,
                train=train,
                seed=seed,
                plain_because=reason,
            )
        parts = TrainingState.build(
            model_config=model_config, train_config=train_config, train=train, seed=seed
        )
        return FastRunner(self._engine(parts), parts)

    def _engine(self, parts: TrainingState) -> Engine:
        config, train = parts.model_config, parts.train
        rows = table_rows(parts.schedule.steps)
        optimizer = parts.train_config.optimizer
        key = (
            shape_of(config),
            optimizer,
            len(train),
            parts.batch_size,
            rows,
            str(train.device),
        )
        cache = self._caches(train.device)
        engine = cache.get(key)
        if engine is None:
            needed = predicted_bytes(
                config,
                optimizer=optimizer,
                info=train.info,
                train_size=len(train),
                batch=parts.batch_size,
                table_rows=rows,
            )
            cache.make_room(needed)
            try:
                engine = captured_engine(parts, rows)
            except torch.OutOfMemoryError:
                cache.clear()  # other shapes' engines may be what fills the memory
                torch.cuda.empty_cache()
                engine = captured_engine(parts, rows)
            cache.put(key, engine)
        return engine

    def _caches(self, device: torch.device) -> WarmCache[tuple[object, ...], Engine]:
        if self._cache is None:
            limit = self._limit
            if limit is None:
                total = torch.cuda.get_device_properties(device).total_memory
                limit = int(_SHARE_OF_MEMORY * total)
            self._cache = WarmCache(limit_bytes=limit)
        return self._cache


def captured_engine(parts: TrainingState, rows: int) -> Engine:
    """A new engine for runs of `parts`' shape, its step captured.

    Args:
        rows: steps a schedule has room for.
    """
    train = parts.train
    engine = Engine(
        config=parts.model_config,
        optimizer=parts.train_config.optimizer,
        info=train.info,
        train_size=len(train),
        batch=parts.batch_size,
        steps=parts.steps_per_epoch,
        table_rows=rows,
        device=train.device,
        dtype=torch.bfloat16,
    )
    images = engine.steps * parts.batch_size
    uniform = parts.augment.draw(images, torch.Generator(train.device))

    def augment() -> None:
        engine.batches.augment(train, parts.augment, order=engine.batches.order, uniform=uniform)

    engine.capture(also=augment)
    return engine


class FastRunner:
    """One run on a warm engine.

    Args:
        engine: captured (or not: then its steps run eagerly).
        parts: of the fresh run.
    """

    plain_because: str | None = None

    def __init__(self, engine: Engine, parts: TrainingState) -> None:
        self.state: TrainingState
        self._engine = engine
        self.state = self._state = FastState.over(engine, parts)
        engine.owner = self._token = object()
        self._evaluation: RepeatedEvaluation | None = None

    def train_epoch(self, epoch: int, on_step: OnStep | None = None) -> Tensor:
        """See `StepRunner`; `on_step` is not called: the device runs the epoch by itself."""
        self._still_owner()
        parts, engine = self._state, self._engine
        generators, device = parts.generators, parts.train.device
        images = engine.steps * parts.batch_size
        order = torch.randperm(len(parts.train), generator=generators["order"], device=device)
        order = order[:images]
        uniform = parts.augment.draw(images, generators["augment"])
        engine.batches.mix.copy_(draw_mixes(parts.mix, engine.steps, generators["augment"]))
        engine.batches.augment(parts.train, parts.augment, order=order, uniform=uniform)
        seed = torch.randint(
            2**62, (1,), generator=generators["dropout"], device=device, dtype=torch.int64
        )
        engine.values.counter[:1].fill_(epoch * engine.steps)
        engine.run_epoch(seed=seed)
        copy_counters(engine.network, engine.averaged)
        return engine.losses.mean()

    def count_correct(self, dataset: DeviceSet) -> tuple[Tensor, Tensor]:
        self._still_owner()
        if self._evaluation is None or self._evaluation.dataset is not dataset:
            self._evaluation = RepeatedEvaluation(lambda: self._count(dataset), dataset=dataset)
        return self._evaluation()

    def _count(self, dataset: DeviceSet) -> tuple[Tensor, Tensor]:
        engine = self._engine
        bf16 = engine.dtype == torch.bfloat16
        batch = evaluation_batch(self.state.model_config.tokens, dataset.device)
        raw = count_correct(engine.network, dataset, batch=batch, bf16=bf16)
        if self.state.average is None:
            return raw, raw
        return raw, count_correct(engine.averaged, dataset, batch=batch, bf16=bf16)

    def _still_owner(self) -> None:
        if self._engine.owner is not self._token:
            raise NkatError(
                "another run of the same shape has taken this run's engine over: "
                "finish one run before the next, or give each its own FastRunners"
            )


def draw_mixes(mix: Mix, steps: int, generator: torch.Generator) -> Tensor:
    """float32 [steps, 4]: what `Mix.draw` draws, for all steps of an epoch at once."""
    uniform = torch.rand(steps, 4, generator=generator, device=generator.device)
    if mix.alpha != 1:
        concentration = torch.full(
            (steps, 2), mix.alpha, dtype=torch.float64, device=generator.device
        )
        beta = torch._sample_dirichlet(concentration, generator=generator)[:, 0]
        uniform[:, 3] = beta.to(torch.float32)
    return uniform


if TYPE_CHECKING:
    _factory: RunnerFactory = FastRunners()
