"""`faceproof scan` as a person, a script and a cluster job use it."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.programs import started

from .conftest import Run

TOY = ("--detector", "toy", "--frames", "4")


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_one_video_is_told_person_by_person(run: Run, clip_mp4: Path) -> None:
    ran = run("scan", clip_mp4, *TOY)
    assert ran.code == 0, ran.err
    assert "320×240 · 29.97 fps · 3.0 s · H.264" in ran.out
    assert "person 1" in ran.out
    assert "Signs of manipulation in person 1 (score" in ran.out
    assert "A score is evidence, not proof." in ran.out
    assert "toy 1.0" in ran.out
    assert "\x1b" not in ran.out + ran.err, "no colours and no bar in a pipe"


def test_a_picture_has_no_times(run: Run, astronaut_png: Path) -> None:
    ran = run("scan", astronaut_png, "--detector", "toy")
    assert ran.code == 0
    assert "512×512" in ran.out
    assert "fps" not in ran.out


def test_json_of_one_file_is_one_report(run: Run, clip_mp4: Path, tmp_path: Path) -> None:
    ran = run("scan", clip_mp4, *TOY, "--json", tmp_path / "r.json")
    assert ran.code == 0
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["schema_version"] == "1.0"
    assert report["verdict"] == report["prediction"] == "FAKE"
    assert report["frames_analyzed"] == 4
    assert f"Written: {tmp_path / 'r.json'}" in ran.err


def test_json_to_stdout_is_nothing_but_json(run: Run, clip_mp4: Path) -> None:
    ran = run("scan", clip_mp4, *TOY, "--json", "-")
    assert json.loads(ran.out)["media"]["frame_count"] == 90


@pytest.fixture
def folder(tmp_path: Path, clip_mp4: Path, clip_noface_mp4: Path, astronaut: np.ndarray, damaged: dict) -> Path:
    """Bright and dark faces, nobody, a broken file, names as people give them, and what is no media at all."""
    place = tmp_path / "a folder"
    (place / "deeper").mkdir(parents=True)
    shutil.copy(clip_mp4, place / "bright one.mp4")
    shutil.copy(clip_noface_mp4, place / "deeper" / "nobody.mp4")
    shutil.copy(damaged["text"], place / "broken.mp4")
    Image.fromarray((astronaut * 0.4).astype(np.uint8)).save(place / "-dark\nface.png")
    (place / "notes.txt").write_text("not media")
    (place / ".hidden.mp4").write_bytes(b"x")
    return place


def test_a_folder_is_walked_and_sorted_and_failures_do_not_stop_it(run: Run, folder: Path, tmp_path: Path) -> None:
    ran = run("scan", folder, *TOY, "--json", tmp_path / "all.jsonl", "--csv", tmp_path / "all.csv")
    assert ran.code == 1
    found = rows(tmp_path / "all.jsonl")
    names = [Path(row["path"] if "error" in row else row["media"]["path"]).name for row in found]
    assert names == ["bright one.mp4", "-dark\nface.png", "nobody.mp4", "broken.mp4"]
    assert [row.get("verdict", row.get("error")) for row in found] == ["FAKE", "REAL", "NOT_ASSESSED", "unsupported"]
    assert found[3]["remedy"]
    with (tmp_path / "all.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["verdict"] for row in table] == ["FAKE", "REAL", "NOT_ASSESSED", ""]
    assert "4 files: 1 with signs of manipulation, 1 without, 1 with nothing to judge, 1 failed" in ran.out
    assert ran.out.index("failed  ") < ran.out.index("4 files:"), "the summary stands where one looks"
    assert ran.out.index("bright one.mp4") < ran.out.index("nobody.mp4") < ran.out.index("broken.mp4")
    assert "-dark\\nface.png" in ran.out
    assert not (tmp_path / "all.jsonl.partial").exists()


def test_two_processes_say_what_one_says(run: Run, folder: Path, tmp_path: Path) -> None:
    run("scan", folder, *TOY, "--json", tmp_path / "one.jsonl")
    ran = run("scan", folder, *TOY, "--json", tmp_path / "two.jsonl", "--jobs", "2")
    assert ran.code == 1

    def answers(path: Path) -> list:
        return [{k: v for k, v in row.items() if k not in ("timings", "processing_time")} for row in rows(path)]

    assert answers(tmp_path / "one.jsonl") == answers(tmp_path / "two.jsonl")


@pytest.mark.parametrize(
    ("content", "code", "verdicts"),
    [("clip", 3, {"FAKE"}), ("noface", 0, {"NOT_ASSESSED"}), ("damaged", 1, set())],
)
def test_exit_codes(
    run: Run, content: str, code: int, verdicts: set, clip_mp4: Path, clip_noface_mp4: Path, damaged: dict
) -> None:
    path = {"clip": clip_mp4, "noface": clip_noface_mp4, "damaged": damaged["empty"]}[content]
    ran = run("scan", path, *TOY, "--fail-on-fake", "--json", "-")
    assert ran.code == code
    found = json.loads(ran.out)
    assert {found["verdict"]} == verdicts if verdicts else found["error"] == "empty"


@pytest.mark.parametrize(
    "args",
    [
        ("--frames", "many"),
        ("--precision", "fp64"),
        ("--faces", "sloppy"),
        ("--jobs", "0"),
        ("--no-such-flag",),
        ("--json", "-", "--csv", "-"),
    ],
)
def test_wrong_usage_is_two_and_says_what_is_right(run: Run, clip_mp4: Path, args: tuple) -> None:
    ran = run("scan", clip_mp4, "--detector", "toy", *args)
    assert ran.code == 2
    assert ran.err
    assert "Traceback" not in ran.err


def test_an_unknown_detector_scans_nothing(run: Run, clip_mp4: Path) -> None:
    ran = run("scan", clip_mp4, "--detector", "nobody")
    assert ran.code == 1
    assert "no detector is called 'nobody'" in ran.err
    assert "toy" in ran.err


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda p: p / "missing.mp4", "not_found"),
        (lambda p: (p / "link.mp4").symlink_to(p / "gone") or p / "link.mp4", "not_found"),
        (lambda p: Image.new("RGB", (1, 1)).save(p / "dot.png") or p / "dot.png", None),
        (lambda p: os.mkfifo(p / "pipe.mp4") or p / "pipe.mp4", "unsupported"),
    ],
)
def test_odd_inputs_end_in_a_row_with_a_remedy(run: Run, tmp_path: Path, make, error: str | None) -> None:
    ran = run("scan", make(tmp_path), *TOY, "--json", "-")
    row = json.loads(ran.out)
    if error is None:
        assert (row["verdict"], row["reason"], row["score"]) == ("NOT_ASSESSED", "no_face", None)
    else:
        assert row["error"] == error
        assert row["remedy"]
        assert ran.code == 1
        assert ran.err.startswith("error: ")


def test_caps_can_be_set(run: Run, clip_mp4: Path) -> None:
    assert json.loads(run("scan", clip_mp4, *TOY, "--json", "-", "--max-pixels", "1000").out)["error"] == "limit"
    assert json.loads(run("scan", clip_mp4, *TOY, "--json", "-", "--max-minutes", "0.01").out)["error"] == "limit"


def test_names_that_are_not_text(toy_home: Path, tmp_path: Path, clip_mp4: Path) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9 -- %03d:.mp4"
    shutil.copy(clip_mp4, name)
    done = subprocess.run(
        [sys.executable, "-m", "faceproof", "scan", *TOY, "--json", "-", "--", name],
        capture_output=True,
        env={**os.environ, "FACEPROOF_HOME": str(toy_home)},
        check=True,
    )
    assert json.loads(done.stdout)["media"]["path"].endswith("caf\\xe9 -- %03d:.mp4")


def stop_at_third(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Ctrl-C comes at the third file of a folder scan; returns the files it came to, as they come."""
    from faceproof import batch

    real, calls = batch.scan_one, []

    def scan_or_stop(path, *args):
        calls.append(path)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(path, *args)

    monkeypatch.setattr(batch, "scan_one", scan_or_stop)
    return calls


def test_a_stopped_folder_scan_goes_on(run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from faceproof import batch

    real, calls = batch.scan_one, stop_at_third(monkeypatch)
    target = tmp_path / "all.jsonl"
    stopped = run("scan", folder, *TOY, "--json", target)
    assert stopped.code == 130
    assert "run the same command again" in stopped.err
    assert not target.exists()
    partial = rows(tmp_path / "all.jsonl.partial")
    monkeypatch.setattr(batch, "scan_one", lambda path, *args: calls.append(path) or real(path, *args))
    calls.clear()
    again = run("scan", folder, *TOY, "--json", target)
    assert "Going on:" in again.err
    kept = sum("verdict" in row for row in partial)
    assert len(calls) == 4 - kept
    assert len(rows(target)) == 4


def test_ctrl_c_leaves_quietly(toy_home: Path, clip_mp4: Path, tmp_path: Path) -> None:
    place = tmp_path / "many"
    place.mkdir()
    for i in range(60):
        shutil.copy(clip_mp4, place / f"{i}.mp4")
    process = started(toy_home, "scan", place, "--detector", "toy", "--json", tmp_path / "o.jsonl")
    journal = tmp_path / "o.jsonl.partial"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (journal.exists() and journal.read_text().count("\n") > 2):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "kept; run the same command again" in " ".join(err.split())
    assert out == ""
    assert not (tmp_path / "o.jsonl").exists()


def test_the_detector_with_reversed_polarity_agrees(toy_home: Path, run: Run, astronaut_png: Path) -> None:
    from ..toy_detector import write_toy_detector

    if not (toy_home / "models" / "toy-low").exists():
        write_toy_detector(toy_home, name="toy-low", fake_is="low")
    high = json.loads(run("scan", astronaut_png, "--detector", "toy", "--json", "-").out)["score"]
    low = json.loads(run("scan", astronaut_png, "--detector", "toy-low", "--json", "-").out)["score"]
    assert high + low == pytest.approx(1, abs=1e-5)


def test_evidence_and_a_page_are_kept_on_request(run: Run, clip_mp4: Path, tmp_path: Path) -> None:
    ran = run("scan", clip_mp4, *TOY, "--report", tmp_path / "page.html", "--evidence", tmp_path / "kept")
    assert ran.code == 0, ran.err
    assert "Signs of manipulation" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert (tmp_path / "kept" / "report.json").is_file()
    assert str(tmp_path / "kept") in ran.err
    checked = run("verify", tmp_path / "kept")
    assert checked.code == 0, checked.out + checked.err


@pytest.fixture
def two_pictures(astronaut_png: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "two pictures"
    (folder / "deeper").mkdir(parents=True)
    shutil.copy(astronaut_png, folder / "я 50%20.png")
    Image.open(astronaut_png).convert("L").save(folder / "deeper" / "grey.png")
    return folder


def test_a_folders_evidence_is_taken_up_where_it_was_left(
    run: Run, two_pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from faceproof import batch

    kept = tmp_path / "kept"
    command = ("scan", two_pictures, *TOY, "--evidence", kept, "--json")
    assert run(*command, tmp_path / "first.jsonl").code == 0
    shutil.rmtree(next(kept.glob("grey*")))  # as when it was stopped while evidence was written
    (one,) = kept.iterdir()
    before = (one / "manifest.json").read_bytes()
    scanned: list[Path] = []
    real = batch.scan_many
    monkeypatch.setattr(batch, "scan_many", lambda files, *a, **k: (scanned.extend(files), real(files, *a, **k))[1])
    ran = run(*command, tmp_path / "second.jsonl")
    assert ran.code == 0, ran.err
    assert "1 of 2 have their evidence in" in " ".join(ran.err.split())
    assert [path.name for path in scanned] == ["grey.png"]
    assert (one / "manifest.json").read_bytes() == before
    assert len(list(kept.iterdir())) == 2

    def scores(name: str) -> list[tuple[str, float]]:
        rows = [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]
        return sorted((row["media"]["path"], row["score"]) for row in rows)

    assert scores("second.jsonl") == scores("first.jsonl")
    scanned.clear()
    assert run(*command, tmp_path / "third.jsonl").code == 0
    assert scanned == []
    assert scores("third.jsonl") == scores("first.jsonl")


def test_evidence_kept_in_the_folder_is_not_scanned_itself(run: Run, two_pictures: Path, tmp_path: Path) -> None:
    for _ in range(2):
        ran = run("scan", two_pictures, *TOY, "--evidence", two_pictures / "kept", "--json", tmp_path / "r.jsonl")
        assert ran.code == 0, ran.err
        assert "2 files:" in ran.out
        assert "Passed over" not in ran.err


def test_stopped_while_evidence_is_written_nothing_is_scanned_again(
    run: Run, two_pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from faceproof import batch
    from faceproof.evidence import custody

    def stopped(*_: object, **__: object) -> Path:
        raise KeyboardInterrupt

    command = ("scan", two_pictures, *TOY, "--evidence", tmp_path / "kept", "--json", tmp_path / "r.jsonl")
    with monkeypatch.context() as patch:
        patch.setattr(custody, "write_evidence", stopped)
        ran = run(*command)
    assert ran.code == 130
    assert "0 of 2 have their evidence; run the same command again" in " ".join(ran.err.split())
    assert len((tmp_path / "r.jsonl").read_text().splitlines()) == 2
    monkeypatch.setattr(batch, "scan_one", lambda *_, **__: pytest.fail("scanned again"))
    ran = run(*command)
    assert ran.code == 0, ran.err
    assert len(list((tmp_path / "kept").iterdir())) == 2
    assert not (tmp_path / "r.jsonl.partial").exists()


@pytest.mark.parametrize("why", ["other options", "changed", "no evidence", "--no-resume", "signed now"])
def test_other_evidence_in_the_way_is_said_before_anything_is_scanned(
    why: str, run: Run, two_pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from faceproof import batch

    kept = tmp_path / "kept"
    assert run("scan", two_pictures, *TOY, "--evidence", kept).code == 0
    place = next(kept.glob("grey*"))
    options: list[object] = []
    if why == "other options":
        options = ["--faces", "fast"]
    elif why == "changed":
        (place / "report.html").write_text("<p>genuine</p>")
    elif why == "no evidence":
        (place / "manifest.json").unlink()
    elif why == "signed now":
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        form = (serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
        (tmp_path / "key").write_bytes(Ed25519PrivateKey.generate().private_bytes(*form))
        options = ["--key", tmp_path / "key"]
    else:
        options = [why]
    monkeypatch.setattr(batch, "scan_many", lambda *_, **__: pytest.fail("scanned first"))
    ran = run("scan", two_pictures, *TOY, "--evidence", kept, *options)
    assert ran.code == 1, ran.err
    assert "choose another folder" in " ".join(ran.err.split())
    assert "Traceback" not in ran.err


def test_copies_share_their_evidence_and_a_bad_file_keeps_the_others_apart(
    run: Run, two_pictures: Path, tmp_path: Path
) -> None:
    shutil.copy(two_pictures / "deeper" / "grey.png", two_pictures / "grey.png")
    ran = run("scan", two_pictures, *TOY, "--evidence", tmp_path / "kept")
    assert ran.code == 0, ran.err
    assert len(list((tmp_path / "kept").iterdir())) == 2
    for path in two_pictures.rglob("grey.png"):
        path.unlink()
    (two_pictures / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert run("scan", two_pictures, *TOY, "--evidence", tmp_path / "other").code == 1
    assert [path.name.partition("-")[0] for path in (tmp_path / "other").iterdir()] == ["я_50_20.png"]


def test_a_person_is_told_how_to_see_where(run: Run, clip_mp4: Path) -> None:
    assert f"See where: faceproof explain {clip_mp4} --report report.html" in run("scan", clip_mp4, *TOY).out


@pytest.mark.parametrize("args", [("--key", "key.pem"), ("--report", "page.html")])
def test_evidence_options_that_make_no_sense(run: Run, folder: Path, args: tuple[str, str]) -> None:
    assert run("scan", folder, *TOY, *args).code == 2


def test_what_cannot_be_written_is_said_before_anything_is_scanned(
    run: Run, clip_mp4: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from faceproof import batch

    monkeypatch.setattr(batch, "scan_many", lambda *_, **__: pytest.fail("scanned first"))
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "something").write_text("old")
    for option, target in (
        ("--json", tmp_path / "gone" / "r.json"),
        ("--csv", tmp_path / "gone" / "r.csv"),
        ("--report", tmp_path),
        ("--evidence", tmp_path / "kept"),
    ):
        ran = run("scan", clip_mp4, *TOY, option, target)
        assert ran.code == 1, (option, ran.err)
        assert str(target) in ran.err


def test_what_a_folder_holds_besides_media_is_counted(run: Run, folder: Path) -> None:
    (folder / "deeper" / "sound.m4a").write_bytes(b"x")
    assert "Passed over 2 files" in (ran := run("scan", folder, *TOY)).err
    assert "1 .txt" in ran.err
    assert "1 .m4a" in ran.err


def test_an_address_is_to_be_downloaded_first(run: Run) -> None:
    ran = run("scan", "https://example.org/post/1", *TOY)
    assert ran.code == 2
    assert "https://example.org/post/1 is an address, not a file" in ran.err
    assert "Download it first" in ran.err


def test_a_folder_scan_stopped_without_a_file_to_go_on_from_shows_what_it_knows(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_at_third(monkeypatch)
    stopped = run("scan", folder, *TOY)
    assert stopped.code == 130
    assert "2 files: 1 with signs of manipulation" in stopped.err or "2 files: 0 with" in stopped.err
    assert "--json FILE" in stopped.err


def test_a_name_like_an_option_is_shown_as_it_can_be_typed(
    run: Run, clip_mp4: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(clip_mp4, tmp_path / "-clip.mp4")
    monkeypatch.chdir(tmp_path)
    assert "faceproof explain ./-clip.mp4 --report" in run("scan", *TOY, "--", "-clip.mp4").out


def test_an_animation_is_judged_whole_and_pages_by_the_first(run: Run, astronaut_png: Path, tmp_path: Path) -> None:
    first = Image.open(astronaut_png).convert("RGB")
    others = [first.rotate(angle) for angle in range(1, 12)]
    first.save(tmp_path / "moving.gif", save_all=True, append_images=others, duration=80)
    said = run("scan", tmp_path / "moving.gif", "--detector", "toy").out
    assert "12.5 fps · 1.0 s · GIF" in said
    assert "12 faces" in said
    assert "256 colours" in said
    first.save(tmp_path / "pages.tif", save_all=True, append_images=others[:1])
    assert "only the first was looked at" in run("scan", tmp_path / "pages.tif", "--detector", "toy").out
    said = run("scan", astronaut_png, "--detector", "toy").out
    assert "only the first" not in said
    assert "256 colours" not in said
