"""Weights for a network whose authors' are not there, good enough to measure and to compare with, never to judge by."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def stand_in_weights(network: nn.Module, example: Tensor, seed: int = 0) -> nn.Module:
    """Give ``network`` random weights under which signals neither die nor explode, and return it in evaluation mode.

    Freshly built networks have statistics of nothing in their batch norms: within a few blocks every answer is the same,
    numbers fall below what floats hold, and eight bits have no range to divide. Here each batch norm takes its statistics
    from ``example`` (``[N, 3, S, S]`` as the detector prepares it, N ≥ 2, the more varied the better) as it arrives there,
    and shifts it to where Swish is almost straight: around nought a random network doubles rounding every few layers, as
    no trained one does, until two correct engines disagree.
    """
    generator = torch.Generator().manual_seed(seed)
    norms = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.weight.data.normal_(0, module.weight[0].numel() ** -0.5, generator=generator)
            if module.bias is not None:
                module.bias.data.uniform_(-0.2, 0.2, generator=generator)
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            module.weight.data.uniform_(0.8, 1.2, generator=generator)
            module.bias.data.uniform_(0.5, 1.5, generator=generator)
            norms.append(module.register_forward_pre_hook(_take_statistics))
    with torch.no_grad():
        answers = network.eval()(example)
        for hook in norms:
            hook.remove()
        if isinstance(answers, tuple) and isinstance(last := list(network.modules())[-1], nn.Linear):
            # Logits of a trained network's size, on both sides of nought: fp32 holds 1e-4 of ±5, not of ±2000.
            numbers = answers[0].reshape(len(example), -1)
            middle = numbers.mean(0)
            spread = (numbers - middle).std()
            last.weight /= spread
            last.bias.copy_((last.bias - middle) / spread)
    return network


def _take_statistics(norm: nn.Module, given: tuple[Tensor]) -> None:
    assert isinstance(norm, nn.BatchNorm2d | nn.BatchNorm1d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    values = given[0]
    variance, mean = torch.var_mean(values, dim=[0, *range(2, values.dim())], correction=0)
    norm.running_mean.copy_(mean)
    # A channel that hardly stirred must not be blown up by the next picture.
    norm.running_var.copy_(variance.clamp_min(float(variance.mean()) / 2))
