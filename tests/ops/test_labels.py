"""Labels become precision and recall over time, and a set to train on."""

import csv
from pathlib import Path

import pytest

from faceproof.errors import OptionError
from faceproof.ops.labels import LabelStore, precision_recall, retraining_manifest
from faceproof.results import Report

from .made_reports import made_report

WEEK = 7 * 86400.0
MONDAY = 1_767_571_200.0  # 2026-01-05


@pytest.fixture
def store(tmp_path: Path) -> LabelStore:
    return LabelStore(tmp_path / "labels.db")


def seen(store: LabelStore, name: str, score: float | None, truth: str | None, *, week: int = 0) -> Report:
    report = made_report(name, score)
    store.remember(report, when=MONDAY + week * WEEK + 3600)
    if truth is not None:
        store.label(report.media.sha256, truth)
    return report


def test_precision_and_recall_week_by_week(store: LabelStore) -> None:
    for i in range(8):
        seen(store, f"hit{i}", 0.9, "fake")
    seen(store, "miss", 0.1, "fake")
    seen(store, "silent", None, "fake")
    seen(store, "false", 0.9, "real")
    seen(store, "right", 0.1, "real")
    seen(store, "unknown", 0.9, None)
    seen(store, "later", 0.1, "fake", week=1)
    first, second = precision_recall(store.labelled_scans())
    assert (first.start, second.start) == ("2026-01-05", "2026-01-12")
    assert (first.precision.hits, first.precision.of) == (8, 9)
    assert (first.recall.hits, first.recall.of) == (8, 10)  # no opinion on a fake is a fake missed
    assert first.false_alarms.value == 0.5
    assert first.opinions.value == pytest.approx(11 / 12)
    assert first.recall.low is not None
    assert first.recall.high is not None
    assert first.recall.low < 0.8 < first.recall.high
    assert (second.recall.value, second.precision.value, second.precision.low) == (0.0, None, None)


def test_a_later_word_replaces_and_another_voice_disputes(store: LabelStore) -> None:
    sha256 = seen(store, "a", 0.9, None).media.sha256
    store.label(sha256, "fake", by="ann")
    store.label(sha256, "real", by="ann")
    assert store.truths() == ({sha256: "real"}, set())
    store.label(sha256, "fake", by="bob")
    assert store.truths() == ({}, {sha256})
    assert store.labelled_scans() == []


def test_versions_are_kept_apart(store: LabelStore) -> None:
    old, new = made_report("a", 0.1, version="1.0"), made_report("a", 0.9, version="2.0")
    for report in (old, new):
        store.remember(report, when=MONDAY)
    store.label(old.media.sha256, "fake")
    assert [(p.version, p.recall.value) for p in precision_recall(store.labelled_scans())] == [("1.0", 0), ("2.0", 1)]
    assert store.labelled_scans("other") == []


def test_a_set_to_train_on(store: LabelStore, tmp_path: Path) -> None:
    for name, score, truth in (("a", 0.9, "real"), ("b", 0.9, "fake"), ("c", None, "fake"), ("gone", 0.1, "fake")):
        path = tmp_path / name
        if name != "gone":
            path.write_bytes(b"x")
        seen(store, str(path), score, truth)
    out = tmp_path / "train.csv"
    scans, (truths, _) = store.labelled_scans(), store.truths()
    assert retraining_manifest(scans, truths, out) == (3, 1)
    assert retraining_manifest(scans, truths, out, only_mistakes=True) == (2, 1)
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert [(Path(row["path"]).name, row["label"], row["split"]) for row in rows] == [
        ("a", "real", "train"),
        ("c", "fake", "train"),
    ]


@pytest.mark.parametrize(("sha256", "truth"), [("0" * 64, "maybe"), ("0" * 63, "fake"), ("G" * 64, "fake")])
def test_what_is_no_label_is_refused(store: LabelStore, sha256: str, truth: str) -> None:
    with pytest.raises(OptionError):
        store.label(sha256, truth)


def test_scans_without_labels_say_nothing(store: LabelStore) -> None:
    seen(store, "a", 0.9, None)
    assert precision_recall(store.labelled_scans()) == []
    assert store.labelled_scans() == []
