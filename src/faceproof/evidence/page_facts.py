"""The facts of a page in words: how sure, where the file comes from, what was judged with what."""

from __future__ import annotations

import numpy as np

from faceproof import wording
from faceproof.detectors.calibration import on_one_scale
from faceproof.evidence import texts
from faceproof.evidence.gathering import Evidence
from faceproof.evidence.measured import told_limits
from faceproof.evidence.provenance import Provenance
from faceproof.results import Reason

# Of what was measured, what a reader needs first: what became of files, and whether and where that flatters.
_PLAIN_LIMITS = 3
_MOST_NAMED = 3


def how_sure(evidence: Evidence) -> list[str]:
    """What the score's certainty rests on, in a few sentences; :func:`how_measured` has the rest."""
    report, spec, words = evidence.report, evidence.spec, texts.SURE
    single = report.media.kind == "image"
    counts = {"analyzed": report.frames_analyzed, "total": report.media.frame_count or "?"}
    failed = [words["failed"].format(count=report.frames_failed)] if report.frames_failed else []
    if not report.tracks:
        return [words["nothing_picture"] if single else words["nothing"].format(**counts), *failed]
    looked = words["frames_picture"] if single else words["frames"].format(**counts)
    failed += _perhaps_no_faces(evidence)
    if report.score is None:
        return [looked, *failed]
    low, high = report.detector.band
    with_band, without = words["band"], words["threshold"].format(threshold=report.detector.threshold)
    lines = [with_band.format(low=low, high=high) if low < high else without]
    if not report.detector.calibrated:
        lines.append(words["uncalibrated"])
    elif report.confidence is not None:
        lines.append(words["confidence"].format(confidence=report.confidence))
    told = told_limits(report, spec)
    return [*lines, looked, *failed, *(told[:_PLAIN_LIMITS] or [words["no_card"]])]


def how_measured(evidence: Evidence) -> list[str]:
    """Where the numbers come from and what they are made of, in sentences."""
    report, spec, words = evidence.report, evidence.spec, texts.SURE
    if not report.tracks:
        return []
    lines = _band_lines(evidence) if report.score is not None else []
    if report.score is not None and report.detector.calibrated:
        lines.append(_calibration_line(evidence))
        if report.media.kind == "video":
            lines.append(words["raw_faces" if on_one_scale(report) is report else "one_scale"])
    if evidence.ranges:
        lines.append(words["ranges"])
    if spec.verdict.min_detection:
        lines.append(words["detection"].format(least=spec.verdict.min_detection))
    side = float(np.median([track.median_side for track in report.tracks]))
    sharpness = float(np.median([track.median_sharpness for track in report.tracks]))
    least = spec.verdict.min_side
    lines.append(words["side" if least else "side_only"].format(side=side, least=least))
    if spec.verdict.min_sharpness:
        lines.append(words["sharpness"].format(sharpness=sharpness, least=spec.verdict.min_sharpness))
    return lines + (told_limits(report, spec)[_PLAIN_LIMITS:] if report.score is not None else [])


def _perhaps_no_faces(evidence: Evidence) -> list[str]:
    """Who was found with too little certainty to be judged, in one sentence."""
    doubtful = [track for track in evidence.report.tracks if track.reason is Reason.PERHAPS_NO_FACE]
    if not doubtful:
        return []
    named = [wording.person(track) for track in doubtful[:_MOST_NAMED]]
    if len(doubtful) > _MOST_NAMED:
        named.append(f"{len(doubtful) - _MOST_NAMED} more")
    people = wording.listed(named)
    line = texts.SURE["perhaps_no_face" if len(doubtful) == 1 else "perhaps_no_faces"]
    return [line.format(people=people[:1].upper() + people[1:], least=evidence.spec.verdict.min_detection)]


def _band_lines(evidence: Evidence) -> list[str]:
    """For whom the range without an answer is wider, and where its numbers come from."""
    report, rule, words = evidence.report, evidence.spec.verdict, texts.SURE
    lines = []
    wider = [track for track in report.tracks if track.band is not None and track.band.widened_by]
    if wider:
        alike: dict[tuple[float, float], list[str]] = {}
        for track in wider:
            if track.band is not None:
                alike.setdefault((track.band.low, track.band.high), []).append(wording.person(track))
        people = [
            words["band_person"].format(person=wording.listed(them), low=low, high=high)
            for (low, high), them in alike.items()
        ]
        lines.append(words["bands_differ"].format(people="; ".join(people)))
    if rule.fitted is not None:
        told = rule.fitted
        lines.append(
            words["fitted"].format(
                alarms=told.false_alarms, misses=told.misses, data=told.data, reals=told.reals, fakes=told.fakes
            )
        )
    return lines


def _calibration_line(evidence: Evidence) -> str:
    fitted, data, words = evidence.spec.verdict.fitted, evidence.spec.calibration.data, texts.SURE
    if fitted is not None and fitted.data == data:
        return words["calibrated_alike"]
    return words["calibrated"].format(data=data or "unnamed data")


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
        rows += [(words["stream"].format(number=number), listed(one)) for number, one in enumerate(meta.streams, 1)]
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
    words = texts.PAGE
    aggregates = spec.aggregate
    return [
        (words["file"], f"{evidence.shown_name} · {wording.media_line(report)}"),
        ("SHA-256", report.media.sha256),
        (words["detector"], f"{facts.name} {facts.version} · {spec.summary}"),
        (words["weights"], facts.weights_sha256 or words["none"]),
        (words["spec"], facts.spec_sha256),
        (words["run_by"], words["run_by_value"].format(runtime=facts.runtime, precision=facts.precision)),
        (
            words["calibration"],
            words["calibration_value"].format(method=calibration.method, data=calibration.data or "unnamed data")
            if facts.calibrated
            else words["none"],
        ),
        (
            words["aggregation"],
            words["aggregation_value"].format(
                track=_spelled(aggregates.track.method), file=_spelled(aggregates.file.method)
            ),
        ),
        (words["licence"], words["licence_value"].format(weights=spec.licence.weights, origin=spec.licence.origin)),
        (words["frames_asked"], evidence.options.frames),
    ]


def _spelled(method: str) -> str:
    return texts.METHODS.get(method, method.replace("_", " "))
