"""The cascade: what it finds, beside the published one and on frames that leave it nothing to find."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from faceproof.errors import OptionError
from faceproof.faces import FaceDetector, detect, mtcnn
from faceproof.faces.area import AreaSums
from faceproof.faces.boxes import overlaps
from faceproof.faces.cascade import log_odds, propose
from faceproof.faces.pyramid import paint, plan
from faceproof.media import read_frames
from faceproof.runtime.cpu import computes_bf16

SHARED = Path(__file__).parents[3] / "shared" / "data"


def assert_same(one, other, *, places=1e-3):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a.box, b.box, atol=places)
        np.testing.assert_allclose(a.landmarks, b.landmarks, atol=places)
        assert a.score == pytest.approx(b.score, abs=1e-4)


# ── beside the published cascade ──────────────────────────────────────────────────────────────────────────────────────


def test_finds_exactly_the_published_boxes_on_made_frames(astronaut, crowd, published, boxes_of, detector):
    frames = [astronaut, crowd, cv2.GaussianBlur(crowd[1:640, :-1], (0, 0), 1.5)]
    for frame in frames:
        truth, ours = published(frame), boxes_of(detector.detect(frame))
        assert len(ours) == len(truth) > 0
        assert overlaps(truth, ours).max(axis=1).min() > 0.99


def test_min_face_means_what_it_means_there(crowd, published, boxes_of):
    truth, ours = published(crowd, 50), boxes_of(FaceDetector(min_face=50).detect(crowd))
    assert len(ours) == len(truth) > 0
    assert overlaps(truth, ours).max(axis=1).min() > 0.99


def test_a_large_photograph_is_searched_for_smaller_faces_than_a_frame_of_a_video(astronaut):
    """Faces of 70 pixels, 8064 pixels across: reduced as a video's frame they would have 16."""
    photograph = np.full((400, 8064, 3), 90, np.uint8)
    small = cv2.resize(astronaut, (330, 330), interpolation=cv2.INTER_AREA)
    for x in (300, 4000, 7500):
        photograph[40:370, x : x + 330] = small
    finder = FaceDetector(min_face=32)
    found = finder.detect(photograph, still=True)
    assert len(found) == 3
    assert all(60 < face.side < 80 for face in found)
    assert not finder.detect(photograph)


def test_scale_one_half_is_the_published_half_size_detection(crowd, published, boxes_of):
    frame = crowd[:-1, :-1].copy()  # odd sides: the half is rounded down, boxes are doubled
    half = np.asarray(Image.fromarray(frame).resize((frame.shape[1] // 2, frame.shape[0] // 2)))
    truth = published(half) * 2
    ours = boxes_of(FaceDetector(scale=0.5).detect(frame))
    assert len(ours) == len(truth) > 0
    shares = overlaps(truth, ours)
    # A face at the odd edge of a level may shift a little: its last window pools one repeated pixel more.
    assert shares.max(axis=1).min() > 0.9
    assert np.median(np.abs(ours[shares.argmax(axis=1)] - truth)) < 0.01


@pytest.mark.data
def test_recall_on_real_clips(published, boxes_of, detector):
    if not SHARED.is_dir():
        if os.environ.get("CI") == "true":
            pytest.fail(f"the labelled clips are missing: {SHARED}")
        pytest.skip("the labelled clips are not beside the checkout")
    # Two frames of two large clips, a picture, and one frame of every fifth small clip.
    clips = [(clip, "2") for clip in sorted((SHARED / "clips").glob("*.mp4"))]
    clips += [(clip, "1") for clip in sorted((SHARED / "dev_eval" / "videos").glob("*.mp4"))[::5]]
    frames = [frame.image for clip, sampling in clips for frame in read_frames(clip, sampling)]
    frames += [frame.image for frame in read_frames(SHARED / "clips" / "multiface.jpg", "1")]
    expected = found = surplus = 0
    for frame in frames:
        truth, ours = published(frame), boxes_of(detector.detect(frame))
        shares = overlaps(truth, ours)
        expected += len(truth)
        if truth.size and ours.size:
            found += int((shares.max(axis=1) >= 0.7).sum())
            surplus += int((shares.max(axis=0) < 0.5).sum())
    assert expected > 25
    assert found / expected >= 0.99
    assert surplus <= 0.02 * expected


# ── what a face is ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_face_has_clipped_box_score_and_landmarks_in_order(astronaut, detector):
    (face,) = detector.detect(astronaut)
    x0, y0, x1, y1 = face.box
    assert x0 < 225 < x1
    assert y0 < 125 < y1
    assert 0.99 < face.score <= 1
    assert face.landmarks.dtype == np.float32
    left_eye, right_eye, nose, left_mouth, right_mouth = face.landmarks
    assert left_eye[0] < nose[0] < right_eye[0]
    assert left_mouth[0] < right_mouth[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])
    assert face.side == max(x1 - x0, y1 - y0)


def test_largest_face_comes_first(crowd, detector):
    areas = [(f.box[2] - f.box[0]) * (f.box[3] - f.box[1]) for f in detector.detect(crowd)]
    assert len(areas) >= 5
    assert areas == sorted(areas, reverse=True)


def test_boxes_never_leave_the_frame(astronaut, detector):
    found = 0
    for crop in (astronaut[:, 210:], astronaut[:, :240], astronaut[105:], astronaut[:150]):
        for face in detector.detect(np.ascontiguousarray(crop)):
            found += 1
            x0, y0, x1, y1 = face.box
            assert 0 <= x0 < x1 <= crop.shape[1]
            assert 0 <= y0 < y1 <= crop.shape[0]
    assert found


def test_same_frame_same_faces(crowd, detector):
    first = detector.detect(crowd)
    detector.detect(crowd[:300, :400].copy())
    assert_same(first, detector.detect(crowd), places=0)
    assert_same(first, FaceDetector().detect(crowd), places=0)


def test_function_keeps_networks_and_agrees_with_the_class(astronaut, detector):
    assert_same(detect(astronaut), detector.detect(astronaut), places=0)


def test_one_detector_serves_many_threads(astronaut, detector):
    alone = detector.detect(astronaut)
    with ThreadPoolExecutor(4) as pool:
        for faces in pool.map(detector.detect, [astronaut] * 8):
            assert_same(alone, faces, places=0)


def test_several_searches_at_once_share_nothing_and_agree(crowd, detector):
    several, alone = FaceDetector(streams=2, threads=2), detector.detect(crowd)
    with ThreadPoolExecutor(3) as pool:
        for faces in pool.map(several.detect, [crowd] * 6):
            assert_same(alone, faces)
    first, second = (search.networks for search in several._searches)
    assert not {*map(id, first)} & {*map(id, second)}


def test_fast_mode_finds_the_larger_faces(crowd, boxes_of, detector):
    large = boxes_of([face for face in detector.detect(crowd) if face.side > 40])
    fast = boxes_of(FaceDetector(mode="fast").detect(crowd))
    assert overlaps(large, fast).max(axis=1).min() > 0.6


def test_both_runtimes_find_the_same_faces(crowd):
    pytest.importorskip("openvino")
    pytest.importorskip("onnxruntime")
    faces = [FaceDetector(runtime=name).detect(crowd) for name in ("openvino", "onnx")]
    assert_same(*faces, places=0.05)


# ── frames without room for a face ────────────────────────────────────────────────────────────────────────────────────


class _Counting:
    """A network that remembers how much it was shown."""

    runtime = "openvino"

    def __init__(self, network, change=lambda prob: prob):
        self.network, self.change, self.pixels = network, change, 0

    def run(self, batch):
        self.pixels += batch[:, 0].size
        outputs = self.network.run(batch)
        prob = self.change(outputs["prob"])
        return {**outputs, "prob": prob, "logit": log_odds(prob)}


def counting_rnet(detector):
    (search,) = detector._searches
    pnet, rnet, onet = search.load()
    counting = _Counting(rnet)
    search.networks = pnet, counting, onet
    return counting


def test_a_screen_changes_nothing_but_the_work(crowd, detector):
    """A coarser network that errs by up to 0.45 in log-odds stands before the exact one."""
    rng = np.random.default_rng(0)

    def erring(prob):
        return prob / (prob + (1 - prob) * np.exp(rng.uniform(-0.45, 0.45, prob.shape).astype(np.float32)))

    pnet, _, _ = detector._searches[0].load()
    layout = plan(crowd.shape[1], crowd.shape[0], 20, 0.709)
    canvas = paint(AreaSums(crowd), layout)
    exact = propose(canvas, layout, pnet, 0.7)
    closer = _Counting(pnet)
    screened = propose(canvas, layout, closer, 0.7, _Counting(pnet, erring))
    assert len(exact[0]) > 10
    # The order of windows may differ, and so may float rounding.
    order, other = (np.lexsort((*part[0].T, part[1].round(4))) for part in (exact, screened))
    for one, two in zip(exact, screened, strict=True):
        np.testing.assert_allclose(one[order], two[other], atol=1e-3)
    assert closer.pixels < layout.width * layout.height / 2


def test_a_frame_full_of_likely_windows_is_looked_at_whole(crowd, detector):
    pnet, _, _ = detector._searches[0].load()
    layout = plan(crowd.shape[1], crowd.shape[0], 20, 0.709)
    canvas = paint(AreaSums(crowd), layout)
    closer = _Counting(pnet)
    everything = _Counting(pnet, np.ones_like)
    boxes, _, _ = propose(canvas, layout, closer, 0.7, everything)
    np.testing.assert_array_equal(boxes, propose(canvas, layout, pnet, 0.7)[0])
    assert closer.pixels >= layout.width * layout.height
    assert everything.pixels < layout.width * layout.height


@pytest.mark.skipif(not computes_bf16(), reason="this CPU has no bfloat16 instructions")
def test_thorough_faces_are_the_same_with_and_without_bfloat16(crowd, monkeypatch):
    screened, exact = FaceDetector(), FaceDetector()
    monkeypatch.setattr(mtcnn, "_WORTH_SCREENING", 0)
    found = screened.detect(crowd)
    assert screened._searches[0].screens is not None
    monkeypatch.setattr(mtcnn, "_WORTH_SCREENING", 10**12)
    assert_same(found, exact.detect(crowd))
    assert exact._searches[0].screens is None


@pytest.mark.skipif(not computes_bf16(), reason="this CPU has no bfloat16 instructions")
def test_a_screened_rnet_lets_the_same_boxes_through(crowd, monkeypatch):
    """A threshold that puts more boxes near it than a picture has."""
    monkeypatch.setattr(mtcnn, "_WORTH_SCREENING", 0)
    options = {"thresholds": (0.5, 0.6, 0.5)}
    screened, exact = FaceDetector(**options), FaceDetector(**options)
    shown, everything = counting_rnet(screened), counting_rnet(exact)
    found = screened.detect(np.ascontiguousarray(np.tile(crowd, (1, 2, 1))))
    monkeypatch.setattr(mtcnn, "_WORTH_SCREENING", 10**12)
    assert_same(found, exact.detect(np.ascontiguousarray(np.tile(crowd, (1, 2, 1)))))
    assert 0 < shown.pixels < everything.pixels


def test_memory_kept_from_another_frame_changes_nothing(crowd, astronaut):
    other = cv2.resize(astronaut, crowd.shape[1::-1])
    kept, fresh = FaceDetector(), FaceDetector()
    for frame in (other, crowd, astronaut, crowd[:-3, :-5].copy(), crowd):
        fresh.rest()
        assert_same(fresh.detect(frame), kept.detect(frame), places=0)


@pytest.mark.parametrize("size", [(0, 0), (0, 40), (1, 1), (12, 12), (19, 300), (20, 20), (21, 33), (1, 5000)])
@pytest.mark.parametrize("options", [{}, {"mode": "fast"}, {"scale": 0.5}])
def test_small_frames_are_fine(size, options):
    frame = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    assert detect(frame, **options) == []


@pytest.mark.parametrize("value", [0, 128, 255])
def test_flat_frames_hold_no_face(value, detector):
    assert detector.detect(np.full((240, 320, 3), value, np.uint8)) == []


def test_grey_frames_are_searched(astronaut, detector):
    grey = cv2.cvtColor(astronaut, cv2.COLOR_RGB2GRAY)
    faces = detector.detect(grey)
    assert len(faces) == 1
    assert_same(faces, detector.detect(grey[:, :, None]), places=0)


def test_huge_frames_are_searched_at_a_bounded_size(astronaut, detector):
    frame = np.zeros((6000, 8000, 3), np.uint8)
    frame[1000:4072, 2000:5072] = cv2.resize(astronaut, (3072, 3072))
    (face,) = detector.detect(frame)
    assert abs((face.box[0] + face.box[2]) / 2 - (2000 + 6 * 225)) < 100


def test_views_and_read_only_frames_are_fine(astronaut, detector):
    frozen = astronaut.copy()
    frozen.setflags(write=False)
    assert len(detector.detect(frozen[::-1][::-1])) == 1
    assert len(detector.detect(astronaut[:, ::-1])) == 1


def test_wide_levels_are_cut_and_joined(astronaut):
    """A level wider than the canvas allows is searched in columns; a face at their seam is found once."""
    frame = np.zeros((200, 5000, 3), np.uint8)
    for left in (0, 1000, 1948, 2100, 4000):
        frame[:, left : left + 200] = cv2.resize(astronaut, (200, 200), interpolation=cv2.INTER_AREA)
    faces = FaceDetector(min_face=20, scale=1.0).detect(frame)
    centres = sorted((face.box[0] + face.box[2]) / 2 for face in faces)
    assert len(centres) == 4 + (len(centres) == 5)


@pytest.mark.parametrize(
    "frame", [np.zeros((40, 40, 4), np.uint8), np.zeros((40, 40, 3), np.float32), np.zeros((1, 40, 40, 3), np.uint8)]
)
def test_other_arrays_are_refused(frame, detector):
    with pytest.raises(ValueError):
        detector.detect(frame)


@pytest.mark.parametrize(
    "options",
    [
        {"thresholds": (0.7, 0.8)},
        {"thresholds": (0.7, 0.8, 1.8)},
        {"min_face": 5},
        {"min_face": float("nan")},
        {"factor": 1.0},
        {"scale": 0},
        {"scale": 100.0},
        {"mode": "quick"},
    ],
)
def test_options_without_sense_are_refused(options):
    with pytest.raises(OptionError):
        FaceDetector(**options)


def test_importing_the_room_loads_no_engine():
    code = (
        "import sys, faceproof.faces\n"
        "heavy = {'torch', 'openvino', 'onnxruntime', 'facenet_pytorch', 'PIL'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_memory_stays_bounded_over_many_frame_sizes(astronaut):
    resource = pytest.importorskip("resource")
    detector = FaceDetector()
    draw = np.random.default_rng(0)
    peaks = []
    for _ in range(300):
        width, height = draw.integers(60, 1300, 2)
        detector.detect(cv2.resize(astronaut, (int(width), int(height))))
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    assert peaks[-1] - peaks[100] < 150_000
