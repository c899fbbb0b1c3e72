"""The report page: one file that needs nothing else, to be read by anyone, printed or read aloud.

It loads nothing from anywhere: a content security policy in the page forbids even its own scripts to try. File names
and tags are hostile input; the template escapes everything.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

import cv2
import numpy as np
import numpy.typing as npt
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from faceproof import wording
from faceproof.detectors.calibration import on_one_scale, shown_threshold
from faceproof.evidence import texts
from faceproof.evidence.gathering import Evidence
from faceproof.evidence.heatmap import RAMP, blend
from faceproof.evidence.labels import place_labels
from faceproof.evidence.moments import Moment
from faceproof.evidence.overlay import TRACK_COLOURS
from faceproof.evidence.page_facts import detector_rows, how_measured, how_sure, provenance_rows
from faceproof.evidence.timeline import Lane, duration_of, fine_clock, lanes_of, rows_of
from faceproof.evidence.usual_heat import usual_heat
from faceproof.result_files import write_whole
from faceproof.results import Report, TrackScore, Verdict

_FACE_SIDE = 224
_STRIP_SIDE = 160
# With more people than this they are shown below the picture instead of beside it.
_BESIDE = 3
_SHAPES = {
    Verdict.FAKE: "fake",
    Verdict.REAL: "real",
    Verdict.INCONCLUSIVE: "unsure",
    Verdict.NOT_ASSESSED: "unsure",
}


@dataclass(frozen=True)
class _Person:
    """One person as the template shows them."""

    track: TrackScore
    name: str
    kind: str
    score: str
    meaning: str
    range: str
    line: str
    why: str
    seen: str
    face: str | None
    heat: str | None
    strip: list[dict[str, Any]]
    colour: str


def write_page(evidence: Evidence, out: Path) -> None:
    """Write the page; it appears under its name only when whole. Raises :class:`faceproof.errors.OutputError`."""
    write_whole(out, page(evidence))


def page(evidence: Evidence) -> str:
    """The page as text."""
    report = evidence.report
    style, script = _asset("report.css"), _asset("report.js")
    shown = on_one_scale(report)
    lanes = lanes_of(shown) if report.media.kind == "video" else []
    people = [track for track in _most_suspicious_first(report) if _shown(evidence, track)]
    # People nobody could judge have a card of their own only when there is nobody else.
    featured = [track for track in people if track.score is not None] or people
    cards = [_person(evidence, track) for track in featured]
    template = _environment().from_string(_asset("report.html.j2"))
    return template.render(
        policy=_policy(style, script),
        style=Markup(style),
        script=Markup(script),
        t=texts.PAGE,
        language=texts.LANGUAGE,
        evidence=evidence,
        report=report,
        kind=_SHAPES[report.verdict],
        headline=wording.headline(report),
        second_line=_second_line(report),
        note=report.note,
        facts=wording.media_line(report),
        many=len(cards) > _BESIDE,
        people=cards,
        unjudged=[_person(evidence, track) for track in people if track not in featured],
        scene=_scene(evidence, shown),
        lanes=lanes,
        axis=_axis(duration_of(report)),
        rows=rows_of(shown, lanes),
        duration=duration_of(report),
        threshold=shown_threshold(evidence.spec.verdict.frame_threshold, report),
        clock=lambda time: fine_clock(time, duration_of(report)),
        video_source=f"./{quote(evidence.name, safe='')}",
        data=_data(evidence, lanes),
        meaning=[line.format(media=texts.MEDIA[report.media.kind]) for line in texts.MEANING[report.verdict]],
        sure=how_sure(evidence),
        measured=how_measured(evidence),
        limits=texts.LIMITS,
        provenance=provenance_rows(evidence.provenance),
        hints=[hint.text for hint in evidence.provenance.hints] or [texts.PROVENANCE["no_hints"]],
        detector=detector_rows(evidence),
        command=evidence.shown_command(),
        heat_words=_heat_words(evidence),
        ramp=_picture(np.repeat(RAMP[None, ::4], 4, axis=0)),
        made=evidence.made.strftime("%Y-%m-%d %H:%M UTC"),
    )


def _second_line(report: Report) -> str:
    return " ".join(filter(None, (wording.when(report), wording.second_line(report))))


# -- parts --------------------------------------------------------------------------------------------------------


def _most_suspicious_first(report: Report) -> list[TrackScore]:
    return sorted(report.tracks, key=lambda track: (track.score is None, -(track.score or 0.0), track.id))


def _shown(evidence: Evidence, track: TrackScore) -> bool:
    return track.id in evidence.shown.moments


def _person(evidence: Evidence, track: TrackScore) -> _Person:
    report = evidence.report
    moments = evidence.shown.moments[track.id]
    best = next((moment for moment in moments if moment.best), moments[0] if moments else None)
    spread = evidence.ranges.get(track.id)
    single = report.media.kind == "image"
    name = wording.person(track)
    return _Person(
        track=track,
        name=name,
        kind=_SHAPES[track.verdict],
        score=texts.PAGE["score_none"] if track.score is None else texts.PAGE["score"].format(score=track.score),
        meaning=_score_meaning(evidence),
        range=""
        if track.score is None
        else texts.PAGE["range"].format(low=spread[0], high=spread[1])
        if spread
        else texts.PAGE["one_face"],
        line=wording.track_line(track),
        why=wording.REASONS[track.reason] if track.reason else "",
        seen=""
        if single
        else " · ".join(
            [
                texts.PAGE["seen"].format(span=wording.span(track.start, track.end)),
                texts.PAGE["one_seen"] if track.faces == 1 else texts.PAGE["faces"].format(count=track.faces),
            ]
        ),
        face=None if best is None else _picture(_fitted(best.crop, _FACE_SIDE)),
        heat=None if best is None else _heat_picture(best, _FACE_SIDE),
        strip=[]
        if single or len(moments) < 2 or track.score is None
        else [_strip_item(name, moment, duration_of(report)) for moment in moments],
        colour=_hex(TRACK_COLOURS[(track.id - 1) % len(TRACK_COLOURS)]),
    )


def _score_meaning(evidence: Evidence) -> str:
    if not evidence.report.detector.calibrated:
        return texts.PAGE["score_meaning"]
    return texts.PAGE["probability_meaning"].format(data=evidence.spec.calibration.data or "unnamed data")


def _strip_item(name: str, moment: Moment, duration: float) -> dict[str, Any]:
    clock = fine_clock(moment.time, duration)
    return {
        "time": moment.time,
        "clock": clock,
        "score": moment.p_fake,
        "picture": _heat_picture(moment, _STRIP_SIDE),
        "alt": texts.PAGE["moment_alt"].format(person=name, time=clock, score=moment.p_fake),
    }


def _heat_picture(moment: Moment, side: int) -> str | None:
    return None if moment.heat is None else _picture(_fitted(blend(moment.crop, moment.heat.heat), side))


def _scene(evidence: Evidence, shown: Report) -> dict[str, Any] | None:
    scene = evidence.shown.scene
    if scene is None:
        return None
    frame = next((f for f in shown.frame_predictions if f.index == scene.index), None)
    tracks = {track.id: track for track in evidence.report.tracks}
    video = evidence.report.media.kind == "video"
    faces = frame.faces if frame else []
    text = max(evidence.report.media.width, evidence.report.media.height) / 40
    labels = [_box_label(tracks.get(face.track), face.p_fake, video) for face in faces]
    # The browser's own font is not known: six tenths of its height is a wide letter.
    places = place_labels(
        [face.box for face in faces],
        [(0.6 * text * len(label), 1.3 * text) for label in labels],
        (evidence.report.media.width, evidence.report.media.height),
    )
    boxes = [
        {
            "x": face.box[0],
            "y": face.box[1],
            "width": face.box[2] - face.box[0],
            "height": face.box[3] - face.box[1],
            "label": label,
            "label_x": x,
            "label_y": y + text,
            "colour": _hex(TRACK_COLOURS[(face.track - 1) % len(TRACK_COLOURS)]),
        }
        for face, label, (x, y, _) in zip(faces, labels, places, strict=True)
    ]
    clock = fine_clock(scene.time, duration_of(evidence.report))
    return {
        "time": scene.time,
        "picture": _picture(scene.image),
        "boxes": boxes,
        "text": text,
        "caption": texts.PAGE[_caption(evidence.report, bool(faces))].format(time=clock),
        "alt": texts.PAGE["scene_alt" if video else "scene_picture_alt"].format(time=clock),
    }


def _caption(report: Report, faces: bool) -> str:
    if report.media.kind == "image":
        return "scene_picture" if faces else "scene_picture_bare"
    return "scene" if report.score is not None else "scene_unjudged"


def _box_label(track: TrackScore | None, p: float, video: bool) -> str:
    """In a video the face's score of that moment, in a picture the person's, as everywhere else on the page."""
    if track is None:
        return ""
    words = texts.BOX_UNJUDGED if track.score is None else texts.BOX_LABEL
    return words.format(person=wording.person(track), score=p if video else track.score)


def _heat_words(evidence: Evidence) -> str:
    used = {m.heat.method for moments in evidence.shown.moments.values() for m in moments if m.heat is not None}
    if not used:
        return ""
    compared = evidence.spec.output.heatmap_kind == "mask" and usual_heat(evidence.spec.weights.sha256) is not None
    kind = "heat_occlusion" if "occlusion" in used else "heat_unusual" if compared else "heat_graph"
    return f"{texts.PAGE[kind]} {texts.PAGE['heat_limits']}"


def _axis(duration: float) -> list[str]:
    if duration <= 0:
        return []
    return [fine_clock(duration * part / 4, duration) for part in range(5)]


def _data(evidence: Evidence, lanes: list[Lane]) -> dict[str, Any]:
    """What the page's script moves through: numbers only, times and scores to three decimals."""
    report, scene = evidence.report, evidence.shown.scene
    times = sorted({round(point.time, 3) for lane in lanes for point in lane.points})
    return {
        "duration": round(duration_of(report), 3),
        "start": round(scene.time, 3) if scene else 0.0,
        "width": report.media.width,
        "height": report.media.height,
        "times": times or [0.0],
        "nobodySeen": texts.PAGE["nobody_seen"],
        "lanes": [
            {
                "name": lane.name,
                "colour": _hex(TRACK_COLOURS[(lane.track.id - 1) % len(TRACK_COLOURS)]),
                "points": [[round(p.time, 3), round(p.p, 3), *(round(v) for v in p.box)] for p in lane.points],
            }
            for lane in lanes
        ],
    }


# -- making ---------------------------------------------------------------------------------------------------------


def _fitted(image: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    scale = side / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    kernel = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size, interpolation=kernel), np.uint8)


def _picture(image: npt.NDArray[np.uint8]) -> str:
    """uint8 RGB ``[h, w, 3]`` as a data address (JPEG)."""
    _, encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.tobytes()).decode()}"


def _hex(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _policy(style: str, script: str) -> str:
    """Nothing may be fetched but the video beside the page; only the two known blocks may style and run."""

    def digest(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    return (
        f"default-src 'none'; img-src data:; media-src 'self' file:; style-src {digest(style)}; "
        f"script-src {digest(script)}; base-uri 'none'; form-action 'none'"
    )


@lru_cache(maxsize=8)
def _asset(name: str) -> str:
    return files("faceproof.evidence").joinpath("templates", name).read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _environment() -> Environment:
    return Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
