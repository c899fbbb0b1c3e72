"""The page of the documents' examples runs, with small networks standing in for the authors' weights."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import faceproof
from faceproof.detectors import catalog
from faceproof.detectors.detector import Detector
from faceproof.detectors.spec import BandPoint, QualityBands, Weights
from faceproof.detectors.spec_text import spec_to_toml
from faceproof.errors import MediaError, OptionError, WeightsError
from faceproof.predict import predict, visualize_attention_map

PAGE = Path(__file__).parents[1] / "docs" / "from-the-documents.md"
STANDING_IN = (
    "efficientnet-b7-dfdc", "efficientnet-b4-mobile", "efficientnet-b4-keras", "cross-efficient-vit", "efficientnet-b4-224",
)  # fmt: skip

# No single face is enough for a verdict.
ONE_FACE = QualityBands(
    false_alarms=0.01, misses=0.2, faces=(BandPoint(at=8, low=0.1, high=0.99), BandPoint(at=1, low=0, high=1))
)


def stand_in(home: Path, name: str) -> None:
    """Weights for a shipped record: the mean of the picture as the logit, the picture's coarse brightness as the map."""
    import hashlib

    spec = catalog.find_spec(name).spec
    size, classes = spec.input.size, 2 if spec.output.activation == "softmax" else 1
    axes = numpy_helper.from_array(np.asarray([1, 2, 3], np.int64), "axes")
    channel = numpy_helper.from_array(np.asarray([1], np.int64), "channel")
    nodes = [
        helper.make_node("ReduceMean", ["input", "channel"], ["grey"], keepdims=1),
        helper.make_node("AveragePool", ["grey"], ["coarse"], kernel_shape=[size // 7] * 2, strides=[size // 7] * 2),
        helper.make_node("Sigmoid", ["coarse"], ["wide"]),
        helper.make_node("Squeeze", ["wide", "channel"], ["heatmap"]),
    ]
    if classes == 1:
        nodes.append(helper.make_node("ReduceMean", ["input", "axes"], ["logit"], keepdims=0))
    else:
        nodes.append(helper.make_node("ReduceMean", ["input", "across"], ["rows"], keepdims=0))
        nodes.append(helper.make_node("Slice", ["rows", "first", "second", "channel"], ["logit"]))
    constants = [axes, channel]
    constants += [
        numpy_helper.from_array(np.asarray(v, np.int64), n)
        for n, v in (("across", [2, 3]), ("first", [0]), ("second", [2]))
    ]
    batch = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3, size, size])
    logit = helper.make_tensor_value_info("logit", TensorProto.FLOAT, ["n"] if classes == 1 else ["n", 2])
    heat = helper.make_tensor_value_info("heatmap", TensorProto.FLOAT, ["n", "h", "w"])
    graph = helper.make_graph(nodes, name, [batch], [logit, heat], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    folder = home / "models" / name
    folder.mkdir(parents=True)
    onnx.save(model, str(folder / "network.onnx"))
    content = (folder / "network.onnx").read_bytes()
    weights = Weights(file="network.onnx", sha256=hashlib.sha256(content).hexdigest(), size=len(content))
    (folder / "spec.toml").write_text(spec_to_toml(spec.model_copy(update={"weights": weights})), encoding="utf-8")


@pytest.fixture
def desk(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    astronaut_jpg: Path,
    clip_mp4: Path,
    clip_noface_mp4: Path,
) -> Path:
    """A folder with the files the documents name."""
    monkeypatch.setenv("FACEPROOF_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    for name in ("test_image.jpg", "image.jpg", "suspicious_image.jpg"):
        shutil.copy(astronaut_jpg, tmp_path / name)
    (tmp_path / "images").mkdir()
    shutil.copy(astronaut_jpg, tmp_path / "images" / "one.jpg")
    shutil.copy(clip_mp4, tmp_path / "video.mp4")
    shutil.copy(clip_noface_mp4, tmp_path / "no_face.mp4")
    return tmp_path


def test_the_page_runs(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in STANDING_IN:
        stand_in(desk / "home", name)
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.M | re.S)
    assert len(blocks) >= 6
    place: dict[str, object] = {}
    for number, block in enumerate(blocks):
        exec(compile(block, f"{PAGE.name}, block {number + 1}", "exec"), place)
    assert (desk / "attention_output.png").is_file()
    assert "Top 5 suspicious images" in capsys.readouterr().out


def test_the_pages_commands_exist() -> None:
    from typer.main import get_command

    from faceproof.cli import app

    known = get_command(app).commands  # type: ignore[attr-defined]
    for verb, second in re.findall(r"faceproof ([a-z-]+)(?: ([a-z-]+))?", PAGE.read_text(encoding="utf-8")):
        assert verb in known, verb
        if verb == "detectors" and second:
            assert second in known[verb].commands


def test_without_weights_every_system_says_where_to_get_them(desk: Path) -> None:
    for name in STANDING_IN:
        with pytest.raises(WeightsError, match="untrained network is never scored"):
            predict("test_image.jpg", name)


def test_predict_tells_when_it_has_no_opinion(desk: Path) -> None:
    stand_in(desk / "home", "efficientnet-b4-mobile")
    detector = faceproof.load_detector("efficientnet-b4-mobile")
    nothing = predict(np.full((200, 200, 3), 120, np.uint8), detector)
    assert (nothing.is_deepfake, nothing.confidence, nothing.attention_maps) == (None, None, None)
    assert nothing.verdict == "NOT_ASSESSED"
    answer = predict("test_image.jpg", detector)
    assert answer.attention_maps is not None
    assert answer.attention_maps.shape == (512, 512)
    assert 0 <= answer.attention_maps.min() < answer.attention_maps.max() <= 1
    assert answer.metadata["faces"][0]["p_fake"] == pytest.approx(answer.score)
    with pytest.raises(MediaError):
        predict("nowhere.jpg", detector)
    with pytest.raises(OptionError, match="uint8"):
        predict(np.zeros((4, 4)), detector)
    with pytest.raises(OptionError, match="the map is"):
        visualize_attention_map("test_image.jpg", answer.attention_maps[:10], "out.png")


def test_predict_says_what_a_scan_says(desk: Path, clip_mp4: Path) -> None:
    """Also of what cannot be judged; a video is not judged by its first frame."""
    stand_in(desk / "home", "efficientnet-b4-mobile")
    loaded = faceproof.load_detector("efficientnet-b4-mobile")
    rule = loaded.spec.verdict.model_copy(
        update={"min_side": 48, "min_detection": 0.95, "threshold": 0.5, "band": (0.1, 0.99), "quality": ONE_FACE}
    )
    detector = Detector(loaded.spec.model_copy(update={"verdict": rule}), loaded.network)
    whole = Image.open("test_image.jpg")
    for name, picture in {
        "whole": whole,
        "small": whole.resize((150, 150)),
        "turned": whole.rotate(90, expand=True),
        "empty": whole.crop((0, 0, 60, 60)),
    }.items():
        path = Path(f"{name}.png")
        picture.save(path)
        report, answer = faceproof.scan(path, detector=detector), predict(path, detector)
        assert (answer.verdict, answer.score) == (report.verdict, report.score), name
        assert answer.metadata.get("reason") == report.reason, name
    with pytest.raises(MediaError, match="is a video"):
        predict(clip_mp4, detector)


def test_predict_stands_a_pil_picture_up(desk: Path) -> None:
    stand_in(desk / "home", "efficientnet-b4-mobile")
    detector = faceproof.load_detector("efficientnet-b4-mobile")
    note = Image.Exif()
    note[0x112] = 6
    Image.open("test_image.jpg").rotate(90, expand=True).save("lying.png", exif=note)
    assert predict(Image.open("lying.png"), detector).score == predict("lying.png", detector).score is not None
