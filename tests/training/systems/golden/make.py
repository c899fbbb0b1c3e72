"""Write the key lists beside this file, from the originals' own packages and without any of Faceproof's code.

Each line is ``key shape``. Run once, where torch, timm, torchvision, efficientnet_pytorch and keras are installed:
``python tests/training/systems/golden/make.py``.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"

import h5py
import keras
import timm
import torch
import torchvision
from efficientnet_pytorch import EfficientNet
from torch import nn

HERE = Path(__file__).parent


def write(name: str, shapes: dict[str, tuple[int, ...]]) -> None:
    lines = [f"{key} {'x'.join(map(str, shape)) or 'scalar'}" for key, shape in sorted(shapes.items())]
    (HERE / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def shapes_of(module: nn.Module, prefix: str = "", without: str = " ") -> dict[str, tuple[int, ...]]:
    return {prefix + k: tuple(v.shape) for k, v in module.state_dict().items() if not k.startswith(without)}


def linear(name: str, inside: int, outside: int, bias: bool = True) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outside, inside)} | ({f"{name}.bias": (outside,)} if bias else {})


def norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def selimsef() -> None:
    with torch.device("meta"):
        encoder = timm.create_model("tf_efficientnet_b7.ns_jft_in1k")
    # As in the released files: every key behind the wrapper of parallel training, the ImageNet classifier included.
    keys = shapes_of(encoder, "encoder.") | linear("fc", 2560, 1)
    write("efficientnet-b7-dfdc", {f"module.{k}": v for k, v in keys.items()})


def mobile() -> None:
    with torch.device("meta"):
        net = torchvision.models.efficientnet_b4()
        width = net.classifier[1].in_features
        net.classifier = nn.Sequential(
            nn.Dropout(0.3), nn.Linear(width, 512), nn.ReLU(), nn.Dropout(0.15), nn.Linear(512, 128), nn.ReLU(),
            nn.Dropout(0.09), nn.Linear(128, 1),
        )  # fmt: skip
    write("efficientnet-b4-mobile", shapes_of(net, "efficientnet."))


def two_class() -> None:
    with torch.device("meta"):
        backbone = timm.create_model("efficientnet_b4", num_classes=0)
        head = nn.Sequential(
            nn.Dropout(0.5), nn.Linear(1792, 512), nn.ReLU(), nn.BatchNorm1d(512), nn.Dropout(0.3), nn.Linear(512, 2)
        )
    write("efficientnet-b4-224", shapes_of(backbone, "backbone.") | shapes_of(head, "classifier."))


def coccomini() -> None:
    b0 = EfficientNet.from_name("efficientnet-b0")
    keys: dict[str, tuple[int, ...]] = {}
    for branch, dim, inputs, patches in (("sm", 192, 1280 * 49, 1024), ("lg", 384, 24 * 3136, 16)):
        at = f"{branch}_image_embedder"
        keys |= shapes_of(b0, f"{at}.efficient_net.")
        keys |= linear(f"{at}.to_patch_embedding.1", inputs, dim)
        keys |= {f"{at}.pos_embedding": (1, patches + 1, dim), f"{at}.cls_token": (1, 1, dim)}
        keys |= norm(f"{branch}_mlp_head.0", dim) | linear(f"{branch}_mlp_head.1", dim, 1)
    for layer in range(4):
        at = f"multi_scale_encoder.layers.{layer}"
        for branch, (dim, depth) in enumerate(((192, 2), (384, 3))):
            keys |= norm(f"{at}.{branch}.norm", dim)
            for i in range(depth):
                deep = f"{at}.{branch}.layers.{i}"
                keys |= norm(f"{deep}.0.norm", dim) | norm(f"{deep}.1.norm", dim)
                keys |= linear(f"{deep}.0.fn.to_q", dim, 512, False) | linear(f"{deep}.0.fn.to_kv", dim, 1024, False)
                keys |= linear(f"{deep}.0.fn.to_out.0", 512, dim)
                keys |= linear(f"{deep}.1.fn.net.0", dim, 2048) | linear(f"{deep}.1.fn.net.3", 2048, dim)
        for i in range(2):
            for side, (outside, inside) in enumerate(((192, 384), (384, 192))):
                deep = f"{at}.2.layers.{i}.{side}"
                keys |= linear(f"{deep}.project_in", outside, inside) | linear(f"{deep}.project_out", inside, outside)
                keys |= norm(f"{deep}.fn.norm", inside)
                keys |= linear(f"{deep}.fn.fn.to_q", inside, 512, False)
                keys |= linear(f"{deep}.fn.fn.to_kv", inside, 1024, False)
                keys |= linear(f"{deep}.fn.fn.to_out.0", 512, inside)
    write("cross-efficient-vit", keys)


def relatives() -> None:
    b4 = EfficientNet.from_name("efficientnet-b4")
    body = shapes_of(b4, "", "_fc")
    write("efficientnet-b4-sbi", {f"net.{k}": v for k, v in body.items()} | linear("net._fc", 1792, 2))
    icpr = {f"efficientnet.{k}": v for k, v in body.items()} | linear("classifier", 1792, 1)
    write("efficientnet-b4-icpr2020", icpr)
    write("efficientnet-b4att-icpr2020", icpr | {"attconv.weight": (1, 56, 1, 1), "attconv.bias": (1,)})
    bench = {f"backbone.efficientnet.{k}": v for k, v in body.items()}
    write("efficientnet-b4-deepfakebench", bench | linear("backbone.last_layer", 1792, 2))


def keras_b4() -> None:
    base = keras.applications.EfficientNetB4(include_top=False, weights=None, input_shape=(380, 380, 3))
    x = keras.layers.GlobalAveragePooling2D()(base.output)
    x = keras.layers.BatchNormalization(name="head_bn0")(x)
    x = keras.layers.Dense(512, activation="relu", name="head_dense0")(x)
    x = keras.layers.BatchNormalization(name="head_bn1")(x)
    x = keras.layers.Dropout(0.5)(x)
    model = keras.Model(base.input, keras.layers.Dense(1, activation="sigmoid", name="head_dense1")(x))
    keys: dict[str, tuple[int, ...]] = {}
    with tempfile.TemporaryDirectory() as folder:
        model.save(f"{folder}/model.h5")
        with h5py.File(f"{folder}/model.h5") as file:

            def note(name: str, item: object) -> None:
                if isinstance(item, h5py.Dataset):
                    keys["/".join(name.split("/")[-2:])] = item.shape

            file["model_weights"].visititems(note)
    write("efficientnet-b4-keras", {key.replace("head_", "head/"): shape for key, shape in keys.items()})


if __name__ == "__main__":
    for make in (selimsef, mobile, two_class, coccomini, relatives, keras_b4):
        make()
