"""Operators between floats and eight bits."""

from __future__ import annotations

import torch
from torch import Tensor

from faceproof.runtime.torch_operators.operator import Attributes, Operator, refuse

_RANGES = {torch.uint8: (0, 255), torch.int8: (-128, 127)}


def _along(a: Attributes, x: Tensor, scale: Tensor) -> Tensor:
    """A scale or zero point for each channel, shaped to meet ``x``; one for all as it is."""
    if a.get("block_size", 0):
        raise refuse("eight bits in blocks")
    if scale.numel() == 1:
        return scale.reshape(())
    axis = a.get("axis", 1) % x.dim()
    return scale.reshape([-1 if place == axis else 1 for place in range(x.dim())])


def _quantize(a: Attributes, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    kind = torch.uint8 if zero is None else zero.dtype
    if kind not in _RANGES:
        raise refuse(f"QuantizeLinear to {kind}")
    whole = torch.round(x.float() / _along(a, x, scale))
    whole = whole if zero is None else whole + _along(a, x, zero).float()
    return whole.clamp(*_RANGES[kind]).to(kind)


def _dequantize(a: Attributes, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    values = x.float() if zero is None else x.float() - _along(a, x, zero).float()
    return values * _along(a, x, scale)


QUANTISED: dict[str, Operator] = {
    "DequantizeLinear": Operator(_dequantize),
    "QuantizeLinear": Operator(_quantize),
}
