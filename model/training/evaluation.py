"""Accuracy of a network on a set that lives on its device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from model.augment.normalise import normalise
from model.data.device import DeviceSet
from model.training.precision import autocast

EVALUATION_TOKENS = 2**15
"""Tokens of one evaluation batch on a CPU: larger ones leave its caches."""

EVALUATION_TOKENS_GPU = 2**18
"""Tokens of one evaluation batch on a GPU: enough to fill it."""

Weights = Literal["raw", "ema"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Accuracies of the raw and of the averaged weights on one set.

    Args:
        accuracy_raw: share of right answers, 0..1.
        accuracy_ema: likewise; the raw one's where averaging is off.
    """

    accuracy_raw: float
    accuracy_ema: float

    @property
    def weights(self) -> Weights:
        """Which weights are better here; the raw ones when both are equal."""
        return "ema" if self.accuracy_ema > self.accuracy_raw else "raw"

    @property
    def accuracy(self) -> float:
        """The better of the two."""
        return max(self.accuracy_raw, self.accuracy_ema)


def evaluation_batch(tokens: int, device: torch.device) -> int:
    """Images of one evaluation batch for a network of `tokens` tokens."""
    budget = EVALUATION_TOKENS_GPU if device.type == "cuda" else EVALUATION_TOKENS
    return max(1, budget // tokens)


@torch.inference_mode()
def count_correct(network: nn.Module, dataset: DeviceSet, *, batch: int, bf16: bool) -> Tensor:
    """Right answers of `network` in evaluation mode, which it is left in.

    Returns:
        int64 0-dim on the set's device: nothing is read by the host.
    """
    correct = torch.zeros((), dtype=torch.int64, device=dataset.device)
    for answers, labels in _answers(network, dataset, batch=batch, bf16=bf16):
        correct += (answers == labels).sum()
    return correct


@torch.inference_mode()
def confusion_matrix(network: nn.Module, dataset: DeviceSet, *, batch: int, bf16: bool) -> Tensor:
    """How often each class was taken for each, by `network` in evaluation mode, which it is
    left in.

    Returns:
        int64 [K, K] on the set's device: row = true class, column = answer; the diagonal
        adds up to `count_correct`.
    """
    classes = dataset.info.classes
    counts = torch.zeros(classes * classes, dtype=torch.int64, device=dataset.device)
    for answers, labels in _answers(network, dataset, batch=batch, bf16=bf16):
        pairs = labels * classes + answers
        # Not bincount, whose CUDA form is not deterministic and waits for the device.
        counts.index_add_(0, pairs, torch.ones_like(pairs))
    return counts.view(classes, classes)


def _answers(
    network: nn.Module, dataset: DeviceSet, *, batch: int, bf16: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Answers and labels, int64 [B] each, batch by batch."""
    network.eval()
    for start in range(0, len(dataset), batch):
        images = normalise(dataset.images[start : start + batch], dataset.mean, dataset.std)
        with autocast(dataset.device, bf16=bf16):
            logits = network(images)
        yield logits.argmax(dim=1), dataset.labels[start : start + batch]
