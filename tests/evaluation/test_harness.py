from __future__ import annotations

import gzip
from dataclasses import replace

import numpy as np
import pytest

from faceproof.batch import ScanOptions
from faceproof.detectors.catalog import find_spec
from faceproof.detectors.detector import Detector
from faceproof.detectors.spec import (
    Aggregate,
    BandPoint,
    Calibration,
    Margin,
    Method,
    QualityBands,
    VerdictRule,
)
from faceproof.errors import OutputError
from faceproof.evaluation.cache import ScoreCache, media_sha256
from faceproof.evaluation.harness import judge, tabulate
from faceproof.evaluation.manifest import Manifest
from faceproof.results import FailedInput, Report

KIND = {".png": "image", ".mp4": "video"}


@pytest.fixture
def cache(tmp_path, toy: ScanOptions) -> ScoreCache:  # type: ignore[no-untyped-def]
    return ScoreCache(tmp_path / "scores", find_spec("toy").spec, toy)


def test_every_file_has_a_row_whatever_became_of_it(lit_set: Manifest, toy_loaded: Detector, toy: ScanOptions) -> None:
    outcomes = judge(lit_set, toy, detector=toy_loaded)
    judged = tabulate(lit_set, outcomes)
    table = judged.video
    assert len(table) == len(lit_set)
    by_path = dict(zip(table.path, table.verdict, strict=True))
    assert by_path["noface.png"] == "NOT_ASSESSED"
    assert by_path["broken.mp4"] == "FAILED"
    assert judged.problems["failed"] == 1
    seen = table.select(table.scored)
    assert len(seen) == 10
    assert seen.score[seen.label == 1].min() > seen.score[seen.label == 0].max()
    assert (seen.quality["face_side"] > 50).all()
    assert (seen.quality["bits_per_pixel"] > 0).all()
    assert np.sum(judged.frame.path == "clip1.mp4") == 4
    assert judged.frame.level == "frame"
    assert np.sum(judged.track.path == "clip0.mp4") == 1


def test_a_second_evaluation_scans_nothing(
    lit_set: Manifest, toy: ScanOptions, toy_loaded: Detector, cache: ScoreCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    first = judge(lit_set, toy, detector=toy_loaded, cache=cache, on_progress=lambda *call: seen.append(call))
    assert [call[0] for call in seen] == list(range(1, 13))
    scanned = []
    monkeypatch.setattr("faceproof.evaluation.harness.scan_one", lambda path, *_: scanned.append(path) or first[-1])
    again = judge(lit_set, toy, detector=toy_loaded, cache=cache)
    # Failures are tried again; everything else comes from the cache.
    assert [path.name for path in scanned] == ["broken.mp4"]
    assert again == first


def test_an_interrupted_evaluation_goes_on(
    lit_set: Manifest, toy: ScanOptions, toy_loaded: Detector, cache: ScoreCache
) -> None:
    def stop(done: int, *_: object) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judge(lit_set, toy, detector=toy_loaded, cache=cache, on_progress=stop)
    kept = [
        entry
        for entry in lit_set.entries
        if (media := media_sha256(entry.path)) and cache.get(media, KIND[entry.path.suffix])
    ]
    assert len(kept) == 3
    assert all(isinstance(outcome, Report | FailedInput) for outcome in judge(lit_set, toy, cache=cache))


def test_the_cache_knows_detectors_settings_and_damage_apart(
    lit_set: Manifest, toy: ScanOptions, toy_loaded: Detector, cache: ScoreCache
) -> None:
    one = Manifest(lit_set.entries[:1], lit_set.root)
    (report,) = judge(one, toy, detector=toy_loaded, cache=cache)
    media = media_sha256(one.entries[0].path)
    assert media is not None
    assert cache.get(media, "image") == report
    assert ScoreCache(cache.folder, find_spec("toy-inverted").spec, toy).get(media, "image") is None
    assert replace(cache, options=replace(toy, frames="8")).get(media, "image") is None
    (file,) = cache.place.iterdir()
    for damage in (gzip.compress(b'{"no": "report"}'), file.read_bytes()[:100], b"no gzip", b""):
        file.write_bytes(damage)
        assert cache.get(media, "image") is None
    cache.put(media, "image", report)
    assert cache.get(media, "image") == report


def test_another_rule_judges_the_stored_scores_again_and_scans_nothing(
    lit_set: Manifest, toy: ScanOptions, toy_loaded: Detector, cache: ScoreCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    readable = Manifest(lit_set.entries[:10], lit_set.root)
    judge(readable, toy, detector=toy_loaded, cache=cache)
    points = (BandPoint(at=200, low=0.1, high=0.9), BandPoint(at=100, low=0.0, high=1.0))
    bands = QualityBands(false_alarms=0.01, misses=0.2, face_side=points)
    rule = VerdictRule(threshold=0.7, band=(0.1, 0.9), frame_threshold=0.9, min_side=16, quality=bands)
    spec = cache.spec.model_copy(
        update={
            "verdict": rule,
            "calibration": Calibration(method="platt", a=2.0, b=0.5),
            "aggregate": Aggregate(track=Method(method="max")),
        }
    )
    other = Detector(spec, toy_loaded.network)
    scanned = judge(readable, toy, detector=other)
    monkeypatch.setattr("faceproof.evaluation.harness.scan_one", lambda *_: pytest.fail("scanned again"))
    again = judge(readable, toy, detector=other, cache=replace(cache, spec=spec))
    for told, expected in zip(again, scanned, strict=True):
        assert isinstance(told, Report)
        assert isinstance(expected, Report)
        clock = {"processing_time": told.processing_time, "timings": told.timings}
        assert told == expected.model_copy(update={**clock, "media": told.media})
    margin = spec.faces.model_copy(update={"margin": Margin(kind="none")})
    moved = replace(cache, spec=spec.model_copy(update={"faces": margin}))
    media = media_sha256(readable.entries[0].path)
    assert media is not None
    assert moved.get(media, "image") is None


def test_what_auto_looks_at_in_a_video_depends_on_the_rules(
    lit_set: Manifest, toy: ScanOptions, toy_loaded: Detector, cache: ScoreCache
) -> None:
    auto = replace(cache, options=replace(toy, frames="auto"))
    report = judge(Manifest(lit_set.entries[9:10], lit_set.root), auto.options, detector=toy_loaded, cache=auto)[0]
    assert isinstance(report, Report)
    keener = {"verdict": cache.spec.verdict.model_copy(update={"frame_threshold": 0.1})}
    keen = replace(auto, spec=cache.spec.model_copy(update=keener))
    assert auto.get(report.media.sha256, "video") == report
    assert keen.get(report.media.sha256, "video") is None
    keen.put("0" * 64, "image", report)
    assert auto.get("0" * 64, "image") is not None


def test_a_cache_that_cannot_be_written_says_so(
    lit_set: Manifest, toy: ScanOptions, toy_loaded: Detector, tmp_path
) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "file").write_text("in the way")
    blocked = ScoreCache(tmp_path / "file", find_spec("toy").spec, toy)
    with pytest.raises(OutputError, match="cannot keep scores"):
        judge(Manifest(lit_set.entries[:1], lit_set.root), toy, detector=toy_loaded, cache=blocked)


def test_several_processes_give_the_same_scores(lit_set: Manifest, toy: ScanOptions, toy_loaded: Detector) -> None:
    some = Manifest(lit_set.entries[:4], lit_set.root)
    alone = tabulate(some, judge(some, toy, detector=toy_loaded)).video
    together = tabulate(some, judge(some, toy, jobs=2)).video
    assert together.score == pytest.approx(alone.score, abs=1e-5)
