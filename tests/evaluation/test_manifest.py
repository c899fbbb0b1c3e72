from __future__ import annotations

import json
from pathlib import Path

import pytest

from faceproof.errors import DatasetError
from faceproof.evaluation.layouts import LAYOUTS, detect_layout, read_layout
from faceproof.evaluation.manifest import Entry, Manifest, read_manifest, write_manifest


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def by_path(manifest: Manifest) -> dict[str, Entry]:
    return {manifest.relative(entry): entry for entry in manifest.entries}


def test_manifest_counts_what_it_cannot_use(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "b.mp4", "d.mp4")
    path = tmp_path / "manifest.csv"
    path.write_text(
        "path,label,dataset,source_video\na.mp4,fake,X,1\n./a.mp4,fake,X,1\nb.mp4,real,X,2\nb.mp4,fake,X,2\n"
        "c.mp4,real,X,3\nd.mp4,dunno,X,3\n,real,,\nd.mp4,real,X,3\n"
    )
    manifest = read_manifest(path)
    assert sorted(by_path(manifest)) == ["a.mp4", "d.mp4"]
    assert {problem.kind: problem.count for problem in manifest.problems.problems} == {
        "duplicate_row": 1,
        "conflicting_rows": 1,
        "missing_file": 1,
        "unknown_label": 1,
        "missing_path": 1,
    }


def test_manifest_without_anything_usable(tmp_path: Path) -> None:
    path = tmp_path / "manifest.csv"
    path.write_text("path,label\nnone.mp4,fake\n")
    with pytest.raises(DatasetError, match=r"1 × the file does not exist: none\.mp4"):
        read_manifest(path)
    path.write_text("file,label\n")
    with pytest.raises(DatasetError, match="lacks the column path"):
        read_manifest(path)
    with pytest.raises(DatasetError, match="cannot read"):
        read_manifest(tmp_path / "other.csv")


def test_manifest_round_trip(tmp_path: Path) -> None:
    touch(tmp_path, "odd, name.mp4", "sub/b.jpg")
    entries = (
        Entry(tmp_path / "odd, name.mp4", 1, "X", "swap", "s1", "ann+bob", "test"),
        Entry(tmp_path / "sub/b.jpg", 0, "X"),
    )
    write_manifest(Manifest(entries, tmp_path), tmp_path / "m.csv")
    assert read_manifest(tmp_path / "m.csv").entries == entries


def test_sample_takes_the_same_few_of_every_kind(tmp_path: Path) -> None:
    entries = tuple(Entry(tmp_path / f"{row}.mp4", row % 2, "X", f"m{row % 3}") for row in range(120))
    sample = Manifest(entries, tmp_path).sample(4)
    assert len(sample) == 24
    assert sample.entries == Manifest(entries[::-1], tmp_path).sample(4).entries


def test_faceforensics(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "original_sequences/youtube/c23/videos/000.mp4",
        "original_sequences/youtube/c23/videos/003.mp4",
        "manipulated_sequences/Deepfakes/c40/videos/000_003.mp4",
        "manipulated_sequences/Face2Face/raw/images/003_000/0001.png",
        "original_sequences/actors/c23/videos/01__exit_phone_room.mp4",
        "manipulated_sequences/DeepFakeDetection/c23/videos/01_02__exit_phone_room__YVGY8LOK.mp4",
        "stray.mp4",
    )
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits/test.json").write_text(json.dumps([["000", "003"]]))
    manifest = read_layout(tmp_path)
    found = by_path(manifest)
    fake = found["manipulated_sequences/Deepfakes/c40/videos/000_003.mp4"]
    assert (fake.label, fake.dataset, fake.method) == (1, "FaceForensics++ c40", "Deepfakes")
    assert (fake.source_video, fake.identity, fake.split) == ("000", "000+003", "test")
    real = found["original_sequences/youtube/c23/videos/000.mp4"]
    assert (real.label, real.source_video, real.method) == (0, "000", "original")
    frame = found["manipulated_sequences/Face2Face/raw/images/003_000/0001.png"]
    assert (frame.source_video, frame.dataset) == ("003", "FaceForensics++ raw")
    swapped = found["manipulated_sequences/DeepFakeDetection/c23/videos/01_02__exit_phone_room__YVGY8LOK.mp4"]
    assert (swapped.source_video, swapped.identity, swapped.dataset) == ("01__exit_phone_room", "01+02", "DFD c23")
    actor = found["original_sequences/actors/c23/videos/01__exit_phone_room.mp4"]
    assert (actor.label, actor.source_video) == (0, "01__exit_phone_room")
    assert manifest.problems["unlabelled_file"] == 1


def test_dfd_alone(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "original_sequences/actors/raw/videos/05__kitchen_pan.mp4",
        "manipulated_sequences/DeepFakeDetection/raw/videos/05_07__kitchen_pan__ABCD1234.mp4",
    )
    assert detect_layout(tmp_path) == "dfd"
    assert {entry.source_video for entry in read_layout(tmp_path).entries} == {"05__kitchen_pan"}


@pytest.mark.parametrize("layout", ["celeb-df-v1", "celeb-df-v2"])
def test_celeb_df(tmp_path: Path, layout: str) -> None:
    touch(tmp_path, "Celeb-real/id0_0000.mp4", "Celeb-synthesis/id0_id16_0000.mp4", "YouTube-real/00170.mp4")
    # In this list 1 stands for real: read as a label it would turn everything round.
    (tmp_path / "List_of_testing_videos.txt").write_text(
        "1 YouTube-real/00170.mp4\n0 Celeb-synthesis/id0_id16_0000.mp4\n"
    )
    found = by_path(read_layout(tmp_path, layout))
    assert found["YouTube-real/00170.mp4"].label == 0
    fake = found["Celeb-synthesis/id0_id16_0000.mp4"]
    assert (fake.label, fake.source_video, fake.identity, fake.split) == (1, "id0_0000", "id0+id16", "test")
    assert fake.source_video == found["Celeb-real/id0_0000.mp4"].source_video
    assert found["Celeb-real/id0_0000.mp4"].split == "train"
    assert fake.dataset == ("Celeb-DF v1" if layout.endswith("1") else "Celeb-DF v2")
    assert detect_layout(tmp_path) == "celeb-df-v1"


def test_dfdc(tmp_path: Path) -> None:
    touch(tmp_path, "part_0/aa.mp4", "part_0/bb.mp4", "part_0/odd.mp4")
    (tmp_path / "part_0/metadata.json").write_text(
        json.dumps(
            {
                "aa.mp4": {"label": "FAKE", "split": "train", "original": "bb.mp4"},
                "bb.mp4": {"label": "REAL", "split": "train", "original": None},
                "odd.mp4": {"label": "UNSURE"},
                "gone.mp4": {"label": "REAL"},
            }
        )
    )
    manifest = read_layout(tmp_path)
    found = by_path(manifest)
    assert found["part_0/aa.mp4"].source_video == found["part_0/bb.mp4"].source_video == "bb"
    assert (found["part_0/aa.mp4"].label, found["part_0/bb.mp4"].label) == (1, 0)
    assert (manifest.problems["unknown_label"], manifest.problems["missing_file"]) == (1, 1)
    (tmp_path / "part_0/metadata.json").write_text("{")
    with pytest.raises(DatasetError, match="cannot read"):
        read_layout(tmp_path)


def test_uadfv(tmp_path: Path) -> None:
    touch(tmp_path, "real/0000.mp4", "fake/0000_fake.mp4")
    found = by_path(read_layout(tmp_path))
    assert found["fake/0000_fake.mp4"].source_video == found["real/0000.mp4"].source_video == "0000"
    assert found["real/0000.mp4"].dataset == "UADFV"


def test_wilddeepfake(tmp_path: Path) -> None:
    touch(tmp_path, "real_train/7/real/12/3.png", "fake_test/7/fake/1/9.png", "notes/a.png")
    manifest = read_layout(tmp_path)
    found = by_path(manifest)
    fake = found["fake_test/7/fake/1/9.png"]
    assert (fake.label, fake.split, fake.source_video) == (1, "test", "fake_test/7")
    assert found["real_train/7/real/12/3.png"].source_video == "real_train/7"
    assert manifest.problems["unlabelled_file"] == 1


def test_plain_folders_with_methods_and_in_any_case(tmp_path: Path) -> None:
    touch(tmp_path, "Real/a.jpg", "FAKE/swap/b.png", "deepfake/c.mp4", "other/d.mp4", "Real/notes.txt")
    manifest = read_layout(tmp_path)
    found = by_path(manifest)
    assert {name: entry.label for name, entry in found.items()} == {
        "Real/a.jpg": 0,
        "FAKE/swap/b.png": 1,
        "deepfake/c.mp4": 1,
    }
    assert found["FAKE/swap/b.png"].method == "swap"
    assert manifest.problems["unlabelled_file"] == 1


def test_folders_that_are_none_of_these(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="is not a folder"):
        read_layout(tmp_path / "none")
    with pytest.raises(DatasetError, match="no labelled picture or video"):
        read_layout(tmp_path)
    with pytest.raises(DatasetError, match="unknown layout"):
        read_layout(tmp_path, "ffpp")
    assert set(LAYOUTS) >= {
        "faceforensics",
        "celeb-df-v1",
        "celeb-df-v2",
        "dfdc",
        "dfd",
        "uadfv",
        "wilddeepfake",
        "plain",
    }


def test_what_is_no_manifest_is_named_by_what_it_is(tmp_path):
    with pytest.raises(DatasetError, match=r"clip\.MP4 is a video") as caught:
        read_manifest(tmp_path / "clip.MP4")
    assert "faceproof scan" in caught.value.remedy
    reports = tmp_path / "out.jsonl"
    reports.write_text('{"schema": "faceproof-report/1", "verdict": "REAL"}\n', encoding="utf-8")
    with pytest.raises(DatasetError, match="lacks the column path and label") as caught:
        read_manifest(reports)
    assert caught.value.remedy.startswith("It looks like reports of a scan")
