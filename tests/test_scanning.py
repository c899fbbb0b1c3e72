"""The main job, end to end on made media, with a detector that calls bright faces fake."""

import contextlib
import itertools
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import faceproof
from faceproof import stages
from faceproof.detectors.detector import Detector, load_detector
from faceproof.detectors.spec import Faces, Frames
from faceproof.errors import MediaError, NetworkError, OptionError, UnknownDetectorError
from faceproof.events import EventName, ProgressEvent
from faceproof.looks import SECOND_LOOK_FRAMES, SECOND_LOOK_MOMENTS, OpenQuestions, second_look_plan
from faceproof.media import Sampling, containers, videos
from faceproof.results import Reason, Verdict
from faceproof.runtime import FakeNetwork

from .test_judge import face, frames
from .toy_detector import write_toy_detector


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Detector]:
    home = tmp_path_factory.mktemp("home")
    write_toy_detector(home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACEPROOF_HOME", str(home))
        yield load_detector("toy", precision="fp32")


def with_spec(detector: Detector, **parts: object) -> Detector:
    return Detector(detector.spec.model_copy(update=parts), detector.network)


def test_a_picture(toy: Detector, astronaut_png: Path) -> None:
    report = faceproof.scan(astronaut_png, detector=toy)
    assert report.media.kind == "image"
    assert (report.media.width, report.media.height) == (512, 512)
    assert report.verdict is Verdict.FAKE  # her face is brighter than middle grey
    assert len(report.tracks) == 1
    x0, y0, x1, y1 = report.tracks[0].best_face_box
    assert x0 < 225 < x1
    assert y0 < 125 < y1
    assert report.frames_analyzed == 1
    assert report.detector.weights_sha256 == toy.spec.weights.sha256
    assert {"probe", "decode", "detect", "score"} <= set(report.timings)


def test_a_video_is_sampled_evenly_and_tracked_as_one_person(toy: Detector, clip_mp4: Path) -> None:
    report = faceproof.scan(clip_mp4, detector=toy, frames="8")
    assert [f.index for f in report.frame_predictions] == list(np.linspace(0, 89, 8, dtype=int))
    assert [t.id for t in report.tracks] == [1]
    assert report.tracks[0].faces == report.metrics.total_faces_detected == 8
    assert report.media.fps == "30000/1001"
    assert report.frame_predictions[-1].time == pytest.approx(89 * 1001 / 30000, abs=1e-3)


def test_two_people_get_a_score_each(toy: Detector, clip_two_people_mp4: Path) -> None:
    report = faceproof.scan(clip_two_people_mp4, detector=toy, frames="6")
    assert len(report.tracks) == 2
    lefts = {t.id: t.best_face_box[0] for t in report.tracks}
    for frame in report.frame_predictions:
        for seen in frame.faces:
            nearest = min(lefts, key=lambda number, x=seen.box[0]: abs(lefts[number] - x))
            assert seen.track == nearest, "a track jumped between two people"
    assert report.score == max(t.score for t in report.tracks if t.score is not None)


def test_no_face_is_said_and_never_scored(toy: Detector, clip_noface_mp4: Path) -> None:
    report = faceproof.scan(clip_noface_mp4, detector=toy, frames="4")
    assert (report.verdict, report.reason, report.score) == (Verdict.NOT_ASSESSED, Reason.NO_FACE, None)


def test_the_same_file_gives_the_same_report(toy: Detector, clip_mp4: Path) -> None:
    def answer() -> dict:
        return faceproof.scan(clip_mp4, detector=toy).model_dump(exclude={"processing_time", "timings"})

    assert answer() == answer()


def test_auto_stops_where_the_verdict_is_settled_and_goes_on_where_it_is_not(
    toy: Detector, clip_mp4: Path, clip_noface_mp4: Path
) -> None:
    even = {int(index) for index in np.linspace(0, 89, 32, dtype=int)}
    settled = faceproof.scan(clip_mp4, detector=toy)
    assert settled.verdict is faceproof.scan(clip_mp4, detector=toy, frames="all").verdict is Verdict.FAKE
    assert {f.index for f in settled.frame_predictions} < even
    assert settled.frames_analyzed == 16

    # Judged by a threshold that is the score itself, nothing settles the verdict, and every frame is suspicious.
    rule = toy.spec.verdict.model_copy(update={"threshold": settled.score, "frame_threshold": 0.0})
    open_question = faceproof.scan(clip_mp4, detector=with_spec(toy, verdict=rule))
    indices = [f.index for f in open_question.frame_predictions]
    assert indices == sorted(set(indices))
    assert even < set(indices)
    assert {face.track for f in open_question.frame_predictions for face in f.faces} == {1}
    assert faceproof.scan(clip_noface_mp4, detector=toy).frames_analyzed == 32


@pytest.mark.parametrize(("threshold", "looked_at"), [(0.0, 16), (None, 32)])
def test_even_looks_decode_a_video_once(
    toy: Detector, clip_mp4: Path, monkeypatch: pytest.MonkeyPatch, threshold: float | None, looked_at: int
) -> None:
    """Settled by the first look or open after it: what the second may want was put aside."""
    read = stages.read_frames
    score = faceproof.scan(clip_mp4, detector=toy, frames="all").score
    assert score is not None
    rule = toy.spec.verdict.model_copy(
        update={"threshold": score if threshold is None else threshold, "band": None, "frame_threshold": 1.0}
    )
    readings: list[Sampling] = []

    def counted(info: Any, sampling: Sampling, **options: Any) -> Iterator[Any]:
        readings.append(sampling)
        return read(info, sampling, **options)

    monkeypatch.setattr(stages, "read_frames", counted)
    report = faceproof.scan(clip_mp4, detector=with_spec(toy, verdict=rule))
    even = [sampling for sampling in readings if sampling.rule == "near"]
    assert len(even) == 1
    assert len({f.index for f in report.frame_predictions} & set(Sampling("count", 32).indices(90))) == looked_at


@pytest.mark.parametrize(("turn", "words"), [(1, "to the right"), (2, "upside down"), (3, "to the left")])
def test_of_a_picture_on_its_side_nobody_is_judged_and_it_says_how_to_turn_it(
    toy: Detector, astronaut: np.ndarray, tmp_path: Path, turn: int, words: str
) -> None:
    """Turned anticlockwise by that many quarters."""
    careful = with_spec(toy, verdict=toy.spec.verdict.model_copy(update={"min_detection": 0.95}))
    Image.fromarray(np.rot90(astronaut, turn)).save(tmp_path / "turned.png")
    report = faceproof.scan(tmp_path / "turned.png", detector=careful)
    assert (report.verdict, report.reason, report.score) == (Verdict.NOT_ASSESSED, Reason.TURNED, None)
    assert report.media.turned == 90 * turn
    assert words in (report.note or "")
    assert faceproof.scan(tmp_path / "turned.png", detector=toy).media.turned is None, (
        "a published system knows no doubt"
    )
    Image.fromarray(astronaut).save(tmp_path / "upright.png")
    assert faceproof.scan(tmp_path / "upright.png", detector=careful).verdict is Verdict.FAKE


def test_a_video_on_its_side_is_known_by_most_of_its_frames(
    toy: Detector, clip_frames: list[np.ndarray], make_video: Callable[..., Path], tmp_path: Path, clip_noface_mp4: Path
) -> None:
    careful = with_spec(toy, verdict=toy.spec.verdict.model_copy(update={"min_detection": 0.95}))
    lying = [np.ascontiguousarray(np.rot90(frame)) for frame in clip_frames[:40]]
    report = faceproof.scan(make_video(tmp_path / "lying.mp4", lying, options={"crf": "18"}), detector=careful)
    assert (report.reason, report.media.turned) == (Reason.TURNED, 90)
    nobody = faceproof.scan(clip_noface_mp4, detector=careful)
    assert (nobody.reason, nobody.media.turned) == (Reason.NO_FACE, None)


def one_after_another(items: Iterator[Any], work: Callable[[Any], Any], *, workers: int, name: str) -> Generator[Any]:
    """The stages without threads."""
    for item in items:
        yield work(item)


@pytest.mark.parametrize("sampling", ["auto", "all", "every:4"])
@pytest.mark.parametrize("mode", ["thorough", "fast"])
def test_side_by_side_says_exactly_what_one_after_another_says(
    toy: Detector, clip_two_people_mp4: Path, monkeypatch: pytest.MonkeyPatch, sampling: str, mode: Any
) -> None:
    def answer() -> dict[str, Any]:
        report = faceproof.scan(clip_two_people_mp4, detector=toy, frames=sampling, faces=mode)
        return report.model_dump(exclude={"processing_time", "timings"})

    side_by_side = answer()
    monkeypatch.setattr(stages, "ordered", one_after_another)
    assert side_by_side == answer()


def test_a_still_video_is_scored_once_in_fast_mode_and_says_so(
    toy: Detector, clip_frames: list[np.ndarray], make_video: Callable[..., Path], tmp_path: Path
) -> None:
    still = make_video(tmp_path / "still.mp4", [clip_frames[0]] * 40, options={"crf": "18"})
    network = FakeNetwork()
    counted = Detector(toy.spec, network)
    fast = faceproof.scan(still, detector=counted, frames="all", faces="fast")
    scored = sum(network.batches)
    assert fast.frames_analyzed == fast.metrics.total_faces_detected == 40
    assert scored <= 4
    assert fast.note is not None
    assert f"{40 - scored} of 40 faces had hardly changed" in fast.note
    assert fast.faces_repeated == 40 - scored
    thorough = faceproof.scan(still, detector=counted, frames="all")
    assert sum(network.batches) == scored + 40
    assert thorough.note is None
    assert thorough.faces_repeated == 0
    assert fast.score == pytest.approx(thorough.score, abs=0.01)


def test_fast_mode_follows_everybody_that_thorough_mode_finds(toy: Detector, clip_two_people_mp4: Path) -> None:
    fast, thorough = (
        faceproof.scan(clip_two_people_mp4, detector=toy, frames="all", faces=mode)  # type: ignore[arg-type]
        for mode in ("fast", "thorough")
    )
    assert [len(f.faces) for f in fast.frame_predictions] == [len(f.faces) for f in thorough.frame_predictions]
    assert [t.id for t in fast.tracks] == [t.id for t in thorough.tracks] == [1, 2]
    assert fast.verdict is thorough.verdict


def test_bad_media_costs_no_more_than_good(toy: Detector, clip_mp4: Path, damaged: dict[str, Path]) -> None:
    def cost(path: Path) -> float:
        began = time.process_time()
        with contextlib.suppress(MediaError):
            faceproof.scan(path, detector=toy, frames="all", faces="fast", threads=1)
        return time.process_time() - began

    cost(clip_mp4)
    good = min(cost(clip_mp4) for _ in range(2))
    for name in ("truncated", "garbage", "no_index", "noise", "header_only"):
        assert cost(damaged[name]) <= 2 * good + 0.2, name


def threads_of_a_scan() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("faceproof-")]


def test_an_interrupted_scan_leaves_no_thread_behind(toy: Detector, clip_mp4: Path) -> None:
    def interrupt(event: ProgressEvent) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        faceproof.scan(clip_mp4, detector=toy, frames="all", on_event=interrupt)
    assert threads_of_a_scan() == []


def test_a_network_that_fails_half_way_ends_the_scan_with_its_own_error(toy: Detector, clip_mp4: Path) -> None:
    calls = itertools.count()

    def fail(batch: np.ndarray) -> np.ndarray:
        if next(calls) == 3:
            raise NetworkError("the engine broke")
        return batch.mean(axis=(1, 2, 3))

    events: list[ProgressEvent] = []
    with pytest.raises(NetworkError, match="the engine broke"):
        faceproof.scan(clip_mp4, detector=Detector(toy.spec, FakeNetwork(fail)), frames="all", on_event=events.append)
    assert events[-1].event is EventName.ANALYSIS_FAILED
    assert threads_of_a_scan() == []


def test_a_slow_network_does_not_pile_up_frames(toy: Detector, clip_mp4: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: set[int] = set()
    most = 0
    real = stages.read_frames

    def counted(*arguments: Any, **options: Any) -> Iterator[Any]:
        nonlocal most
        for frame in real(*arguments, **options):
            alive.add(frame.index)
            weakref.finalize(frame.image, alive.discard, frame.index)
            most = max(most, len(alive))
            yield frame

    def slow(batch: np.ndarray) -> np.ndarray:
        time.sleep(0.15)
        return batch.mean(axis=(1, 2, 3))

    monkeypatch.setattr(stages, "read_frames", counted)
    report = faceproof.scan(clip_mp4, detector=Detector(toy.spec, FakeNetwork(slow)), frames="all")
    assert report.frames_analyzed == 90
    assert most <= 12


@given(
    scores=st.lists(st.one_of(st.none(), st.floats(0, 1)), min_size=1, max_size=40),
    gap=st.integers(1, 50),
    threshold=st.floats(0, 1),
)
def test_second_look_law(scores: list[float | None], gap: int, threshold: float) -> None:
    first = frames(*[[] if p is None else [face(1, p)] for p in scores])
    for place, frame in enumerate(first):
        frame.index = frame.cell = place * gap
    plan = second_look_plan(first, threshold)
    assert len(plan) <= SECOND_LOOK_MOMENTS * SECOND_LOOK_FRAMES
    by_index = {frame.index: frame for frame in first}
    for index, cell in plan.items():
        assert index not in by_index
        assert 0 < index < first[-1].index
        assert abs(index - cell) <= (gap + 1) / 2
        assert max(f.p for f in by_index[cell].faces) > threshold


def test_video_streams_that_nobody_looked_at_are_told(
    toy: Detector, clip_mp4: Path, clip_frames: list[np.ndarray], tmp_path: Path
) -> None:
    import av

    path = tmp_path / "two-views.mkv"
    with av.open(str(path), "w") as container:
        views = [container.add_stream("libx264", rate=30) for _ in range(2)]
        for view in views:
            view.width, view.height, view.pix_fmt = 320, 240, "yuv420p"
        for image in clip_frames[:5]:
            for view in views:
                container.mux(view.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        for view in views:
            container.mux(view.encode(None))
    assert "several video streams" in (faceproof.scan(path, detector=toy).note or "")
    assert "several" not in (faceproof.scan(clip_mp4, detector=toy).note or "")


def test_a_frame_that_two_looks_come_to_counts_as_the_first_saw_it(
    toy: Detector, clip_mp4: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stands in for damaged ones, and fast mode may find other faces in it when it comes from another side."""
    read, found, whole = stages.read_frames, stages.find_and_follow, stages.Stages.look
    looks: list[Sampling] = []

    def damaged(info: Any, sampling: Sampling, **options: Any) -> Iterator[Any]:
        given = [*sampling.given, 40] if sampling.rule == "near" else sampling
        yield from read(info, given, **options)

    def finds(detector: Any, images: Any, **options: Any) -> Iterator[Any]:
        return (faces if len(looks) == 1 else [] for faces in found(detector, images, **options))

    def counted(self: stages.Stages, sampling: Sampling, *given: Any, **options: Any) -> Any:
        looks.append(sampling)
        return whole(self, sampling, *given, **options)

    monkeypatch.setattr(stages, "read_frames", damaged)
    monkeypatch.setattr(stages, "find_and_follow", finds)
    monkeypatch.setattr(stages.Stages, "look", counted)
    monkeypatch.setattr("faceproof.scanning._can_put_aside", lambda info: False)
    monkeypatch.setattr("faceproof.scanning.open_questions", lambda *_, **__: OpenQuestions(edge=True))
    report = faceproof.scan(clip_mp4, detector=toy)
    assert len(looks) > 1
    assert [frame.index for frame in report.frame_predictions].count(40) == 1
    assert next(frame for frame in report.frame_predictions if frame.index == 40).faces


def test_events_are_those_of_the_documented_systems(toy: Detector, clip_mp4: Path) -> None:
    events: list[ProgressEvent] = []
    report = faceproof.scan(clip_mp4, detector=toy, frames="12", on_event=events.append, user_id="u7")
    assert [e.event for e in events] == [EventName.FRAME_ANALYSIS_PROGRESS] * 2 + [EventName.ANALYSIS_COMPLETE]
    first = events[0]
    assert (first.data.progress, first.data.total, first.user_id) == (5, 12, "u7")
    assert first.data.details["phase"] == "frame_processing"
    assert first.data.details["faces_detected_so_far"] == 5
    assert events[-1].data.details["prediction"] == report.prediction
    assert {e.media_id for e in events} == {report.media.sha256[:16]}


def test_a_failure_is_an_event_too(toy: Detector, damaged: dict[str, Path]) -> None:
    events: list[ProgressEvent] = []
    with pytest.raises(MediaError):
        faceproof.scan(damaged["text"], detector=toy, on_event=events.append)
    assert [e.event for e in events] == [EventName.ANALYSIS_FAILED]
    assert events[0].data.details["remedy"]


def test_a_truncated_video_is_judged_as_far_as_it_decodes(toy: Detector, damaged: dict[str, Path]) -> None:
    report = faceproof.scan(damaged["truncated"], detector=toy, frames="all")
    assert report.verdict is Verdict.FAKE
    assert report.frames_failed > 0
    assert report.frames_analyzed + report.frames_failed == 90
    assert report.note is not None


@pytest.mark.parametrize("name", ["header_only", "no_index", "empty", "text", "noise", "audio_only", "no_frames"])
def test_what_cannot_be_judged_raises_a_typed_error_with_a_remedy(
    toy: Detector, damaged: dict[str, Path], name: str
) -> None:
    with pytest.raises(MediaError) as caught:
        faceproof.scan(damaged[name], detector=toy)
    assert caught.value.remedy
    assert caught.value.code != "error"


@pytest.mark.parametrize("frames_", ["0", "-3", "every:0", "some", "", "3.5"])
def test_a_wrong_sampling_is_an_option_error(toy: Detector, clip_mp4: Path, frames_: str) -> None:
    with pytest.raises(OptionError):
        faceproof.scan(clip_mp4, detector=toy, frames=frames_)


def test_an_unknown_detector_is_an_error_before_the_file_is_opened() -> None:
    with pytest.raises(UnknownDetectorError):
        faceproof.scan("/nowhere.mp4", detector="nobody")


def test_one_face_a_frame_when_the_spec_says_so(toy: Detector, clip_two_people_mp4: Path) -> None:
    largest = with_spec(toy, faces=toy.spec.faces.model_copy(update={"keep": "largest"}))
    report = faceproof.scan(clip_two_people_mp4, detector=largest, frames="4")
    assert [len(f.faces) for f in report.frame_predictions] == [1] * 4


def test_a_published_cap_on_faces_is_kept_and_said(toy: Detector, clip_mp4: Path) -> None:
    capped = with_spec(toy, faces=toy.spec.faces.model_copy(update={"limit": 5}))
    report = faceproof.scan(capped_path := clip_mp4, detector=capped, frames="8")
    assert report.metrics.total_faces_detected == 5, capped_path
    assert report.note is not None
    assert "first 5 faces" in report.note


def test_a_cap_on_frames_is_kept(toy: Detector, clip_mp4: Path) -> None:
    capped = with_spec(toy, frames=Frames(sampling="every:10", limit=3))
    report = faceproof.scan(clip_mp4, detector=capped)
    assert [f.index for f in report.frame_predictions] == [0, 10, 20]


def test_the_centre_is_judged_only_where_the_spec_asks_and_is_flagged(toy: Detector, clip_noface_mp4: Path) -> None:
    centre = with_spec(toy, faces=Faces(fallback="centre"))
    report = faceproof.scan(clip_noface_mp4, detector=centre, frames="3")
    assert all(f.fallback for frame in report.frame_predictions for f in frame.faces)
    assert report.metrics.total_faces_detected == 0
    assert report.note is not None
    assert "centre of the frame" in report.note


def test_one_thread_means_one_thread(toy: Detector, clip_mp4: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are counted by cores: a decoder that takes them all would make two workers fight."""
    contexts = []
    opened = containers.video_stream

    def noted(*arguments: Any) -> Any:
        contexts.append(stream := opened(*arguments))
        return stream

    monkeypatch.setattr(videos, "video_stream", noted)
    started: list[str] = []
    start = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", lambda self: (started.append(self.name), start(self))[1])
    faceproof.scan(clip_mp4, detector=toy, threads=1)
    assert {stream.codec_context.thread_count for stream in contexts} == {1}
    assert started == []
    contexts.clear()
    faceproof.scan(clip_mp4, detector=toy)
    assert "faceproof-decode" in started
    assert min(stream.codec_context.thread_count for stream in contexts) > 1
