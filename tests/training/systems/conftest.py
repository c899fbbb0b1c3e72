"""What the tests of the documented networks share."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn


def enliven(net: nn.Module, example: torch.Tensor, seed: int = 0) -> nn.Module:
    """Random weights under which signals neither die nor explode: each batch norm takes its statistics from ``example``.

    Without this, two networks agree because every answer is the same.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.weight.data.normal_(0, module.weight[0].numel() ** -0.5, generator=generator)
            if module.bias is not None:
                module.bias.data.uniform_(-0.2, 0.2, generator=generator)
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            module.weight.data.uniform_(0.8, 1.2, generator=generator)
            module.bias.data.uniform_(-0.2, 0.2, generator=generator)
            module.momentum = 1.0
    dropouts = [(m, m.p) for m in net.modules() if isinstance(m, nn.Dropout)]
    for module, _ in dropouts:
        module.p = 0.0
    net.train()
    with torch.no_grad():
        net(example)
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                # A channel that hardly stirred must not be blown up by the next picture.
                module.running_var.clamp_(min=float(module.running_var.mean()) / 2)
        answers = net.eval()(example)
        if isinstance(answers, tuple) and isinstance(last := list(net.modules())[-1], nn.Linear):
            # Logits of a trained network's size: fp32 holds 1e-4 of ±5, not of ±2000.
            last.weight /= answers[0].std()
    for module, p in dropouts:
        module.p = p
    return net.eval()


@pytest.fixture(scope="session", name="enliven")
def _enliven() -> Callable[..., nn.Module]:
    return enliven
