"""Every export format answers as the original, or is refused with the numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from faceproof.cli import app
from faceproof.detectors import catalog
from faceproof.detectors.catalog import InstalledSpec
from faceproof.detectors.detector import load_detector
from faceproof.detectors.installing import add_detector
from faceproof.detectors.spec import read_spec
from faceproof.errors import OptionError, WeightsError
from faceproof.faces.crops import batch
from faceproof.runtime import load_network
from faceproof.runtime.cpu import computes_bf16
from faceproof.training.convert.formats import export_detector
from faceproof.training.convert.onnx import Run, differences, random_crops
from faceproof.training.importing.install import import_checkpoint
from faceproof.training.importing.layouts import LAYOUTS
from faceproof.training.systems import build

SETTINGS = {"encoder": "tf_efficientnet_b0", "image_size": 64}
NAME = "efficientnet-b7-dfdc"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, enliven) -> Path:
    """A model folder with one small imported detector."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACEPROOF_HOME", str(folder))
        recipe = catalog.find_spec(NAME).spec.input.model_copy(update={"size": 64})
        net = enliven(build(NAME, SETTINGS), torch.from_numpy(batch(random_crops(12, seed=5), recipe)))
        state, entries = net.state_dict(), LAYOUTS[NAME].entries(net)
        file = {k: torch.zeros(e.shape) if e.ours is None else state[e.ours] for k, e in entries.items()}
        torch.save({"state_dict": file}, folder / "b7.pth")
        import_checkpoint(folder / "b7.pth", as_detector=NAME, settings=SETTINGS, crops=4)
    return folder


@pytest.fixture
def installed(home: Path, monkeypatch: pytest.MonkeyPatch) -> InstalledSpec:
    monkeypatch.setenv("FACEPROOF_HOME", str(home))
    return catalog.find_spec(NAME)


def test_runtimes_agree(installed: InstalledSpec) -> None:
    crops = random_crops(16, seed=2)
    onnx = load_detector(NAME, runtime="onnx", precision="fp32").score(crops)
    np.testing.assert_allclose(load_detector(NAME, runtime="openvino", precision="fp32").score(crops), onnx, atol=1e-4)
    if computes_bf16():
        bf16 = load_detector(NAME, runtime="openvino", precision="bf16").score(crops)
        # The median: a random network turns noise into leaps that a trained one does not make.
        assert np.median(np.abs(bf16 - onnx)) <= 0.02


@pytest.mark.parametrize("format_", ["onnx", "openvino", "torchscript"])
def test_exports_answer_as_the_original(format_: str, installed: InstalledSpec, tmp_path: Path) -> None:
    result = export_detector(installed, format_, tmp_path / "out")
    assert all(path.is_file() for path in result.files)
    record = read_spec(tmp_path / "out" / "spec.toml")
    assert record.input == installed.spec.input
    assert (tmp_path / "out" / str(record.weights.file)).is_file()
    if format_ == "openvino":
        values = batch(random_crops(3), record.input)
        again = load_network(tmp_path / "out" / "network.xml", precision="fp32").run(values)
        assert again["logit"].shape == (3,)
        assert again["heatmap"].shape == (3, 2, 2)
        add_detector(tmp_path / "out", name="as-ir")
        crops = random_crops(3)
        here = load_detector(NAME, precision="fp32").score(crops)
        np.testing.assert_allclose(load_detector("as-ir", precision="fp32").score(crops), here, atol=1e-4)


def test_answers_that_are_no_numbers_never_count_as_the_same() -> None:
    spec = catalog.find_spec(NAME).spec
    spec = spec.model_copy(update={"input": spec.input.model_copy(update={"size": 64})})

    def constant(logit: float, heat: float) -> Run:
        return lambda v: {
            "logit": np.full(len(v), logit, np.float32),
            "heatmap": np.full((len(v), 2, 2), heat, np.float32),
        }

    assert differences(constant(1, 0), constant(1, 0), spec.input, spec.output, crops=2).close
    apart = differences(constant(30, 0), constant(30.002, 0), spec.input, spec.output, crops=2)
    assert apart.close, "fp32 holds no more of a large logit"
    assert apart.logit == pytest.approx(0.002, rel=1e-3)
    assert not differences(constant(1, 0), constant(1.002, 0), spec.input, spec.output, crops=2).close
    assert not differences(constant(1, 0), constant(1, 0.1), spec.input, spec.output, crops=2).close
    for broken in (constant(np.nan, 0), constant(0, np.nan), constant(np.inf, 0)):
        for pair in ((constant(1, 0), broken), (broken, constant(1, 0))):
            with pytest.raises(WeightsError, match="not finite"):
                differences(*pair, spec.input, spec.output, crops=2)


def test_the_triton_repository_is_what_triton_reads(installed: InstalledSpec, tmp_path: Path) -> None:
    export_detector(installed, "triton", tmp_path / "repository")
    text = (tmp_path / "repository" / NAME / "config.pbtxt").read_text()
    assert (tmp_path / "repository" / NAME / "1" / "model.onnx").is_file()
    assert text.count("{") == text.count("}")
    assert text.count("[") == text.count("]")
    for words in ("dynamic_batching", "instance_group", "max_batch_size: 32", 'name: "logit"', "dims: [ 2, 2 ]"):
        assert words in text
    service = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    from google.protobuf import text_format

    config = text_format.Parse(text, service.ModelConfig())
    assert [list(output.dims) for output in config.output] == [[1], [2, 2]]
    assert list(config.input[0].dims) == [3, 64, 64]
    assert config.dynamic_batching.max_queue_delay_microseconds == 5000


def test_a_failed_export_leaves_nothing(installed: InstalledSpec, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="unknown format"):
        export_detector(installed, "tflite", tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "keep.txt").write_text("mine")
    with pytest.raises(OptionError, match="is not empty"):
        export_detector(installed, "onnx", tmp_path / "b")
    assert (tmp_path / "b" / "keep.txt").read_text() == "mine"


# --- the verbs -------------------------------------------------------------------------------------------------------


def test_the_verbs_list_show_verify_export_and_remove(installed: InstalledSpec, tmp_path: Path) -> None:
    run = CliRunner().invoke
    rows = {row["name"]: row for row in json.loads(run(app, ["detectors", "list", "--json"]).stdout)}
    assert rows[NAME]["weights"]
    assert rows[f"{NAME}-document"]["weights"], "the document's profile borrows them"
    assert not rows["cross-efficient-vit"]["weights"]
    listed = run(app, ["detectors", "list"]).stdout
    assert "efficientnet-b7-dfdc-seven" in listed
    assert "cross-efficient-vit" not in run(app, ["detectors", "list", "--ready"]).stdout
    shown = run(app, ["detectors", "show", NAME]).stdout
    assert "network.onnx" in shown
    assert "final_111" in run(app, ["detectors", "show", "efficientnet-b7-dfdc-seven"]).stdout
    verified = run(app, ["detectors", "verify", NAME])
    assert verified.exit_code == 0, verified.output
    assert run(app, ["detectors", "verify", "cross-efficient-vit"]).exit_code == 1
    exported = run(app, ["export", NAME, "--format", "onnx", "--out", str(tmp_path / "out")])
    assert exported.exit_code == 0, exported.output
    assert (tmp_path / "out" / "network.onnx").is_file()


def test_import_and_remove_by_command(home: Path, installed: InstalledSpec, tmp_path: Path) -> None:
    run = CliRunner().invoke
    file = str(installed.folder / "network.onnx")
    knobs = ["--set", "encoder=tf_efficientnet_b0", "--set", "image_size=64"]
    made = run(app, ["import", file, "--as", NAME, "--name", "second", *knobs])
    assert made.exit_code == 0, made.output
    assert "installed second" in made.output
    assert load_detector("second").score(random_crops(1)).shape == (1,)
    assert isinstance(run(app, ["import", file, "--as", NAME, "--name", "second", *knobs]).exception, OptionError)
    assert run(app, ["detectors", "remove", "second"]).exit_code == 0
    assert not (home / "models" / "second").exists()


def test_nothing_is_pulled_without_a_checksum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEPROOF_HOME", str(tmp_path))
    run = CliRunner().invoke
    no_sum = run(app, ["detectors", "pull", NAME]).exception
    assert isinstance(no_sum, WeightsError)
    assert "state no checksum" in str(no_sum)
    no_url = run(app, ["detectors", "pull", "efficientnet-b4-mobile"]).exception
    assert "nobody publishes" in str(no_url)
    offline = run(app, ["detectors", "pull", NAME, "--sha256", "0" * 64, "--offline"]).exception
    assert "stay offline" in str(offline)
