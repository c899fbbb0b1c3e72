"""The facts of a page in words: how sure, where the file comes from, what was judged with what."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from faceproof.detectors.catalog import find_spec
from faceproof.detectors.spec import DetectorSpec, spec_sha256
from faceproof.errors import FaceproofError
from faceproof.evidence import texts
from faceproof.evidence.gathering import Evidence
from faceproof.evidence.provenance import Provenance
from faceproof.results import Report


def how_sure(evidence: Evidence) -> list[str]:
    """What the score's certainty rests on, in sentences."""
    report, spec, words = evidence.report, evidence.spec, texts.SURE
    low, high = report.detector.band
    with_band, without = words["band"], words["threshold"].format(threshold=report.detector.threshold)
    lines = [with_band.format(low=low, high=high) if low < high else without]
    if report.detector.calibrated:
        lines.append(words["calibrated"].format(data=spec.calibration.data or "unnamed data"))
        lines.append(words["raw_faces"])
        if report.confidence is not None:
            lines.append(words["confidence"].format(confidence=report.confidence))
    else:
        lines.append(words["uncalibrated"])
    if report.media.kind == "image":
        lines.append(words["frames_picture"])
    else:
        lines.append(words["frames"].format(analyzed=report.frames_analyzed, total=report.media.frame_count or "?"))
    if report.frames_failed:
        lines.append(words["failed"].format(count=report.frames_failed))
    if evidence.ranges:
        lines.append(words["ranges"])
    if report.tracks:
        side = float(np.median([track.median_side for track in report.tracks]))
        sharpness = float(np.median([track.median_sharpness for track in report.tracks]))
        least = spec.verdict.min_side
        lines.append(words["side" if least else "side_only"].format(side=side, least=least))
        if spec.verdict.min_sharpness:
            lines.append(words["sharpness"].format(sharpness=sharpness, least=spec.verdict.min_sharpness))
    return lines + (measured_limits(spec) or [words["no_card"]])


def measured_limits(spec: DetectorSpec) -> list[str]:
    """What was measured of this detector: the sentences of ``NAME.limits.txt`` beside its TOML, one a line.

    Empty when there is no such file, or when the detector installed under that name is another one.
    """
    try:
        installed = find_spec(spec.name)
    except FaceproofError:
        return []
    if spec_sha256(installed.spec) != spec_sha256(spec):
        return []
    try:
        text = installed.source.with_suffix(".limits.txt").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return []
    return [line.strip() for line in text.splitlines() if line.strip()][:12]


def provenance_rows(provenance: Provenance) -> list[tuple[str, str]]:
    """Label and value of everything the file says about its origin."""
    words, found, meta = texts.PROVENANCE, provenance.credentials, provenance.metadata
    rows = [
        (words["sha256"], provenance.sha256),
        (words["sha1"], provenance.sha1),
        (words["md5"], provenance.md5),
        (words["size"], words["bytes"].format(count=provenance.size_bytes)),
        (words["credentials"], words[f"credentials_{found.status}"]),
    ]
    if found.status in ("valid", "invalid"):
        who = words["signed_by"].format(
            signer=found.signer or found.issuer or "?",
            issuer=f" ({found.issuer})" if found.issuer and found.signer else "",
            when=f", {found.signed_at}" if found.signed_at else "",
        )
        rows.append((words["signer"], f"{who}; {words['trusted' if found.trusted else 'untrusted']}"))
        rows.append((words["actions"], ", ".join(found.actions) or words["absent"]))
        rows.append((words["generated"], words[f"generated_{found.generated or 'silent'}"]))
        if found.ingredients:
            rows.append((words["ingredients"], ", ".join(found.ingredients)))
        if found.problems:
            rows.append((words["problems"], ", ".join(found.problems)))

    def listed(values: dict[str, str]) -> str:
        return "; ".join(f"{key}: {value}" for key, value in values.items()) or words["absent"]

    if meta.streams:
        rows.append((words["container"], listed(meta.container)))
        rows += [(f"{words['streams']} {number}", listed(one)) for number, one in enumerate(meta.streams, 1)]
    else:
        rows.append((words["exif"], listed(meta.exif)))
    rows.append((words["xmp"], listed(meta.xmp)))
    rows.append((words["encoders"], "; ".join(meta.encoders) or words["absent"]))
    rows.append((words["location"], words["location_present" if meta.has_location else "absent"]))
    return rows


def detector_rows(evidence: Evidence) -> list[tuple[str, str]]:
    """Label and value of what was judged with what."""
    report, spec = evidence.report, evidence.spec
    facts = report.detector
    calibration = spec.calibration
    return [
        (texts.PAGE["file"], f"{evidence.shown_name} · {media_line(report)}"),
        ("SHA-256", report.media.sha256),
        (texts.PAGE["detector"], f"{facts.name} {facts.version} · {spec.summary}"),
        ("Weights", facts.weights_sha256 or "none"),
        ("Spec", facts.spec_sha256),
        ("Run by", f"{facts.runtime}, {facts.precision}"),
        (
            "Calibration",
            f"{calibration.method}, fitted on {calibration.data or 'unnamed data'}" if facts.calibrated else "none",
        ),
        ("Aggregation", f"{spec.aggregate.track.method} per person, {spec.aggregate.file.method} per file"),
        ("Licence of the weights", f"{spec.licence.weights} ({spec.licence.origin})"),
        ("Frames", evidence.options.frames),
    ]


def media_line(report: Report) -> str:
    """1920×1080 · 29.97 fps · 10.0 s · h264 3.1 Mbit/s"""
    media = report.media
    parts = [f"{media.width}×{media.height}"]
    if media.fps:
        parts.append(f"{float(Fraction(media.fps)):.4g} fps")
    if media.duration is not None:
        parts.append(f"{media.duration:.1f} s")
    if media.codec:
        rate = f" {media.bit_rate / 1e6:.2g} Mbit/s" if media.kind == "video" and media.bit_rate else ""
        parts.append(f"{media.codec}{rate}")
    return " · ".join(parts)
