import csv
import hashlib
import io
import json
import os
import stat
from pathlib import Path

import pytest

from faceproof.errors import OutputError
from faceproof.result_files import Journal, as_csv, as_json_lines, most_suspicious_first, write_whole
from faceproof.results import FailedInput, Report

from .test_judge import face, frames, report


def named(path: str, p: float | None) -> Report:
    made = report(frames([face(1, p)]) if p is not None else frames([]))
    return made.model_copy(update={"media": made.media.model_copy(update={"path": path})})


FAILED = FailedInput(path="broken.mp4", error="corrupt", message="it is broken", remedy="Fetch it again.")


def test_most_suspicious_first_then_unscored_then_failed() -> None:
    rows = most_suspicious_first([FAILED, named("none", None), named("b", 0.3), named("a", 0.9), named("c", 0.3)])
    assert [r.path if isinstance(r, FailedInput) else r.media.path for r in rows] == [
        "a",
        "b",
        "c",
        "none",
        "broken.mp4",
    ]


def test_csv_holds_one_row_a_file_whatever_its_name() -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv([named('with "quotes", commas\nand lines', 0.25), FAILED]))))
    assert rows[0]["path"] == 'with "quotes", commas\nand lines'
    assert float(rows[0]["score"]) == pytest.approx(0.25)
    assert rows[1]["error"] == "corrupt"
    assert rows[1]["score"] == ""


def test_json_lines_hold_reports_and_failures() -> None:
    first, second = as_json_lines([named("a\nb", 0.5), FAILED]).splitlines()
    assert json.loads(first)["media"]["path"] == "a\nb"
    assert json.loads(second)["error"] == "corrupt"


def test_a_stopped_scan_goes_on_and_retries_what_failed(tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    journal = Journal(target, {"frames": "32"})
    journal.add(named("a", 0.1))
    journal.add(FAILED)
    journal.close()
    with journal.path.open("a") as file:
        file.write('{"cut off in the mid')
    again = Journal(target, {"frames": "32"})
    assert set(again.done) == {"a"}
    again.add(named("b", 0.2))
    again.close()
    third = Journal(target, {"frames": "32"})
    assert set(third.done) == {"a", "b"}
    third.discard()
    assert not third.path.exists()


def test_what_was_judged_counts_while_the_file_is_what_it_was(tmp_path: Path) -> None:
    """A stopped scan may go on another day, or in another folder with files of the same names."""
    kept, changed, gone = (tmp_path / name for name in ("kept", "changed", "gone"))
    journal = Journal(tmp_path / "out.jsonl", {})
    for path in (kept, changed, gone):
        path.write_bytes(path.name.encode())
        outcome = named(str(path), 0.9)
        facts = {"sha256": hashlib.sha256(path.name.encode()).hexdigest(), "size_bytes": len(path.name)}
        journal.add(outcome.model_copy(update={"media": outcome.media.model_copy(update=facts)}))
    journal.close()
    status = changed.stat()
    changed.write_bytes(b"CHANGED")
    os.utime(changed, ns=(status.st_atime_ns, status.st_mtime_ns))
    gone.unlink()
    again = Journal(tmp_path / "out.jsonl", {})
    assert set(again.standing([kept, changed, gone, tmp_path / "new"])) == {kept}
    again.close()


def test_a_scan_with_other_settings_starts_anew(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "out.jsonl", {"frames": "32"})
    journal.add(named("a", 0.1))
    journal.close()
    other = Journal(tmp_path / "out.jsonl", {"frames": "all"})
    assert other.done == {}
    other.close()


def test_devices_are_written_to_and_links_stay_links(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_whole(pipe, "text")
    assert os.read(reader, 100) == b"text"
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    (tmp_path / "real.json").write_text("old")
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    write_whole(tmp_path / "link.json", "new")
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "real.json").read_text() == "new"


def test_writing_is_all_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write_whole(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "new \ud800")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]
    with pytest.raises(OutputError):
        write_whole(tmp_path / "missing" / "report.json", "x")
