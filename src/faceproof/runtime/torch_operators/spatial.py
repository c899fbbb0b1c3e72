"""Operators over places: convolutions, pools, and what changes the resolution of a map."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from faceproof.runtime.torch_operators.operator import Attributes, Operator, numbers, refuse

Sides = tuple[list[int], list[int]]


def _window(a: Attributes, sides: Sequence[int], kernel: Sequence[int]) -> tuple[list[int], list[int], Sides]:
    """Strides, dilations, and the pads before and after every side."""
    count = len(kernel)
    strides, dilations = list(a.get("strides", [1] * count)), list(a.get("dilations", [1] * count))
    way = a.get("auto_pad", "NOTSET")
    pads = list(a.get("pads", [0] * 2 * count))
    if way == "VALID":
        pads = [0] * 2 * count
    elif way in ("SAME_UPPER", "SAME_LOWER"):
        before, after = [], []
        for side, size, stride, dilation in zip(sides, kernel, strides, dilations, strict=True):
            whole = max((math.ceil(side / stride) - 1) * stride + (size - 1) * dilation + 1 - side, 0)
            before.append(whole // 2 if way == "SAME_UPPER" else whole - whole // 2)
            after.append(whole - before[-1])
        pads = before + after
    return strides, dilations, (pads[:count], pads[count:])


def _pad_sides(x: Tensor, pads: Sides, value: float = 0.0) -> Tensor:
    return F.pad(x, [n for both in zip(reversed(pads[0]), reversed(pads[1]), strict=True) for n in both], value=value)


def _torch_pads(pads: Sides, kernel: Sequence[int]) -> bool:
    """Whether torch's pools take these pads themselves: the same on both sides, at most half a window."""
    return pads[0] == pads[1] and all(2 * pad <= size for pad, size in zip(pads[0], kernel, strict=True))


def _conv(a: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    kernel = weight.shape[2:]
    strides, dilations, pads = _window(a, x.shape[2:], kernel)
    if pads[0] != pads[1]:
        x, pads = _pad_sides(x, pads), ([0] * len(kernel), [])
    convolve: Callable[..., Tensor] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[len(kernel)]
    return convolve(x, weight, bias, strides, pads[0], dilations, a.get("group", 1))


def _max_pool(a: Attributes, x: Tensor) -> Tensor:
    kernel = a["kernel_shape"]
    strides, dilations, pads = _window(a, x.shape[2:], kernel)
    if not _torch_pads(pads, kernel):
        x, pads = _pad_sides(x, pads, -math.inf), ([0] * len(kernel), [])
    pool: Callable[..., Tensor] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}[len(kernel)]
    return pool(x, kernel, strides, pads[0], dilations, bool(a.get("ceil_mode", 0)))


def _average_pool(a: Attributes, x: Tensor) -> Tensor:
    kernel = a["kernel_shape"]
    strides, dilations, pads = _window(a, x.shape[2:], kernel)
    with_pads, ceil = bool(a.get("count_include_pad", 0)), bool(a.get("ceil_mode", 0))
    if any(n != 1 for n in dilations):
        raise refuse("AveragePool with dilations")
    pool: Callable[..., Tensor] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}[len(kernel)]
    if _torch_pads(pads, kernel):
        return pool(x, kernel, strides, pads[0], ceil, with_pads)
    if ceil:
        raise refuse("AveragePool that is padded unevenly and rounds up")
    sums = pool(_pad_sides(x, pads), kernel, strides)
    return sums if with_pads else sums / pool(_pad_sides(torch.ones_like(x[:1, :1]), pads), kernel, strides)


def _resize(
    a: Attributes, x: Tensor, roi: Any = None, scales: list[float] | None = None, sizes: list[int] | None = None
) -> Tensor:
    mode, places = a.get("mode", "nearest"), a.get("coordinate_transformation_mode", "half_pixel")
    ways = {
        ("nearest", "asymmetric"): "nearest",
        ("nearest", "half_pixel"): "nearest-exact",
        ("linear", "half_pixel"): "linear",
        ("linear", "pytorch_half_pixel"): "linear",
        ("linear", "align_corners"): "linear",
    }
    way = ways.get((mode, places))
    rounding = {"nearest": "floor", "nearest-exact": "round_prefer_ceil"}.get(way or "")
    axes = a.get("axes", list(range(x.dim())))
    given = scales or sizes or []
    if (
        way is None
        or a.get("antialias", 0)
        or a.get("keep_aspect_ratio_policy", "stretch") != "stretch"
        or (mode == "nearest" and a.get("nearest_mode", "round_prefer_floor") != rounding)
        or len(given) != len(axes)
        or x.dim() not in (3, 4)
    ):
        raise refuse(f"Resize of mode {mode} with {places} coordinates as it is asked for")
    by_axis = {axis % x.dim(): number for axis, number in zip(axes, given, strict=True)}
    if any(number != (1 if scales else x.shape[axis]) for axis, number in by_axis.items() if axis < 2):
        raise refuse("Resize of faces or channels")
    spatial = [by_axis.get(axis, 1 if scales else x.shape[axis]) for axis in range(2, x.dim())]
    shrunk = [side * n if scales else n for side, n in zip(x.shape[2:], spatial, strict=True)]
    if (places == "align_corners" and any(n != int(n) for n in shrunk)) or (
        places == "pytorch_half_pixel" and any(n < 2 for n in shrunk)
    ):
        raise refuse(f"Resize with {places} coordinates to {shrunk}")
    if way == "linear" and x.dim() == 4:
        way = "bilinear"
    return F.interpolate(
        x,
        **({"scale_factor": [float(n) for n in spatial]} if scales else {"size": [int(n) for n in spatial]}),
        mode=way,
        align_corners=places == "align_corners" if mode == "linear" else None,
    )


def _depth_to_space(a: Attributes, x: Tensor) -> Tensor:
    n, channels, height, width = x.shape
    block = a["blocksize"]
    if a.get("mode", "DCR") == "CRD":
        return F.pixel_shuffle(x, block)
    parts = x.reshape(n, block, block, channels // block**2, height, width).permute(0, 3, 4, 1, 5, 2)
    return parts.reshape(n, channels // block**2, height * block, width * block)


def _space_to_depth(a: Attributes, x: Tensor) -> Tensor:
    if a.get("mode", "DCR") != "DCR":
        raise refuse(f"SpaceToDepth of mode {a['mode']}")
    n, channels, height, width = x.shape
    block = a["blocksize"]
    parts = x.reshape(n, channels, height // block, block, width // block, block).permute(0, 3, 5, 1, 2, 4)
    return parts.reshape(n, channels * block**2, height // block, width // block)


SPATIAL: dict[str, Operator] = {
    "AveragePool": Operator(_average_pool),
    "Conv": Operator(_conv),
    "DepthToSpace": Operator(_depth_to_space),
    "GlobalAveragePool": Operator(lambda a, x: x.mean(list(range(2, x.dim())), True)),
    "GlobalMaxPool": Operator(lambda a, x: x.amax(list(range(2, x.dim())), True)),
    "MaxPool": Operator(_max_pool),
    "Resize": numbers([1, 2, 3], _resize),
    "SpaceToDepth": Operator(_space_to_depth),
}
