"""Muon over stacks of matrices: each of them as torch's Muon alone would have it."""

from __future__ import annotations

import copy

import torch
from torch import nn

from model.training.stacked_muon import StackedMuon

OPTIONS = {"lr": 0.02, "weight_decay": 0.1, "adjust_lr_fn": "match_rms_adamw"}


def stack_and_matrices() -> tuple[nn.Parameter, list[nn.Parameter]]:
    stack = nn.Parameter(torch.randn(3, 12, 6, generator=torch.Generator().manual_seed(0)))
    return stack, [nn.Parameter(matrix.clone()) for matrix in stack.detach()]


def test_every_matrix_of_a_stack_is_updated_by_itself() -> None:
    stack, matrices = stack_and_matrices()
    stacked = StackedMuon([stack], **OPTIONS)
    alone = torch.optim.Muon(matrices, **OPTIONS)
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        # an object of its own each time, as backward after zero_grad gives it
        stack.grad = torch.randn(3, 12, 6, generator=generator)
        for matrix, grad in zip(matrices, stack.grad, strict=True):
            matrix.grad = grad.clone()
        stacked.step()
        alone.step()
    assert torch.equal(stack.detach(), torch.stack([matrix.detach() for matrix in matrices]))
    stacked.zero_grad()
    assert stack.grad is None


def test_a_stacks_momentum_is_saved_and_goes_on() -> None:
    stack, _ = stack_and_matrices()
    whole = StackedMuon([stack], **OPTIONS)
    grads = torch.randn(2, 3, 12, 6, generator=torch.Generator().manual_seed(2))
    stack.grad = grads[0]
    whole.step()
    other = nn.Parameter(stack.detach().clone())
    resumed = StackedMuon([other], **OPTIONS)
    resumed.load_state_dict(copy.deepcopy(whole.state_dict()))
    for parameter, optimizer in ((stack, whole), (other, resumed)):
        parameter.grad = grads[1].clone()
        optimizer.step()
    assert torch.equal(stack.detach(), other.detach())
    assert [whole.whole(part)[1] for part in whole.param_groups[0]["params"]] == [0, 1, 2]
