"""A fast run's parts: the plain ones, their tensors views of an engine's flat buffers.

A checkpoint of either kind of run can be loaded by the other: names, shapes and the
optimiser's state are the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from model.config import ModelConfig
from model.fast.engine import Engine
from model.network.attention import NKATAttention
from model.network.dropout import Dropout
from model.network.vit import NKATViT
from model.training.optimizers import Optimizers
from model.training.stacked_muon import StackedMuon
from model.training.state import TrainingState


@dataclass(kw_only=True)
class FastState(TrainingState):
    """`TrainingState` whose state lives in an engine.

    Args:
        engine: taken over by this run.
    """

    engine: Engine

    @classmethod
    def over(cls, engine: Engine, parts: TrainingState) -> FastState:
        """Move a fresh run's parts into `engine`, which the last run has left."""
        flats = engine.flats
        # The places between tensors too, where the capture's warm-up steps left noise.
        for flat in (flats.weights, flats.average, flats.first, flats.second):
            flat.zero_()
        engine.network.load_state_dict(parts.network.state_dict())
        engine.averaged.load_state_dict(parts.network.state_dict())
        for network in (engine.network, engine.averaged):
            set_values(network, parts.model_config)
        engine.refresh_copies()
        engine.values.counter.zero_()
        engine.values.write(parts.model_config, parts.train_config, parts.schedule)
        engine.batches.take(parts.train)
        if parts.average is not None:
            parts.average.averaged = engine.averaged
        engine.network.use_generator(parts.generators["dropout"])
        fast = cls(
            model_config=parts.model_config,
            train_config=parts.train_config,
            train=parts.train,
            network=engine.network,
            average=parts.average,
            optimizers=Optimizers(
                network=engine.network, config=parts.train_config, capturable=True
            ),
            schedule=parts.schedule,
            augment=parts.augment,
            mix=parts.mix,
            generators=parts.generators,
            engine=engine,
        )
        fast._point_moments()
        return fast

    def state_dict(self) -> dict[str, Any]:
        self._point_moments()
        return super().state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        engine = self.engine
        done = 0
        for optimizer, parameter, moments in self._moments():
            loaded = optimizer.state.get(parameter)
            for moment, view in moments.items():
                view.copy_(loaded[moment]) if loaded else view.zero_()
            if loaded and "step" in loaded:  # AdamW's
                done = int(loaded["step"])
        engine.values.counter[0] = done
        engine.refresh_copies()
        self._point_moments()

    def _point_moments(self) -> None:
        """The optimisers' state: views of the flat moments, and AdamW's steps done."""
        step = self.engine.values.counter[0].to(torch.float32)
        for optimizer, parameter, moments in self._moments():
            state: dict[str, Tensor] = dict(moments)
            if isinstance(optimizer, torch.optim.AdamW):
                state["step"] = step
            optimizer.state[parameter] = state

    def _moments(self) -> Iterator[tuple[torch.optim.Optimizer, Tensor, dict[str, Tensor]]]:
        """Every parameter (of a stack every matrix), its optimiser, and that one's moments of
        it by torch's names."""
        flats, places = self.engine.flats, self.engine.layout.places
        names = {parameter: name for name, parameter in self.engine.network.named_parameters()}
        for optimizer in self.optimizers.all:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    if isinstance(optimizer, StackedMuon):
                        whole, index = optimizer.whole(parameter)
                        first = places[names[whole]].view(flats.first)
                        first = first if index is None else first[index]
                        yield optimizer, parameter, {"momentum_buffer": first}
                    else:
                        place = places[names[parameter]]
                        first = place.view(flats.first)
                        second = place.view(flats.second)
                        yield optimizer, parameter, {"exp_avg": first, "exp_avg_sq": second}


def set_values(network: NKATViT, config: ModelConfig) -> None:
    """Let a network of the same shape compute as `config` says (evaluation reads these)."""
    network.config = config
    weights = [config.nkat_strength * config.nkat_decay**layer for layer in range(config.depth)]
    attentions = [module for module in network.modules() if isinstance(module, NKATAttention)]
    for attention, weight in zip(attentions, weights, strict=True):
        attention.temperature = config.temperature
        attention.top_k = config.top_k
        attention.top_p = config.top_p
        attention.dropout_p = config.dropout_attn
        attention.theta.weight = weight
    for module in network.modules():
        if isinstance(module, Dropout):
            module.p = config.dropout_embed


def copy_counters(source: nn.Module, target: nn.Module) -> None:
    """Whole-number buffers (BatchNorm's counts) are copied, not averaged."""
    for given, taken in zip(source.buffers(), target.buffers(), strict=True):
        if not given.is_floating_point():
            taken.copy_(given)
