"""A detector that needs no training: it calls bright faces fake. Real files on disk, so that every door can load it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

TOY_SPEC = """
schema_version = 1
name = "{name}"
version = "1.0"
summary = "Calls bright faces fake; for tests."
[licence]
weights = "Apache-2.0"
code = "Apache-2.0"
commercial = true
origin = "made by the tests"
[weights]
file = "toy.onnx"
sha256 = "{sha256}"
size = {size}
[faces]
margin = {{ kind = "square", value = 1.2 }}
[input]
size = 32
mean = [0.0, 0.0, 0.0]
std = [1.0, 1.0, 1.0]
[output]
fake_is = "{fake_is}"
heatmap = "heatmap"
heatmap_kind = "activation"
[verdict]
min_side = 16
"""


def write_toy_detector(home: Path, *, name: str = "toy", pivot: float = 0.5, fake_is: str = "high") -> Path:
    """Install the toy in a model folder: logit = 20 * (mean brightness - ``pivot``). Returns its folder."""
    folder = home / "models" / name
    folder.mkdir(parents=True)
    constants = {
        "pivot": np.float32(pivot),
        "slope": np.float32(20),
        "pixel_axes": np.asarray([1, 2, 3], np.int64),
        "channel_axis": np.asarray([1], np.int64),
    }
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["input", "pixel_axes"], ["brightness"], keepdims=0),
            helper.make_node("Sub", ["brightness", "pivot"], ["above"]),
            helper.make_node("Mul", ["above", "slope"], ["logit"]),
            helper.make_node("ReduceMean", ["input", "channel_axis"], ["heatmap"], keepdims=0),
        ],
        "toy",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3, 32, 32])],
        [
            helper.make_tensor_value_info("logit", TensorProto.FLOAT, ["n"]),
            helper.make_tensor_value_info("heatmap", TensorProto.FLOAT, ["n", 32, 32]),
        ],
        [numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()],
    )
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()
    onnx.checker.check_model(content)
    (folder / "toy.onnx").write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    (folder / "spec.toml").write_text(TOY_SPEC.format(name=name, sha256=sha256, size=len(content), fake_is=fake_is))
    return folder
