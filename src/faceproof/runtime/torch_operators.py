"""What each ONNX operator is in torch, from opset 13 on; see the operators' own documents at onnx.ai.

An operator gets the node's attributes and its inputs. Inputs that say *how* to compute (shapes, axes, pads) come as plain
numbers, so nothing here ever asks the device for a value: that is what lets a CUDA graph hold the whole network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from faceproof.errors import NetworkError

Attributes = Mapping[str, Any]
Sides = tuple[list[int], list[int]]
FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


class Operator(NamedTuple):
    """``run(attributes, *inputs)``; ``numbers`` are the places of inputs that it gets as plain numbers."""

    run: Callable[..., Any]
    numbers: frozenset[int] = frozenset()


def refuse(words: str) -> NetworkError:
    """The error for a graph that uses an operator in a way that is not done here."""
    return NetworkError(f"the torch runtime does not compute {words}", remedy="Use --runtime onnx or openvino.")


def _numbers(places: Sequence[int], run: Callable[..., Any]) -> Operator:
    return Operator(run, frozenset(places))


def _plain(function: Callable[..., Tensor]) -> Operator:
    return Operator(lambda _, *inputs: function(*inputs))


def _div(_: Attributes, a: Tensor, b: Tensor) -> Tensor:
    # Whole numbers are divided towards nought.
    whole = a.dtype not in FLOATS and b.dtype not in FLOATS
    return torch.div(a, b, rounding_mode="trunc") if whole else torch.div(a, b)


def _fold(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    def run(_: Attributes, first: Tensor, *others: Tensor) -> Tensor:
        for other in others:
            first = function(first, other)
        return first

    return Operator(run)


def _clip(_: Attributes, x: Tensor, low: float | None = None, high: float | None = None) -> Tensor:
    return x if low is None and high is None else torch.clamp(x, low, high)


# --- windows over places ---------------------------------------------------------------------------------------------


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


# --- shapes ----------------------------------------------------------------------------------------------------------


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


# --- sums and products -----------------------------------------------------------------------------------------------


def _reduction(function: Callable[..., Tensor]) -> Operator:
    def run(a: Attributes, x: Tensor, axes: list[int] | None = None) -> Tensor:
        axes = list(a.get("axes", [])) if axes is None else axes
        if not axes:
            if a.get("noop_with_empty_axes", 0):
                return x
            axes = list(range(x.dim()))
        return function(x, axes, bool(a.get("keepdims", 1)))

    return _numbers([1], run)


def _gemm(a: Attributes, x: Tensor, y: Tensor, z: Tensor | None = None) -> Tensor:
    x = x.T if a.get("transA", 0) else x
    alpha, beta = a.get("alpha", 1.0), a.get("beta", 1.0)
    if alpha == beta == 1 and a.get("transB", 0) and (z is None or z.dim() == 1):
        return F.linear(x, y, z)
    product = x @ (y.T if a.get("transB", 0) else y)
    product = product if alpha == 1 else product * alpha
    return product if z is None else product + (z if beta == 1 else z * beta)


def _softmax(a: Attributes, x: Tensor) -> Tensor:
    return torch.softmax(x, a.get("axis", -1))


def _layer_norm(a: Attributes, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.layer_norm(x, x.shape[a.get("axis", -1) :], scale, bias, a.get("epsilon", 1e-5))


def _batch_norm(a: Attributes, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    if a.get("training_mode", 0):
        raise refuse("BatchNormalization in training")
    return F.batch_norm(x, mean, variance, scale, bias, False, 0.0, a.get("epsilon", 1e-5))


# --- eight bits ------------------------------------------------------------------------------------------------------

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


def _cast(a: Attributes, x: Tensor) -> Tensor:
    return x.to(a["to"])


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


OPERATORS: dict[str, Operator] = {
    "Abs": _plain(torch.abs),
    "Add": _plain(torch.add),
    "And": _plain(torch.logical_and),
    "AveragePool": Operator(_average_pool),
    "BatchNormalization": Operator(_batch_norm),
    "Cast": Operator(_cast),
    "Ceil": _plain(torch.ceil),
    "Clip": _numbers([1, 2], _clip),
    "Concat": Operator(lambda a, *parts: torch.cat(parts, a["axis"])),
    "ConstantOfShape": _numbers([0], _constant_of_shape),
    "Conv": Operator(_conv),
    "DepthToSpace": Operator(_depth_to_space),
    "DequantizeLinear": Operator(_dequantize),
    "Div": Operator(_div),
    "Dropout": _numbers([1, 2], _dropout),
    "Einsum": Operator(lambda a, *parts: torch.einsum(a["equation"], *parts)),
    "Elu": Operator(lambda a, x: F.elu(x, a.get("alpha", 1.0))),
    "Equal": _plain(torch.eq),
    "Erf": _plain(torch.erf),
    "Exp": _plain(torch.exp),
    "Expand": _numbers([1], _expand),
    "Flatten": Operator(_flatten),
    "Floor": _plain(torch.floor),
    "Gather": _numbers([1], _gather),
    "Gelu": Operator(_gelu),
    "Gemm": Operator(_gemm),
    "GlobalAveragePool": Operator(lambda a, x: x.mean(list(range(2, x.dim())), True)),
    "GlobalMaxPool": Operator(lambda a, x: x.amax(list(range(2, x.dim())), True)),
    "Greater": _plain(torch.gt),
    "GreaterOrEqual": _plain(torch.ge),
    "HardSigmoid": Operator(lambda a, x: torch.clamp(a.get("alpha", 0.2) * x + a.get("beta", 0.5), 0, 1)),
    "HardSwish": _plain(F.hardswish),
    "Identity": _plain(lambda x: x),
    "LayerNormalization": Operator(_layer_norm),
    "LeakyRelu": Operator(lambda a, x: F.leaky_relu(x, a.get("alpha", 0.01))),
    "Less": _plain(torch.lt),
    "LessOrEqual": _plain(torch.le),
    "Log": _plain(torch.log),
    "MatMul": _plain(torch.matmul),
    "Max": _fold(torch.maximum),
    "MaxPool": Operator(_max_pool),
    "Min": _fold(torch.minimum),
    "Mul": _plain(torch.mul),
    "Neg": _plain(torch.neg),
    "Not": _plain(torch.logical_not),
    "Or": _plain(torch.logical_or),
    "PRelu": Operator(_prelu),
    "Pad": _numbers([1, 2, 3], _pad),
    "Pow": _plain(torch.pow),
    "QuantizeLinear": Operator(_quantize),
    "Range": _numbers([0, 1, 2], lambda a, start, end, step: torch.arange(start, end, step)),
    "Reciprocal": _plain(torch.reciprocal),
    "ReduceL2": _reduction(lambda x, axes, keep: torch.linalg.vector_norm(x, 2, axes, keep)),
    "ReduceMax": _reduction(torch.amax),
    "ReduceMean": _reduction(torch.mean),
    "ReduceMin": _reduction(torch.amin),
    "ReduceSum": _reduction(torch.sum),
    "Relu": _plain(torch.relu),
    "Reshape": _numbers([1], _reshape),
    "Resize": _numbers([1, 2, 3], _resize),
    "Round": _plain(torch.round),
    "Sigmoid": _plain(torch.sigmoid),
    "Slice": _numbers([1, 2, 3, 4], _slice),
    "Softmax": Operator(_softmax),
    "Softplus": _plain(F.softplus),
    "SpaceToDepth": Operator(_space_to_depth),
    "Split": _numbers([1], _split),
    "Sqrt": _plain(torch.sqrt),
    "Squeeze": _numbers([1], _squeeze),
    "Sub": _plain(torch.sub),
    "Swish": Operator(_swish),
    "Tanh": _plain(torch.tanh),
    "Tile": _numbers([1], lambda a, x, repeats: x.repeat(repeats)),
    "Transpose": Operator(lambda a, x: x.permute(a.get("perm", list(range(x.dim()))[::-1]))),
    "Unsqueeze": _numbers([1], _unsqueeze),
    "Where": _plain(torch.where),
}
