"""Activation functions, and what does nothing outside of training."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from faceproof.runtime.torch_operators.operator import Attributes, Operator, numbers, plain, refuse


def _clip(_: Attributes, x: Tensor, low: float | None = None, high: float | None = None) -> Tensor:
    return x if low is None and high is None else torch.clamp(x, low, high)


def _softmax(a: Attributes, x: Tensor) -> Tensor:
    return torch.softmax(x, a.get("axis", -1))


def _gelu(a: Attributes, x: Tensor) -> Tensor:
    return F.gelu(x, approximate=a.get("approximate", "none"))


def _dropout(_: Attributes, x: Tensor, ratio: float = 0.5, training: bool = False) -> Tensor:
    if training and ratio:
        raise refuse("Dropout in training")
    return x


def _swish(a: Attributes, x: Tensor) -> Tensor:
    alpha = a.get("alpha", 1.0)
    return F.silu(x) if alpha == 1 else x * torch.sigmoid(x * alpha)


def _prelu(_: Attributes, x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x < 0, x * slope, x)


ACTIVATIONS: dict[str, Operator] = {
    "Clip": numbers([1, 2], _clip),
    "Dropout": numbers([1, 2], _dropout),
    "Elu": Operator(lambda a, x: F.elu(x, a.get("alpha", 1.0))),
    "Gelu": Operator(_gelu),
    "HardSigmoid": Operator(lambda a, x: torch.clamp(a.get("alpha", 0.2) * x + a.get("beta", 0.5), 0, 1)),
    "HardSwish": plain(F.hardswish),
    "LeakyRelu": Operator(lambda a, x: F.leaky_relu(x, a.get("alpha", 0.01))),
    "PRelu": Operator(_prelu),
    "Relu": plain(torch.relu),
    "Sigmoid": plain(torch.sigmoid),
    "Softmax": Operator(_softmax),
    "Softplus": plain(F.softplus),
    "Swish": Operator(_swish),
    "Tanh": plain(torch.tanh),
}
