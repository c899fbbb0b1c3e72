"""The evidence verbs from the command line, with a detector that needs no training."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from faceproof.batch import ScanOptions
from faceproof.cli.evidence import keep, read_key
from faceproof.errors import OptionError
from faceproof.evidence.moments import show
from faceproof.results import Report, Verdict
from faceproof.scanning import scan
from tests.programs import started
from tests.toy_detector import write_toy_detector


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    write_toy_detector(home, pivot=0.3)
    return home


def faceproof(
    home: Path, *words: object, code: int = 0, folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-c", "from faceproof.cli import main; main()", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        cwd=folder,
        env={**os.environ, "FACEPROOF_HOME": str(home), "COLUMNS": "200"},
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def report_json(home: Path, clip_mp4: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clip's report, scanned once for all tests here."""
    path = tmp_path_factory.mktemp("reports") / "report.json"
    faceproof(home, "scan", clip_mp4, "-d", "toy", "--frames", "6", "--json", path)
    return path


def test_explain_says_where_and_writes_page_and_pictures(
    home: Path, clip_mp4: Path, report_json: Path, tmp_path: Path
) -> None:
    done = faceproof(
        home, "explain", clip_mp4, "--from", report_json, "--report", tmp_path / "r.html", "-o", tmp_path / "faces"
    )
    assert "strongest" in done.stdout
    assert (tmp_path / "r.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert len(list((tmp_path / "faces").glob("*-heat.png"))) == 5
    wrong = faceproof(home, "explain", clip_mp4, "--from", report_json, "--track", "99", code=2)
    assert "there is no person 99" in wrong.stderr


def test_overlay_from_a_stored_report(home: Path, clip_mp4: Path, report_json: Path, tmp_path: Path) -> None:
    faceproof(home, "overlay", clip_mp4, "--from", report_json, "--heat", folder=tmp_path)
    assert (tmp_path / "clip-overlay.mp4").stat().st_size > 10_000
    assert os.listdir(tmp_path) == ["clip-overlay.mp4"]


def test_a_report_of_another_file_is_refused(
    home: Path, clip_noface_mp4: Path, report_json: Path, tmp_path: Path
) -> None:
    wrong = faceproof(home, "overlay", clip_noface_mp4, "--from", report_json, folder=tmp_path, code=1)
    assert "is not the file of the report" in wrong.stderr
    (tmp_path / "x.json").write_text("{}")
    wrong = faceproof(home, "explain", clip_noface_mp4, "--from", tmp_path / "x.json", code=1)
    assert "is not a report" in wrong.stderr
    assert "Traceback" not in wrong.stderr


@pytest.fixture
def options(home: Path, monkeypatch: pytest.MonkeyPatch) -> ScanOptions:
    monkeypatch.setenv("FACEPROOF_HOME", str(home))
    return ScanOptions(detector="toy", frames="6")


def test_evidence_is_kept_signed_verified_and_repeated(
    home: Path, clip_mp4: Path, options: ScanOptions, report_json: Path, tmp_path: Path
) -> None:
    key = Ed25519PrivateKey.generate()
    (tmp_path / "key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    (tmp_path / "key.pub").write_bytes(public)
    report = Report.model_validate_json(report_json.read_text())
    page, folder = tmp_path / "page.html", tmp_path / "evidence"
    written = keep([(clip_mp4, report)], options, page=page, folder=folder, key=read_key(tmp_path / "key"))
    assert written == [page, folder]
    done = faceproof(home, "verify", folder, "--key", tmp_path / "key.pub", "--rescan", "--media", clip_mp4)
    assert "signed with the key given" in done.stdout
    assert "scanned again" in done.stdout
    assert done.stdout.rstrip().endswith("The evidence stands.")
    unknown = faceproof(home, "verify", folder)
    assert unknown.stdout.rstrip().endswith("The evidence stands for whoever holds the key that signed it.")
    (folder / "report.html").write_text("<p>genuine</p>")
    bad = faceproof(home, "verify", folder, code=1)
    assert "BAD   changed: report.html" in bad.stdout


def test_what_was_verified_is_said_though_the_media_is_gone(
    home: Path, clip_mp4: Path, options: ScanOptions, report_json: Path, tmp_path: Path
) -> None:
    report = Report.model_validate_json(report_json.read_text())
    report = report.model_copy(update={"media": report.media.model_copy(update={"path": "/gone/clip.mp4"})})
    folder = tmp_path / "evidence"
    keep([(clip_mp4, report)], options, folder=folder)
    said = faceproof(home, "verify", folder, "--rescan", code=1).stdout
    assert "good  " in said
    assert "files are exactly as they were written" in said
    assert "note  not signed" in said
    assert "note  the scan was not repeated: the judged file 'clip.mp4' is not where it was" in said
    assert "--media FILE" in said
    assert said.rstrip().endswith("that the scan comes out the same was not checked.")
    (folder / "report.html").write_text("<p>genuine</p>")
    said = faceproof(home, "verify", folder, "--rescan", "--media", clip_mp4, code=1).stdout
    assert "the scan was not repeated: the evidence was changed" in said
    assert said.rstrip().endswith("The evidence does not stand.")


def test_several_files_have_a_folder_each_and_no_common_page(
    clip_mp4: Path, clip_noface_mp4: Path, options: ScanOptions, tmp_path: Path
) -> None:
    detector = options.load()
    judged = [(p, scan(p, detector=detector, frames="3")) for p in (clip_mp4, clip_noface_mp4)]
    written = keep(judged, options, folder=tmp_path / "all", detector=detector)
    assert sorted(p.name.rpartition("-")[0] for p in written) == ["clip.mp4", "no-face.mp4"]
    assert "Nothing to judge" in (written[1] / "report.html").read_text(encoding="utf-8")
    with pytest.raises(OptionError):
        keep(judged, options, page=tmp_path / "x.html")
    assert keep(judged, options) == []


def test_a_file_changed_after_its_scan_gives_no_evidence(
    clip_mp4: Path, report_json: Path, options: ScanOptions, tmp_path: Path
) -> None:
    from faceproof.errors import EvidenceError

    changed = tmp_path / "clip.mp4"
    changed.write_bytes(clip_mp4.read_bytes() + b"x")
    report = Report.model_validate_json(report_json.read_text())
    with pytest.raises(EvidenceError, match="not the file of the report"):
        show(report, options.load(), changed)


def test_watch_scans_what_arrives_and_goes_on_after_a_bad_file(
    home: Path, astronaut_jpg: Path, damaged: dict[str, Path], tmp_path: Path
) -> None:
    inbox, lines = tmp_path / "inbox", tmp_path / "reports.jsonl"
    inbox.mkdir()
    process = started(home, "watch", inbox, "-d", "toy", "--jsonl", lines, "--evidence", tmp_path / "kept")
    try:
        assert process.stderr is not None
        assert "Watching" in process.stderr.readline()
        time.sleep(0.5)
        (inbox / "bad.mp4").write_bytes(damaged["text"].read_bytes())
        (inbox / "good.jpg").write_bytes(astronaut_jpg.read_bytes())
        end = time.monotonic() + 60
        # Whichever of the two is settled first is scanned first.
        while time.monotonic() < end and not (
            list((tmp_path / "kept").glob("good*/manifest.json")) and lines.read_text().count("\n") == 2
        ):
            time.sleep(0.1)
    finally:
        process.send_signal(2)
        out, _ = process.communicate(timeout=20)
    found = [json.loads(line) for line in lines.read_text().splitlines()]
    assert {Path(row.get("path") or row["media"]["path"]).name for row in found} == {"bad.mp4", "good.jpg"}
    assert "good.jpg" in out
    assert process.returncode == 130


def test_watch_passes_over_evidence_that_lies_in_the_folder(home: Path, astronaut_jpg: Path, tmp_path: Path) -> None:
    inbox, lines = tmp_path / "inbox", tmp_path / "reports.jsonl"
    inbox.mkdir()
    faceproof(home, "scan", astronaut_jpg, "-d", "toy", "--evidence", inbox / "a case")
    (inbox / "z.jpg").write_bytes(astronaut_jpg.read_bytes())  # the last by name
    process = started(home, "watch", inbox, "--existing", "-d", "toy", "--jsonl", lines)
    try:
        end = time.monotonic() + 60
        while time.monotonic() < end and not (lines.exists() and "z.jpg" in lines.read_text()):
            time.sleep(0.1)
    finally:
        process.send_signal(2)
        process.communicate(timeout=20)
    assert [Path(json.loads(line)["media"]["path"]).name for line in lines.read_text().splitlines()] == ["z.jpg"]


def test_watch_started_again_takes_up_the_evidence_that_stands(
    home: Path, astronaut_jpg: Path, astronaut_png: Path, tmp_path: Path
) -> None:
    inbox, lines, kept = tmp_path / "inbox", tmp_path / "reports.jsonl", tmp_path / "kept"
    inbox.mkdir()
    (inbox / "first.jpg").write_bytes(astronaut_jpg.read_bytes())
    words = ["watch", inbox, "--existing", "-d", "toy", "--evidence", kept, "--jsonl", lines]

    def evidence(name: str) -> bool:
        return any(kept.glob(f"{name}-*/manifest.json"))

    def watched(until: object, meanwhile: object = None) -> tuple[str, str]:
        process = started(home, *words)
        try:
            assert process.stderr is not None
            said = ""
            while "Watching" not in said:
                said += (line := process.stderr.readline())
                assert line, said
            if callable(meanwhile):
                meanwhile()
            end = time.monotonic() + 60
            while callable(until) and not until() and time.monotonic() < end:
                time.sleep(0.1)
        finally:
            process.send_signal(2)
            out, err = process.communicate(timeout=20)
        return out, said + err

    out, _ = watched(lambda: evidence("first.jpg"))
    assert "first.jpg" in out
    before = {path: path.stat().st_mtime_ns for path in kept.rglob("*")}

    def more() -> None:
        time.sleep(2)  # long enough for what lay there to be given
        copy = inbox / "copies" / "first.jpg"
        copy.parent.mkdir()
        copy.write_bytes(astronaut_jpg.read_bytes())
        (inbox / "second.png").write_bytes(astronaut_png.read_bytes())

    out, err = watched(lambda: evidence("second.png"), more)
    assert f"1 of 1 have their evidence in {kept}: not scanned again." in err
    assert "error" not in err
    assert "first.jpg" not in out
    assert "second.png" in out
    assert {path: path.stat().st_mtime_ns for path in before if path != kept} == {
        path: mark for path, mark in before.items() if path != kept
    }
    assert lines.read_text().count("\n") == 2
    if "first.jpg" in err:  # the copy settled before Ctrl-C came
        assert "has its evidence: not scanned again." in err
    other = faceproof(home, *words, "--frames", "3", code=1)
    assert "the evidence of another scan" in other.stderr
    assert "Watching" not in other.stderr
    # What a folder scan of the same options wrote stands for watching too, whoever names the limits.
    scanned = faceproof(home, "scan", inbox, "-d", "toy", "--evidence", kept)
    assert "of 3 have their evidence" in scanned.stderr


def test_cam_plays_a_file_and_sums_up(home: Path, clip_mp4: Path) -> None:
    done = faceproof(home, "cam", clip_mp4, "-d", "toy", "--seconds", "2")
    assert "frames judged" in done.stdout
    assert "no verdict: record, and scan the file" in done.stdout
    assert "person" in done.stdout
    assert "is not" in faceproof(home, "cam", Path(__file__), "-d", "toy", code=1).stderr


def test_nothing_heavy_is_imported_for_help(home: Path) -> None:
    code = "import sys, faceproof.cli; assert not {'cv2', 'av', 'jinja2', 'c2pa', 'cryptography'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_evidence_room_loads_without_its_extra(
    home: Path, clip_mp4: Path, report_json: Path, tmp_path: Path
) -> None:
    """Page, overlay and unsigned evidence need neither c2pa nor cryptography nor watchfiles."""
    code = (
        "import sys\n"
        "for name in ('c2pa', 'cryptography', 'watchfiles'): sys.modules[name] = None\n"
        "from faceproof.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "explain", clip_mp4, "--from", report_json, "--report", tmp_path / "r.html"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, "FACEPROOF_HOME": str(home)},
    )
    assert done.returncode == 0, done.stderr
    assert "the reader is not installed" in (tmp_path / "r.html").read_text(encoding="utf-8")
    wrong = subprocess.run(
        [sys.executable, "-c", code, "watch", str(tmp_path), "-d", "toy"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, "FACEPROOF_HOME": str(home)},
    )
    assert wrong.returncode == 1
    assert "Watching " + str(tmp_path) not in wrong.stderr
    assert "pip install 'faceproof[evidence]'" in wrong.stderr


def test_not_assessed_files_never_show_a_score(
    home: Path, clip_noface_mp4: Path, options: ScanOptions, tmp_path: Path
) -> None:
    report = scan(clip_noface_mp4, detector=options.load(), frames="3")
    assert report.verdict is Verdict.NOT_ASSESSED
    keep([(clip_noface_mp4, report)], options, page=tmp_path / "r.html")
    assert np.all([word not in (tmp_path / "r.html").read_text() for word in ("score 0", "score 1")])
