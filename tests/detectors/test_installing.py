"""A detector of one's own goes into the model folder whole, checked, or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from faceproof.cli import app
from faceproof.detectors import catalog
from faceproof.detectors.detector import load_detector
from faceproof.detectors.installing import add_detector
from faceproof.errors import OptionError, WeightsError
from tests.toy_detector import write_toy_detector


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as a training run leaves it, and an empty model folder."""
    monkeypatch.setenv("FACEPROOF_HOME", str(tmp_path / "home"))
    return write_toy_detector(tmp_path / "run")


def test_what_was_added_scores_under_its_new_name(trained: Path) -> None:
    spec, folder = add_detector(trained, name="mine")
    assert (spec.name, folder) == ("mine", catalog.user_models() / "mine")
    bright, dark = np.full((40, 40, 3), 250, np.uint8), np.full((40, 40, 3), 5, np.uint8)
    assert load_detector("mine").score([bright, dark]) == pytest.approx([1, 0], abs=1e-3)
    assert not (catalog.home() / "staging" / "mine").exists()


def test_a_name_is_taken_once_unless_replaced(trained: Path) -> None:
    add_detector(trained)
    with pytest.raises(OptionError, match="installed already"):
        add_detector(trained)
    add_detector(trained, replace=True)
    for name, words in (("faceproof-small", "belongs to the package"), ("../out", "cannot be a detector's name")):
        with pytest.raises(OptionError, match=words):
            add_detector(trained, name=name)


def test_other_weights_than_the_records_are_not_installed(trained: Path) -> None:
    (trained / "toy.onnx").write_bytes(b"another file")
    with pytest.raises(WeightsError, match=r"cut off|is not the file"):
        add_detector(trained)
    assert not catalog.user_models().exists()


def test_weights_that_answer_otherwise_are_not_installed(trained: Path) -> None:
    with (trained / "spec.toml").open("a") as file:
        file.write('\n[[golden]]\nasset = "pattern:1"\nlogit = 9.0\n')
    with pytest.raises(WeightsError, match="its logit for pattern:1"):
        add_detector(trained)
    assert not (catalog.user_models() / "toy").exists()


def test_a_folder_without_a_record_says_what_is_wanted(trained: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    answer = CliRunner().invoke(app, ["detectors", "add", str(empty)])
    assert isinstance(answer.exception, OptionError)
    assert "package" in str(answer.exception.remedy)
    answer = CliRunner().invoke(app, ["detectors", "add", str(trained), "--name", "mine"])
    assert answer.exit_code == 0, answer.output
    assert "scan FILE --detector mine" in answer.output
    assert "calibrate mine" in answer.output
