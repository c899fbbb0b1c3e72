"""Operators that move, cut, join or retype values and compute none."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from faceproof.runtime.torch_operators.operator import Attributes, Operator, numbers, plain, refuse


def _reshape(a: Attributes, x: Tensor, shape: list[int]) -> Tensor:
    if not a.get("allowzero", 0):
        shape = [x.shape[axis] if n == 0 else n for axis, n in enumerate(shape)]
    return x.reshape(shape)


def _flatten(a: Attributes, x: Tensor) -> Tensor:
    axis = a.get("axis", 1)
    return x.reshape(math.prod(x.shape[: axis if axis >= 0 else axis + x.dim()]), -1)


def _squeeze(_: Attributes, x: Tensor, axes: list[int] | None = None) -> Tensor:
    return x.squeeze() if axes is None else x.squeeze(tuple(axes))


def _unsqueeze(_: Attributes, x: Tensor, axes: list[int]) -> Tensor:
    for axis in sorted(axis % (x.dim() + len(axes)) for axis in axes):
        x = x.unsqueeze(axis)
    return x


def _split(a: Attributes, x: Tensor, sizes: list[int] | None = None) -> tuple[Tensor, ...]:
    axis = a.get("axis", 0)
    count = a["num_outputs"] if sizes is None else 0
    return torch.split(x, math.ceil(x.shape[axis] / count) if sizes is None else sizes, axis)


def _slice(
    _: Attributes,
    x: Tensor,
    starts: list[int],
    ends: list[int],
    axes: list[int] | None = None,
    steps: list[int] | None = None,
) -> Tensor:
    for place, (start, end) in enumerate(zip(starts, ends, strict=True)):
        axis = (axes[place] if axes else place) % x.dim()
        chosen = range(x.shape[axis])[start : end : steps[place] if steps else 1]
        if not chosen:
            x = x.narrow(axis, 0, 0)
            continue
        # torch steps forwards only.
        forwards = chosen if chosen.step > 0 else chosen[::-1]
        x = x[(slice(None),) * axis + (slice(forwards.start, forwards.stop, forwards.step),)]
        if chosen.step < 0:
            x = x.flip(axis)
    return x


def _gather(a: Attributes, x: Tensor, places: Any) -> Tensor:
    axis = a.get("axis", 0) % x.dim()
    if isinstance(places, list):
        if not places:
            return x.narrow(axis, 0, 0)
        return torch.stack([_gather({"axis": axis}, x, place) for place in places], axis)
    return x.select(axis, places)


def _expand(_: Attributes, x: Tensor, shape: list[int]) -> Tensor:
    return x.expand(torch.broadcast_shapes(x.shape, shape))  # type: ignore[no-untyped-call]


def _pad(
    a: Attributes, x: Tensor, pads: list[int], value: float | None = None, axes: list[int] | None = None
) -> Tensor:
    mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}.get(a.get("mode", "constant"))
    if mode is None:
        raise refuse(f"Pad of mode {a['mode']}")
    axes = list(range(x.dim())) if axes is None else [axis % x.dim() for axis in axes]
    both = {axis: (pads[i], pads[i + len(axes)]) for i, axis in enumerate(axes)}
    flat = [n for axis in reversed(range(x.dim())) for n in both.get(axis, (0, 0))]
    if mode == "constant":
        return F.pad(x, flat, value=value or 0)
    while flat[-2:] == [0, 0]:
        del flat[-2:]
    return F.pad(x, flat, mode=mode) if flat else x


def _constant_of_shape(a: Attributes, shape: list[int]) -> Tensor:
    value = a.get("value")
    return torch.zeros(shape) if value is None else value.reshape(()).expand(shape).clone()


def _cast(a: Attributes, x: Tensor) -> Tensor:
    return x.to(a["to"])


SHAPES: dict[str, Operator] = {
    "Cast": Operator(_cast),
    "Concat": Operator(lambda a, *parts: torch.cat(parts, a["axis"])),
    "ConstantOfShape": numbers([0], _constant_of_shape),
    "Expand": numbers([1], _expand),
    "Flatten": Operator(_flatten),
    "Gather": numbers([1], _gather),
    "Identity": plain(lambda x: x),
    "Pad": numbers([1, 2, 3], _pad),
    "Range": numbers([0, 1, 2], lambda a, start, end, step: torch.arange(start, end, step)),
    "Reshape": numbers([1], _reshape),
    "Slice": numbers([1, 2, 3, 4], _slice),
    "Split": numbers([1], _split),
    "Squeeze": numbers([1], _squeeze),
    "Tile": numbers([1], lambda a, x, repeats: x.repeat(repeats)),
    "Transpose": Operator(lambda a, x: x.permute(a.get("perm", list(range(x.dim()))[::-1]))),
    "Unsqueeze": numbers([1], _unsqueeze),
}
