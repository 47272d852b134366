"""The data sets this project knows by name, as plain facts.

Any other NAME works too when a NAME.npz stands in the data folder: its classes
and shape are then read from the file (`model/data/prepared.py`).
"""

from __future__ import annotations

import string
from dataclasses import dataclass

CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownSet:
    """One data set that can be downloaded or rendered.

    Args:
        name: file name without `.npz`.
        title: how reports call it.
        channels: 1 (grey) or 3 (RGB).
        image_size: side of the square image, pixels.
        class_names: one name per label, in label order.
        flip: a mirrored image is still an image of its class.
        downloadable: torchvision has it (`model/data/download.py`).
    """

    name: str
    title: str
    channels: int
    image_size: int
    class_names: tuple[str, ...]
    flip: bool
    downloadable: bool = True

    @property
    def classes(self) -> int:
        return len(self.class_names)


KNOWN_SETS: dict[str, KnownSet] = {
    known.name: known
    for known in (
        KnownSet(
            name="cifar10",
            title="CIFAR-10",
            channels=3,
            image_size=32,
            class_names=CIFAR10_CLASSES,
            flip=True,
        ),
        KnownSet(
            name="mnist",
            title="MNIST",
            channels=1,
            image_size=28,
            class_names=tuple(string.digits),
            flip=False,
        ),
        KnownSet(
            name="fashion_mnist",
            title="Fashion-MNIST",
            channels=1,
            image_size=28,
            class_names=FASHION_CLASSES,
            flip=True,
        ),
        KnownSet(
            name="emnist_letters",
            title="EMNIST letters",
            channels=1,
            image_size=28,
            class_names=tuple(string.ascii_lowercase),
            flip=False,
        ),
        # Not EMNIST: a small, unbalanced stand-in that keeps its own name in every report.
        KnownSet(
            name="sd19_letters",
            title="NIST SD19 letters",
            channels=1,
            image_size=28,
            class_names=tuple(string.ascii_lowercase),
            flip=False,
            downloadable=False,
        ),
    )
}

ORIGINALS: tuple[str, ...] = tuple(
    name for name, known in KNOWN_SETS.items() if known.downloadable
)
"""The source's four sets."""


def title_of(name: str) -> str:
    """How reports call a set; one that is not known here goes by its name."""
    return KNOWN_SETS[name].title if name in KNOWN_SETS else name
