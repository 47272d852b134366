"""What may differ between runs of one shape, as device tensors that a graph reads."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from model.config import ModelConfig, TrainConfig
from model.fast.kernels import slots
from model.kernels.value_slots import ATTENTION_VALUES, DROPOUT, TEMPERATURE, TOP_K, TOP_P, by_slot
from model.training.ema import warm_decay
from model.training.schedule import Schedule

BETA_1, BETA_2, EPS = 0.9, 0.999, 1e-8
"""torch's defaults of AdamW, which `model.training.optimizers` uses."""

MOMENTUM = 0.95
"""torch's default of Muon."""

_ANY_RANK = float(1 << 20)
"""top_k that keeps every key."""

SMALLEST_TABLE = 1 << 15
"""Steps a schedule's table has room for at least, so that epochs and sizes share graphs."""


def shape_of(config: ModelConfig) -> ModelConfig:
    """`config` without what a captured step reads from device memory, weights included."""
    return replace(
        config,
        temperature=1.0,
        top_k=None,
        top_p=1.0,
        nkat_strength=0.0,
        nkat_decay=1.0,
        dropout_attn=0.0,
        dropout_embed=0.0,
        position_init="normal",
        attention_init="normal",
    )


def table_rows(steps: int) -> int:
    """Rows of the table for a run of `steps` steps: a power of two."""
    return max(SMALLEST_TABLE, 1 << (steps - 1).bit_length())


def schedule_table(schedule: Schedule, *, ema: float) -> Tensor:
    """float32 [steps, 4]: learning rate, 1 - beta1^t, sqrt(1 - beta2^t), averaging decay.

    Computed in float64; t counts from 1.
    """
    steps = range(schedule.steps)
    columns = by_slot(
        slots.SCHEDULE_COLUMNS.value,
        (slots.LR, [schedule.lr(step) for step in steps]),
        (slots.CORRECTION_1, [1 - BETA_1 ** (step + 1) for step in steps]),
        (slots.CORRECTION_2, [(1 - BETA_2 ** (step + 1)) ** 0.5 for step in steps]),
        (slots.AVERAGE, [warm_decay(ema, step) for step in steps]),
    )
    return torch.tensor(columns, dtype=torch.float64).t().to(torch.float32).contiguous()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunValues:
    """Run-time values of one shape's graph.

    Args:
        attention: float32 [4]: temperature, top_k, top_p, attention dropout.
        theta: float32 [depth]: strength * decay^layer.
        dropout: float32 [1], of the embedding.
        smoothing: float32 [1].
        mixing: float32 [3]: cutout's side, shares of cutmix and of mixup.
        optimizer: float32 [6]: clip (0: off), weight decay, AdamW's beta1, beta2 and eps,
            Muon's momentum.
        table: float32 [rows, 4], see `schedule_table`.
        counter: int64 [2]: step of the run, step of the epoch.
        seed: int64 [1], of the step's dropout.
    """

    attention: Tensor
    theta: Tensor
    dropout: Tensor
    smoothing: Tensor
    mixing: Tensor
    optimizer: Tensor
    table: Tensor
    counter: Tensor
    seed: Tensor

    @classmethod
    def empty(cls, *, depth: int, rows: int, device: torch.device) -> RunValues:
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(*shape, device=device)

        return cls(
            attention=torch.ones(ATTENTION_VALUES, device=device),
            theta=zeros(depth),
            dropout=zeros(1),
            smoothing=zeros(1),
            mixing=zeros(slots.MIXING_VALUES),
            optimizer=zeros(slots.OPTIMIZER_VALUES),
            table=torch.ones(rows, 4, device=device),
            counter=torch.zeros(slots.COUNTERS, dtype=torch.int64, device=device),
            seed=torch.zeros(1, dtype=torch.int64, device=device),
        )

    def write(self, model: ModelConfig, train: TrainConfig, schedule: Schedule) -> None:
        """Take the values of a run."""
        rank = _ANY_RANK if model.top_k is None else float(model.top_k)
        _put(
            self.attention,
            by_slot(
                ATTENTION_VALUES,
                (TEMPERATURE, model.temperature),
                (TOP_K, rank),
                (TOP_P, model.top_p),
                (DROPOUT, model.dropout_attn),
            ),
        )
        layers = range(model.depth)
        _put(self.theta, [model.nkat_strength * model.nkat_decay**layer for layer in layers])
        _put(self.dropout, [model.dropout_embed])
        _put(self.smoothing, [train.label_smoothing])
        _put(
            self.mixing,
            by_slot(
                slots.MIXING_VALUES,
                (slots.CUTOUT, train.cutout),
                (slots.CUTMIX, train.cutmix),
                (slots.MIXUP, train.mixup),
            ),
        )
        clip = 0.0 if train.clip_grad is None else train.clip_grad
        _put(
            self.optimizer,
            by_slot(
                slots.OPTIMIZER_VALUES,
                (slots.CLIP, clip),
                (slots.WEIGHT_DECAY, train.weight_decay),
                (slots.BETA_1, BETA_1),
                (slots.BETA_2, BETA_2),
                (slots.EPS, EPS),
                (slots.MOMENTUM, MOMENTUM),
            ),
        )
        table = schedule_table(schedule, ema=train.ema)
        self.table[: len(table)].copy_(table)


def _put(tensor: Tensor, numbers: tuple[float, ...] | list[float]) -> None:
    tensor.copy_(torch.tensor(numbers, dtype=tensor.dtype))
