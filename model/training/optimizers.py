"""The optimisers: AdamW as the recipe has it, or Muon for the hidden matrices.

Weight decay is for matrices; biases, norms, NKAT scalars and position embeddings
have none.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from model.config import TrainConfig
from model.training.stacked_muon import StackedMuon

_NEVER_DECAYED = ("position", "class_token")

_MARK = "__dynamo_disable"


class Optimizers:
    """One or two torch optimisers that step together at one learning rate.

    Args:
        network: what is trained; its gradients are read in place.
        config: optimizer and weight_decay.
        capturable: the learning rate and AdamW's step counts are tensors on the
            device, as a CUDA graph needs (AdamW only).
    """

    def __init__(
        self, *, network: nn.Module, config: TrainConfig, capturable: bool = False
    ) -> None:
        _leave_compiler_out()
        matrices, decayed, plain = _groups(network, hidden_apart=config.optimizer == "muon")
        device = next(network.parameters()).device
        lr: float | Tensor = config.lr
        if capturable:
            lr = torch.tensor(config.lr, dtype=torch.float32, device=device)
        adamw = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": config.weight_decay},
                {"params": plain, "weight_decay": 0.0},
            ],
            lr=lr,
            fused=True,  # one pass over the weights, on CUDA and on CPU
            capturable=capturable,
        )
        self.all: list[torch.optim.Optimizer] = [adamw]
        if matrices:
            # match_rms_adamw scales Muon's update so that AdamW's rate and decay fit it.
            self.all.append(
                StackedMuon(
                    matrices,
                    lr=config.lr,
                    weight_decay=config.weight_decay,
                    adjust_lr_fn="match_rms_adamw",
                )
            )

    def set_lr(self, lr: float) -> None:
        """The learning rate of the next step, in every group."""
        for optimizer in self.all:
            for group in optimizer.param_groups:
                if isinstance(group["lr"], Tensor):
                    group["lr"].fill_(lr)
                else:
                    group["lr"] = lr

    def step(self) -> None:
        for optimizer in self.all:
            optimizer.step()

    def zero_grad(self) -> None:
        for optimizer in self.all:
            optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> list[dict[str, Any]]:
        return [optimizer.state_dict() for optimizer in self.all]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        for optimizer, state in zip(self.all, states, strict=True):
            optimizer.load_state_dict(state)
            for parameter, moments in optimizer.state.items():
                for name, moment in moments.items():
                    moments[name] = _laid_out_as(parameter, moment)


def _laid_out_as(parameter: Tensor, moment: Any) -> Any:
    """`moment` in the memory order of its parameter: torch's fused AdamW walks both as they
    lie, and a fast run's convolutions and colour matrices lie in another order."""
    if not isinstance(moment, Tensor) or moment.shape != parameter.shape:
        return moment
    if moment.stride() == parameter.stride():
        return moment
    return torch.empty_like(parameter, dtype=moment.dtype, requires_grad=False).copy_(moment)


def _groups(
    network: nn.Module, *, hidden_apart: bool
) -> tuple[list[nn.Parameter], list[nn.Parameter], list[nn.Parameter]]:
    """Hidden matrices and stacks of them (when `hidden_apart`), other decayed ones, and the
    rest."""
    matrices, decayed, plain = [], [], []
    for name, parameter in network.named_parameters():
        last = name.rpartition(".")[2]
        if parameter.ndim < 2 or last.endswith("bias") or last in _NEVER_DECAYED:
            plain.append(parameter)
        elif hidden_apart and name.startswith("blocks."):
            matrices.append(parameter)
        else:
            decayed.append(parameter)
    return matrices, decayed, plain


def _leave_compiler_out() -> None:
    """Keep torch from importing its compiler for the sake of an optimiser's small methods.

    torch wraps them so that `torch.compile` leaves them alone, and imports the compiler to do so
    when one is first called: 1 s, and 4 s where packages have no bytecode, of a worker's start.
    A mark on the method says that it has been done; without the mark (another torch) nothing
    changes.
    """
    for name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict"):
        method = getattr(getattr(torch.optim.Optimizer, name), "__wrapped__", None)
        if method is not None and not hasattr(method, _MARK):
            setattr(method, _MARK, method)
