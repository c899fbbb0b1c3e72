"""The words people read, in one place, so that they can be translated and never contradict each other.

No word here claims more than a verdict carries: a score is evidence, not proof, and REAL only means that nothing was found.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from faceproof.results import AppliedBand, QualityAxis, Reason, Report, TrackScore, Verdict

HEADLINES = {
    Verdict.FAKE: "Signs of manipulation",
    Verdict.REAL: "No sign of manipulation found",
    Verdict.INCONCLUSIVE: "Cannot tell",
    Verdict.NOT_ASSESSED: "Nothing to judge",
}

SECOND_LINES = {
    Verdict.FAKE: "A score is evidence, not proof.",
    Verdict.REAL: "This does not prove that it is genuine: forgeries this detector was not made for can pass.",
    Verdict.INCONCLUSIVE: "The evidence points neither way clearly enough.",
    Verdict.NOT_ASSESSED: "No score was given.",
}

REASONS = {
    Reason.NO_FACE: "no face was found",
    Reason.PERHAPS_NO_FACE: "this may not be a face",
    Reason.TURNED: "it lies on its side or upside down",
    Reason.FACES_TOO_SMALL: "the faces are too small to judge",
    Reason.FACES_TOO_BLURRED: "the faces are too blurred to judge",
    Reason.TOO_FEW_FACES: "the face is seen in too few frames to judge",
    Reason.INSIDE_BAND: "the score lies in the range where the detector is often wrong",
    Reason.MEMBERS_DISAGREE: "the detectors asked disagree",
    Reason.SUSPICIOUS_MOMENTS: "some moments look manipulated, most do not",
}

# Of one person, after "not judged:".
OF_ONE = {
    Reason.FACES_TOO_SMALL: "too small",
    Reason.FACES_TOO_BLURRED: "too blurred",
    Reason.TOO_FEW_FACES: "seen in too few frames",
}

WIDER_BECAUSE: dict[QualityAxis, str] = {
    "face_side": "the face is only {value:.0f} pixels wide",
    "sharpness": "the face is blurred or strongly compressed",
    "bits_per_pixel": "the video is strongly compressed",
    "faces": "only {value:.0f} pictures of the face could be averaged",
}

REMEDIES = {
    Reason.NO_FACE: "If there is a face in it, a larger or upright copy, or the part with the face cut out, may help.",
    Reason.PERHAPS_NO_FACE: "If it is one, a larger or upright copy may help.",
    Reason.TURNED: "Detectors judge upright faces only.",
    Reason.FACES_TOO_SMALL: "A copy of higher resolution would help.",
    Reason.FACES_TOO_BLURRED: "A sharper or less compressed copy would help.",
    Reason.TOO_FEW_FACES: "More frames would help: --frames all.",
    Reason.INSIDE_BAND: "A less compressed original, or a second detector, may help.",
    Reason.MEMBERS_DISAGREE: "Look at each detector's own result.",
    Reason.SUSPICIOUS_MOMENTS: "Look at those moments: a forgery may fill part of a video only.",
}

ONE_OF_SEVERAL = "It holds several pictures; only the first was looked at. Saved as files of their own, all are judged."
ONE_OF_SEVERAL_STREAMS = (
    "It holds several video streams; only the one that players show first was looked at. Saved as files of their own, all "
    "are judged."
)
# By degrees clockwise.
TURNED = {
    90: "Turned a quarter to the right it shows a face: turn it, save it and scan it again.",
    180: "Turned upside down it shows a face: turn it, save it and scan it again.",
    270: "Turned a quarter to the left it shows a face: turn it, save it and scan it again.",
}
FEW_COLOURS = "A GIF keeps at most 256 colours and often leaves frames out: the video it was made from would tell more."


def clock(seconds: float) -> str:
    """0:07, 12:05, 1:02:09."""
    whole = int(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{left:02d}" if hours else f"{minutes}:{left:02d}"


def span(start: float, end: float) -> str:
    """0:02–0:06, or 0:02 when both ends read alike. The end is rounded: ten seconds of film end at 0:10, not at 0:09."""
    first, last = clock(start), clock(max(start, round(end)))
    return first if first == last else f"{first}–{last}"


_CODECS = {
    "h264": "H.264",
    "hevc": "H.265",
    "av1": "AV1",
    "vp8": "VP8",
    "vp9": "VP9",
    "mpeg4": "MPEG-4",
    "mpeg2video": "MPEG-2",
    "mjpeg": "Motion JPEG",
    "prores": "ProRes",
    "jpeg": "JPEG",
    "png": "PNG",
    "webp": "WebP",
    "tiff": "TIFF",
    "bmp": "BMP",
    "gif": "GIF",
    "heif": "HEIF",
    "avif": "AVIF",
}


def media_line(report: Report) -> str:
    """1920×1080 · 29.97 fps · 10.0 s · H.264 3.1 Mbit/s"""
    media = report.media
    parts = [f"{media.width}×{media.height}"]
    if media.fps:
        parts.append(f"{float(Fraction(media.fps)):.2f}".rstrip("0").rstrip(".") + " fps")
    if media.duration is not None:
        parts.append(f"{media.duration:.1f} s" if media.duration < 60 else clock(media.duration))
    codec = _CODECS.get(media.codec or "", media.codec or "")
    if media.kind == "video" and media.bit_rate:
        rate = media.bit_rate
        codec += f" {rate / 1e6:.3g} Mbit/s" if rate >= 1e6 else f" {rate / 1e3:.3g} kbit/s"
    if codec:
        parts.append(codec.strip())
    return " · ".join(parts)


def person(track: TrackScore) -> str:
    return f"person {track.id}" if track.id else "whole picture"


def headline(report: Report) -> str:
    """The verdict in one sentence: who and when for FAKE, why for the outcomes without an opinion."""
    text = HEADLINES[report.verdict]
    if report.verdict is Verdict.FAKE:
        named = _some([t for t in report.tracks if t.verdict is Verdict.FAKE])
        if named:
            text += f" in {named}"
    elif report.reason is not None:
        if report.verdict is Verdict.INCONCLUSIVE and any(t.verdict is Verdict.REAL for t in report.tracks):
            # Else it would seem to be said of everybody.
            text += f" about {_some([t for t in report.tracks if t.verdict is Verdict.INCONCLUSIVE])}"
        text += f": {REASONS[report.reason]}"
    return text


_NAMED = 6


def _some(tracks: Sequence[TrackScore]) -> str:
    """Whom it is about, in the order they are listed; of a crowd, the most suspicious and how many more."""
    if len(tracks) <= _NAMED:
        return listed([person(track) for track in tracks])
    chosen = sorted(tracks, key=lambda track: -(track.score or 0.0))[: _NAMED - 1]
    named = [person(track) for track in sorted(chosen, key=lambda track: track.id)]
    return listed([*named, f"{len(tracks) - len(named)} more"])


def second_line(report: Report) -> str:
    """What the verdict does not mean, and what would help."""
    if report.reason is Reason.INSIDE_BAND:
        # The first line has said already that the score decides nothing.
        return REMEDIES[report.reason]
    text = SECOND_LINES[report.verdict]
    if report.verdict in (Verdict.INCONCLUSIVE, Verdict.NOT_ASSESSED) and report.reason is not None:
        text += f" {REMEDIES[report.reason]}"
    return text


def when(report: Report) -> str:
    """For FAKE and for suspicious moments, in whom and when: "Person 1 at 0:02–0:06." The longest suspicious span of each,
    most suspicious first."""
    if report.media.kind != "video":
        return ""
    named = []
    accused = sorted((t for t in report.tracks if _is_shown_when(report, t)), key=lambda track: -(track.score or 0.0))
    for track in accused[:3]:
        longest = max(track.suspicious, key=lambda part: part.end - part.start, default=None)
        most = ", most of all " if len(track.suspicious) > 1 else " "
        named.append(person(track) + (f"{most}at {span(longest.start, longest.end)}" if longest is not None else ""))
    if len(accused) > 3:
        named.append(f"{len(accused) - 3} more")
    text = listed(named)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _is_shown_when(report: Report, track: TrackScore) -> bool:
    if report.verdict is Verdict.FAKE:
        return track.verdict is Verdict.FAKE
    return report.reason is Reason.SUSPICIOUS_MOMENTS and track.reason is Reason.SUSPICIOUS_MOMENTS


def track_line(track: TrackScore) -> str:
    """What was seen in one person, for the end of their line."""
    if track.verdict is Verdict.FAKE:
        when = ", ".join(span(s.start, s.end) for s in track.suspicious[:3])
        return f"signs of manipulation{f' {when}' if when and track.end > track.start else ''}"
    if track.verdict is Verdict.REAL:
        return "no sign of manipulation found"
    if track.verdict is Verdict.INCONCLUSIVE:
        if track.reason is Reason.SUSPICIOUS_MOMENTS:
            return f"cannot tell: suspicious {', '.join(span(s.start, s.end) for s in track.suspicious[:3])}"
        return "cannot tell"
    return f"not judged: {OF_ONE.get(track.reason, REASONS[track.reason])}" if track.reason else "not judged"


def wider_band(band: AppliedBand) -> str:
    """Which scores give no verdict here, and what made the range wider than on good material."""
    because = [
        "there is only one picture of the face"
        if (axis, value) == ("faces", 1)
        else WIDER_BECAUSE[axis].format(value=value)
        for axis, value in band.widened_by.items()
    ]
    return (
        f"No verdict is given here for scores between {band.low:.2f} and {band.high:.2f}, a wider range than on good "
        f"material, because {listed(because)}."
    )


def listed(words: list[str]) -> str:
    """a; a and b; a, b and c."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"
