"""Trained weights as safetensors, with all that is needed to use them again.

    network, facts = load_weights(Path("best-recalculated/best-cifar10.safetensors"))

The header's one entry, `nkat`, is JSON: the network's configuration, the classes, and how
images are normalised.  One entry, because the library writes several in random order, and
equal weights shall give equal files.  Imports torch.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from model.config import BadField, ModelConfig
from model.data import DatasetInfo
from model.data.device import DeviceSet
from model.data.object_share import SAMPLE, object_share
from model.network.vit import NKATViT, empty_network
from nkat_errors import BadInput

HEADER = "nkat"
FORMAT = "nkat-weights/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsFacts:
    """What a weights file says of itself.

    Args:
        dataset: trained on; never a name that the set stood in for.
        class_names: by label.
        mean, std: by channel, of the training images' values / 255.
        object_share: of an image's side that its object takes; 1 for colour images.
        seed, epochs: of the training.
        weights: `raw` or `ema`.
    """

    dataset: str
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    object_share: float
    seed: int
    epochs: int
    weights: str


def class_names(info: DatasetInfo) -> tuple[str, ...]:
    """By label: the set's own names, or the labels."""
    return info.class_names or tuple(str(label) for label in range(info.classes))


def weights_bytes(
    network: NKATViT,
    *,
    config: ModelConfig,
    train: DeviceSet,
    seed: int,
    epochs: int,
    weights: str,
) -> bytes:
    """The file's content.

    Args:
        network: in any state; only its tensors are written.
        config: for the set's images.
        train: the images trained on.
        seed, epochs, weights: see `WeightsFacts`.
    """
    facts = WeightsFacts(
        dataset=train.info.name,
        class_names=class_names(train.info),
        mean=tuple(train.mean.tolist()),
        std=tuple(train.std.tolist()),
        object_share=_object_share(train),
        seed=seed,
        epochs=epochs,
        weights=weights,
    )
    header = {"format": FORMAT, "model": config.to_dict(), **asdict(facts)}
    # Copies: the tensors of a fast run are views of one buffer, which safetensors refuses.
    tensors = {
        name: tensor.detach().to("cpu", copy=True).contiguous()
        for name, tensor in network.state_dict().items()
    }
    return save(tensors, metadata={HEADER: json.dumps(header, sort_keys=True)})


def _object_share(train: DeviceSet) -> float:
    if train.info.channels > 1:
        return 1.0
    return object_share(train.images[:SAMPLE, 0].cpu().numpy())


def load_weights(path: Path, *, device: str = "cpu") -> tuple[NKATViT, WeightsFacts]:
    """The network in evaluation mode, and what the file says of it.

    Raises:
        BadInput: missing, damaged, or not a weights file of this project.
    """
    if path.suffix in (".yaml", ".yml") and path.exists():
        raise BadInput(
            f"{path}: no weights; they stand in a *.safetensors beside the copy of it that "
            "`nkat-search recalculate` writes"
        )
    try:
        with safe_open(path, framework="pt", device=device) as file:
            header: Any = json.loads((file.metadata() or {}).get(HEADER, "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise BadInput(f"{path}: there is no such file") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise BadInput(f"{path}: damaged or not a safetensors file ({error})") from None
    if not isinstance(header, dict) or header.pop("format", None) != FORMAT:
        raise BadInput(f"{path}: not weights of nkat-search ({FORMAT})")
    try:
        config = ModelConfig.from_dict(header.pop("model"))
        facts = WeightsFacts(
            dataset=header["dataset"],
            class_names=tuple(header["class_names"]),
            mean=tuple(header["mean"]),
            std=tuple(header["std"]),
            object_share=header.get("object_share", 1.0),
            seed=header["seed"],
            epochs=header["epochs"],
            weights=header["weights"],
        )
        _require_fitting(config, facts)
        network = empty_network(config, device=torch.device(device))
        network.load_state_dict(tensors)
    except KeyError as error:
        raise BadInput(f"{path}: its header lacks {error}") from None
    except (BadField, ValueError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0].rstrip(":")
        raise BadInput(f"{path}: its header and its tensors do not agree ({reason})") from None
    return network.eval(), facts


def _require_fitting(config: ModelConfig, facts: WeightsFacts) -> None:
    """Raises ValueError where the header contradicts itself."""
    if len(facts.class_names) != config.classes:
        raise ValueError(f"{len(facts.class_names)} class names for {config.classes} classes")
    if not len(facts.mean) == len(facts.std) == config.channels:
        raise ValueError(
            f"{len(facts.mean)} means and {len(facts.std)} deviations for "
            f"{config.channels} channels"
        )
    if min(facts.std) <= 0 or not 0 < facts.object_share <= 1:
        raise ValueError("a deviation or an object's share that is none")
