"""Classification heads over pooled features, and the heatmap that comes with the answer.

Every head here is piecewise linear in the pooled features. Its gradient therefore has a closed form, and the logit
splits exactly over the places of the feature map: their mean *is* the logit. That costs one matrix product, so the
heatmap is part of the exported graph.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

# One step of a head: a share to drop, a width to project to, or the name of a layer.
Step = float | int | str


def build_head(features: int, steps: tuple[Step, ...]) -> nn.Sequential:
    """Layers of a head, in the order of ``steps``, so that indices in state dicts are those of the originals.

    A float is a dropout probability, an int a Linear of that width; ``relu``, ``bn`` (PyTorch's epsilon) and
    ``keras_bn`` (epsilon .001) name layers.
    """
    layers: list[nn.Module] = []
    width = features
    for step in steps:
        if isinstance(step, int):
            layers.append(nn.Linear(width, step))
            width = step
        elif isinstance(step, float):
            layers.append(nn.Dropout(step))
        elif step == "relu":
            layers.append(nn.ReLU())
        elif step == "bn":
            layers.append(nn.BatchNorm1d(width))
        elif step == "keras_bn":
            layers.append(nn.BatchNorm1d(width, eps=1e-3, momentum=0.01))
        else:
            raise ValueError(f"a head has no step {step!r}")
    return nn.Sequential(*layers)


def run_with_gradient(head: nn.Sequential, pooled: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs ``[N, K]`` of the head for ``pooled [N, C]``, and d(outputs · direction)/d(pooled) ``[N, C]``.

    The gradient holds in evaluation mode, where dropout passes everything and batch norm is a fixed scale.
    """
    steps: list[tuple[nn.Module, Tensor]] = []
    x = pooled
    for layer in head:
        steps.append((layer, x))
        x = layer(x)
    gradient = direction.expand(x.shape[0], -1)
    for layer, before in reversed(steps):
        if isinstance(layer, nn.Linear):
            gradient = gradient @ layer.weight
        elif isinstance(layer, nn.ReLU):
            gradient = gradient * (before > 0)
        elif isinstance(layer, nn.BatchNorm1d):
            assert layer.running_var is not None
            gradient = gradient * (layer.weight * torch.rsqrt(layer.running_var + layer.eps))
        elif not isinstance(layer, nn.Dropout):
            raise TypeError(f"no closed form for {type(layer).__name__}")
    return x, gradient


def place_evidence(features: Tensor, pooled: Tensor, fake_logit: Tensor, gradient: Tensor) -> Tensor:
    """What each place of ``features [N, C, h, w]`` says: logits ``[N, h, w]`` whose mean is ``fake_logit [N]``."""
    rest = fake_logit - (pooled * gradient).sum(1)
    return torch.einsum("nchw,nc->nhw", features, gradient) + rest[:, None, None]
