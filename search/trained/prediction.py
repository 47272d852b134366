"""What a trained network says of image files.  Imports torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor

from model.augment.normalise import normalise
from model.data.info import Images
from model.network.vit import NKATViT
from search.retrain.training_run import choose_device
from search.retrain.weights import WeightsFacts, load_weights
from search.terminal import WideTable, plain
from search.trained.image_file import ImageFile, Likeness, read_image

if TYPE_CHECKING:
    from rich.console import Console

TOP = 3
"""Labels that are told of each image."""

BATCH = 256
"""Images at once: bounds the memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A network with its weights, in evaluation mode.

    Args:
        network: on its device.
        facts: what its file says of it.
        device: torch's name.
    """

    network: NKATViT
    facts: WeightsFacts
    device: str

    @classmethod
    def load(cls, path: Path, *, device: str = "auto") -> Self:
        """Reads a weights file.

        Raises:
            BadInput: no such device, or no weights file.
        """
        chosen = choose_device(device)
        network, facts = load_weights(path, device=chosen)
        return cls(network=network, facts=facts, device=chosen)

    def read(self, paths: Sequence[Path]) -> list[ImageFile]:
        """The image files, as the network wants them.

        Raises:
            BadInput: one of them is none.
        """
        like = Likeness(
            config=self.network.config,
            mean=sum(self.facts.mean) / len(self.facts.mean),
            object_share=self.facts.object_share,
        )
        return [read_image(path, like=like) for path in paths]

    def inputs(self, pixels: Images) -> Tensor:
        """Normalised as in training: uint8 [B, H, W, C] to float32 [B, C, H, W]."""
        planar = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
        mean, std = (torch.tensor(values) for values in (self.facts.mean, self.facts.std))
        return normalise(planar, mean, std).to(self.device)

    def probabilities(self, pixels: Images) -> Tensor:
        """Of every class.

        Args:
            pixels: uint8 [B, image_size, image_size, channels].

        Returns:
            float32 [B, classes] on the CPU.
        """
        parts = []
        with torch.inference_mode():
            for start in range(0, len(pixels), BATCH):
                logits = self.network(self.inputs(pixels[start : start + BATCH]))
                parts.append(torch.softmax(logits.float(), dim=1).cpu())
        return torch.cat(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a network says of one image.

    Args:
        image: the file.
        top: (label, probability), the likeliest first.
    """

    image: ImageFile
    top: tuple[tuple[str, float], ...]

    def to_dict(self) -> dict[str, Any]:
        label, probability = self.top[0]
        return {
            "image": str(self.image.path),
            "label": label,
            "probability": probability,
            "top": [{"label": name, "probability": share} for name, share in self.top],
            "inverted": self.image.inverted,
        }

    def sentence(self) -> str:
        """`frog: 91.2 % (cat: 4.1 %, deer: 2.0 %)`."""
        first, *others = (f"{name}: {100 * share:.1f} %" for name, share in self.top)
        return first + (f" ({', '.join(others)})" if others else "")


def predictions(
    images: Sequence[ImageFile], probabilities: Tensor, names: Sequence[str]
) -> Iterator[Prediction]:
    """The likeliest labels of each image.

    Args:
        probabilities: [B, classes].
        names: of the classes, by label.
    """
    best = probabilities.topk(min(TOP, len(names)), dim=1)
    for image, shares, labels in zip(
        images, best.values.tolist(), best.indices.tolist(), strict=True
    ):
        top = tuple((names[label], share) for label, share in zip(labels, shares, strict=True))
        yield Prediction(image=image, top=top)


def predict(trained: Trained, images: Sequence[ImageFile]) -> list[Prediction]:
    """What the network says of the images, in their order."""
    pixels = np.stack([image.pixels for image in images])
    return list(predictions(images, trained.probabilities(pixels), trained.facts.class_names))


def print_predictions(found: Sequence[Prediction], facts: WeightsFacts, console: Console) -> None:
    """A table, and what was done to the images."""
    table = WideTable(f"trained on {facts.dataset}, {len(facts.class_names)} classes")
    table.column("image", left=True)
    table.column("label", left=True)
    table.column("probability")
    table.column("then", left=True)
    for one in found:
        (label, share), *others = one.top
        then = ", ".join(f"{name}: {100 * other:.1f} %" for name, other in others)
        table.row(one.image.path, label, f"{100 * share:.1f} %", then)
    console.print(table)
    inverted = sum(one.image.inverted for one in found)
    if inverted:
        images = "1 image" if inverted == 1 else f"{inverted} images"
        console.print(
            plain(f"{images} dark on light, read as light on dark, as the training images are."),
            soft_wrap=True,
        )
