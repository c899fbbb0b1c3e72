"""Packages are what they say, versions go forward and back, and a worse candidate stays out."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import faceproof
from faceproof.detectors.catalog import find_spec
from faceproof.errors import EvidenceError, OptionError, OutputError, WeightsError
from faceproof.evidence.signing import fingerprint
from faceproof.ops.packages import pack, verify
from faceproof.ops.promotion import Gate, judge_candidate
from faceproof.ops.registry import FolderRegistry, install, pin, promote, rollback

from ..toy_detector import write_toy_detector

Make = Callable[..., Path]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FACEPROOF_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="module")
def key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


@pytest.fixture
def make(home: Path, tmp_path: Path, key: Ed25519PrivateKey) -> Iterator[Make]:
    """Packages of the toy: ``make("1.0", pivot=.5)``."""

    def call(version: str, *, pivot: float = 0.5, signed: bool = True, golden: float | None = None) -> Path:
        shutil.rmtree(home / "models" / "toy", ignore_errors=True)
        folder = write_toy_detector(home, pivot=pivot)
        spec = folder / "spec.toml"
        text = spec.read_text().replace('version = "1.0"', f'version = "{version}"')
        if golden is not None:
            text += f'[[golden]]\nasset = "pattern:1"\nlogit = {golden}\n'
        spec.write_text(text)
        out = tmp_path / f"package-{version}"
        pack(find_spec("toy"), out, key=key if signed else None)
        shutil.rmtree(folder)
        return out

    return call


def answer(logit_at: Path) -> float:
    report = faceproof.scan(logit_at, detector="toy", precision="fp32")
    assert report.score is not None
    return report.score


def test_versions_go_forward_and_back_and_reports_name_them(home: Path, make: Make, astronaut_png: Path) -> None:
    registry = FolderRegistry()
    for version, pivot in (("1.0", 0.5), ("2.0", 0.6), ("3.0", 0.7)):
        registry.publish(make(version, pivot=pivot))
    scores = {}
    for version in ("1.0", "2.0", "3.0"):
        assert promote(registry, "toy", version, by="ann").production == version
        report = faceproof.scan(astronaut_png, detector="toy", precision="fp32")
        assert report.detector.version == version
        scores[version] = report.score
    assert len(set(scores.values())) == 3
    assert rollback(registry, "toy").production == "2.0"
    assert answer(astronaut_png) == scores["2.0"]
    assert rollback(registry, "toy").production == "1.0"
    with pytest.raises(OptionError):
        rollback(registry, "toy")
    standing = FolderRegistry().standing("toy")
    assert [(s.action, s.version, s.before) for s in standing.history][-1] == ("rollback", "1.0", "2.0")
    assert standing.history[0].by == "ann"
    assert registry.names() == ["toy"]


def test_going_back_twice_after_going_forward_again(make: Make) -> None:
    registry = FolderRegistry()
    for version in ("1", "2", "3"):
        registry.publish(make(version))
    for version in ("1", "2"):
        promote(registry, "toy", version)
    rollback(registry, "toy")
    promote(registry, "toy", "3")
    assert rollback(registry, "toy").production == "1"  # not 2, which was rolled back


def test_a_pin_holds_promotions_but_not_a_rollback(make: Make) -> None:
    registry = FolderRegistry()
    for version in ("1", "2"):
        registry.publish(make(version))
        promote(registry, "toy", version)
    pin(registry, "toy", "2")
    with pytest.raises(OptionError, match="pinned"):
        promote(registry, "toy", "1")
    assert rollback(registry, "toy").production == "1"
    pin(registry, "toy", None)
    assert promote(registry, "toy", "2").production == "2"
    with pytest.raises(OptionError):
        pin(registry, "toy", "9")


def test_a_version_is_published_once(make: Make, tmp_path: Path) -> None:
    registry = FolderRegistry()
    registry.publish(make("1"))
    with pytest.raises(OptionError, match="already"):
        registry.publish(tmp_path / "package-1")
    with pytest.raises(OptionError):
        promote(registry, "toy", "2")
    with pytest.raises(OptionError):
        registry.standing("nobody")
    with pytest.raises(OptionError):
        registry.fetch("toy", "../..", tmp_path / "x")


def test_signatures_decide_whose_packages_are_taken(make: Make, key: Ed25519PrivateKey) -> None:
    mine = fingerprint(key.public_key())
    package, bare = make("1"), make("2", signed=False)
    assert verify(package).signer == mine
    assert verify(bare).signer is None
    registry = FolderRegistry(trusted={mine})
    registry.publish(package)
    with pytest.raises(EvidenceError, match="not signed"):
        registry.publish(bare)
    with pytest.raises(EvidenceError, match="not trusted"):
        verify(package, trusted={"SHA256:other"})


@pytest.mark.parametrize("name", ["toy.onnx", "spec.toml", "card.md", "package.json", "extra", "missing", "link"])
def test_an_altered_package_is_refused(make: Make, name: str, tmp_path: Path) -> None:
    package = make("1")
    if name == "missing":
        (package / "card.md").unlink()
    elif name == "link":
        (package / "card.md").rename(tmp_path / "card.md")
        (package / "card.md").symlink_to(tmp_path / "card.md")
    elif name == "package.json":
        record = json.loads((package / name).read_text())
        (package / name).write_text(json.dumps({**record, "commercial": False}))
    else:
        with (package / name).open("ab") as file:
            file.write(b" ")
    with pytest.raises(EvidenceError):
        verify(package)


def test_known_answers_are_asked_before_a_package_is_taken(make: Make) -> None:
    with pytest.raises(WeightsError, match="expected"):
        FolderRegistry().publish(make("1", golden=123.0))


def test_a_failed_installation_leaves_what_was_there(make: Make, astronaut_png: Path) -> None:
    registry = FolderRegistry()
    registry.publish(make("1"))
    promote(registry, "toy", "1")
    registry.publish(make("2", pivot=0.6))  # making it removed the installed one
    install(registry, "toy", "1")
    before = answer(astronaut_png)
    (registry.folder / "toy" / "2" / "toy.onnx").write_bytes(b"altered")
    with pytest.raises(EvidenceError):
        promote(registry, "toy", "2")
    assert answer(astronaut_png) == before
    assert registry.standing("toy").production == "1"


def test_packing_needs_weights_and_a_new_folder(home: Path, tmp_path: Path) -> None:
    folder = write_toy_detector(home)
    with pytest.raises(OutputError, match="exists"):
        pack(find_spec("toy"), tmp_path)
    (folder / "toy.onnx").write_bytes(b"altered")
    with pytest.raises(WeightsError):
        pack(find_spec("toy"), tmp_path / "p")


def gate(difference: float, low: float, high: float, **more: object) -> Gate:
    known = {"candidate": "new", "incumbent": "old", "files": 200, "groups": 80}
    return judge_candidate(**known, difference=difference, low=low, high=high, **more)  # type: ignore[arg-type]


def test_the_gate_refuses_worse_and_unproven_candidates(make: Make) -> None:
    assert gate(0.03, 0.01, 0.05).passed
    assert gate(-0.005, -0.015, 0.01).passed  # shown to be at most .02 worse
    assert not gate(0.01, 0.002, 0.02, coverage_lost=0.2).passed
    worse, unproven = gate(-0.05, -0.08, -0.02), gate(0.0, -0.2, 0.2)
    assert "worse" in worse.reason
    assert "not shown" in unproven.reason
    assert not gate(0.01, -0.005, 0.03, rule="better").passed
    registry = FolderRegistry()
    registry.publish(make("1"))
    with pytest.raises(OptionError, match="not promoted"):
        promote(registry, "toy", "1", gate=worse)
    assert promote(registry, "toy", "1", gate=gate(0.03, 0.01, 0.05)).history[0].gate is not None
    with pytest.raises(OptionError, match="too few"):
        judge_candidate(candidate="a", incumbent="b", files=2, groups=1, difference=0.1, low=None, high=None)
