"""The documented framework's own examples, run."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from faceproof.detectors.detector import load_detector
from faceproof.detectors.fusion import FusionMethod
from faceproof.errors import MediaUnsupportedError, NetworkError, OptionError, SpecError
from faceproof.ops.framework import EnsembleManager, ModelRegistry

from ..toy_detector import write_toy_detector


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    home = tmp_path_factory.mktemp("home")
    write_toy_detector(home, name="toy")
    write_toy_detector(home, name="wide", pivot=0.4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACEPROOF_HOME", str(home))
        yield


@dataclass
class Answer:
    is_deepfake: bool | None
    confidence: float | None = None


class Documented:
    """A model with the documents' own shape: one ``config``, ``load_model``, ``predict``."""

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        self.config = config or {}
        self.loaded = False

    def load_model(self) -> None:
        self.loaded = True

    def predict(self, image: Any) -> Answer:
        if self.config.get("broken"):
            raise NetworkError("no engine")
        return Answer(self.config.get("fake", True), self.config.get("confidence", 0.8))


def test_the_documents_example(toys: None, astronaut: np.ndarray) -> None:
    registry = ModelRegistry()
    registry.register_model("efficientnet", Documented, {"enable_attention": True, "mobile_optimized": True})
    registry.register_model("toy", load_detector, {"name": "toy", "precision": "fp32"})
    assert registry.list_models() == {"efficientnet": False, "toy": False}
    with pytest.raises(OptionError):
        registry.get_model("toy")
    registry.load_model("efficientnet")
    registry.load_model("toy")
    assert registry.get_model("efficientnet").loaded
    ensemble = EnsembleManager()
    ensemble.add_model("efficientnet", registry.get_model("efficientnet"), weight=1.0)
    ensemble.add_model("toy", registry.get_model("toy"), weight=3.0)
    result = ensemble.predict_ensemble(Image.fromarray(astronaut))
    assert result.is_deepfake is True
    assert result.p_fake == pytest.approx((0.8 + 3 * result.members["toy"]) / 4)
    assert result.confidence == result.p_fake
    assert result.uncertainty is not None
    assert f"{result.uncertainty:.3f}"
    assert result.inference_time > 0


def test_paths_and_arrays_are_pictures_too(toys: None, astronaut: np.ndarray, astronaut_png: Path) -> None:
    ensemble = EnsembleManager("logit_mean")
    ensemble.add_model("toy", load_detector("toy", precision="fp32"))
    one, two = (ensemble.predict_ensemble(image) for image in (astronaut, astronaut_png))
    assert one.p_fake == pytest.approx(two.p_fake)
    for wrong in (astronaut[:, :, 0], astronaut.astype(np.float32), 7):
        with pytest.raises(OptionError):
            ensemble.predict_ensemble(wrong)


def test_a_video_is_not_judged_by_its_first_frame(clip_mp4: Path) -> None:
    manager = EnsembleManager()
    manager.add_model("one", Documented())
    with pytest.raises(MediaUnsupportedError, match="is a video"):
        manager.predict_ensemble(clip_mp4)


def test_faces_are_found_once(toys: None, astronaut: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    from faceproof.faces import FaceDetector

    asked: list[int] = []
    detect = FaceDetector.detect

    def counted(self: FaceDetector, image: np.ndarray) -> list[Any]:
        asked.append(1)
        return detect(self, image)

    monkeypatch.setattr(FaceDetector, "detect", counted)
    ensemble = EnsembleManager()
    for name in ("toy", "wide"):
        ensemble.add_model(name, load_detector(name, precision="fp32"))
    ensemble.predict_ensemble(astronaut)
    assert asked == [1]


def test_real_with_confidence_is_a_low_p_fake() -> None:
    ensemble = EnsembleManager()
    ensemble.add_model("a", Documented({"fake": False, "confidence": 0.9}))
    result = ensemble.predict_ensemble(np.zeros((8, 8, 3), np.uint8))
    assert (result.is_deepfake, result.p_fake, result.confidence) == (False, pytest.approx(0.1), pytest.approx(0.9))


def test_who_fails_or_sees_nothing_is_named_and_left_out(toys: None) -> None:
    blank = np.full((64, 64, 3), 128, np.uint8)
    ensemble = EnsembleManager()
    ensemble.add_model("fails", Documented({"broken": True}), weight=5)
    ensemble.add_model("silent", Documented({"fake": None}))
    ensemble.add_model("toy", load_detector("toy", precision="fp32"))
    nobody = ensemble.predict_ensemble(blank)
    assert (nobody.is_deepfake, nobody.p_fake, nobody.uncertainty) == (None, None, None)
    assert nobody.left_out == {"fails": "no engine", "silent": "it gave no opinion", "toy": "no face was found"}
    ensemble.add_model("one", Documented({"confidence": 0.7}))
    assert ensemble.predict_ensemble(blank).p_fake == pytest.approx(0.7)
    broken = EnsembleManager()
    broken.add_model("fails", Documented({"broken": True}))
    with pytest.raises(NetworkError, match="no engine"):
        broken.predict_ensemble(blank)


def test_what_makes_no_sense_is_refused() -> None:
    blank = np.zeros((8, 8, 3), np.uint8)
    ensemble = EnsembleManager()
    with pytest.raises(OptionError):
        ensemble.predict_ensemble(blank)
    ensemble.add_model("a", Documented(), weight=0)
    with pytest.raises(OptionError, match="zero"):
        ensemble.predict_ensemble(blank)
    for name, model, weight in (("a", Documented(), 1), ("b", object(), 1), ("c", Documented(), -1)):
        with pytest.raises(OptionError):
            ensemble.add_model(name, model, weight)
    with pytest.raises(OptionError):
        ensemble.remove_model("z")
    with pytest.raises(OptionError):
        EnsembleManager(FusionMethod.STACKED)
    with pytest.raises(SpecError):
        EnsembleManager("mean", temperature=2)
    with pytest.raises(ValueError):
        EnsembleManager("guess")
    registry = ModelRegistry()
    registry.register_model("a", Documented)
    for call in (lambda: registry.register_model("a", Documented), lambda: registry.load_model("z")):
        with pytest.raises(OptionError):
            call()
