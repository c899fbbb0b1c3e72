"""Every operator against the ONNX standard's own cases: its inputs and what must come out."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper  # noqa: E402

from faceproof.errors import NetworkError  # noqa: E402
from faceproof.runtime.torch_operators import OPERATORS  # noqa: E402
from faceproof.runtime.torch_program import OLDEST_OPSET, _attributes  # noqa: E402

#: Number types that torch's kernels lack, or that numpy has only by name.
STRANGE = {"uint16", "uint32", "uint64", "bfloat16", "object"}
#: The standard has cases for types only (Cast), or none.
WITHOUT_CASES = {"Cast"}


@cache
def cases() -> dict[str, list[Any]]:
    """The standard's cases of one node by operator, in versions that are read."""
    from onnx.backend.test.case.node import collect_testcases

    found: dict[str, list[Any]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        everything = collect_testcases(None)
    for case in everything:
        nodes = case.model.graph.node if case.model is not None else ()
        if len(nodes) != 1 or nodes[0].op_type not in OPERATORS or nodes[0].domain:
            continue
        version = next(entry.version for entry in case.model.opset_import if entry.domain == "")
        newest = onnx.defs.onnx_opset_version()
        asked = min(max(version, OLDEST_OPSET), newest)
        if onnx.defs.get_schema(nodes[0].op_type, asked).since_version > version:
            continue
        inputs, outputs = ([np.asarray(value) for value in side] for side in case.data_sets[0])
        if any(value.dtype.name in STRANGE or value.size == 0 for value in (*inputs, *outputs)):
            continue
        found.setdefault(nodes[0].op_type, []).append((case, inputs, outputs))
    return found


@pytest.mark.parametrize("kind", sorted(set(OPERATORS) - WITHOUT_CASES))
def test_operators_compute_what_the_standard_says_or_refuse(kind: str) -> None:
    computed, refused = 0, 0
    for case, inputs, outputs in cases()[kind]:
        node = case.model.graph.node[0]
        named = dict(zip([value.name for value in case.model.graph.input], inputs, strict=True))
        operator = OPERATORS[kind]
        given = [
            None
            if not name
            else named[name].tolist()
            if place in operator.numbers
            else torch.from_numpy(named[name].copy())
            for place, name in enumerate(node.input)
        ]
        try:
            answer = operator.run(_attributes(node), *given)
        except NetworkError:
            refused += 1
            continue
        answers = answer if isinstance(answer, tuple) else (answer,)
        computed += 1
        # Masks and indices beside the result are never handed on: a graph that wants them is refused.
        for value, right in zip(answers, outputs, strict=False):
            assert tuple(value.shape) == right.shape, case.name
            np.testing.assert_allclose(value.numpy(), right, rtol=1e-3, atol=1e-5, err_msg=case.name)
    assert computed > 0
    assert refused <= {"Resize": 40, "LayerNormalization": 0}.get(kind, 8)


@pytest.mark.parametrize(
    ("given", "to", "right"),
    [
        (np.float32([-1.7, 0, 2.9]), TensorProto.INT64, np.int64([-1, 0, 2])),
        (np.float16([0.1]), TensorProto.FLOAT, np.float32([0.099975586])),
        (np.array([True, False]), TensorProto.FLOAT, np.float32([1, 0])),
        (np.int64([3, -3]), TensorProto.BOOL, np.array([True, True])),
    ],
)
def test_cast_changes_the_type(given: np.ndarray, to: int, right: np.ndarray) -> None:
    node = helper.make_node("Cast", ["x"], ["y"], to=to)
    value = OPERATORS["Cast"].run(_attributes(node), torch.from_numpy(given)).numpy()
    assert value.dtype == right.dtype
    np.testing.assert_array_equal(value, right)
