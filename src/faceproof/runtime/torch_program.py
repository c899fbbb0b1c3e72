"""An ONNX file as torch calls, one after another.

The file with the checksum is the network, on a GPU too: nothing is exported beside it that could be of other weights. What
follows from the input's shape alone (and exporters write more of that than of anything else) is computed once, on the
host; what is left for every batch is a straight line of torch calls whose shapes are known, which a CUDA graph can hold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from faceproof.errors import NetworkError
from faceproof.runtime.torch_operators import FLOATS, OPERATORS, Attributes, Operator, refuse

OLDEST_OPSET = 13
#: What the GPU's matrix units do: with a lower precision asked for, their weights are kept in it.
_PRODUCTS = frozenset({"Conv", "Gemm", "MatMul"})


@dataclass(frozen=True)
class Node:
    """One operator of the graph; inputs that are left out have no name."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Attributes


@dataclass
class Step:
    """One torch call: what it is given, with holes where earlier results go, and the results to forget after it."""

    operator: Operator
    attributes: Attributes
    given: list[Any]
    holes: tuple[tuple[int, str], ...]
    outputs: tuple[str, ...]
    forget: list[str] = field(default_factory=list)

    def run(self, values: dict[str, Tensor]) -> None:
        given = self.given.copy()
        for place, name in self.holes:
            given[place] = values[name]
        answer = self.operator.run(self.attributes, *given)
        # Masks and indices that a graph names beside a result are not made; who reads them is refused.
        values.update(zip(self.outputs, answer if isinstance(answer, tuple) else (answer,), strict=False))


class Program:
    """An ONNX file read for one device.

    ``lower`` keeps the weights of products in that type, for :func:`torch.autocast` to compute with. Raises
    :class:`NetworkError` for a file that is no ONNX network or uses what torch is not taught here.
    """

    def __init__(self, path: Path, *, device: str = "cpu", lower: torch.dtype | None = None) -> None:
        import onnx

        try:
            model = onnx.load(str(path))
        except Exception as error:  # protobuf's errors, the file system's, and onnx's own
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise NetworkError(f"torch cannot load {path.name}: {reason}") from error
        versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
        graph = model.graph
        if not versions or not graph.node:
            raise NetworkError(f"torch cannot load {path.name}: it is no ONNX network")
        if versions[0] < OLDEST_OPSET:
            raise refuse(f"{path.name}, which is of opset {versions[0]}; it reads {OLDEST_OPSET} and newer")
        self.device = torch.device(device)
        self.lower = lower
        self.outputs = tuple(output.name for output in graph.output)
        self._constants = {tensor.name: _tensor(tensor) for tensor in graph.initializer}
        given = [value.name for value in graph.input if value.name not in self._constants]
        if len(given) != 1:
            raise refuse(f"{path.name}, which has {len(given)} inputs")
        self.input = given[0]
        self._nodes = _with_swish(self._fold(graph.node), set(self.outputs))
        self._placed: dict[tuple[str, str], Any] = {}

    def _fold(self, nodes: Any) -> list[Node]:
        """The nodes that need the input; what the others make becomes constants."""
        left = []
        for raw in nodes:
            known = raw.op_type in OPERATORS or raw.op_type in _ASKING or raw.op_type == "Constant"
            if raw.domain not in ("", "ai.onnx") or not known:
                raise refuse(f"the operator {raw.op_type}")
            node = Node(raw.op_type, tuple(raw.input), tuple(raw.output), _attributes(raw))
            if node.kind == "Constant":
                self._constants[node.outputs[0]] = _constant(node.attributes)
            elif all(name in self._constants for name in node.inputs if name):
                self._constants.update(_on_host(node, self._constants))
            else:
                left.append(node)
        return left

    def straight_line(self, example: Tensor) -> StraightLine:
        """The calls for inputs of ``example``'s shape, found by running it: float32 ``[N, C, H, W]`` on the device.

        Raises :class:`NetworkError` where a shape would depend on pixels. torch's own errors pass.
        """
        last = {name: place for place, node in enumerate(self._nodes) for name in node.inputs}
        last.update(dict.fromkeys(self.outputs, len(self._nodes)))
        known = dict(self._constants)
        values = {self.input: example}
        steps: list[Step] = []
        for place, node in enumerate(self._nodes):
            if node.kind in _ASKING and node.inputs[0] in values:
                known[node.outputs[0]] = _ASKING[node.kind](node.attributes, values[node.inputs[0]].shape)
            elif all(name in known for name in node.inputs if name):
                known.update(_on_host(node, known))
            else:
                step = self._step(node, known, values)
                step.run(values)
                steps.append(step)
            for name in {*node.inputs, *node.outputs}:
                if last.get(name, -1) <= place:
                    values.pop(name, None)
        for name in self.outputs:
            if name not in values:
                raise refuse(f"the output {name}, which does not depend on the input")
        return StraightLine(self.input, self.outputs, _only_needed(steps, self.outputs))

    def _step(self, node: Node, known: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> Step:
        operator = OPERATORS[node.kind]
        given: list[Any] = []
        holes = []
        for place, name in enumerate(node.inputs):
            if name in values:
                if place in operator.numbers:
                    raise refuse(f"a graph whose {node.kind} depends on pixels for its shape")
                holes.append((place, name))
                given.append(None)
            elif not name:
                given.append(None)
            elif name not in known:
                raise refuse(f"what {node.kind} reads: a second output of another operator")
            else:
                given.append(self._place(name, known[name], node.kind, place in operator.numbers))
        return Step(operator, node.attributes, given, tuple(holes), node.outputs)

    def _place(self, name: str, value: Tensor, kind: str, number: bool) -> Any:
        """A constant as a step wants it: plain numbers, or on the device and, for products, in the lower precision."""
        form = "number" if number else kind if kind in _PRODUCTS else "plain"
        shared = name in self._constants
        if shared and (name, form) in self._placed:
            return self._placed[name, form]
        made: Any
        if number:
            made = value.tolist()
        else:
            lower = self.lower if kind in _PRODUCTS and value.dtype in FLOATS else None
            made = value.to(self.device, lower or value.dtype)
            if kind == "Conv" and value.dim() == 4:
                made = made.contiguous(memory_format=torch.channels_last)
        if shared:
            self._placed[name, form] = made
        return made


class StraightLine:
    """The torch calls for one input shape. Several threads may run it at once; it holds no results."""

    def __init__(self, given: str, outputs: tuple[str, ...], steps: list[Step]) -> None:
        self._input, self._outputs, self._steps = given, outputs, steps

    def __len__(self) -> int:
        return len(self._steps)

    def run(self, x: Tensor) -> dict[str, Tensor]:
        """The outputs for ``x`` of the shape that this line was made for, in whatever type they come out."""
        values = {self._input: x}
        for step in self._steps:
            step.run(values)
            for name in step.forget:
                values.pop(name, None)
        return {name: values[name] for name in self._outputs}


def _only_needed(steps: list[Step], outputs: tuple[str, ...]) -> list[Step]:
    """The steps that lead to an output, each knowing which results nobody asks for after it."""
    wanted = set(outputs)
    kept: list[Step] = []
    for step in reversed(steps):
        if not wanted.intersection(step.outputs):
            continue
        read = {name for _, name in step.holes}
        step.forget = [*(read - wanted), *(name for name in step.outputs if name and name not in wanted)]
        wanted |= read
        kept.append(step)
    return kept[::-1]


def _with_swish(nodes: list[Node], outputs: set[str]) -> list[Node]:
    """``x * sigmoid(x)`` in one call where the sigmoid serves nothing else: each map is then read once less."""
    users: dict[str, list[Node]] = {}
    for node in nodes:
        for name in node.inputs:
            users.setdefault(name, []).append(node)
    joined: dict[int, Node] = {}
    left_out: set[int] = set()
    for node in nodes:
        if node.kind != "Sigmoid" or node.outputs[0] in outputs:
            continue
        after = users.get(node.outputs[0], [])
        if len(after) == 1 and after[0].kind == "Mul" and set(after[0].inputs) == {node.inputs[0], node.outputs[0]}:
            joined[id(after[0])] = Node("Swish", node.inputs, after[0].outputs, {})
            left_out.add(id(node))
    return [joined.get(id(node), node) for node in nodes if id(node) not in left_out]


def _on_host(node: Node, known: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a node makes of known values, computed here in full precision."""
    if node.kind in _ASKING:
        return {node.outputs[0]: _ASKING[node.kind](node.attributes, known[node.inputs[0]].shape)}
    operator = OPERATORS[node.kind]
    given = [
        None if not name else known[name].tolist() if place in operator.numbers else known[name]
        for place, name in enumerate(node.inputs)
    ]
    with torch.no_grad(), torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
        answer = operator.run(node.attributes, *given)
    return dict(zip(node.outputs, answer if isinstance(answer, tuple) else (answer,), strict=False))


def _shape(a: Attributes, shape: torch.Size) -> Tensor:
    return torch.tensor(list(shape)[a.get("start", 0) : a.get("end")], dtype=torch.int64)


#: Operators that ask for the shape of a value and not for the value.
_ASKING: dict[str, Callable[[Attributes, torch.Size], Tensor]] = {
    "Shape": _shape,
    "Size": lambda _, shape: torch.tensor(shape.numel(), dtype=torch.int64),
}


def _tensor(proto: Any) -> Tensor:
    from onnx import numpy_helper

    return torch.from_numpy(numpy_helper.to_array(proto).copy())


def _attributes(raw: Any) -> dict[str, Any]:
    """A node's attributes in Python's and torch's types."""
    from onnx import TensorProto, helper

    found: dict[str, Any] = {}
    for entry in raw.attribute:
        value = helper.get_attribute_value(entry)
        if isinstance(value, bytes):
            value = value.decode()
        elif isinstance(value, TensorProto):
            value = _tensor(value)
        elif hasattr(value, "__iter__") and not isinstance(value, str):
            value = list(value)
        found[entry.name] = value
    if raw.op_type == "Split":
        found.setdefault("num_outputs", len(raw.output))  # what opset 13 means without sizes
    if raw.op_type == "Cast":
        import numpy as np

        found["to"] = torch.from_numpy(np.empty(0, helper.tensor_dtype_to_np_dtype(found["to"]))).dtype
    return found


def _constant(a: Attributes) -> Tensor:
    for name in ("value", "value_int", "value_ints", "value_float", "value_floats"):
        if name in a:
            return a[name] if name == "value" else torch.tensor(a[name])
    raise refuse("a Constant that is no number")
