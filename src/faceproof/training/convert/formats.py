"""`faceproof export`: a detector's network in another engine's format, with the proof beside it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from faceproof.detectors.catalog import InstalledSpec, weights_path
from faceproof.detectors.detector import Detector
from faceproof.detectors.golden import known_answers
from faceproof.detectors.spec import DetectorSpec, Weights
from faceproof.detectors.spec_text import spec_to_toml
from faceproof.errors import OptionError, OutputError, WeightsError
from faceproof.runtime import load_network
from faceproof.training.convert.onnx import OUTPUTS, FloatArray, Run, differences


@dataclass(frozen=True)
class Exported:
    """The files written, and what was found when they were compared with the original."""

    files: tuple[Path, ...]
    words: str


def export_detector(installed: InstalledSpec, format_: str, out: Path, *, data: Path | None = None) -> Exported:
    """Write ``installed`` for another engine into the folder ``out``.

    ``data`` holds labelled face crops, for int8. Raises :class:`OptionError` for an unknown format or a folder in use,
    :class:`WeightsError` when there are no weights, when the result differs, or when int8 does not pass its gate.
    """
    formats: dict[str, Callable[[InstalledSpec, Path, Path], Exported]] = {
        "onnx": _onnx,
        "openvino": _openvino,
        "torchscript": _torchscript,
        "triton": _triton,
        "int8": lambda spec, path, folder: _int8(spec, path, folder, data),
    }
    if format_ not in formats:
        raise OptionError(f"unknown format {format_!r}", remedy=f"Use {', '.join(formats)}.")
    path = weights_path(installed)
    made = not out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()):
            raise OptionError(f"{out} is not empty", remedy="Give a new folder.")
    except OSError as error:
        raise OutputError(f"cannot write to {out}: {error.strerror}") from error
    try:
        return formats[format_](installed, path, out)
    except BaseException:
        for item in out.iterdir():
            shutil.rmtree(item) if item.is_dir() else item.unlink()
        if made:
            out.rmdir()
        raise


def write_record(spec: DetectorSpec, file: Path) -> Path:
    """The detector's record beside its exported network, with the checksum of that file."""
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    weights = Weights(file=file.name, sha256=digest, size=file.stat().st_size)
    path = file.with_name("spec.toml")
    path.write_text(spec_to_toml(spec.model_copy(update={"weights": weights, "profile_of": None})), encoding="utf-8")
    return path


def _prove_same(spec: DetectorSpec, first: Run, second: Run) -> str:
    found = differences(first, second, spec.input, spec.output)
    if not found.close:
        raise WeightsError(
            f"the exported network differs by {found.logit:.2g} in its logit and {found.heatmap:.2g} in its heatmap",
            remedy="Nothing was written. Use another format.",
        )
    return f"same answers on {found.crops} random crops: logit within {found.share:.1e}, heatmap within {found.heatmap:.1e}"


def _onnx(installed: InstalledSpec, path: Path, out: Path) -> Exported:
    target = out / "network.onnx"
    shutil.copyfile(path, target)
    return Exported((target, write_record(installed.spec, target)), "the network as it is installed")


def _openvino(installed: InstalledSpec, path: Path, out: Path) -> Exported:
    import openvino as ov

    target = out / "network.xml"
    ov.save_model(ov.convert_model(str(path)), str(target), compress_to_fp16=False)
    original = load_network(path, runtime="onnx", precision="fp32")
    converted = load_network(target, runtime="openvino", precision="fp32")
    words = _prove_same(installed.spec, original.run, converted.run)
    return Exported((target, target.with_suffix(".bin"), write_record(installed.spec, target)), words)


def _torchscript(installed: InstalledSpec, path: Path, out: Path) -> Exported:
    import warnings

    import torch

    from faceproof.training.importing.install import TENSORS, read_network
    from faceproof.training.systems import ARCHITECTURES

    spec = installed.spec
    tensors = installed.folder / TENSORS
    if spec.architecture not in ARCHITECTURES or not tensors.is_file():
        raise OptionError(
            f"{spec.name} has no torch network beside its ONNX file",
            remedy="Detectors imported from their authors' checkpoint have one. Export this one as onnx or openvino.",
        )
    network = read_network(tensors, spec.architecture, spec.architecture_settings)
    target = out / "network.pt"
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # tracing announces its own deprecation
        example = torch.zeros(2, 3, spec.input.size, spec.input.size)
        traced = torch.jit.trace(network, example, check_trace=False)  # type: ignore[no-untyped-call]
        torch.jit.freeze(traced).save(str(target))
        loaded = torch.jit.load(str(target))  # type: ignore[no-untyped-call]
    original = load_network(path, runtime="onnx", precision="fp32")

    def run(values: FloatArray) -> dict[str, FloatArray]:
        with torch.no_grad():
            logit, heat = loaded(torch.from_numpy(values))
        return dict(zip(OUTPUTS, (logit.numpy(), heat.numpy()), strict=True))

    words = _prove_same(spec, original.run, run)
    return Exported((target, write_record(spec, target)), words)


TRITON_CONFIG = """\
# Written by `faceproof export`. Input: float32 crops prepared as spec.toml says.
name: "{name}"
platform: "onnxruntime_onnx"
max_batch_size: 32
input [ {{ name: "{given}" data_type: TYPE_FP32 dims: [ 3, {size}, {size} ] }} ]
output [
{outputs}
]
dynamic_batching {{ preferred_batch_size: [ 4, 8, 16 ] max_queue_delay_microseconds: 5000 }}
instance_group [ {{ count: 1 kind: KIND_AUTO }} ]
version_policy {{ latest {{ num_versions: 1 }} }}
"""


def _triton(installed: InstalledSpec, path: Path, out: Path) -> Exported:
    import onnx

    spec = installed.spec
    graph = onnx.load(str(path), load_external_data=False).graph
    example = np.zeros((1, 3, spec.input.size, spec.input.size), np.float32)
    answers = load_network(path, runtime="onnx", precision="fp32").run(example)
    rows = []
    for name, value in answers.items():
        # A number a face has no axis beside the batch; Triton calls that one value, reshaped to none.
        dims = ", ".join(str(n) for n in value.shape[1:])
        shape = f"dims: [ {dims} ]" if dims else "dims: [ 1 ] reshape { shape: [ ] }"
        rows.append(f'  {{ name: "{name}" data_type: TYPE_FP32 {shape} }}')
    folder = out / spec.name
    (folder / "1").mkdir(parents=True)
    target = folder / "1" / "model.onnx"
    shutil.copyfile(path, target)
    config = folder / "config.pbtxt"
    config.write_text(
        TRITON_CONFIG.format(name=spec.name, given=graph.input[0].name, size=spec.input.size, outputs=",\n".join(rows)),
        encoding="utf-8",
    )
    record = folder / "spec.toml"
    record.write_text(spec_to_toml(spec.model_copy(update={"profile_of": None})), encoding="utf-8")
    return Exported((config, target, record), f"start it with: tritonserver --model-repository {out}")


def _int8(installed: InstalledSpec, path: Path, out: Path, data: Path | None) -> Exported:
    from faceproof.training.convert.int8 import quantise, read_crops

    if data is None:
        raise OptionError(
            "int8 needs pictures to calibrate and to be judged by", remedy="Give --data DIR with DIR/real and DIR/fake."
        )
    target = out / "network.onnx"
    gate = quantise(path, installed.spec, read_crops(data), target)
    numbers = out / "gate.json"
    numbers.write_text(json.dumps(gate.as_dict(), indent=2), encoding="utf-8")
    spec = _own_answers(installed.spec, target)
    words = [f"{gate.words()}; {gate.megabytes:.1f} MB"]
    if gate.refused:
        words.append(f"refused: {gate.refused}")
    words.append(f"to use it here: faceproof detectors add {out} --name {spec.name}-int8")
    return Exported((target, write_record(spec, target), numbers), "\n".join(words))


def _own_answers(spec: DetectorSpec, network: Path) -> DetectorSpec:
    """The record of an eight-bit network: known answers of its own, and a version that reports tell apart."""
    in_openvino, in_onnx = (
        Detector(spec, load_network(network, runtime=runtime, precision="fp32")) for runtime in ("openvino", "onnx")
    )
    assets = [row.asset for row in spec.golden if row.asset.startswith("pattern:")]
    golden = known_answers(in_openvino, network.parent, assets, other=in_onnx)
    version = f"{spec.version.partition('+int8')[0]}+int8"
    return spec.model_copy(update={"version": version, "golden": golden})
