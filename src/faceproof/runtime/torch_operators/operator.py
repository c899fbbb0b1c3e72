"""What an operator is, and how one refuses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from faceproof.errors import NetworkError

Attributes = Mapping[str, Any]
FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


class Operator(NamedTuple):
    """``run(attributes, *inputs)``; ``numbers`` are the places of inputs that it gets as plain numbers."""

    run: Callable[..., Any]
    numbers: frozenset[int] = frozenset()


def refuse(words: str) -> NetworkError:
    """The error for a graph that uses an operator in a way that is not done here."""
    return NetworkError(f"the torch runtime does not compute {words}", remedy="Use --runtime onnx or openvino.")


def numbers(places: Sequence[int], run: Callable[..., Any]) -> Operator:
    """An operator that gets its inputs at ``places`` as plain numbers."""
    return Operator(run, frozenset(places))


def plain(function: Callable[..., Tensor]) -> Operator:
    """An operator without attributes: ``function(*inputs)``."""
    return Operator(lambda _, *inputs: function(*inputs))
