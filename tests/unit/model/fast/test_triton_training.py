"""The fast training step in Triton's interpreter, held against the plain step.

Both get the same weights, images and random numbers, dropout off; the engine computes
in float32, so that only the order of additions differs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

# tests/conftest.py has set TRITON_INTERPRET where there is no GPU.
pytest.importorskip("triton")

from image_sets import device_set
from interpreted import true_bf16

from model.augment import normalise
from model.config import ModelConfig, Optimizer, TrainConfig
from model.data.device import DeviceSet
from model.errors import Diverged
from model.fast import blocks, colour_tokens, embed_and_head, projection, split_projection
from model.fast.engine import Engine, predicted_bytes
from model.fast.launch import RowLaunch
from model.fast.limits import why_not
from model.fast.run_values import shape_of, table_rows
from model.fast.runner import FastRunner, FastRunners, draw_mixes
from model.fast.warm_cache import WarmCache
from model.training.stacked_muon import StackedMuon
from model.training.state import TrainingState
from model.training.step import PlainRunner
from nkat_errors import NkatError

pytestmark = pytest.mark.skipif(
    torch.cuda.is_available(), reason="with a GPU, tests/gpu runs the compiled kernels"
)

IMAGES, BATCH = 8, 4


@pytest.fixture(autouse=True)
def _fewer_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter's time goes by programs: let each take more rows."""
    tall = RowLaunch(rows=16, warps=1, few=2, many=2)
    for module, name in (
        (blocks, "NORM_BACK"),
        (blocks, "GELU_BACK"),
        (colour_tokens, "GELU_BACK"),
    ):
        monkeypatch.setattr(module, name, tall)
    for module in (blocks, embed_and_head, colour_tokens):
        monkeypatch.setattr(module, "NORM", RowLaunch(rows=32, warps=1))
    monkeypatch.setattr(colour_tokens, "_NORM_PROGRAMS", 24)
    true_bf16(monkeypatch)


RECIPE = TrainConfig(
    batch_size=BATCH,
    epochs=3,
    lr=3e-3,
    mixup=0.4,
    cutmix=0.4,
    cutout=4,
    crop_padding=2,
    label_smoothing=0.1,
    clip_grad=0.5,
    channel_shuffle=0.3,
)


def small(**changes: Any) -> ModelConfig:
    values: dict[str, Any] = {
        "image_size": 8,
        "classes": 7,
        "embed_dim": 16,
        "heads": 2,
        "depth": 2,
        "top_k": 3,
        "nkat_strength": 0.3,
        "dropout_attn": 0.0,
        "dropout_embed": 0.0,
        "patch_size": 1,
    }
    return ModelConfig(**{**values, **changes})


def images(config: ModelConfig, *, count: int = IMAGES) -> DeviceSet:
    random = np.random.default_rng(0)
    size, channels = config.image_size, config.channels
    return device_set(
        random.integers(0, 256, (count, size, size, channels), dtype=np.uint8),
        random.integers(0, config.classes, count),
        classes=config.classes,
    )


def engine_for(
    config: ModelConfig,
    train: DeviceSet,
    recipe: TrainConfig = RECIPE,
    *,
    dtype: torch.dtype = torch.float32,
) -> Engine:
    return Engine(
        config=config,
        optimizer=recipe.optimizer,
        info=train.info,
        train_size=len(train),
        batch=recipe.batch_size,
        steps=len(train) // recipe.batch_size,
        table_rows=64,
        device=torch.device("cpu"),
        dtype=dtype,
    )


def parts_for(
    config: ModelConfig, train: DeviceSet, recipe: TrainConfig = RECIPE
) -> TrainingState:
    return TrainingState.build(model_config=config, train_config=recipe, train=train, seed=0)


def fast_runner(config: ModelConfig, train: DeviceSet, recipe: TrainConfig = RECIPE) -> FastRunner:
    return FastRunner(engine_for(config, train, recipe), parts_for(config, train, recipe))


SPLIT = {"split_heads": True, "heads": 8, "embed_dim": 32}

OPTIMIZERS = pytest.mark.parametrize(
    "recipe", [RECIPE, replace(RECIPE, optimizer="muon")], ids=["adamw", "muon"]
)


@pytest.mark.parametrize(
    ("changes", "optimizer"),
    [
        ({}, "adamw"),
        ({"pool": "cls", "top_k": None, "nkat_strength": 0.0}, "adamw"),
        ({"conv_stem": "off", "patch_size": 4, "color_norm": "residual", "top_p": 1.0}, "adamw"),
        ({"channels": 1, "depth": 1, "embed_dim": 24, "mlp_ratio": 1.0}, "adamw"),
        ({"color_norm": "concat"}, "muon"),
        ({"conv_stem": "off", "patch_size": 4, "pool": "cls", "mlp_ratio": 0.5}, "muon"),
        (SPLIT, "adamw"),
        ({**SPLIT, "pool": "cls", "image_size": 7, "color_norm": "residual"}, "muon"),
    ],
)
def test_an_epoch_equals_the_plain_twins(
    changes: dict[str, Any], optimizer: Optimizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(**changes)
    if config.pool == "cls":  # as with rows so long that the attention does not sum them
        for module in (projection, split_projection):
            monkeypatch.setattr(module, "sums_bias", lambda *_: False)
    train = images(config)
    recipe = replace(RECIPE, optimizer=optimizer)
    twin = PlainRunner(model_config=config, train_config=recipe, train=train, seed=0)
    plain = twin.state
    runner = fast_runner(config, train, recipe)
    start = {name: value.clone() for name, value in plain.network.state_dict().items()}
    engine = runner._engine
    generator = torch.Generator().manual_seed(3)
    order = torch.randperm(IMAGES, generator=generator)
    uniform = plain.augment.draw(IMAGES, generator)
    mixes = torch.rand(engine.steps, 4, generator=generator)
    engine.batches.augment(train, plain.augment, order=order, uniform=uniform)
    engine.batches.mix.copy_(mixes)
    engine.run_epoch(seed=torch.zeros(1, dtype=torch.int64))

    plain.network.train()
    losses = []
    for step in range(engine.steps):
        chosen = slice(step * BATCH, (step + 1) * BATCH)
        losses.append(twin.step(order[chosen], step, uniform=uniform[chosen], mix=mixes[step]))
    assert torch.allclose(engine.losses.view(engine.steps, -1).mean(1), torch.stack(losses))
    assert plain.average is not None
    layout = engine.layout
    hidden = {name for name, place in layout.places.items() if place.start < layout.muon}
    matrices = 5 if config.split_heads else 4
    assert len(hidden) == (matrices * config.depth if optimizer == "muon" else 0)
    for fast, slow in (
        (engine.network, plain.network),
        (engine.averaged, plain.average.averaged),
    ):
        wanted = slow.state_dict()
        for name, value in fast.state_dict().items():
            if name in hidden:
                # mostly equal to 1e-8; where a last bit rounds to another bf16,
                # Newton-Schulz makes up to 480 times as much of it
                change = (wanted[name] - start[name]).norm()
                assert float((value - wanted[name]).norm() / change) < 0.05, name
            elif value.is_floating_point():
                # AdamW's first steps divide a gradient by its own size: tiny ones keep
                # few digits
                assert torch.allclose(value, wanted[name], atol=1e-4, rtol=1e-3), name
    names = {parameter: name for name, parameter in plain.network.named_parameters()}
    for parameter, moments in plain.optimizers.all[0].state.items():
        # a moment keeps a gradient's size, which AdamW's step does not
        first = layout.places[names[parameter]].view(engine.flats.first)
        want = moments["exp_avg"]
        assert float((first - want).norm()) < 1e-3 * float(want.norm()) + 1e-7, names[parameter]
    for optimizer_of in plain.optimizers.all[1:]:
        assert isinstance(optimizer_of, StackedMuon)
        for matrix, moments in optimizer_of.state.items():
            parameter, index = optimizer_of.whole(matrix)
            momentum = engine.layout.places[names[parameter]].view(engine.flats.first)
            momentum = momentum if index is None else momentum[index]
            want = moments["momentum_buffer"]
            assert float((momentum - want).norm() / want.norm()) < 1e-3, names[parameter]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "optimizer", "count"),
    [({}, "adamw", 8), ({}, "muon", 8), ({**SPLIT, "depth": 1}, "muon", 4)],
)
def test_a_resumed_run_goes_on_to_the_bit(
    changes: dict[str, Any], optimizer: Optimizer, count: int
) -> None:
    config = small(dropout_attn=0.2, dropout_embed=0.1, **changes)
    recipe = replace(RECIPE, optimizer=optimizer)
    train = images(config, count=count)
    whole = fast_runner(config, train, recipe)
    first = whole.train_epoch(0)
    state = {
        key: torch.utils._pytree.tree_map_only(torch.Tensor, torch.clone, value)
        for key, value in whole.state.state_dict().items()
    }
    second = whole.train_epoch(1)
    resumed = fast_runner(config, train, recipe)
    resumed.state.load_state_dict(state)
    assert torch.equal(resumed.train_epoch(1), second)
    assert not torch.equal(first, second)
    other = resumed.state.network.state_dict()
    for name, value in whole.state.network.state_dict().items():
        assert torch.equal(value, other[name]), name


@pytest.mark.parametrize("changes", [{}, SPLIT], ids=["plain", "split"])
@OPTIMIZERS
def test_a_plain_runs_checkpoint_can_be_taken_over_and_given_back(
    recipe: TrainConfig, changes: dict[str, Any]
) -> None:
    config = small(**changes, depth=1)
    train = images(config, count=8)
    plain = PlainRunner(model_config=config, train_config=recipe, train=train, seed=0)
    plain.train_epoch(0)
    fast = fast_runner(config, train, recipe)
    fast.state.load_state_dict(plain.state.state_dict())
    assert int(fast._engine.values.counter[0]) == 2
    same_moments(fast.state, plain.state)
    assert bool(torch.isfinite(fast.train_epoch(1)))
    plain.state.load_state_dict(fast.state.state_dict())
    adamw = plain.state.optimizers.all[0]
    assert all(int(state["step"]) == 4 for state in adamw.state.values())
    same_moments(plain.state, fast.state)
    for parameter, moments in adamw.state.items():
        assert moments["exp_avg"].stride() == parameter.stride()  # the fused step needs it
    assert bool(torch.isfinite(plain.train_epoch(2)))


def same_moments(one: TrainingState, other: TrainingState) -> None:
    """Both parts' optimisers have seen the same gradients, of every parameter."""
    counts = []
    for mine, theirs in zip(one.optimizers.all, other.optimizers.all, strict=True):
        state, wanted = mine.state_dict()["state"], theirs.state_dict()["state"]
        assert state.keys() == wanted.keys()
        for index, moments in state.items():
            assert moments.keys() == wanted[index].keys()
            for name, moment in moments.items():
                assert torch.equal(moment, wanted[index][name].to(moment.dtype)), (index, name)
        counts.append(len(state))
    parameters = dict(one.network.named_parameters())
    stacks = len(one.optimizers.all) == 2 and one.model_config.split_heads
    more = 2 * sum(name.endswith("colour_kv") for name in parameters) if stacks else 0
    assert sum(counts) == len(parameters) + more


def test_muon_leaves_no_second_moments_of_its_matrices() -> None:
    config = small()
    train = images(config, count=4)
    recipe = replace(RECIPE, optimizer="muon")
    runner = fast_runner(config, train, recipe)
    runner.train_epoch(0)
    engine = runner._engine
    section = engine.layout.muon
    assert section > 0
    assert not bool(engine.flats.second[:section].any())
    assert bool(engine.flats.first[:section].any())
    assert bool(engine.flats.second[section:].any())


def test_every_step_and_epoch_draws_other_dropout() -> None:
    config = small(dropout_embed=0.5)
    recipe = TrainConfig(
        batch_size=4, epochs=3, lr=1e-9, mixup=0, cutmix=0, cutout=0, crop_padding=0, flip=False,
        randaugment_ops=0, weight_decay=0.0,
    )  # fmt: skip
    train = images(config, count=4)
    runner = fast_runner(config, train, recipe)
    inputs = []
    for epoch in range(3):
        runner.train_epoch(epoch)
        inputs.append(runner._engine.blocks.x[0].clone())
    assert not torch.equal(inputs[0] == 0, inputs[1] == 0)
    assert not torch.equal(inputs[1] == 0, inputs[2] == 0)


@pytest.mark.slow
def test_an_engine_serves_another_run_of_its_shape_and_the_first_one_notices() -> None:
    config = small()
    train = images(config, count=8)
    engine = engine_for(config, train)
    first = FastRunner(engine, parts_for(config, train))
    first.train_epoch(0)
    second = FastRunner(engine, parts_for(config, train))
    fresh = fast_runner(config, train)
    assert torch.equal(second.train_epoch(0), fresh.train_epoch(0))
    with pytest.raises(NkatError, match="taken this run's engine"):
        first.train_epoch(1)


@pytest.mark.parametrize("changes", [{}, {**SPLIT, "depth": 1}], ids=["plain", "split"])
def test_evaluation_counts_both_weights(changes: dict[str, Any]) -> None:
    config = small(**changes)
    train = images(config, count=8)
    runner = fast_runner(config, train)
    runner.train_epoch(0)
    raw, averaged = runner.count_correct(train)
    with torch.no_grad():
        logits = runner.state.network.eval()(normalise(train.images, train.mean, train.std))
    assert int(raw) == int((logits.argmax(1) == train.labels).sum())
    assert 0 <= int(averaged) <= 8


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")  # numpy, interpreting
def test_a_run_that_diverges_says_so() -> None:
    config = small()
    recipe = TrainConfig(batch_size=4, epochs=2, lr=1e30, warmup=0, clip_grad=None)
    runner = fast_runner(config, images(config, count=4), recipe)
    runner.train_epoch(0)
    assert not bool(torch.isfinite(runner.train_epoch(1)))
    assert issubclass(Diverged, NkatError)


def test_shapes_share_an_engine_but_for_their_values() -> None:
    assert shape_of(small(temperature=0.9, top_k=None, top_p=0.5)) == shape_of(small())
    assert shape_of(small(depth=3)) != shape_of(small())
    assert table_rows(10) == table_rows(32_768)
    assert table_rows(32_769) == 65_536


@pytest.mark.parametrize(
    ("model", "recipe", "reason"),
    [
        ({"embed_dim": 18}, {}, "multiples of 8"),
        ({}, {"precision": "fp32"}, "fp32"),
        ({"image_size": 32, "conv_stem": "off"}, {}, "1024 tokens"),
    ],
)
def test_what_the_fast_path_leaves_to_the_plain_one(
    model: dict[str, Any], recipe: dict[str, Any], reason: str
) -> None:
    reply = why_not(small(**model), TrainConfig(**recipe), device=torch.device("cuda"))
    assert reply is not None
    assert reason in reply
    for optimizer in ("adamw", "muon"):
        recipe_of = TrainConfig(optimizer=optimizer)
        assert why_not(small(), recipe_of, device=torch.device("cuda")) is None
        split = small(split_heads=True, heads=8, embed_dim=64)
        assert why_not(split, recipe_of, device=torch.device("cuda")) is None
    assert why_not(small(), TrainConfig(), device=torch.device("cpu")) is not None


def test_the_plain_path_knows_why_it_was_taken() -> None:
    config = small()
    runner = FastRunners()(model_config=config, train_config=RECIPE, train=images(config), seed=0)
    assert isinstance(runner, PlainRunner)
    assert runner.plain_because == "the device is cpu"
    assert fast_runner(config, images(config)).plain_because is None


def test_mixes_of_an_epoch_follow_the_recipe() -> None:
    config = small()
    parts = parts_for(config, images(config), TrainConfig(batch_size=4, mix_alpha=0.2))
    draws = draw_mixes(parts.mix, 4000, torch.Generator().manual_seed(0))
    shares = draws[:, 3]
    assert abs(float(shares.mean()) - 0.5) < 0.03
    # Beta(0.2, 0.2): variance 1 / (4 (2 * 0.2 + 1))
    assert abs(float(shares.var()) - 1 / (4 * 1.4)) < 0.01


@OPTIMIZERS
@pytest.mark.parametrize(
    "changes", [{}, {"pool": "cls", "depth": 3, "mlp_ratio": 4.0}, {**SPLIT, "mlp_ratio": 1.0}]
)
def test_an_engines_memory_is_known_before_it_is_built(
    changes: dict[str, Any], recipe: TrainConfig
) -> None:
    config = small(**changes)
    train = images(config)
    planned = predicted_bytes(
        config,
        optimizer=recipe.optimizer,
        info=train.info,
        train_size=IMAGES,
        batch=BATCH,
        table_rows=64,
    )
    assert planned == engine_for(config, train, recipe, dtype=torch.bfloat16).bytes


class Warm:
    def __init__(self, size: int) -> None:
        self.bytes = size


def test_the_least_recently_used_engine_makes_room() -> None:
    cache: WarmCache[str, Warm] = WarmCache(limit_bytes=10)
    for name, size in (("a", 4), ("b", 4)):
        cache.put(name, Warm(size))
    assert cache.get("a") is not None
    cache.put("c", Warm(4))
    assert cache.get("b") is None
    assert cache.bytes == 8
    cache.make_room(6)
    assert cache.get("a") is None
    assert cache.bytes == 4
    cache.put("huge", Warm(99))
    assert len(cache) == 1
    assert cache.get("huge") is not None
