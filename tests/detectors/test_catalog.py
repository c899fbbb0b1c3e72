import hashlib
from pathlib import Path

import pytest

from faceproof.detectors import catalog
from faceproof.errors import SpecError, UnknownDetectorError, WeightsError

SPEC = """
schema_version = 1
name = "mine"
version = "1"
summary = "A user's detector."
[licence]
weights = "none"
code = "Apache-2.0"
commercial = true
origin = "tests"
[weights]
{weights}
[input]
size = 64
[output]
fake_is = "high"
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FACEPROOF_HOME", str(tmp_path))

    def add(weights: str = "", name: str = "mine", **files: bytes) -> Path:
        folder = tmp_path / "models" / name
        folder.mkdir(parents=True)
        (folder / "spec.toml").write_text(SPEC.format(weights=weights).replace('"mine"', f'"{name}"'))
        for stem, content in files.items():
            (folder / f"{stem}.onnx").write_bytes(content)
        return folder

    return add


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_users_detector_is_found_and_its_weights_checked(install) -> None:
    folder = install(f'file = "w.onnx"\nsha256 = "{sha(b"net")}"', w=b"net")
    assert "mine" in [spec.name for spec in catalog.list_detectors()]
    assert catalog.weights_path(catalog.find_spec("mine")) == folder / "w.onnx"


def test_split_weights_are_joined_and_checked(install) -> None:
    install(f'parts = ["a.onnx", "b.onnx"]\nsha256 = "{sha(b"network")}"', a=b"net", b=b"work")
    assert catalog.weights_path(catalog.find_spec("mine")).read_bytes() == b"network"


@pytest.mark.parametrize(
    ("weights", "content", "words"),
    [
        ("", None, "no trained weights"),
        ('file = "w.onnx"', b"net", "no trained weights"),
        (f'file = "w.onnx"\nsha256 = "{sha(b"net")}"', None, "missing"),
        (f'file = "w.onnx"\nsha256 = "{sha(b"net")}"\nsize = 3', b"ne", "cut off"),
        (f'file = "w.onnx"\nsha256 = "{sha(b"net")}"', b"other", "not the file"),
        (
            f'file = "w.onnx"\nsha256 = "{sha(b"net")}"',
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n",
            "Git LFS pointer",
        ),
    ],
)
def test_what_is_wrong_with_weights_is_said_with_a_remedy(
    install, weights: str, content: bytes | None, words: str
) -> None:
    install(weights, **({} if content is None else {"w": content}))
    with pytest.raises(WeightsError, match=words) as caught:
        catalog.weights_path(catalog.find_spec("mine"))
    assert caught.value.remedy


def test_two_detectors_of_one_name_are_refused(install) -> None:
    first = install()
    second = first.parent / "again"
    second.mkdir()
    (second / "spec.toml").write_text((first / "spec.toml").read_text())
    with pytest.raises(SpecError, match="two detectors are called mine"):
        catalog.list_detectors()


def test_an_unknown_name_is_answered_with_what_was_meant_and_what_can_be_used(install) -> None:
    install()
    with pytest.raises(UnknownDetectorError) as caught:
        catalog.find_spec("mina")
    assert caught.value.remedy.startswith("Did you mean mine? With weights here: faceproof-small")
    with pytest.raises(UnknownDetectorError) as caught:
        catalog.find_spec("nobody at all")
    assert "Did you mean" not in caught.value.remedy


def test_home_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FACEPROOF_HOME", str(tmp_path / "there"))
    assert catalog.home() == tmp_path / "there"
    monkeypatch.delenv("FACEPROOF_HOME")
    assert catalog.home().name == "faceproof"
