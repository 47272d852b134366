"""Training images on the device: augmented in batches, every image for itself.

    augment = Augment(train_config, info, mean=train.mean, device=device)
    mix = Mix(train_config, device=device)

    images = normalise(augment(images_u8, generator), train.mean, train.std)
    images, mixed = mix(images, labels, generator)
    loss = cross_entropy(network(images), mixed.soft(info.classes))

Nothing here synchronises with the host (but the CPU's `grouped` route), so a step can
be captured in a CUDA graph.
"""

from __future__ import annotations

from model.augment.mix import Mix, MixedLabels
from model.augment.normalise import normalise
from model.augment.pipeline import Augment

__all__ = ["Augment", "Mix", "MixedLabels", "normalise"]
