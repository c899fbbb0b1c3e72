from pathlib import Path

import numpy as np
import pytest

from faceproof.detectors.golden import golden_crop
from faceproof.detectors.spec import Golden
from faceproof.diagnosis import examine_detector
from faceproof.errors import SpecError

from .conftest import Run


def test_doctor_names_runtimes_cpu_and_every_detector(run: Run) -> None:
    ran = run("doctor")
    for word in ("openvino", "onnxruntime", "cpu", "toy", "faceproof-small"):
        assert word in ran.out, word
    assert ran.code == 0, ran.out


def test_doctor_fails_for_altered_weights(
    run: Run, toy_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ..toy_detector import write_toy_detector

    folder = write_toy_detector(tmp_path)
    content = bytearray((folder / "toy.onnx").read_bytes())
    content[-1] ^= 1
    (folder / "toy.onnx").write_bytes(content)
    monkeypatch.setenv("FACEPROOF_HOME", str(tmp_path))
    ran = run("doctor")
    assert ran.code == 1
    assert "not the file that toy was measured with" in ran.out


def test_known_answers_are_repeated_on_every_runtime(toy_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from faceproof.detectors.catalog import find_spec

    monkeypatch.setenv("FACEPROOF_HOME", str(toy_home))
    installed = find_spec("toy")
    crop = golden_crop("pattern:3", toy_home)
    import cv2

    small = cv2.resize(crop, (32, 32), interpolation=cv2.INTER_AREA)
    right = 20 * (float(small.mean()) / 255 - 0.5)
    for logit, state in ((right, "ok"), (right + 1, "wrong")):
        spec = installed.spec.model_copy(update={"golden": (Golden(asset="pattern:3", logit=logit, tolerance=0.05),)})
        found = list(examine_detector(replace(installed, spec=spec)))
        assert {finding.state for finding in found[1:]} == {state}, found


def test_the_golden_pattern_is_the_same_picture_everywhere(tmp_path: Path) -> None:
    crop = golden_crop("pattern:7", tmp_path)
    assert crop.shape == (256, 256, 3)
    assert crop.dtype == np.uint8
    corners = np.random.default_rng(7).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    np.testing.assert_array_equal(crop[0, 0], corners[0, 0])
    np.testing.assert_array_equal(crop[-1, -1], corners[-1, -1])
    with pytest.raises(SpecError, match="missing"):
        golden_crop("none.png", tmp_path)


def test_doctor_ends_with_what_it_all_comes_to(run: Run) -> None:
    lines = run("doctor").out.splitlines()
    assert lines[-1] == "Everything installed is what it claims to be."
    absent = [line for line in lines if "detectors without trained weights here" in line]
    assert len(absent) == 1
    assert "efficientnet-b7-dfdc" in absent[0]


def test_a_runtime_that_is_not_installed_is_named_with_its_remedy(
    run: Run, astronaut_png: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    real = importlib.util.find_spec
    missing = ("onnxruntime", "torch")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in missing else real(name, *rest))
    ran = run("scan", astronaut_png, "--detector", "toy", "--device", "cuda")
    assert ran.code == 1
    assert "onnxruntime is not installed" in ran.err
    assert "pip install" in ran.err
    assert "runtime not installed" in run("doctor").out


def test_a_misspelt_detector_is_guessed_at(run: Run, astronaut_png: Path) -> None:
    ran = run("scan", astronaut_png, "--detector", "faceproof-smal")
    assert ran.code == 1
    assert "Did you mean faceproof-small?" in ran.err
