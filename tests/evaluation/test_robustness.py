from __future__ import annotations

import io
from dataclasses import replace

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceproof.batch import ScanOptions
from faceproof.detectors.catalog import find_spec
from faceproof.detectors.detector import Detector
from faceproof.detectors.quality import Quality, band_at
from faceproof.detectors.spec import QualityBands, VerdictRule
from faceproof.errors import OptionError
from faceproof.evaluation import degradations
from faceproof.evaluation.cache import ScoreCache
from faceproof.evaluation.degradations import DEGRADATIONS, decode, encode_h264, encode_lossless
from faceproof.evaluation.manifest import Manifest
from faceproof.evaluation.quality import fit_quality_bands, widening
from faceproof.evaluation.robustness import SAMPLED, UNTOUCHED, Sweep, cells_of, degrade, read_run, sweep
from faceproof.evaluation.scores import ScoreTable


@pytest.fixture(scope="module")
def run(clip_frames: list[np.ndarray]) -> list[np.ndarray]:
    return [np.ascontiguousarray(frame) for frame in clip_frames[:6]]


def error(a: list[np.ndarray], b: list[np.ndarray]) -> float:
    return float(np.mean([np.mean((x.astype(float) - y) ** 2) for x, y in zip(a, b, strict=True)]))


@pytest.mark.parametrize("name", [name for name in DEGRADATIONS if name not in ("downscale", "crop", "recapture")])
def test_more_severe_is_further_from_the_original(name: str, run: list[np.ndarray]) -> None:
    kind = DEGRADATIONS[name]
    away = [error(run, kind.apply(run, severity)) for severity in kind.severities]
    assert away == sorted(away)
    assert away[0] > 0
    assert kind.apply(run, kind.severities[0])[0].dtype == np.uint8


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_every_degradation_repeats_itself_and_takes_odd_sizes(name: str, run: list[np.ndarray]) -> None:
    kind, odd = DEGRADATIONS[name], [np.ascontiguousarray(frame[:101, :75]) for frame in run[:2]]
    first, again = kind.apply(odd, kind.severities[-1]), kind.apply(odd, kind.severities[-1])
    assert all(np.array_equal(x, y) for x, y in zip(first, again, strict=True))
    assert len(first) == 2


def test_shapes_of_what_changes_the_size(run: list[np.ndarray]) -> None:
    assert degradations.downscale(run, 0.25)[0].shape == (60, 80, 3)
    assert degradations.crop(run, 0.1)[0].shape == (192, 256, 3)


def test_moire_is_a_pattern_the_original_has_not(run: list[np.ndarray]) -> None:
    flat = [np.full((240, 320, 3), 128, np.uint8)]
    seen = degradations.recapture(flat, 3)[0].astype(float)
    assert seen.shape == (240, 320, 3)
    # Broad coloured stripes on a plain grey wall.
    assert np.std(seen[60:180, 60:260]) > 2


def test_h264_is_what_a_player_sees(run: list[np.ndarray]) -> None:
    data = encode_h264(run, 30)
    with av.open(io.BytesIO(data)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
    assert len(encode_h264(run, 40)) < len(data) < len(encode_h264(run, 18))


def test_lossless_is_lossless(run: list[np.ndarray]) -> None:
    assert error(run, decode(encode_lossless(run))) == 0


def test_degraded_stills_and_clips_are_files_a_scan_can_read(lit_set: Manifest, tmp_path) -> None:  # type: ignore[no-untyped-def]
    still, is_still = read_run(lit_set.entries[0].path)
    clip, is_clip_still = read_run(lit_set.entries[9].path)
    assert is_still
    assert not is_clip_still
    assert len(clip) == 9  # from a quarter in to the end
    for frames, single, name, suffix in (
        (still, True, "h264", ".png"),
        (clip, False, "h264", ".mp4"),
        (clip, False, "blur", ".mkv"),
    ):
        data, found = degrade(frames, (name, DEGRADATIONS[name].severities[0]), still=single)
        (tmp_path / f"x{found}").write_bytes(data)
        assert found == suffix
        assert read_run(tmp_path / f"x{found}")[1] is single
    data, _ = degrade(clip, UNTOUCHED, still=False)
    assert len(decode(data)) == SAMPLED


def test_sweep_finds_where_the_toy_breaks(
    lit_set: Manifest,
    toy: ScanOptions,
    toy_loaded: Detector,
    tmp_path,
    monkeypatch: pytest.MonkeyPatch,  # type: ignore[no-untyped-def]
) -> None:
    cache = ScoreCache(tmp_path, find_spec("toy").spec, replace(toy, frames=str(SAMPLED)))
    cells = [UNTOUCHED, ("blur", 1.0), ("dark", 0.2)]
    seen: list[int] = []
    found = sweep(lit_set, cells, toy, detector=toy_loaded, cache=cache, on_progress=lambda done, *_: seen.append(done))
    assert seen == list(range(1, len(lit_set) + 1))
    assert all(len(table) == len(lit_set) for table in found.tables.values())
    blur, dark = found.curves(threshold=0.5, resamples=50)
    assert blur.points[0].auroc.value == blur.points[1].auroc.value == 1
    assert blur.chance_from is None
    # Everything is dark now: the toy calls nothing fake any more.
    assert dark.points[1].miss_rate == 1
    # Unreadable and face-less files are counted at every point.
    assert blur.points[0].scored == pytest.approx(10 / 12)
    monkeypatch.setattr("faceproof.evaluation.robustness.scan_one", lambda *_: pytest.fail("scanned again"))
    readable = Manifest(lit_set.entries[:10], lit_set.root)
    assert sweep(readable, cells, toy, detector=toy_loaded, cache=cache).tables[UNTOUCHED].scored.all()


def test_several_processes_sweep_alike(lit_set: Manifest, toy: ScanOptions, toy_loaded: Detector) -> None:
    some = Manifest(lit_set.entries[:3], lit_set.root)
    cells = cells_of(["jpeg"])[:2]
    alone, together = sweep(some, cells, toy, detector=toy_loaded), sweep(some, cells, toy, jobs=2)
    for cell in cells:
        assert together.tables[cell].score == pytest.approx(alone.tables[cell].score, abs=1e-5)


def test_unknown_degradations_are_refused() -> None:
    with pytest.raises(OptionError, match="unknown degradation fog"):
        cells_of(["fog"])
    assert len(cells_of([])) == 1 + sum(len(kind.severities) for kind in DEGRADATIONS.values())


def graded(quality: dict[str, float], apart: float, seed: int) -> ScoreTable:
    generator = np.random.default_rng(seed)
    label = np.arange(400) % 2
    score = 1 / (1 + np.exp(-(apart * (label - 0.5) + generator.normal(size=400))))
    names = [f"{row}.mp4" for row in range(400)]
    return ScoreTable.of(
        names, label, score, source_video=names, quality={name: np.full(400, value) for name, value in quality.items()}
    )


@pytest.fixture
def graded_sweep() -> Sweep:
    tables = {UNTOUCHED: graded({"face_side": 160, "bits_per_pixel": 9}, 4, 0)}
    for factor, apart in ((0.75, 3.5), (0.5, 2.5), (0.35, 3.0), (0.25, 1.0), (0.15, -0.5)):
        tables["downscale", factor] = graded({"face_side": 160 * factor, "bits_per_pixel": 9}, apart, 1)
    for crf, apart in ((18, 3.5), (28, 2.5), (40, 1.0)):
        tables["h264", float(crf)] = graded({"face_side": 160, "bits_per_pixel": 2.0 ** -(crf / 6)}, apart, 2)
    return Sweep(tables)


def test_chance_is_where_the_curve_stays_there(graded_sweep: Sweep) -> None:
    curves = {curve.name: curve for curve in graded_sweep.curves(threshold=0.5, resamples=100)}
    assert curves["downscale"].chance_from == 0.15
    assert curves["h264"].chance_from is None
    assert [point.severity for point in curves["h264"].points] == [None, 18, 28, 40]


def test_bands_widen_as_quality_falls_and_never_narrow(graded_sweep: Sweep) -> None:
    bands = fit_quality_bands(graded_sweep, max_false_alarms=0.05)
    widths = [point.high - point.low for point in bands.face_side]
    assert widths == sorted(widths)
    assert [point.at for point in bands.face_side] == sorted((point.at for point in bands.face_side), reverse=True)
    # Blind at 24 px: no verdict at any score.
    assert (bands.face_side[-1].low, bands.face_side[-1].high) == (0, 1)
    best = (bands.face_side[0], bands.bits_per_pixel[0])
    band = min(0.5, *(point.low for point in best)), max(0.5, *(point.high for point in best))
    rule = VerdictRule(band=band, quality=bands)
    good, poor, squeezed = (
        band_at(rule, quality)
        for quality in (Quality(160, 50, 2.0**-3, 6), Quality(60, 50, 2.0**-3, 6), Quality(160, 50, 2.0**-6.5, 6))
    )
    assert poor.high > good.high
    assert squeezed.high > good.high
    assert (band_at(rule, Quality()).low, band_at(rule, Quality()).high) == band


@given(st.lists(st.tuples(st.floats(1, 500), st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=8))
def test_whatever_was_measured_the_points_make_a_table_that_a_spec_takes(
    measured: list[tuple[float, float, float]],
) -> None:
    rows = [(at, *sorted(ends)) for at, *ends in measured]
    points = widening(rows)
    QualityBands(false_alarms=0.01, misses=0.2, face_side=points)
    assert all(any(p.at <= at and p.low <= low and p.high >= high for p in points) for at, low, high in rows)
