"""An imported detector takes the place of the package's record, and profiles borrow its weights."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from faceproof.detectors import catalog
from faceproof.detectors.ensemble import find_ensemble
from faceproof.detectors.spec import Weights
from faceproof.detectors.spec_text import spec_to_toml
from faceproof.errors import SpecError, WeightsError

NAME = "cross-efficient-vit"


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FACEPROOF_HOME", str(tmp_path))

    def add(name: str, folder: str, content: bytes = b"net") -> Path:
        spec = catalog.find_spec(name).spec
        weights = Weights(file="network.onnx", sha256=hashlib.sha256(content).hexdigest(), size=len(content))
        place = tmp_path / "models" / folder
        place.mkdir(parents=True)
        (place / "network.onnx").write_bytes(content)
        (place / "spec.toml").write_text(spec_to_toml(spec.model_copy(update={"weights": weights})), encoding="utf-8")
        return place

    return add


def test_the_users_weights_fill_the_packages_record_and_its_profile(install) -> None:
    assert "cross_efficient_vit.pth" in _why(NAME)
    assert f"--as {NAME}`" in _why(f"{NAME}-document"), "a profile sends to its parent"
    folder = install(NAME, "mine")
    own, profile = catalog.find_spec(NAME), catalog.find_spec(f"{NAME}-document")
    assert (own.origin, own.folder) == ("user", folder)
    assert profile.spec.weights == own.spec.weights
    assert catalog.weights_path(profile) == folder / "network.onnx"
    assert profile.spec.input.colour == "RGB"
    assert own.spec.input.colour == "BGR"
    assert [spec.name for spec in catalog.list_detectors()].count(NAME) == 1


def test_two_of_the_users_under_one_name_are_an_error(install) -> None:
    install(NAME, "first")
    folder = install("efficientnet-b4-224", "second")
    text = (folder / "spec.toml").read_text().replace('name = "efficientnet-b4-224"', f'name = "{NAME}"', 1)
    (folder / "spec.toml").write_text(text)
    with pytest.raises(SpecError, match="two detectors are called"):
        catalog.list_detectors()


def _why(name: str) -> str:
    with pytest.raises(WeightsError) as caught:
        catalog.weights_path(catalog.find_spec(name))
    return str(caught.value)


def test_the_seven_checkpoints_are_one_ensemble() -> None:
    seven = find_ensemble("efficientnet-b7-dfdc-seven")
    assert seven is not None
    assert len(seven.members) == 7
    assert (seven.method, seven.file) == ("mean", "members")
