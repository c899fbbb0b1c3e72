"""The measures between neighbouring frames say what they are named for, on sequences that are made here."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from benchmarks.bursts import (
    CUES,
    Aligned,
    Burst,
    Floats,
    align,
    box_jitter,
    edge_flicker,
    flow_jitter,
    high_frequencies,
    landmark_jitter,
    map_flicker,
    read,
    read_tracks,
)
from benchmarks.clips import make_clip
from benchmarks.temporal import TOGETHER, Video, keep, kept_tracks, main_person, printed, rows_of
from hypothesis import given, settings
from hypothesis import strategies as st

from faceproof.detectors.detector import load_detector
from faceproof.faces import FaceDetector

from ..toy_detector import write_toy_detector

LENGTH, WINDOW = 9, 200
# A face of 100 pixels in the middle of its window, upright.
POINTS = np.array([[79, 88], [121, 88], [100, 110], [83, 134], [117, 134]], np.float32)
BOX = np.array([50, 45, 150, 155], np.float32)


def picture(seed: int, side: int = WINDOW) -> Floats:
    """Smooth shapes with fine detail on them: float32 ``[side, side, 3]``."""
    rng = np.random.default_rng(seed)
    parts = [
        cv2.resize(
            rng.normal(0, strength, (cells, cells)).astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC
        )
        for cells, strength in ((6, 35), (24, 16), (80, 10))
    ]
    return np.repeat((np.sum(parts, axis=0) + 125)[:, :, None], 3, axis=2).astype(np.float32)


def burst_of(frames: Floats, points: Floats | None = None) -> Burst:
    return Burst(
        images=np.clip(np.round(frames), 0, 255).astype(np.uint8),
        points=np.repeat(POINTS[None], len(frames), 0) if points is None else points,
        boxes=np.repeat(BOX[None], len(frames), 0),
        seen=(0, 0, WINDOW, WINDOW),
    )


def still(seed: int = 0) -> Floats:
    return np.repeat(picture(seed)[None], LENGTH, 0)


def aligned(burst: Burst) -> Aligned:
    found = align(burst)
    assert found is not None
    return found


def on_border(low: float, high: float) -> Floats:
    """1 between two distances from the face's centre, as the ellipse of brows, cheeks and chin has them."""
    y, x = np.mgrid[:WINDOW, :WINDOW]
    distance = np.hypot((x - 100) / (1.05 * 42), (y - (88 + 0.7 * 42)) / (1.17 * 42))
    return ((distance >= low) & (distance < high)).astype(np.float32)[:, :, None]


def grain(seed: int, strength: float) -> Floats:
    rng = np.random.default_rng(seed)
    noise = [
        cv2.GaussianBlur(rng.normal(0, 1, (WINDOW, WINDOW)).astype(np.float32), (0, 0), 1.5) for _ in range(LENGTH)
    ]
    return (strength * np.stack(noise) / np.std(noise))[:, :, :, None]


def all_of(burst: Burst) -> dict[str, float]:
    face = aligned(burst)
    return {
        "landmarks": landmark_jitter(burst.points),
        "box": box_jitter(burst.boxes, burst.points),
        **edge_flicker(face),
        **high_frequencies(face),
        "optical flow": flow_jitter(face),
    }


@given(st.integers(0, 1000))
@settings(max_examples=4, deadline=None)
def test_a_picture_that_stands_still_has_none_of_it(seed: int) -> None:
    for name, value in all_of(burst_of(still(seed))).items():
        assert abs(value) < 0.05, name
    assert map_flicker(np.repeat(np.random.default_rng(seed).random((1, 20, 20), np.float32), LENGTH, 0)) == 0


@given(st.integers(0, 1000), st.floats(3, 12))
@settings(max_examples=4, deadline=None)
def test_a_flickering_border_raises_the_edge_and_not_the_landmarks(seed: int, strength: float) -> None:
    before = all_of(burst_of(still(seed)))
    after = all_of(burst_of(still(seed) + grain(seed, strength) * on_border(0.85, 1.05)))
    for name in ("edge over inside", "edge over outside", "edge over both"):
        assert after[name] > before[name] + 1, name
    assert after["landmarks"] == before["landmarks"]
    assert after["box"] == before["box"]


@given(st.integers(0, 1000), st.floats(2, 8))
@settings(max_examples=4, deadline=None)
def test_what_an_encoder_does_to_the_whole_frame_is_not_taken_for_an_edge(seed: int, strength: float) -> None:
    """Every fourth frame is refreshed, as P frames among B frames are: in every region alike."""
    pulse = grain(seed, strength)[(np.arange(LENGTH) // 4) * 4]
    everywhere = edge_flicker(aligned(burst_of(still(seed) + pulse)))
    there = edge_flicker(aligned(burst_of(still(seed) + pulse * on_border(0.85, 1.05))))
    assert everywhere["edge over both"] < 1.5
    assert there["edge over both"] <= everywhere["edge over both"] + 1.5
    constant = edge_flicker(aligned(burst_of(still(seed) + grain(seed, strength))))
    assert 0.6 < constant["edge over both"] < 1.5


@given(st.integers(0, 1000), st.floats(0.3, 3))
@settings(max_examples=30, deadline=None)
def test_noise_on_the_landmarks_raises_their_jitter_as_much(seed: int, pixels: float) -> None:
    rng = np.random.default_rng(seed)
    many = np.repeat(POINTS[None], 60, 0) + rng.normal(0, pixels, (60, 5, 2)).astype(np.float32)
    # Of ten coordinates four go into the similarity that is taken out.
    expected = pixels / 42 * np.sqrt(2 * 6 / 10)
    assert landmark_jitter(many) == pytest.approx(expected, rel=0.35)


def test_noise_on_the_landmarks_leaves_the_edge_alone() -> None:
    frames = still() + grain(3, 6) * on_border(0.85, 1.05)
    points = np.repeat(POINTS[None], LENGTH, 0) + np.random.default_rng(0).normal(0, 1, (LENGTH, 5, 2)).astype(
        np.float32
    )
    points[LENGTH // 2] = POINTS
    calm, shaken = all_of(burst_of(frames)), all_of(burst_of(frames, points))
    assert shaken["landmarks"] > calm["landmarks"] + 0.01
    assert {name: shaken[name] for name in CUES if name.startswith("edge")} == {
        name: calm[name] for name in CUES if name.startswith("edge")
    }


@given(st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_a_face_that_turns_nods_nearer_and_wanders_as_a_whole_does_not_jitter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    noisy = np.repeat(POINTS[None], LENGTH, 0) + rng.normal(0, 0.7, (LENGTH, 5, 2)).astype(np.float32)
    moved = []
    for points in noisy:
        turn = rng.uniform(0.9, 1.1) * np.exp(1j * rng.uniform(-0.3, 0.3))
        at = (points[:, 0] + 1j * points[:, 1]) * turn + complex(*rng.uniform(-30, 30, 2))
        moved.append(np.stack([at.real, at.imag], 1))
    assert landmark_jitter(np.stack(moved).astype(np.float32)) == pytest.approx(landmark_jitter(noisy), rel=0.05)


def test_the_box_is_held_against_the_landmarks() -> None:
    points, boxes = np.repeat(POINTS[None], LENGTH, 0), np.repeat(BOX[None], LENGTH, 0)
    walk = np.random.default_rng(0).normal(0, 5, (LENGTH, 2)).astype(np.float32)
    assert box_jitter(boxes + np.tile(walk, 2), points + walk[:, None]) == pytest.approx(0, abs=1e-5)
    assert box_jitter(boxes + np.tile(walk, 2), points) > 0.05


def test_alignment_finds_how_the_face_moved() -> None:
    big = picture(5, WINDOW + 40)
    shifts = np.array([[2 * step - 8, step - 4] for step in range(LENGTH)])
    frames = np.stack([big[20 - y : 20 - y + WINDOW, 20 - x : 20 - x + WINDOW] for x, y in shifts])
    face = aligned(burst_of(frames))
    assert face.moved == pytest.approx(shifts, abs=0.25)
    assert np.abs(np.diff(face.stack, axis=0))[:, face.inside].mean() < 2


def test_a_cut_inside_a_burst_gives_nothing() -> None:
    frames = still(1)
    frames[-2:] = picture(2)
    assert align(burst_of(frames)) is None


def test_what_no_frame_shows_is_not_measured() -> None:
    burst = burst_of(still())
    whole, part = aligned(burst), aligned(replace(burst, seen=(0, 60, WINDOW, WINDOW)))
    assert part.outside.sum() < whole.outside.sum()
    assert not part.outside[:48].any()
    assert align(replace(burst, seen=(0, 150, WINDOW, WINDOW))) is None


def test_fast_changes_are_told_from_slow_ones() -> None:
    spot = grain(1, 6)[:1] * on_border(0, 0.7)
    wave, slow = np.cos(np.pi * np.arange(LENGTH)), np.sin(np.pi * np.arange(LENGTH) / LENGTH)
    trembling, swelling = (
        high_frequencies(aligned(burst_of(still() + course.astype(np.float32)[:, None, None, None] * spot)))
        for course in (wave, slow)
    )
    assert trembling["high frequencies, face"] > 1.5
    assert trembling["high frequencies, face"] > 2 * swelling["high frequencies, face"]


def test_a_made_clip_is_read_measured_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEPROOF_HOME", str(tmp_path))
    write_toy_detector(tmp_path)
    clip = make_clip(tmp_path / "clip.mp4", width=640, height=360, seconds=2)
    lost: Counter[str] = Counter()
    tracks = read_tracks(clip, FaceDetector(), bursts=3, length=5, lost=lost)
    person = main_person(tracks)
    assert person is not None
    assert len(person.bursts) == 3
    assert not lost
    found = read(person.bursts[1], aligned(person.bursts[1]), load_detector("toy"))
    assert set(found.cues) == set(CUES)
    assert np.isfinite(list(found.cues.values())).all()
    # An even sway at 30 frames a second: a face that was only moved about.
    assert found.cues["landmarks"] < 0.05
    keep(tmp_path / "kept.npz", tracks, lost, 5.0)
    again, _, spent = kept_tracks(tmp_path / "kept.npz")
    assert spent == 5.0
    assert [len(track.bursts) for track in again] == [len(track.bursts) for track in tracks]
    assert again[0].bursts[0].seen == tracks[0].bursts[0].seen
    np.testing.assert_array_equal(again[0].bursts[0].images, tracks[0].bursts[0].images)


def test_the_table_adds_nothing_that_the_measure_does_not_hold() -> None:
    rng = np.random.default_rng(0)

    def video(source: int, label: int, tells: float) -> Video:
        p = np.clip(rng.normal(0.5 + 0.03 * label, 0.3, 12), 0.01, 0.99)
        cues = {"landmarks": tells, "box": float(rng.normal(1, 0.1))}
        return Video(f"{source}-{label}", label, "Swap" if label else "original", str(source), p.tolist(), cues, 6)

    videos = [video(source, label, 1 + label * 3 + 0.01 * source) for source in range(12) for label in (0, 1)]
    genuine = [video(source, 0, float(rng.normal(1, 0.3))) for source in range(40)]
    mean, landmarks, box, together = rows_of(videos, genuine)
    assert [row.name for row in (mean, landmarks, box, together)] == ["mean score", "landmarks", "box", TOGETHER]
    assert landmarks.alone.value == landmarks.over_own == 1
    assert landmarks.gain is not None
    assert landmarks.gain.low is not None
    assert landmarks.gain.low > 0
    assert box.gain is not None
    assert box.gain.low is not None
    assert box.gain.low < 0 < (box.gain.high or 0)
    assert mean.gain is None
    assert len(printed([mean, landmarks, box, together]).splitlines()) == 6
    # Without genuine clips there is no scale but the videos' own.
    assert rows_of(videos, [])[1].gain is None
