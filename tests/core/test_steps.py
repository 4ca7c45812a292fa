"""The optimizer is PyTorch's SGD to the bit."""

from __future__ import annotations

import copy

import torch
from torch import nn

from core.config import CellConfig
from core.steps import sgd
from tests.core.harness import network


def stepped(optimizer: torch.optim.Optimizer, model: nn.Module) -> list[torch.Tensor]:
    """The parameters after three steps along the same gradients, and the momentum."""
    for step in range(3):
        generator = torch.Generator().manual_seed(step)
        optimizer.zero_grad()
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()
    return [*model.parameters(), *(state["momentum_buffer"] for state in optimizer.state.values())]


def test_the_optimizer_steps_as_the_one_of_pytorch() -> None:
    ours, theirs = network(), copy.deepcopy(network())
    cell = CellConfig(lr=0.05, momentum=0.9, weight_decay=5e-4, nesterov=True)
    known = torch.optim.SGD(theirs.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4, nesterov=True, fused=True)
    found, expected = stepped(sgd(cell, ours), ours), stepped(known, theirs)
    assert len(found) == len(expected) > 0
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_the_optimizer_loads_what_pytorchs_saved() -> None:
    cell, model = CellConfig(momentum=0.9), network()
    other = torch.optim.SGD(copy.deepcopy(model).parameters(), lr=0.5, momentum=0.9)
    optimizer = sgd(cell, model)
    optimizer.load_state_dict(other.state_dict())
    assert optimizer.state_dict()["param_groups"][0]["lr"] == 0.5
