"""How an ONNX graph stores its numbers: as floats, as halves, in eight bits. What it computes stays the same graph."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

#: Fewer numbers than this stay as they are: a Cast or a scale costs as many bytes as it saves.
FEW = 256
_LARGEST_HALF = 60_000
#: Below it a half has less than six bits left.
_LEAST_SCALE = 2.0**-18
_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum")
_TURNS = ("Transpose", "Reshape")


def store_half(model: ModelProto) -> None:
    """Keep every large fp32 initialiser as fp16 with a Cast in front of its users; runtimes fold the cast on loading."""
    graph = model.graph
    scales = {node.input[1] for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")}
    casts = []
    for tensor in list(graph.initializer):
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < FEW:
            continue
        values = numpy_helper.to_array(tensor)
        if np.abs(values).max() > _LARGEST_HALF or (tensor.name in scales and values.min() < _LEAST_SCALE):
            continue
        stored = numpy_helper.from_array(values.astype(np.float16), tensor.name + "_fp16")
        graph.initializer.remove(tensor)
        graph.initializer.append(stored)
        casts.append(helper.make_node("Cast", [stored.name], [tensor.name], to=TensorProto.FLOAT))
    _insert_first(model, casts)


def restore_floats(model: ModelProto) -> None:
    """Undo :func:`store_half`: what a Cast makes of a stored half becomes an fp32 initialiser."""
    graph = model.graph
    halves = {t.name: t for t in graph.initializer if t.data_type == TensorProto.FLOAT16}
    for node in list(graph.node):
        if node.op_type != "Cast" or node.input[0] not in halves or _number(node, "to", 0) != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(halves[node.input[0]]).astype(np.float32)
        graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
        graph.node.remove(node)
    used = {name for node in graph.node for name in node.input}
    for name, tensor in halves.items():
        if name not in used:
            graph.initializer.remove(tensor)


def store_eight_bits(model: ModelProto) -> None:
    """Keep the weights of every product as int8 with one scale per output channel, and multiply as before.

    Weights that several products share, turned or not, are stored once.
    """
    graph = model.graph
    users = _users(model)
    made = []
    for tensor in list(graph.initializer):
        if tensor.data_type != TensorProto.FLOAT or len(tensor.dims) < 2 or np.prod(tensor.dims) < FEW:
            continue
        axis = _channel_axis(tensor.name, len(tensor.dims), users)
        if axis is None:
            continue
        values = numpy_helper.to_array(tensor)
        others = tuple(i for i in range(values.ndim) if i != axis)
        scale = np.maximum(np.abs(values).max(others, keepdims=True) / 127, _LEAST_SCALE)
        whole = np.clip(np.round(values / scale), -127, 127).astype(np.int8)
        graph.initializer.remove(tensor)
        graph.initializer.append(numpy_helper.from_array(whole, tensor.name + "_int8"))
        graph.initializer.append(numpy_helper.from_array(scale.reshape(-1).astype(np.float32), tensor.name + "_scale"))
        given = [tensor.name + "_int8", tensor.name + "_scale"]
        made.append(helper.make_node("DequantizeLinear", given, [tensor.name], axis=axis))
    _insert_first(model, made)


def _users(model: ModelProto) -> dict[str, list[NodeProto]]:
    users: dict[str, list[NodeProto]] = defaultdict(list)
    for node in model.graph.node:
        for name in node.input:
            users[name].append(node)
    return users


def _channel_axis(name: str, dims: int, users: dict[str, list[NodeProto]]) -> int | None:
    """The axis of output channels if a product multiplies with ``name``, also where it is turned first; else None."""
    for node in users[name]:
        place = list(node.input).index(name)
        if node.op_type == "Conv" and place == 1:
            return 0
        if node.op_type == "ConvTranspose" and place == 1:
            return 1
        if node.op_type == "Gemm" and place == 1:
            return 0 if _number(node, "transB", 0) else 1
        if node.op_type == "MatMul":
            return dims - 1 if place == 1 else dims - 2
        if node.op_type == "Einsum":
            return 0
        if node.op_type in _TURNS and place == 0 and _feeds_a_product(node.output[0], users):
            return 0
    return None


def _feeds_a_product(name: str, users: dict[str, list[NodeProto]]) -> bool:
    return any(
        node.op_type in _PRODUCTS or (node.op_type in _TURNS and _feeds_a_product(node.output[0], users))
        for node in users[name]
    )


def share_equal(model: ModelProto) -> None:
    """Store equal initialisers once, and no zero points of signed weights that are nought: they are by default."""
    graph = model.graph
    first: dict[tuple[int, tuple[int, ...], bytes], str] = {}
    same: dict[str, str] = {}
    noughts = set()
    outputs = {output.name for output in graph.output}
    for tensor in list(graph.initializer):
        values = numpy_helper.to_array(tensor)
        if tensor.data_type == TensorProto.INT8 and not values.any():
            noughts.add(tensor.name)
        key = (tensor.data_type, tuple(tensor.dims), values.tobytes())
        if first.setdefault(key, tensor.name) != tensor.name and tensor.name not in outputs:
            same[tensor.name] = first[key]
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and len(node.input) == 3 and node.input[2] in noughts:
            del node.input[2:]
        for place, name in enumerate(node.input):
            node.input[place] = same.get(name, name)
    used = {name for node in graph.node for name in node.input} | outputs
    for tensor in list(graph.initializer):
        if tensor.name not in used:
            graph.initializer.remove(tensor)


def strip(model: ModelProto) -> None:
    """Leave away what no engine reads: names inside the graph, shapes between nodes, the exporter's notes."""
    graph = model.graph
    del graph.value_info[:]
    del graph.metadata_props[:]
    short = {value.name: value.name for value in (*graph.input, *graph.output)} | {"": ""}
    nested = any(one.type in (one.GRAPH, one.GRAPHS) for node in graph.node for one in node.attribute)
    for node in graph.node:
        node.name = node.doc_string = ""
        del node.metadata_props[:]
        for names in (node.input, node.output):
            # Graphs inside nodes may speak of these names too.
            names[:] = [short.setdefault(name, name if nested else f"_{len(short):x}") for name in names]
    for tensor in graph.initializer:
        # Raw bytes: the exporter of a calibrated graph spends ten on a negative number of one.
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), short[tensor.name]))


def _number(node: NodeProto, name: str, default: int) -> int:
    return next((int(one.i) for one in node.attribute if one.name == name), default)


def _insert_first(model: ModelProto, nodes: list[NodeProto]) -> None:
    for place, node in enumerate(nodes):
        model.graph.node.insert(place, node)
