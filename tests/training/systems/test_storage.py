"""Graphs that store their numbers otherwise compute what they did."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from faceproof.training.convert import storage

RNG = np.random.default_rng(0)
WIDTH = 32


def graph() -> ModelProto:
    """A convolution, two products that share a matrix (one turned), a product in an Einsum, a bias."""
    tensors = {
        "kernel": RNG.normal(0, 0.3, (WIDTH, 3, 3, 3)),
        "bias": RNG.normal(0, 1, WIDTH),
        "shared": RNG.normal(0, 0.2, (WIDTH, WIDTH)),
        "mixed": RNG.normal(0, 0.2, (WIDTH, WIDTH)),
        "long": RNG.normal(0, 1, 300),
    }
    nodes = [
        helper.make_node("Conv", ["input", "kernel", "bias"], ["seen"]),
        helper.make_node("ReduceMean", ["seen", "axes"], ["pooled"], keepdims=0),
        helper.make_node("Gemm", ["pooled", "shared"], ["there"], transB=1),
        helper.make_node("MatMul", ["there", "shared"], ["back"]),
        helper.make_node("Transpose", ["mixed"], ["turned"], perm=[1, 0]),
        helper.make_node("Einsum", ["back", "turned"], ["out"], equation="nc,cd->nd"),
        helper.make_node("ReduceSum", ["long"], ["sum"], keepdims=0),
        helper.make_node("Add", ["out", "sum"], ["logit"]),
    ]
    made = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("logit", TensorProto.FLOAT, ["n", WIDTH])],
        [numpy_helper.from_array(v.astype(np.float32), n) for n, v in tensors.items()]
        + [numpy_helper.from_array(np.asarray([2, 3], np.int64), "axes")],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def answers(model: ModelProto) -> np.ndarray:
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    values = np.random.default_rng(1).normal(0, 1, (4, 3, 8, 8)).astype(np.float32)
    return session.run(None, {"input": values})[0]


def kinds(model: ModelProto) -> dict[int, int]:
    found: dict[int, int] = {}
    for tensor in model.graph.initializer:
        found[tensor.data_type] = found.get(tensor.data_type, 0) + int(np.prod(tensor.dims))
    return found


def test_halves_and_back() -> None:
    model = graph()
    before, size = answers(model), kinds(model)[TensorProto.FLOAT]
    storage.store_half(model)
    assert kinds(model) == {TensorProto.FLOAT16: size - WIDTH, TensorProto.FLOAT: WIDTH, TensorProto.INT64: 2}
    halves = answers(model)
    np.testing.assert_allclose(halves, before, atol=0.02)
    assert np.abs(halves - before).max() > 0
    storage.restore_floats(model)
    assert kinds(model) == {TensorProto.FLOAT: size, TensorProto.INT64: 2}
    assert "Cast" not in {node.op_type for node in model.graph.node}
    np.testing.assert_allclose(answers(model), halves, atol=1e-5)


def test_eight_bits_hold_every_matrix_once_and_answer_alike() -> None:
    model = graph()
    before = answers(model)
    storage.store_eight_bits(model)
    assert kinds(model)[TensorProto.INT8] == WIDTH * 27 + 2 * WIDTH * WIDTH
    dequantised = [node for node in model.graph.node if node.op_type == "DequantizeLinear"]
    assert len(dequantised) == 3
    after = answers(model)
    assert 0 < np.abs(after - before).max() < 0.02 * np.abs(before).max()
    for step in (storage.share_equal, storage.store_half, storage.strip):
        step(model)
    np.testing.assert_allclose(answers(model), after, atol=0.02)
    assert not any(node.name for node in model.graph.node)
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["input", "logit"]


def test_each_output_channel_has_a_scale_of_its_own() -> None:
    model = graph()
    kernel = next(t for t in model.graph.initializer if t.name == "kernel")
    values = numpy_helper.to_array(kernel).copy()
    values[0] *= 1e-3
    kernel.CopyFrom(numpy_helper.from_array(values, "kernel"))
    storage.store_eight_bits(model)
    held = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    restored = held["kernel_int8"] * held["kernel_scale"].reshape(-1, 1, 1, 1)
    assert np.abs(restored[0] - values[0]).max() < 0.02 * np.abs(values[0]).max()


def test_what_a_half_cannot_hold_stays_a_float() -> None:
    model = graph()
    for tensor in model.graph.initializer:
        if tensor.name == "long":
            tensor.CopyFrom(numpy_helper.from_array(np.full(300, 70_000, np.float32), "long"))
    storage.store_half(model)
    assert kinds(model)[TensorProto.FLOAT] == WIDTH + 300
    tiny = graph()
    scale = numpy_helper.from_array(np.full(300, 1e-6, np.float32), "scale")
    tiny.graph.initializer.extend([scale, numpy_helper.from_array(np.ones((300, 4), np.int8), "whole")])
    tiny.graph.node.append(helper.make_node("DequantizeLinear", ["whole", "scale"], ["unused"], axis=0))
    storage.store_half(tiny)
    assert "scale" in {t.name for t in tiny.graph.initializer}, "a scale that becomes nought is a channel lost"


def test_equal_numbers_are_stored_once() -> None:
    model = graph()
    before = answers(model)
    twin = next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name == "shared")
    model.graph.initializer.append(numpy_helper.from_array(twin, "twin"))
    next(node for node in model.graph.node if node.op_type == "MatMul").input[1] = "twin"
    storage.share_equal(model)
    assert "twin" not in {t.name for t in model.graph.initializer}
    np.testing.assert_array_equal(answers(model), before)


@pytest.mark.parametrize("nested", [False, True])
def test_names_that_inner_graphs_use_are_kept(nested: bool) -> None:
    model = graph()
    if nested:
        inner = helper.make_graph(
            [helper.make_node("Identity", ["out"], ["same"])],
            "inner",
            [],
            [helper.make_tensor_value_info("same", TensorProto.FLOAT, ["n", WIDTH])],
        )
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(True), "always"))
        model.graph.node.insert(6, helper.make_node("If", ["always"], ["chosen"], then_branch=inner, else_branch=inner))
        model.graph.node[-1].input[0] = "chosen"
    before = answers(model)
    storage.strip(model)
    np.testing.assert_array_equal(answers(model), before)
    assert ("out" in {name for node in model.graph.node for name in node.output}) == nested
