"""The schema of a search file: shipped as it is made, and as strict as the loader."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from nkat_errors import BadInput
from search.file.json_schema import schema_text, search_file_schema
from search.file.load import parse_search_text
from search.file.sections import MODEL_FIELDS, TRAIN_FIELDS
from search.file.yaml_text import read_yaml

CONFIGS = Path(__file__).parents[4] / "configs"
SHIPPED = sorted(path for path in CONFIGS.glob("*.yaml") if "best" not in path.name)
FIRST_LINE = "# yaml-language-server: $schema=search.schema.json"

TEXT = """\
study: small
n_trials: 4
gate: {dataset: cifar10, threshold: 0.5}
datasets:
  - cifar10
  - {name: mnist, epochs: 3, limit: 500, validation: 100, train: {randaugment_ops: 0}}
validation: 0.1
model: {heads: 8, top_k: null, conv_stem: off}
train: {epochs: 10, lr: 1.0e-3}
space:
  embed_dim: {low: 384, high: 512, step: 64}
  pool: [mean, cls]
  patch_size: {choices: [1, 2]}
  clip_grad: [null, 1.0]
  mixup: {low: 0.0, high: 0.5}
limits: {tokens: 256}
service: {lease_s: 60}
"""


@pytest.fixture(scope="module")
def validator():
    schema = search_file_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_shipped_schema_is_the_one_that_is_made():
    shipped = (CONFIGS / "search.schema.json").read_text(encoding="utf-8")
    assert shipped == schema_text(), "run `nkat-search schema --out configs/search.schema.json`"


def test_there_are_shipped_files():
    assert {"search.yaml", "laptop.yaml"} <= {path.name for path in SHIPPED}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_a_shipped_file_names_the_schema_and_keeps_it(path, validator):
    text = path.read_text(encoding="utf-8")
    assert text.splitlines()[0] == FIRST_LINE
    validator.validate(read_yaml(text, name=path.name).data)
    validator.validate(parse_search_text(text).to_dict())


def test_every_form_that_the_loader_takes_keeps_the_schema(validator):
    validator.validate(read_yaml(TEXT, name="t").data)
    parse_search_text(TEXT)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("study: small", "study: a b"),
        ("n_trials: 4", "n_trials: 0"),
        ("n_trials: 4", "n_trials: 99999999999999999999"),
        ("n_trials: 4", "n_trails: 4"),
        ("n_trials: 4\n", ""),
        ("threshold: 0.5", "threshold: high"),
        ("validation: 0.1", "validation: 1.5"),
        ("- cifar10", "- {nam: cifar10}"),
        ("randaugment_ops: 0", "randaugment_ops: -1"),
        ("randaugment_ops: 0", "randaugment_op: 0"),
        ("heads: 8", "heads: 8.5"),
        ("heads: 8", "classes: 8"),
        ("conv_stem: off", "conv_stem: of"),
        ("lr: 1.0e-3", "lr: 0"),
        ("high: 512", "high: many"),
        ("[mean, cls]", "[mean, clss]"),
        ("[mean, cls]", "[]"),
        ("[mean, cls]", "{low: 1, high: 2}"),
        ("low: 0.0, high: 0.5", "low: 0.0, high: 1.5"),
        ("low: 0.0, high: 0.5", "low: 0.0, hi: 0.5"),
        ("tokens: 256", "tokens: 0"),
        ("lease_s: 60", "lease: 60"),
    ],
)
def test_the_schema_refuses_what_the_loader_refuses(validator, old, new):
    text = TEXT.replace(old, new, 1)
    assert text != TEXT
    with pytest.raises(BadInput):
        parse_search_text(text)
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(read_yaml(text, name="t").data)


def test_every_field_is_there_with_help_and_default():
    schema = json.loads(schema_text())
    for section, fields in (("ModelSection", MODEL_FIELDS), ("TrainSection", TRAIN_FIELDS)):
        properties = schema["$defs"][section]["properties"]
        assert list(properties) == list(fields)
        for name, facts in fields.items():
            unit = f" ({facts.unit})" if facts.unit else ""
            assert properties[name]["description"] == facts.help + unit
            assert properties[name]["default"] == facts.default
            assert name in schema["properties"]["space"]["properties"]
