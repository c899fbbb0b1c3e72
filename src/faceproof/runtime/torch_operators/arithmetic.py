"""Operators of arithmetic: element by element, sums, products of matrices, normalisation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from faceproof.runtime.torch_operators.operator import FLOATS, Attributes, Operator, numbers, plain, refuse


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


def _reduction(function: Callable[..., Tensor]) -> Operator:
    def run(a: Attributes, x: Tensor, axes: list[int] | None = None) -> Tensor:
        axes = list(a.get("axes", [])) if axes is None else axes
        if not axes:
            if a.get("noop_with_empty_axes", 0):
                return x
            axes = list(range(x.dim()))
        return function(x, axes, bool(a.get("keepdims", 1)))

    return numbers([1], run)


def _gemm(a: Attributes, x: Tensor, y: Tensor, z: Tensor | None = None) -> Tensor:
    x = x.T if a.get("transA", 0) else x
    alpha, beta = a.get("alpha", 1.0), a.get("beta", 1.0)
    if alpha == beta == 1 and a.get("transB", 0) and (z is None or z.dim() == 1):
        return F.linear(x, y, z)
    product = x @ (y.T if a.get("transB", 0) else y)
    product = product if alpha == 1 else product * alpha
    return product if z is None else product + (z if beta == 1 else z * beta)


def _layer_norm(a: Attributes, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.layer_norm(x, x.shape[a.get("axis", -1) :], scale, bias, a.get("epsilon", 1e-5))


def _batch_norm(a: Attributes, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    if a.get("training_mode", 0):
        raise refuse("BatchNormalization in training")
    return F.batch_norm(x, mean, variance, scale, bias, False, 0.0, a.get("epsilon", 1e-5))


ARITHMETIC: dict[str, Operator] = {
    "Abs": plain(torch.abs),
    "Add": plain(torch.add),
    "And": plain(torch.logical_and),
    "BatchNormalization": Operator(_batch_norm),
    "Ceil": plain(torch.ceil),
    "Div": Operator(_div),
    "Einsum": Operator(lambda a, *parts: torch.einsum(a["equation"], *parts)),
    "Equal": plain(torch.eq),
    "Erf": plain(torch.erf),
    "Exp": plain(torch.exp),
    "Floor": plain(torch.floor),
    "Gemm": Operator(_gemm),
    "Greater": plain(torch.gt),
    "GreaterOrEqual": plain(torch.ge),
    "LayerNormalization": Operator(_layer_norm),
    "Less": plain(torch.lt),
    "LessOrEqual": plain(torch.le),
    "Log": plain(torch.log),
    "MatMul": plain(torch.matmul),
    "Max": _fold(torch.maximum),
    "Min": _fold(torch.minimum),
    "Mul": plain(torch.mul),
    "Neg": plain(torch.neg),
    "Not": plain(torch.logical_not),
    "Or": plain(torch.logical_or),
    "Pow": plain(torch.pow),
    "Reciprocal": plain(torch.reciprocal),
    "ReduceL2": _reduction(lambda x, axes, keep: torch.linalg.vector_norm(x, 2, axes, keep)),
    "ReduceMax": _reduction(torch.amax),
    "ReduceMean": _reduction(torch.mean),
    "ReduceMin": _reduction(torch.amin),
    "ReduceSum": _reduction(torch.sum),
    "Round": plain(torch.round),
    "Sqrt": plain(torch.sqrt),
    "Sub": plain(torch.sub),
    "Where": plain(torch.where),
}
