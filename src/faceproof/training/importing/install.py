"""From an author's file to an installed detector, or to one clear error and nothing installed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from faceproof.detectors import catalog
from faceproof.detectors.detector import Detector
from faceproof.detectors.golden import known_answers
from faceproof.detectors.installing import Progress, free_folder, staged
from faceproof.detectors.spec import Checkpoint, DetectorSpec, Weights
from faceproof.detectors.spec_text import spec_to_toml
from faceproof.errors import NetworkError, OptionError, WeightsError
from faceproof.runtime import load_network
from faceproof.runtime.openvino import in_eight_bits
from faceproof.training.convert.onnx import Agreement, compare, export_onnx, random_crops
from faceproof.training.importing.files import read_safetensors, read_torch, sniff
from faceproof.training.importing.keras_files import KerasModel, read_h5, read_keras
from faceproof.training.importing.layouts import LAYOUTS, Layout, fill, ours, unwrap
from faceproof.training.systems import Settings, build, count_parameters, plan_of
from faceproof.training.systems.efficientnet import FaceClassifier

NETWORK = "network.onnx"
TENSORS = "network.safetensors"
COMPARED_CROPS = 64


@dataclass(frozen=True)
class Imported:
    """What was installed. ``agreement`` is missing where the file was ONNX already."""

    spec: DetectorSpec
    folder: Path
    parameters: int | None
    agreement: Agreement | None


def import_checkpoint(
    path: str | os.PathLike[str],
    *,
    as_detector: str,
    name: str | None = None,
    settings: Settings | None = None,
    replace: bool = False,
    crops: int = COMPARED_CROPS,
    progress: Progress = lambda _: None,
) -> Imported:
    """Read an author's checkpoint, check every key, convert, compare, and install it in the user's model folder.

    Parameters
    ----------
    path: selimsef's, Coccomini's or another known author's PyTorch file, ``.keras``, ``.h5``, safetensors, or ONNX
        with the outputs ``logit`` and ``heatmap``.
    as_detector: the detector whose network and recipe the file belongs to. Of a profile, its parent.
    name: what to call it; by default as the detector, whose weights it then is.
    settings: knobs of the network (see :func:`faceproof.training.systems.plan_of`).
    replace: overwrite a detector imported before under that name.

    Raises :class:`WeightsError` that names what is wrong with the file, or :class:`OptionError`. Then nothing is
    installed.
    """
    source = Path(path)
    template = _template(as_detector)
    size = plan_of(template.architecture or "", settings).image_size
    spec = template.model_copy(
        update={
            "name": name or template.name,
            "profile_of": None,
            "architecture_settings": dict(settings or {}),
            "input": template.input.model_copy(update={"size": size}),
        }
    )
    folder = free_folder(spec.name, replace)
    kind = sniff(source)
    progress(f"reading {source.name}")
    with staged(folder) as staging:
        if kind == "onnx":
            parameters, agreement = None, None
            _take_onnx(source, staging / NETWORK, spec)
        else:
            network = read_network(source, template.architecture or "", settings)
            progress("converting to ONNX")
            export_onnx(network, spec.input.size, staging / NETWORK)
            progress(f"comparing on {crops} crops")
            agreement = compare(network, staging / NETWORK, spec, crops=crops)
            _save_tensors(network, staging / TENSORS, spec)
            parameters = count_parameters(network)
            del network
        spec = _finished(spec, staging, source)
        (staging / "spec.toml").write_text(
            _HEADER.format(file=json.dumps(source.name)) + spec_to_toml(spec), encoding="utf-8"
        )
    return Imported(spec, folder, parameters, agreement)


_HEADER = "# Written by `faceproof import` from {file}.\n"


def _template(name: str) -> DetectorSpec:
    spec = catalog.find_spec(name).spec
    if spec.profile_of is not None:
        spec = catalog.find_spec(spec.profile_of).spec
    if spec.architecture not in LAYOUTS:
        known = ", ".join(LAYOUTS)
        raise OptionError(f"nothing can be imported as {name}", remedy=f"Files can be imported as {known}.")
    return spec


def read_network(path: Path, architecture: str, settings: Settings | None = None) -> nn.Module:
    """The documented network with the file's weights, in evaluation mode. Raises :class:`WeightsError`."""
    layout = LAYOUTS[architecture]
    kind = sniff(path)
    written_by = "Keras" if kind in ("keras", "hdf5") else "PyTorch"
    if kind != "safetensors" and written_by != layout.written_by:
        raise WeightsError(f"{path.name} is a {written_by} file, which {architecture} is not", remedy="Check --as.")
    network = build(architecture, settings)
    tensors: Mapping[str, Tensor]
    if kind in ("keras", "hdf5"):
        model = read_keras(path) if kind == "keras" else read_h5(path)
        check_keras(model, network, architecture, settings, path.name)
        tensors = model.tensors
    elif kind == "safetensors":
        tensors = read_safetensors(path)
        if all(key in network.state_dict() for key in tensors):
            layout = Layout((), (), ours)
        else:
            tensors = unwrap(tensors, layout)
    else:
        tensors = unwrap(read_torch(path, kind), layout)
    fill(network, tensors, layout, detector=architecture)
    return network


_KERAS_HEAD = [
    "GlobalAveragePooling2D", "BatchNormalization", "Dense 512 relu", "BatchNormalization", "Dropout", "Dense 1 sigmoid",
]  # fmt: skip


def check_keras(model: KerasModel, network: nn.Module, architecture: str, settings: Settings | None, name: str) -> None:
    """Compare what the file says of itself with the detector, and take over how it scales its input."""
    plan = plan_of(architecture, settings)
    if model.side != plan.image_size:
        raise WeightsError(
            f"{name} takes pictures of {model.side} px, {architecture} {plan.image_size}",
            remedy=f"Add --set image_size={model.side} if that is how it was trained.",
        )
    head = [step for step in model.head() if step != "Dropout"]
    if head != [step for step in _KERAS_HEAD if step != "Dropout"]:
        raise WeightsError(
            f"the head of {name} is {' – '.join(head)}, not {' – '.join(_KERAS_HEAD)}", remedy="Check --as."
        )
    factors = model.rescalings()
    if not 1 <= len(factors) <= 2:
        raise WeightsError(
            f"{name} scales its input in {len(factors)} layers; EfficientNets of Keras do in one or two",
            remedy="Check --as.",
        )
    assert isinstance(network, FaceClassifier)
    assert network.scaling is not None
    again = factors[1] if len(factors) == 2 else (1.0, 1.0, 1.0)
    network.scaling.scale.copy_(torch.tensor(factors[0]))  # type: ignore[operator]
    network.scaling.scale_again.copy_(torch.tensor(again))  # type: ignore[operator]


def _take_onnx(source: Path, target: Path, spec: DetectorSpec) -> None:
    """Copy an ONNX file whose inputs and outputs are the detector's; it must answer with finite numbers."""
    shutil.copyfile(source, target)
    try:
        network = load_network(target, runtime="onnx", precision="fp32")
    except NetworkError as error:
        raise WeightsError(
            f"{source.name} cannot be loaded: {error.message}", remedy="Fetch or export it again."
        ) from error
    wanted = [spec.output.logit] + ([spec.output.heatmap] if spec.output.heatmap else [])
    missing = [output for output in wanted if output not in network.outputs]
    if missing:
        raise WeightsError(
            f"{source.name} has the outputs {', '.join(network.outputs)}, but not {' and '.join(missing)}",
            remedy="Import the author's checkpoint instead, or export the graph with those outputs.",
        )
    try:
        Detector(spec, network).score_with_heat(random_crops(2))
    except (NetworkError, ValueError, IndexError, KeyError) as error:
        raise WeightsError(
            f"{source.name} does not answer as {spec.name} does: {error}", remedy="Check --as."
        ) from error


def _save_tensors(network: nn.Module, path: Path, spec: DetectorSpec) -> None:
    from safetensors.torch import save_file

    state = {key: value.contiguous() for key, value in network.state_dict().items()}
    about = {"architecture": spec.architecture or "", "settings": json.dumps(spec.architecture_settings)}
    save_file(state, str(path), metadata=about)


def _finished(spec: DetectorSpec, folder: Path, source: Path) -> DetectorSpec:
    """The spec with its weights' checksum, where they came from, and two known answers."""
    path = folder / NETWORK
    with source.open("rb") as file:
        origin = hashlib.file_digest(file, "sha256").hexdigest()
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    detector = Detector(spec, load_network(path, runtime="onnx", precision="fp32"))
    other = None
    if in_eight_bits(path) == "activations":
        other = Detector(spec, load_network(path, runtime="openvino", precision="fp32"))
    return spec.model_copy(
        update={
            "version": f"{spec.version.partition('+')[0]}+{origin[:8]}",
            "weights": Weights(file=NETWORK, sha256=digest, size=path.stat().st_size),
            "checkpoint": Checkpoint(file=source.name, sha256=origin),
            "golden": known_answers(detector, folder, other=other),
        }
    )
