"""ONNX gives torch's probabilities, for any number of images; else there is no file."""

from __future__ import annotations

import json

import numpy as np
import onnxruntime
import pytest
import torch
from tiny_weights import small_config, trained, write_weights

import search.trained.onnx_file as onnx_file
from nkat_errors import BadInput, NkatError
from search.cli import main
from search.exit_codes import EXIT_BAD_INPUT


def test_the_file_gives_torchs_probabilities(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    # With everything that the plain path has to decide: both filters, split heads, a stem.
    config = small_config(
        grey=False, conv_stem="tiny", patch_size=2, depth=1, split_heads=True, top_k=6, top_p=0.8
    )
    write_weights(tmp_path / "w.safetensors", config)
    arguments = ["export", "--onnx", "new/net.onnx", "--weights", "w.safetensors", "--json"]
    assert main(arguments) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["checked_images"] == 100
    assert said["largest_difference"] < 1e-5
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["net.onnx"]
    session = onnxruntime.InferenceSession(
        tmp_path / "new" / "net.onnx", providers=["CPUExecutionProvider"]
    )
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["class_names"]) == ["0", "1", "2", "3"]
    images = np.random.default_rng(1).integers(0, 256, (7, 28, 28, 3), dtype=np.uint8)
    (found,) = session.run(None, {"images": np.ascontiguousarray(images.transpose(0, 3, 1, 2))})
    one = trained(tmp_path, config)
    assert np.allclose(found, one.probabilities(images), atol=1e-5)


def test_a_file_that_differs_is_not_written(tmp_path, monkeypatch):
    """Torch's side is changed between export and check, as a wrong operator would be seen."""
    one = trained(tmp_path, small_config(depth=1))
    exported = onnx_file._exported

    def export_then_change(whole, trained):
        content = exported(whole, trained)
        with torch.no_grad():
            whole.network.head.bias[0] += 1
        return content

    monkeypatch.setattr(onnx_file, "_exported", export_then_change)
    with pytest.raises(NkatError, match="differs from torch by up to"):
        onnx_file.export_onnx(one, tmp_path / "net.onnx")
    assert not list(tmp_path.glob("*net.onnx*"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--onnx", "a.onnx"], "go together"),
        (["--weights", "w.safetensors"], "go together"),
        (["--onnx", "a.onnx", "--weights", "none"], "none: there is no such file"),
        (["--onnx", "a.onnx", "--weights", "w.safetensors", "--top", "2"], "neither --trial"),
        (["--onnx", "w.safetensors/a.onnx", "--weights", "w.safetensors"], "cannot be written"),
    ],
    ids=lambda value: " ".join(value)[:50] if isinstance(value, list) else "",
)
def test_bad_input_is_one_sentence(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    write_weights(tmp_path / "w.safetensors", small_config())
    assert main(["export", *arguments]) == EXIT_BAD_INPUT
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert words in line


def test_without_the_packages_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(onnx_file, "PACKAGES", ("onnx", "no_such_package"))
    with pytest.raises(BadInput, match=r"no_such_package, which are not.*nkat-search\[onnx\]"):
        onnx_file.require_onnx()
