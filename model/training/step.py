"""How the steps of an epoch are run: the seam between the trainer and the hardware.

`PlainRunner` runs every step eagerly.  It is the form for CPU and the slow twin that
any faster runner (a captured CUDA graph, say) is tested against.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from model.augment import normalise
from model.config import ModelConfig, TrainConfig
from model.data.device import DeviceSet
from model.training.evaluation import count_correct, evaluation_batch
from model.training.loss import mixed_cross_entropy
from model.training.precision import autocast, uses_bf16
from model.training.state import TrainingState

OnStep = Callable[[int, int], None]
"""Called with the steps of the epoch that are done (launched, on a GPU) and how many there are."""


class StepRunner(Protocol):
    """Owns a run's parts and moves them forward; nothing here waits for the device.

    `plain_because`: why this is the plain runner where a faster one was asked for.
    """

    state: TrainingState
    plain_because: str | None

    def train_epoch(self, epoch: int, on_step: OnStep | None = None) -> Tensor:
        """Train one epoch.

        Args:
            epoch: from 0; it says which steps of the schedule these are.
            on_step: called after each step, where steps are run one by one.

        Returns:
            Mean loss of the epoch's steps, 0-dim on the device.
        """
        ...

    def count_correct(self, dataset: DeviceSet) -> tuple[Tensor, Tensor]:
        """Right answers on `dataset` by the raw and by the averaged weights.

        Returns:
            Two int64 0-dim tensors on the device; where averaging is off both are the raw
            weights'.
        """
        ...


class RunnerFactory(Protocol):
    """Builds a runner for a fresh run (it may reuse memory and graphs of an earlier one)."""

    def __call__(
        self,
        *,
        model_config: ModelConfig,
        train_config: TrainConfig,
        train: DeviceSet,
        seed: int,
    ) -> StepRunner: ...


class PlainRunner:
    """Runs every step eagerly, on any device.

    Args:
        model_config, train_config, train, seed: see `TrainingState.build`.
        plain_because: why a faster runner that was asked for cannot do it.
    """

    def __init__(
        self,
        *,
        model_config: ModelConfig,
        train_config: TrainConfig,
        train: DeviceSet,
        seed: int,
        plain_because: str | None = None,
    ) -> None:
        self.plain_because = plain_because
        self.state = TrainingState.build(
            model_config=model_config, train_config=train_config, train=train, seed=seed
        )
        self._bf16 = uses_bf16(train_config.precision, train.device)
        self._weights = list(self.state.network.parameters())

    def train_epoch(self, epoch: int, on_step: OnStep | None = None) -> Tensor:
        parts, generator = self.state, self.state.generators["augment"]
        parts.network.train()
        steps, batch = parts.steps_per_epoch, parts.batch_size
        order = torch.randperm(
            len(parts.train), generator=parts.generators["order"], device=parts.train.device
        )
        losses = torch.zeros((), device=parts.train.device)
        for index in range(steps):
            chosen = order[index * batch : (index + 1) * batch]
            losses += self.step(
                chosen,
                epoch * steps + index,
                uniform=parts.augment.draw(len(chosen), generator),
                mix=parts.mix.draw(generator) if parts.mix.active else None,
            )
            if on_step is not None:
                on_step(index + 1, steps)
        return losses / steps

    def count_correct(self, dataset: DeviceSet) -> tuple[Tensor, Tensor]:
        raw = self._count(self.state.network, dataset)
        average = self.state.average
        return raw, raw if average is None else self._count(average.averaged, dataset)

    def step(self, chosen: Tensor, step: int, *, uniform: Tensor, mix: Tensor | None) -> Tensor:
        """One step with given random numbers (but for dropout's).

        Args:
            chosen: int64 [B], the batch's images.
            step: from 0, of the whole schedule.
            uniform: from `Augment.draw`.
            mix: from `Mix.draw`; None mixes nothing.

        Returns:
            The loss, 0-dim, detached.
        """
        parts = self.state
        loss = self._loss(chosen, uniform, mix)
        parts.optimizers.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if parts.train_config.clip_grad is not None:
            nn.utils.clip_grad_norm_(self._weights, parts.train_config.clip_grad)
        parts.optimizers.set_lr(parts.schedule.lr(step))
        parts.optimizers.step()
        if parts.average is not None:
            parts.average.update(step)
        return loss.detach()

    def _loss(self, chosen: Tensor, uniform: Tensor, mix: Tensor | None) -> Tensor:
        parts = self.state
        train = parts.train
        images = parts.augment.apply(train.images[chosen], uniform)
        images = normalise(images, train.mean, train.std)
        labels = train.labels[chosen]
        partners, share = None, None
        if mix is not None:
            images, mixed = parts.mix.apply(images, labels, mix)
            partners, share = mixed.partners, mixed.share
        with autocast(train.device, bf16=self._bf16):
            logits = parts.network(images)
        return mixed_cross_entropy(
            logits,
            labels,
            other_labels=partners,
            share=share,
            label_smoothing=parts.train_config.label_smoothing,
        )

    def _count(self, network: nn.Module, dataset: DeviceSet) -> Tensor:
        batch = evaluation_batch(self.state.model_config.tokens, dataset.device)
        return count_correct(network, dataset, batch=batch, bf16=self._bf16)


if TYPE_CHECKING:
    _: RunnerFactory = PlainRunner
    _runner: Callable[..., StepRunner] = PlainRunner
