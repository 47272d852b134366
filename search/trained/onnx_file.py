"""A trained network as ONNX, checked against torch before anybody gets the file.

The file takes images as they are, uint8, and gives probabilities: what the network needs
besides its weights (normalisation, softmax, class names) is in it.  Imports torch; needs the
extra `onnx`.
"""

from __future__ import annotations

import importlib.util
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from model.augment.normalise import normalise
from model.network.vit import NKATViT
from nkat_errors import BadInput, NkatError
from search.trained.prediction import Trained

PACKAGES = ("onnx", "onnxruntime", "onnxscript")
OPSET = 20
"""The first with GELU as one operator."""

CHECKED = 100
"""Images on which ONNX must agree with torch."""

TOLERANCE = 1e-3
"""Of a probability.  Rounding differs a little, and where two scores are nearly equal it may
decide which one top-k keeps."""

INPUT, OUTPUT = "images", "probabilities"


class _Whole(nn.Module):
    """Images as they are, uint8 [B, C, H, W], to probabilities [B, classes]."""

    def __init__(self, network: NKATViT, *, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, images: Tensor) -> Tensor:
        mean, std = self.get_buffer("mean"), self.get_buffer("std")
        return torch.softmax(self.network(normalise(images, mean, std)), dim=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxExport:
    """A file that was written and checked.

    Args:
        path: of the file.
        images: that it was checked on.
        difference: largest of a probability from torch's.
        size_bytes: of the file.
    """

    path: Path
    images: int
    difference: float
    size_bytes: int

    def to_dict(self) -> dict[str, Any]:
        return {
            "path": str(self.path),
            "checked_images": self.images,
            "largest_difference": self.difference,
            "size_bytes": self.size_bytes,
        }


def require_onnx() -> None:
    """Raises BadInput where the extra's packages are not installed."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise BadInput(
            f"--onnx needs the packages {', '.join(missing)}, which are not installed: "
            "pip install 'nkat-search[onnx]' (in a checkout: pip install -e '.[onnx]')"
        )


def export_onnx(trained: Trained, path: Path) -> OnnxExport:
    """Writes the file, whole or not at all, after checking it on CHECKED random images.

    Args:
        trained: on the CPU: it is the plain form of the attention that is exported.

    Raises:
        BadInput: packages are missing, or the file cannot be written.
        NkatError: ONNX's probabilities are not torch's.
    """
    require_onnx()
    facts = trained.facts
    whole = _Whole(
        trained.network, mean=torch.tensor(facts.mean), std=torch.tensor(facts.std)
    ).eval()
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(_exported(whole, trained))
        difference = _difference(whole, trained, partial)
        if difference > TOLERANCE:
            raise NkatError(
                f"{path} was not written: ONNX differs from torch by up to {difference:.2g} in a "
                f"probability (allowed {TOLERANCE:g})"
            )
        partial.replace(path)
    except OSError as error:
        raise BadInput(f"--onnx {path}: cannot be written ({error.strerror})") from None
    finally:
        partial.unlink(missing_ok=True)
    return OnnxExport(
        path=path, images=CHECKED, difference=difference, size_bytes=path.stat().st_size
    )


def _images(trained: Trained, number: int) -> npt.NDArray[np.uint8]:
    """Random ones, spread like the training images: uint8 [number, C, H, W]."""
    config, facts = trained.network.config, trained.facts
    shape = (number, config.channels, config.image_size, config.image_size)
    mean, std = (np.array(values)[:, None, None] * 255 for values in (facts.mean, facts.std))
    drawn = np.random.default_rng(0).normal(mean, std, shape)
    return drawn.round().clip(0, 255).astype(np.uint8)


def _exported(whole: _Whole, trained: Trained) -> bytes:
    facts = trained.facts
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's, of its own insides
        program = torch.onnx.export(
            whole,
            (torch.from_numpy(_images(trained, 2)),),
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise NkatError("torch.onnx gave no program")
    program.model.metadata_props["class_names"] = json.dumps(facts.class_names)
    program.model.metadata_props["dataset"] = facts.dataset
    content: bytes = program.model_proto.SerializeToString()
    return content


def _difference(whole: _Whole, trained: Trained, path: Path) -> float:
    """Largest difference of a probability on CHECKED images."""
    import onnxruntime

    images = _images(trained, CHECKED)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (found,) = session.run([OUTPUT], {INPUT: images})
    with torch.inference_mode():
        wanted = whole(torch.from_numpy(images)).numpy()
    return float(np.abs(np.asarray(found) - wanted).max())
