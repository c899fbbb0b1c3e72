"""An evidence folder is written whole, and any change to it is found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from faceproof.batch import ScanOptions
from faceproof.errors import EvidenceError, OutputError
from faceproof.evidence import custody
from faceproof.evidence.custody import folder_for, write_evidence
from faceproof.evidence.gathering import Evidence, gather
from faceproof.evidence.signing import fingerprint, load_public_key, load_signing_key
from faceproof.evidence.verification import Verification, compare, read_report, verify, verify_rescan
from faceproof.results import Report
from faceproof.scanning import scan
from tests.evidence.made_reports import made_report, toy_detector, wave

DETECTOR = toy_detector()
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


@pytest.fixture(scope="module")
def evidence(clip_mp4: Path) -> Evidence:
    return gather(made_report(clip_mp4, DETECTOR, scores=wave), DETECTOR, clip_mp4)


@pytest.fixture
def folder(evidence: Evidence, tmp_path: Path) -> Path:
    return write_evidence(evidence, tmp_path / "evidence", key=KEY)


def codes(found: Verification) -> list[str]:
    return [finding.code for finding in found.findings]


def test_the_folder_holds_everything(folder: Path, evidence: Evidence) -> None:
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {"report.json", "report.html", "provenance.json", "manifest.json", "manifest.sig", "README.txt"} <= names
    assert sum(name.startswith("crops/") for name in names) == 5
    assert sum(name.startswith("heatmaps/") for name in names) == 10
    manifest = json.loads((folder / "manifest.json").read_text())
    assert set(manifest["files"]) == names - {"manifest.json", "manifest.sig"}
    assert manifest["media"]["sha256"] == evidence.report.media.sha256
    assert manifest["spec"]["name"] == "toy"
    assert manifest["settings"]["frames"] == "auto"
    assert Report.model_validate_json((folder / "report.json").read_text()) == evidence.report
    assert os.listdir(folder.parent) == ["evidence"]


def test_untouched_it_stands(folder: Path) -> None:
    found = verify(folder)
    assert found.stands
    assert codes(found) == ["whole", "signed", "unknown_signer"]
    assert codes(verify(folder, key=KEY.public_key())) == ["whole", "signed_known"]


@pytest.mark.parametrize("name", ["report.json", "report.html", "provenance.json", "README.txt"])
def test_one_changed_byte_is_found(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    found = verify(folder)
    assert not found.stands
    assert "changed" in codes(found)


def test_missing_and_added_files_are_found(folder: Path) -> None:
    next((folder / "crops").iterdir()).unlink()
    (folder / "heatmaps" / "extra.png").write_bytes(b"x")
    assert {"missing", "added"} <= set(codes(verify(folder)))


def test_a_changed_manifest_breaks_the_signature(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace("clip.mp4", "klip.mp4"))
    assert "bad_signature" in codes(verify(folder))


def test_another_key_is_told(folder: Path) -> None:
    found = verify(folder, key=Ed25519PrivateKey.generate().public_key())
    assert not found.stands
    assert "other_key" in codes(found)


def test_unsigned_is_whole_but_says_so(evidence: Evidence, tmp_path: Path) -> None:
    folder = write_evidence(evidence, tmp_path / "plain")
    found = verify(folder)
    assert found.stands
    assert codes(found) == ["whole", "unsigned"]
    assert not verify(folder, key=KEY.public_key()).stands


@pytest.mark.parametrize("name", ["../outside.txt", "/etc/hostname", "crops/../../outside.txt", "C:\\x", "a\0b", ""])
def test_names_that_lead_outside_are_not_followed(folder: Path, name: str) -> None:
    (folder.parent / "outside.txt").write_text("secret")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = {"sha256": "0" * 64, "size": 6}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    found = verify(folder)
    assert "changed" in codes(found)
    assert not found.stands


def test_the_folder_may_be_reached_by_a_link(folder: Path, tmp_path: Path) -> None:
    link = tmp_path / "latest"
    link.symlink_to(folder)
    assert verify(link).stands


def test_the_report_of_a_long_video_is_read(folder: Path) -> None:
    """Every frame of an hour is more than the largest manifest."""
    report = folder / "report.json"
    before = read_report(folder)
    report.write_bytes(b" " * (64 << 20) + report.read_bytes())
    assert read_report(folder) == before


def test_links_are_not_followed(folder: Path) -> None:
    target = folder / "report.json"
    kept = folder.parent / "kept.json"
    target.rename(kept)
    target.symlink_to(kept)
    assert not verify(folder).stands


@pytest.mark.parametrize("content", [b"", b"{}", b"[1, 2", b"\xff\xfe", b'{"files": {}, "extra": 1}'])
def test_a_broken_manifest_is_an_error_with_a_remedy(folder: Path, content: bytes) -> None:
    (folder / "manifest.json").write_bytes(content)
    with pytest.raises(EvidenceError):
        verify(folder)


def test_what_is_no_evidence_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match="cannot read"):
        verify(tmp_path / "nothing")


def test_evidence_is_never_overwritten(evidence: Evidence, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="not empty"):
        write_evidence(evidence, folder)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert verify(write_evidence(evidence, empty)).stands


def test_interrupted_nothing_remains(evidence: Evidence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, count = custody._write, 0

    def failing(path: Path, content: bytes) -> None:
        nonlocal count
        count += 1
        if count == 4:
            raise KeyboardInterrupt
        real(path, content)

    monkeypatch.setattr(custody, "_write", failing)
    with pytest.raises(KeyboardInterrupt):
        write_evidence(evidence, tmp_path / "evidence")
    assert os.listdir(tmp_path) == []


FULL = """
import resource, signal, sys
from pathlib import Path
from faceproof.errors import OutputError
from tests.evidence.made_reports import *
from faceproof.evidence.custody import write_evidence
from faceproof.evidence.gathering import gather
clip, out = map(Path, sys.argv[1:])
detector = toy_detector()
evidence = gather(made_report(clip, detector, scores=wave), detector, clip)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    write_evidence(evidence, out)
except OutputError as error:
    print("refused:", error.message)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of file size are set as Linux has them")
def test_on_a_full_disk_nothing_remains(clip_mp4: Path, tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", FULL, clip_mp4, tmp_path / "evidence"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=root,
    )
    assert "refused: cannot write" in done.stdout, done.stderr
    assert os.listdir(tmp_path) == []


def test_folders_of_several_files_have_harmless_names(evidence: Evidence, tmp_path: Path) -> None:
    media = evidence.report.media.model_copy(update={"path": "/x/..;rm -rf ~ ü.mp4"})
    report = evidence.report.model_copy(update={"media": media})
    name = folder_for(tmp_path, report).name
    assert name.endswith(report.media.sha256[:12])
    assert not name.startswith(".")
    assert not set(name) & set("/\\;~ $")


@pytest.mark.parametrize("form", ["pem", "openssh", "encrypted"])
def test_keys_as_openssl_and_ssh_keygen_make_them(form: str, tmp_path: Path) -> None:
    private = serialization.PrivateFormat.OpenSSH if form == "openssh" else serialization.PrivateFormat.PKCS8
    lock = (
        serialization.BestAvailableEncryption(b"open sesame") if form == "encrypted" else serialization.NoEncryption()
    )
    path = tmp_path / "key"
    path.write_bytes(KEY.private_bytes(serialization.Encoding.PEM, private, lock))
    key = load_signing_key(path, passphrase=lambda: "open sesame")
    assert fingerprint(key.public_key()) == fingerprint(KEY.public_key())
    if form == "encrypted":
        with pytest.raises(EvidenceError):
            load_signing_key(path, passphrase=lambda: "wrong")
        with pytest.raises(EvidenceError, match="passphrase"):
            load_signing_key(path)


def test_fingerprints_are_those_of_ssh(tmp_path: Path) -> None:
    line = KEY.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    path = tmp_path / "key.pub"
    path.write_bytes(line)
    assert fingerprint(load_public_key(path)) == fingerprint(KEY.public_key())
    # What `ssh-keygen -lf` prints for this key.
    assert fingerprint(KEY.public_key()) == "SHA256:" + _ssh_digest(line)


def _ssh_digest(line: bytes) -> str:
    import base64
    import hashlib

    return base64.b64encode(hashlib.sha256(base64.b64decode(line.split()[1])).digest()).decode().rstrip("=")


def test_other_kinds_of_keys_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    with pytest.raises(EvidenceError, match="Ed25519"):
        load_signing_key(path)
    path.write_text("not a key")
    with pytest.raises(EvidenceError):
        load_signing_key(path)
    with pytest.raises(EvidenceError):
        load_signing_key(tmp_path / "none")


def test_scanning_again_gives_the_same_scores(clip_mp4: Path, clip_noface_mp4: Path, tmp_path: Path) -> None:
    options = ScanOptions(detector="toy", frames="6")
    report = scan(clip_mp4, detector=DETECTOR, frames="6")
    folder = write_evidence(gather(report, DETECTOR, clip_mp4, options=options), tmp_path / "e", key=KEY)
    found = verify_rescan(folder, clip_mp4, detector=DETECTOR)
    assert found.stands
    assert codes(found) == ["media_same", "rescan_same"]
    assert codes(verify_rescan(folder, detector=DETECTOR)) == ["media_same", "rescan_same"]
    other = verify_rescan(folder, clip_mp4, detector=toy_detector(pivot=0.5))
    assert "rescan_differs" in codes(other)
    assert codes(verify_rescan(folder, clip_noface_mp4, detector=DETECTOR)) == ["media_differs"]
    changed = verify_rescan(folder, clip_mp4, detector=toy_detector(version="2.0"))
    assert "other_detector" in codes(changed)


def test_another_precision_is_compared_less_strictly(evidence: Evidence) -> None:
    facts = evidence.report.detector.model_copy(update={"precision": "bf16"})
    track = evidence.report.tracks[0]
    assert track.score is not None
    near = track.model_copy(update={"score": track.score + 0.01})
    after = evidence.report.model_copy(update={"detector": facts, "tracks": [near]})
    found = Verification()
    compare(evidence.report, after, found)
    assert found.stands
    assert codes(found) == ["other_precision", "rescan_same"]
    gone = Verification()
    compare(evidence.report, evidence.report.model_copy(update={"tracks": []}), gone)
    assert "rescan_people" in codes(gone)
