"""MixUp and CutMix: a batch is mixed, whole, with a given probability.

Every image is mixed with its neighbour (image i with i - 1, around the end): batches
are shuffled already, and torchvision's MixUp and CutMix pair the same way.
Sources: arXiv 1710.09412 (MixUp), arXiv 1905.04899 (CutMix).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from model.config import TrainConfig

CHOICE, CENTRE_Y, CENTRE_X, LAMBDA = range(4)
DRAWS = 4
"""Random numbers of a batch, and their places: which mix, CutMix's centre, lambda."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedLabels:
    """What a mixed batch shows: `share` of `labels` and the rest of `partners`.

    Args:
        labels: int64 [B].
        partners: int64 [B].
        share: float32, a 0-dim tensor in [0, 1]; 1 when the batch is not mixed.
    """

    labels: torch.Tensor
    partners: torch.Tensor
    share: torch.Tensor

    def soft(self, classes: int) -> torch.Tensor:
        """The same as probabilities, float32 [B, classes]; rows sum to 1."""
        own = functional.one_hot(self.labels, classes).to(torch.float32)
        other = functional.one_hot(self.partners, classes).to(torch.float32)
        return own * self.share + other * (1 - self.share)


class Mix:
    """One recipe's MixUp and CutMix.

    Args:
        train_config: `mixup` and `cutmix` are the shares of batches mixed that way,
            `mix_alpha` is Beta(alpha, alpha) of both.
        device: where the images are.
    """

    def __init__(self, train_config: TrainConfig, *, device: torch.device | str = "cpu") -> None:
        self.mixup = train_config.mixup
        self.cutmix = train_config.cutmix
        self.alpha = train_config.mix_alpha
        self._device = torch.device(device)
        self._concentration = torch.full(
            (1, 2), self.alpha, dtype=torch.float64, device=self._device
        )

    @property
    def active(self) -> bool:
        """Some batches are mixed."""
        return self.mixup + self.cutmix > 0

    def __call__(
        self, images: torch.Tensor, labels: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, MixedLabels]:
        """Mixed images and what they show.

        Args:
            images: float [B, C, H, W].
            labels: int64 [B].
            generator: on the images' device.
        """
        return self.apply(images, labels, self.draw(generator))

    def draw(self, generator: torch.Generator) -> torch.Tensor:
        """All random numbers of one batch: float32 [4]: choice, centre y, centre x and
        lambda ~ Beta(alpha, alpha)."""
        uniform = torch.rand(DRAWS, generator=generator, device=self._device)
        if self.alpha == 1:  # Beta(1, 1) is the uniform distribution
            return uniform
        # A two-sided Dirichlet is Beta; float64, because a small alpha underflows float32.
        beta = torch._sample_dirichlet(self._concentration, generator=generator)[0, :1]
        return torch.cat([uniform[:LAMBDA], beta.to(torch.float32)])

    def apply(
        self, images: torch.Tensor, labels: torch.Tensor, draws: torch.Tensor
    ) -> tuple[torch.Tensor, MixedLabels]:
        """The mixed batch that these numbers give.

        Args:
            images: float [B, C, H, W].
            labels: int64 [B].
            draws: float32 [4] from `draw`.

        Returns:
            images of the same shape, and their labels.
        """
        height, width = images.shape[2:]
        choice, share = draws[CHOICE], draws[LAMBDA]
        is_cutmix = choice < self.cutmix
        is_mixup = (choice >= self.cutmix) & (choice < self.cutmix + self.mixup)

        pasted = _box(draws, height=height, width=width)  # bool [H, W]
        share = torch.where(is_mixup, share, 1.0)
        weight = torch.where(is_cutmix & pasted, 0.0, share)  # [H, W]
        other = images.roll(1, 0)
        # Not lerp: with weight 1 or 0 this is one of the two images, to the bit.
        mixed = images * weight + other * (1 - weight)
        return mixed, MixedLabels(
            labels=labels,
            partners=labels.roll(1, 0),
            # CutMix: what the box, clipped at the border, leaves.
            share=torch.where(is_cutmix, 1 - pasted.to(torch.float32).mean(), share),
        )


def _box(draws: torch.Tensor, *, height: int, width: int) -> torch.Tensor:
    """CutMix's box: sides sqrt(1 - lambda) of the image's, any centre, clipped.

    Returns:
        bool [height, width], True inside.
    """
    radius = 0.5 * torch.sqrt(1 - draws[LAMBDA])
    inside = []
    for column, side in ((CENTRE_Y, height), (CENTRE_X, width)):
        centre = (draws[column] * side).floor()
        half = (radius * side).floor()
        pixel = torch.arange(side, device=draws.device)
        inside.append((pixel >= centre - half) & (pixel < centre + half))
    return inside[0][:, None] & inside[1][None, :]
