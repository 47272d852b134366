"""Configurations: what they refuse and how they say it, and what a field says of itself."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, asdict, fields, replace

import pytest

from model.config import BadField, ModelConfig, TrainConfig, facts_of, warmup_fits
from model.training.schedule import Schedule
from nkat_errors import BadInput

# Each: the configuration, its values, the sentence, the fields it is about.
REFUSED = [
    (ModelConfig, {"depth": 0}, "depth = 0: must be a whole number in 1..1000", ("depth",)),
    (ModelConfig, {"depth": 2.0}, "depth = 2.0: must be a whole number in 1..1000", ("depth",)),
    (ModelConfig, {"depth": True}, "depth = True: must be a whole number in 1..1000", ("depth",)),
    (ModelConfig, {"depth": "7"}, "depth = '7': must be a whole number in 1..1000", ("depth",)),
    (
        ModelConfig,
        {"patch_size": 0},
        "patch_size = 0: must be a whole number in 1..1024 (pixels)",
        ("patch_size",),
    ),
    (
        ModelConfig,
        {"top_k": 0},
        "top_k = 0: must be null or a whole number in 1..1000000",
        ("top_k",),
    ),
    (ModelConfig, {"top_p": 0}, "top_p = 0: must be a number in (0, 1]", ("top_p",)),
    (
        ModelConfig,
        {"dropout_attn": 1.0},
        "dropout_attn = 1.0: must be a number in [0, 1)",
        ("dropout_attn",),
    ),
    (
        ModelConfig,
        {"nkat_strength": float("inf")},
        "nkat_strength = inf: must be a finite number",
        ("nkat_strength",),
    ),
    (
        ModelConfig,
        {"conv_stem": "tny"},
        "conv_stem = 'tny': must be one of off, tiny, small; did you mean 'tiny'?",
        ("conv_stem",),
    ),
    (ModelConfig, {"split_heads": 1}, "split_heads = 1: must be true or false", ("split_heads",)),
    (
        ModelConfig,
        {"depht": 5},
        "unknown key 'depht' for ModelConfig; did you mean 'depth'?",
        ("depht",),
    ),
    (ModelConfig, {"channels": 2}, "channels = 2: must be 1 (grey) or 3 (RGB)", ("channels",)),
    (
        ModelConfig,
        {"embed_dim": 100},
        "embed_dim = 100: must be a multiple of heads = 8",
        ("embed_dim", "heads"),
    ),
    (
        ModelConfig,
        {"split_heads": True, "heads": 4},
        "heads = 4: must be 8 when split_heads is on (2 each for R, G, B and 2 shared)",
        ("heads", "split_heads"),
    ),
    (
        TrainConfig,
        {"mixup": 0.6, "cutmix": 0.6},
        "mixup + cutmix = 1.2: must be <= 1 (each is the share of batches that are mixed that "
        "way)",
        ("mixup", "cutmix"),
    ),
    (
        TrainConfig,
        {"randaugment_magnitude": 31},
        "randaugment_magnitude = 31: must be a whole number in 0..30",
        ("randaugment_magnitude",),
    ),
    (
        TrainConfig,
        {"warmup": -1},
        "warmup = -1: must be a number >= 0 (epochs)",
        ("warmup",),
    ),
    (TrainConfig, {"clip_grad": 0}, "clip_grad = 0: must be null or a number > 0", ("clip_grad",)),
]


@pytest.mark.parametrize(
    ("config", "values", "sentence", "names"), REFUSED, ids=[str(row[1]) for row in REFUSED]
)
def test_what_is_refused_is_one_sentence_and_names_its_fields(config, values, sentence, names):
    with pytest.raises(BadField) as caught:
        config(**values)
    assert str(caught.value) == sentence
    assert caught.value.fields == names
    assert isinstance(caught.value, BadInput)
    with pytest.raises(BadField):
        config.from_dict(values)
    if set(values) <= {field.name for field in fields(config)}:
        with pytest.raises(BadField):
            replace(config(), **values)


@pytest.mark.parametrize("config", [ModelConfig(depth=3), TrainConfig(lr=1e-3)])
def test_a_configuration_is_a_plain_frozen_value(config):
    again = type(config).from_dict(config.to_dict())
    assert again == config
    assert hash(again) == hash(config)
    assert config != type(config)()
    assert pickle.loads(pickle.dumps(config)) == config
    assert asdict(config) == config.to_dict()
    assert list(config.to_dict()) == list(facts_of(type(config)))
    name = next(iter(config.to_dict()))
    with pytest.raises(FrozenInstanceError):
        setattr(config, name, 1)
    with pytest.raises(AttributeError):
        object.__setattr__(config, "no_such_field", 1)
    with pytest.raises(TypeError):
        type(config)(1)


def test_a_whole_number_is_a_number_too():
    assert TrainConfig(warmup=5) == TrainConfig(warmup=5.0)
    assert isinstance(TrainConfig(warmup=5).warmup, float)


@pytest.mark.parametrize("config", [ModelConfig, TrainConfig])
def test_every_field_says_what_it_is_and_has_a_default_that_it_can_have(config):
    for name, facts in facts_of(config).items():
        assert facts.name == name
        assert facts.help
        assert facts.rule
        assert type(facts.checked(facts.default)) in (facts.kind, type(None))
        assert facts.nullable or facts.default is not None


def test_facts_are_read_from_the_fields():
    facts = facts_of(TrainConfig)
    assert (facts["cutout"].kind, facts["cutout"].range, facts["cutout"].unit) == (
        int,
        "in 0..1024",
        "pixels",
    )
    assert (facts["clip_grad"].nullable, facts["clip_grad"].range) == (True, "> 0")
    assert facts["precision"].choices == ("auto", "bf16", "fp32")
    with pytest.raises(BadField, match=r"^--ema = 1\.5: must be a number in \[0, 1\)$"):
        facts["ema"].checked(1.5, name="--ema")


def test_a_chosen_warm_up_must_end_and_a_default_one_is_cut():
    assert warmup_fits.fields == ("warmup", "epochs")
    assert warmup_fits.why_not(TrainConfig(epochs=6).to_dict()) is None
    short = TrainConfig(epochs=2)
    assert warmup_fits.why_not(short.to_dict()) == "warmup = 5: must be less than epochs = 2"
    assert Schedule.of(short, steps_per_epoch=10).warmup_steps == 10
