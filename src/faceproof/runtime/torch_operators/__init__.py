"""What each ONNX operator is in torch, from opset 13 on; see the operators' own documents at onnx.ai.

An operator gets the node's attributes and its inputs. Inputs that say *how* to compute (shapes, axes, pads) come as plain
numbers, so nothing here ever asks the device for a value: that is what lets a CUDA graph hold the whole network.
"""

from __future__ import annotations

from faceproof.runtime.torch_operators.activations import ACTIVATIONS
from faceproof.runtime.torch_operators.arithmetic import ARITHMETIC
from faceproof.runtime.torch_operators.operator import FLOATS, Attributes, Operator, refuse
from faceproof.runtime.torch_operators.quantised import QUANTISED
from faceproof.runtime.torch_operators.shapes import SHAPES
from faceproof.runtime.torch_operators.spatial import SPATIAL

__all__ = ["FLOATS", "OPERATORS", "Attributes", "Operator", "refuse"]

OPERATORS: dict[str, Operator] = {**SPATIAL, **SHAPES, **ARITHMETIC, **ACTIVATIONS, **QUANTISED}
