"""Reading ``.keras`` archives and legacy ``.h5`` files with h5py alone: no TensorFlow, no Keras, no code from the file."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from faceproof.errors import WeightsError
from faceproof.training.importing.files import HOSTILE, check_members

_CHECK = "Check --as, or fetch the file again."
_MOST_CONFIG = 64 * 1024**2
_MOST_ITEMS = 50_000

# Variables of a layer in the order Keras stores them.
_VARIABLES = {
    "Conv2D": ("kernel", "bias"),
    "DepthwiseConv2D": ("kernel", "bias"),
    "Dense": ("kernel", "bias"),
    "BatchNormalization": ("gamma", "beta", "moving_mean", "moving_variance"),
    "Normalization": ("mean", "variance", "count"),
}
# Layers without weights that an EfficientNet is made of, and augmentation, which rests while predicting.
_WEIGHTLESS = {
    "InputLayer", "Rescaling", "ZeroPadding2D", "Activation", "GlobalAveragePooling2D", "Reshape", "Multiply", "Dropout",
    "Add", "RandomFlip", "RandomRotation", "RandomZoom", "RandomContrast", "RandomBrightness", "RandomTranslation",
}  # fmt: skip
_NESTS = {"Functional", "Model", "Sequential"}


@dataclass(frozen=True)
class KerasModel:
    """Weights under ``layer/variable``, the head's layers renamed by their order, and what the layers are."""

    tensors: dict[str, Tensor]
    layers: tuple[dict[str, Any], ...]
    side: int

    def rescalings(self) -> list[tuple[float, ...]]:
        """The factors of the Rescaling layers, in order, three each."""
        found = []
        for layer in self.layers:
            if layer["class_name"] != "Rescaling":
                continue
            scale, offset = layer["config"].get("scale"), layer["config"].get("offset", 0.0)
            values = scale if isinstance(scale, list) else [scale] * 3
            if len(values) != 3 or not all(isinstance(v, int | float) for v in values) or _number(offset) != 0:
                raise WeightsError(
                    f"cannot read the scale of Keras's layer {layer['config'].get('name')}", remedy=_CHECK
                )
            found.append(tuple(float(v) for v in values))
        return found

    def head(self) -> list[str]:
        """What follows the last convolution's activation: class names, widths and activations in order."""
        names = [layer["config"].get("name") for layer in self.layers]
        if "top_activation" not in names:
            raise WeightsError("the Keras file holds no EfficientNet", remedy="Check --as.")
        return [_described(layer) for layer in self.layers[names.index("top_activation") + 1 :]]


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")


def _described(layer: dict[str, Any]) -> str:
    if layer["class_name"] != "Dense":
        return str(layer["class_name"])
    return f"Dense {layer['config'].get('units')} {_activation(layer)}"


def _activation(layer: dict[str, Any]) -> str:
    activation = layer["config"].get("activation", "linear")
    return str(activation if isinstance(activation, str) else activation.get("config", activation))


def read_keras(path: Path) -> KerasModel:
    """Read a ``.keras`` archive. Raises :class:`WeightsError`."""
    with zipfile.ZipFile(path) as archive:
        check_members(archive.infolist(), path.name)
        config_info = archive.getinfo("config.json")
        if config_info.file_size > _MOST_CONFIG:
            raise WeightsError(f"the config.json of {path.name} is {config_info.file_size:,} bytes long", remedy=_CHECK)
        config = _parsed(archive.read(config_info), path.name)
        weights = io.BytesIO(archive.read("model.weights.h5"))
    layers = _layers(config, path.name)
    by_path = _datasets(weights, path.name)
    return _model(layers, _from_paths(layers, by_path, path.name), path.name)


def read_h5(path: Path) -> KerasModel:
    """Read a legacy whole-model ``.h5`` file. Raises :class:`WeightsError`."""
    try:
        with h5py.File(path, "r") as file:
            text = file.attrs.get("model_config")
    except (OSError, RuntimeError, ValueError) as error:
        raise WeightsError(f"{path.name} is cut off or damaged: {error}", remedy="Fetch it again.") from error
    if text is None:
        raise WeightsError(
            f"{path.name} holds weights without the model they belong to",
            remedy="Save the whole model, with `model.save`, not `save_weights`.",
        )
    layers = _layers(_parsed(text, path.name), path.name)
    named: dict[str, Tensor] = {}
    for place, value in _datasets(path, path.name).items():
        steps = place.split("/")
        if steps[0] != "model_weights" or len(steps) < 3:
            continue
        variable = re.sub(r":\d+$", "", steps[-1])
        named[f"{steps[-2]}/{'kernel' if variable == 'depthwise_kernel' else variable}"] = value
    return _model(layers, named, path.name)


def _parsed(text: str | bytes, name: str) -> dict[str, Any]:
    try:
        config = json.loads(text)
    except ValueError as error:
        raise WeightsError(f"the model description in {name} is damaged", remedy="Fetch it again.") from error
    if not isinstance(config, dict) or not isinstance(config.get("config"), dict):
        raise WeightsError(f"the model description in {name} is not a Keras model's", remedy=_CHECK)
    return config


def _layers(config: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The model's layers as they are nested. Raises for a kind of layer that no EfficientNet has."""
    layers = config["config"].get("layers")
    if not isinstance(layers, list):
        raise WeightsError(f"the model description in {name} lists no layers", remedy=_CHECK)
    for layer in layers:
        kind = layer.get("class_name") if isinstance(layer, dict) else None
        if not isinstance(layer, dict) or not isinstance(layer.get("config"), dict):
            raise WeightsError(f"the model description in {name} is damaged", remedy=_CHECK)
        if kind in _NESTS:
            _layers(layer, name)
        elif kind not in _VARIABLES and kind not in _WEIGHTLESS:
            raise WeightsError(
                f"{name} has a layer of kind {kind}, which this detector does not have", remedy="Check --as."
            )
    return layers


def _flat(layers: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for layer in layers:
        if layer["class_name"] in _NESTS:
            yield from _flat(layer["config"]["layers"])
        else:
            yield layer


def _datasets(source: Path | io.BytesIO, name: str) -> dict[str, Tensor]:
    """Every dataset of an HDF5 file by path. Links out of the file and data kept elsewhere are refused."""
    found: dict[str, Tensor] = {}
    count = 0

    def walk(group: h5py.Group, place: str, depth: int) -> None:
        nonlocal count
        for key in group:
            count += 1
            if depth > 24 or count > _MOST_ITEMS:
                raise WeightsError(f"{name} is nested or filled beyond any known detector", remedy=_CHECK)
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise WeightsError(f"{name} links to another file at {place}{key}", remedy=HOSTILE)
            item = group[key]
            if isinstance(item, h5py.Group):
                if not (depth == 0 and key in ("optimizer", "optimizer_weights")):
                    walk(item, f"{place}{key}/", depth + 1)
                continue
            if item.external or item.is_virtual:
                raise WeightsError(f"{name} keeps {place}{key} in another file", remedy=HOSTILE)
            if item.dtype.kind not in "fiu" or item.size > 2**28:
                continue  # names, seeds; or nothing that could be a layer's weights
            found[f"{place}{key}"] = torch.from_numpy(np.asarray(item[()]).astype(np.float32))

    try:
        with h5py.File(source, "r") as file:
            walk(file, "", 0)
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise WeightsError(f"{name} is cut off or damaged: {error}", remedy="Fetch it again.") from error
    return found


def _snake(kind: str) -> str:
    name = re.sub(r"\W+", "", kind)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _from_paths(layers: list[dict[str, Any]], found: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """Rename ``layers/conv2d_5/vars/0`` to ``block2a_expand_conv/kernel``: Keras numbers layers of a kind in order."""
    named: dict[str, Tensor] = {}
    used: set[str] = set()

    def visit(inside: list[dict[str, Any]], prefix: str) -> None:
        seen: Counter[str] = Counter()
        by_name = any(key.startswith(f"{prefix}_layer_checkpoint_dependencies/") for key in found)
        container = f"{prefix}_layer_checkpoint_dependencies/" if by_name else f"{prefix}layers/"
        for layer in inside:
            kind = _snake(layer["class_name"])
            number = seen[kind]
            seen[kind] += 1
            label = layer["config"].get("name") if by_name else kind + (f"_{number}" if number else "")
            if layer["class_name"] in _NESTS:
                visit(layer["config"]["layers"], f"{container}{label}/")
                continue
            for i, variable in enumerate(_VARIABLES.get(layer["class_name"], ())):
                key = f"{container}{label}/vars/{i}"
                if key in found:
                    used.add(key)
                    named[f"{layer['config']['name']}/{variable}"] = found[key]

    visit(layers, "")
    left = [key for key in found if key not in used and "/vars/" in key]
    if left:
        raise WeightsError(
            f"{name} holds weights of no layer it describes: {', '.join(sorted(left)[:5])}", remedy=_CHECK
        )
    return named


def _model(nested: list[dict[str, Any]], named: dict[str, Tensor], name: str) -> KerasModel:
    layers = tuple(_flat(nested))
    labels = [layer["config"].get("name") for layer in layers]
    start = labels.index("top_activation") + 1 if "top_activation" in labels else len(labels)
    order: Counter[str] = Counter()
    renames = {}
    for layer in layers[start:]:
        short = {"BatchNormalization": "bn", "Dense": "dense"}.get(layer["class_name"])
        if short:
            renames[layer["config"]["name"]] = f"head/{short}{order[short]}"
            order[short] += 1
    tensors = {}
    for key, value in named.items():
        layer_name, _, variable = key.rpartition("/")
        label = "normalization" if layer_name.startswith("normalization") else renames.get(layer_name, layer_name)
        tensors[f"{label}/{variable}"] = value
    sides = {tuple(shape[1:]) for layer in layers[:1] if (shape := _input_shape(layer))}
    side = next(iter(sides))[0] if len(sides) == 1 else None
    if not isinstance(side, int):
        raise WeightsError(f"{name} does not say the size of its input", remedy=_CHECK)
    return KerasModel(tensors, layers, side)


def _input_shape(layer: dict[str, Any]) -> list[int | None] | None:
    config = layer["config"]
    shape = config.get("batch_shape") or config.get("batch_input_shape")
    return shape if isinstance(shape, list) and len(shape) == 4 else None
