"""What was measured of a detector, kept beside its spec as ``NAME.measured.json`` and told on the page.

``faceproof accuracy --beside-spec`` writes the file. It holds for the very weights and settings it was measured with: with
any others nothing is told.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from faceproof.detectors.catalog import find_spec
from faceproof.detectors.quality import bits_per_pixel
from faceproof.detectors.spec import DetectorSpec, spec_sha256
from faceproof.errors import FaceproofError
from faceproof.evidence import texts
from faceproof.results import Report, Verdict

SUFFIX = ".measured.json"
# A part with fewer files of either class is not told: its interval spans nearly everything.
LEAST = 5


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class MeasuredPart(_Strict):
    """One part of a set: ``by`` "face size" (pixels) or "bits per pixel" from ``low`` to below ``high`` (None: no end), or
    "method" by ``name``. ``auroc`` with its 95 % interval, over ``fakes`` forged and ``reals`` genuine files."""

    by: Literal["face size", "bits per pixel", "method"]
    name: str
    low: float | None = None
    high: float | None = None
    fakes: int
    reals: int
    auroc: float
    auroc_low: float
    auroc_high: float


class MeasuredSet(_Strict):
    """One set of files of one kind. ``fake`` and ``real`` map verdicts to numbers of files. ``chosen_here`` says that the
    detector was chosen by its scores on this set, so that they are optimistic."""

    data: str
    data_sha256: str
    media: Literal["video", "image"]
    chosen_here: bool
    fake: dict[str, int]
    real: dict[str, int]
    parts: list[MeasuredPart]


class MeasuredLimits(_Strict):
    """``NAME.measured.json``. ``command`` printed it."""

    schema_version: Literal["1.0"] = "1.0"
    faceproof_version: str
    detector: str
    weights_sha256: str
    spec_sha256: str
    command: str
    sets: list[MeasuredSet]


def read_limits(spec: DetectorSpec) -> MeasuredLimits | None:
    """What was measured of exactly this spec, None where nothing readable lies beside the installed one."""
    try:
        installed = find_spec(spec.name)
        text = installed.source.with_suffix(SUFFIX).read_text(encoding="utf-8")
        found = MeasuredLimits.model_validate_json(text)
    except (FaceproofError, OSError, UnicodeDecodeError, ValidationError):
        return None
    same = (found.spec_sha256, found.weights_sha256) == (spec_sha256(spec), spec.weights.sha256)
    return found if same else None


def write_limits(limits: MeasuredLimits, spec_path: Path) -> Path:
    """Write what was measured beside a spec's TOML. Raises :class:`faceproof.errors.OutputError`."""
    from faceproof.result_files import write_whole

    out = spec_path.with_suffix(SUFFIX)
    write_whole(out, limits.model_dump_json(indent=2) + "\n")
    return out


def told_limits(report: Report, spec: DetectorSpec) -> list[str]:
    """What was measured on files of this kind and quality, in sentences, the plainest first; empty where nothing was."""
    limits, lines = read_limits(spec), []
    for measured in limits.sets if limits is not None else ():
        if measured.media == report.media.kind:
            lines += _told(measured, report)
    return lines


def _told(measured: MeasuredSet, report: Report) -> list[str]:
    words = texts.SURE
    counts = {
        f"{kind}_{verdict.value.lower()}": calls.get(verdict.value, 0)
        for kind, calls in (("real", measured.real), ("fake", measured.fake))
        for verdict in Verdict
    }
    lines = [
        words["measured"].format(
            data=measured.data, reals=sum(measured.real.values()), fakes=sum(measured.fake.values()), **counts
        )
    ]
    if measured.chosen_here:
        lines.append(words["measured_chosen"])
    here = {"face size": _face_side(report), "bits per pixel": bits_per_pixel(report.media)}
    enough = [part for part in measured.parts if min(part.fakes, part.reals) >= LEAST]
    methods = [part for part in enough if part.by == "method"]
    if methods:
        weakest = min(methods, key=lambda part: part.auroc)
        lines.append(words["measured_weakest"].format(what=weakest.name, **_numbers(weakest)))
    for part in enough:
        value = here.get(part.by)
        if value is not None and (part.low or 0.0) <= value and (part.high is None or value < part.high):
            lines.append(words["measured_here"].format(what=f"{part.by} {part.name}", **_numbers(part)))
    return lines


def _numbers(part: MeasuredPart) -> dict[str, float]:
    return {
        "reals": part.reals,
        "fakes": part.fakes,
        "pairs": round(100 * part.auroc),
        "low": round(100 * part.auroc_low),
        "high": round(100 * part.auroc_high),
    }


def _face_side(report: Report) -> float | None:
    """Of the person there is most of, as evaluations sort files by it."""
    judged = [track for track in report.tracks if track.score is not None]
    return max(judged, key=lambda track: track.faces * track.median_side).median_side if judged else None
