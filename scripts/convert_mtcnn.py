"""Convert the P-, R- and O-Net parameters of the facenet-pytorch wheel into the ONNX files this package ships.

    python scripts/convert_mtcnn.py [OUT_FOLDER]

Needs torch, onnx and facenet-pytorch 2.6.0 (``pip install --no-deps facenet-pytorch==2.6.0``; MIT licence). Run once;
the result is committed. Each file takes ``image``: float32 ``[N, 3, H, W]`` RGB with pixels 0 to 255 (the
normalisation is inside), and gives ``prob`` (of a face), ``bbreg`` (box correction x0 y0 x1 y1 in shares of the
window's side) and, for the O-Net, ``landmarks`` (five x, then five y, in shares of the window's side). Three deliberate
differences in form, none in value:

- the softmax over (no face, face) is the sigmoid of the difference, so the head has one channel fewer;
- the original flattens its maps in (width, height, channel) order; here the dense weights are permuted instead;
- pooling keeps ``ceil_mode``, on which the flattened size depends.

``pnet_screen`` is the P-Net for a first look in bfloat16: of its answers it gives ``logit`` alone, the log-odds of ``prob``.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

Parameters = Mapping[str, npt.NDArray[np.float32]]
OUT = Path(__file__).parent.parent / "src" / "faceproof" / "faces" / "weights"
SIZES: dict[str, tuple[str | int, str | int]] = {"pnet": ("H", "W"), "rnet": (24, 24), "onet": (48, 48)}


class Graph:
    """Collects nodes and parameters; every method returns the name of what it made."""

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: npt.NDArray[np.float32]) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value, dtype=np.float32), name))
        return name

    def node(self, kind: str, inputs: list[str], output: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def normalise(self) -> str:
        centred = self.node("Sub", ["image", self.constant("middle", np.float32(127.5))], "centred")
        return self.node("Mul", [centred, self.constant("step", np.float32(1 / 128))], "normalised")

    def conv(self, number: int, source: str) -> str:
        name = f"conv{number}"
        weight = self.constant(f"{name}.weight", self.parameters[f"{name}.weight"])
        bias = self.constant(f"{name}.bias", self.parameters[f"{name}.bias"])
        slope = self.constant(f"prelu{number}.weight", self.parameters[f"prelu{number}.weight"][:, None, None])
        return self.node("PRelu", [self.node("Conv", [source, weight, bias], name), slope], f"prelu{number}")

    def pool(self, number: int, source: str, kernel: int) -> str:
        return self.node("MaxPool", [source], f"pool{number}", kernel_shape=[kernel] * 2, strides=[2, 2], ceil_mode=1)

    def dense(self, number: int, source: str, channels: int, side: int) -> str:
        name = f"dense{number}"
        weight = self.parameters[f"{name}.weight"]
        permuted = weight.reshape(-1, side, side, channels).transpose(0, 3, 2, 1).reshape(len(weight), -1)
        flat = self.node("Flatten", [source], "flat")
        bias = self.constant(f"{name}.bias", self.parameters[f"{name}.bias"])
        dense = self.node("Gemm", [flat, self.constant(f"{name}.weight", permuted), bias], name, transB=1)
        slope = self.constant(f"prelu{number}.weight", self.parameters[f"prelu{number}.weight"])
        return self.node("PRelu", [dense, slope], f"prelu{number}")

    def head(self, output: str, layer: str, source: str, *, face_only: bool = False) -> None:
        """``face_only``: the difference of its two channels, as a probability, or as ``logit``."""
        weight, bias = self.parameters[f"{layer}.weight"], self.parameters[f"{layer}.bias"]
        if face_only:
            weight, bias = weight[1:] - weight[:1], bias[1:] - bias[:1]
        inputs = [source, self.constant(f"{layer}.weight", weight), self.constant(f"{layer}.bias", bias)]
        kind, attributes = ("Conv", {}) if weight.ndim == 4 else ("Gemm", {"transB": 1})
        if face_only and output != "logit":
            self.node("Sigmoid", [self.node(kind, inputs, f"{output}_logit", **attributes)], output)
        else:
            self.node(kind, inputs, output, **attributes)


def build(name: str, parameters: Parameters) -> onnx.ModelProto:
    graph = Graph(parameters)
    name, _, screen = name.partition("_")
    face = "logit" if screen else "prob"
    maps = graph.normalise()
    shapes: dict[str, list[str | int]]
    if name == "pnet":
        maps = graph.pool(1, graph.conv(1, maps), 2)
        maps = graph.conv(3, graph.conv(2, maps))
        graph.head(face, "conv4_1", maps, face_only=True)
        shapes = {face: ["N", 1, "cells_y", "cells_x"]}
        if not screen:
            graph.head("bbreg", "conv4_2", maps)
            shapes["bbreg"] = ["N", 4, "cells_y", "cells_x"]
    else:
        maps = graph.pool(2, graph.conv(2, graph.pool(1, graph.conv(1, maps), 3)), 3)
        if name == "rnet":
            last, features = 5, graph.dense(4, graph.conv(3, maps), channels=64, side=3)
        else:
            maps = graph.conv(4, graph.pool(3, graph.conv(3, maps), 2))
            last, features = 6, graph.dense(5, maps, channels=128, side=3)
        graph.head("prob", f"dense{last}_1", features, face_only=True)
        graph.head("bbreg", f"dense{last}_2", features)
        shapes = {"prob": ["N", 1], "bbreg": ["N", 4]}
        if name == "onet":
            graph.head("landmarks", "dense6_3", features)
            shapes["landmarks"] = ["N", 10]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, *SIZES[name]])
    outputs = [helper.make_tensor_value_info(key, TensorProto.FLOAT, shape) for key, shape in shapes.items()]
    model = helper.make_model(
        helper.make_graph(graph.nodes, name, [image], outputs, graph.constants),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
        producer_name="faceproof",
        doc_string="MTCNN, from facenet-pytorch 2.6.0, Copyright (c) 2019 Timothy Esler, MIT licence",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def main() -> None:
    import facenet_pytorch

    source = Path(facenet_pytorch.__file__).parent / "data"
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else OUT
    out.mkdir(parents=True, exist_ok=True)
    for name in (*SIZES, "pnet_screen"):
        state = torch.load(source / f"{name.partition('_')[0]}.pt", map_location="cpu", weights_only=True)
        parameters = {key: value.numpy() for key, value in state.items()}
        path = out / f"{name}.onnx"
        path.write_bytes(build(name, parameters).SerializeToString(deterministic=True))
        print(f"{path}  {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
