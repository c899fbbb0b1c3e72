"""From the members of an ensemble to one verdict: each judges by its own rules, then their opinions are fused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from faceproof.detectors.calibration import calibrate
from faceproof.detectors.ensemble import Ensemble, Voice
from faceproof.detectors.fusion import uncertainty
from faceproof.detectors.quality import Quality
from faceproof.detectors.verdict import Opinion, judge_nothing, judge_score
from faceproof.errors import NetworkError
from faceproof.judge import (
    JudgedFrame,
    Judgement,
    compression,
    deciding_person,
    face_table,
    highest_score,
    judge_file,
    judge_tracks,
    media_facts,
    quality_of,
)
from faceproof.media import MediaInfo
from faceproof.results import EnsembleFacts, MemberScore, Reason, TrackScore, Uncertainty, Verdict


@dataclass
class _Judged:
    """What one member came to."""

    voice: Voice
    tracks: dict[int, TrackScore]
    opinion: Opinion
    error: str | None = None


def judge_jointly(
    info: MediaInfo,
    frames: Sequence[JudgedFrame],
    ensemble: Ensemble,
    failed: Mapping[str, str],
    *,
    turned: bool = False,
) -> Judgement:
    """Every person's and the file's verdict, and what each member said. ``frames`` hold the members' votes. Of a file that
    is ``turned`` nobody is judged.

    A member that ``failed`` at any face is left out of the whole file. Raises :class:`NetworkError` when fewer members
    than the ensemble needs could work.
    """
    spec = ensemble.ensemble
    bits = compression(media_facts(info))
    judged = [
        _judge_alone(info, frames, ensemble, place, failed, bits, turned) for place in range(len(ensemble.voices))
    ]
    out = np.asarray([one.error is not None for one in judged])
    working = int((~out).sum())
    if working < spec.min_members or not ensemble.weights[~out].sum() > 0:
        why = "; ".join(f"{one.voice.name}: {one.error}" for one in judged if one.error)
        raise NetworkError(
            f"only {working} of the members of {spec.name} could score this file ({why})",
            remedy="Run `faceproof doctor`, or lower min_members.",
        )
    if out.any():
        # Faces that were scored before a member failed still hold its votes.
        for face in (face for frame in frames for face in frame.faces):
            face.p = ensemble.fuse_votes(np.where(out, np.nan, face.votes))
    table = face_table(frames)
    tracks, opinions = [], {}
    for track in judge_tracks(frames, table, ensemble.spec, bits, turned=turned):
        if track.score is not None:
            alone = [one.tracks.get(track.id) for one in judged]
            faces = int((table.track == track.id).sum())
            joint = _fuse(ensemble, alone, Quality(track.median_side, track.median_sharpness, bits, faces))
            if joint is None:
                reasons = Counter(one.reason for one in alone if one is not None and one.reason is not None)
                silent = reasons.most_common(1)[0][0] if reasons else Reason.TOO_FEW_FACES
                opinion = Opinion(Verdict.NOT_ASSESSED, None, silent)
            else:
                opinion, opinions[track.id] = joint
            update = {name: getattr(opinion, name) for name in ("score", "verdict", "reason", "band")}
            track = track.model_copy(update=update)
        tracks.append(track)
    qualified = [track for track in tracks if track.score is not None]
    spread: Uncertainty | None = None
    if spec.file == "members":
        own = _fuse(ensemble, [one.opinion for one in judged], quality_of(tracks, bits, len(table)))
        if own is None:
            file = _nothing(judged, tracks, ensemble)
        else:
            file, spread = own
    elif qualified:
        worst = deciding_person(qualified)
        file = Opinion(worst.verdict, highest_score(qualified), worst.reason, worst.band)
        spread = opinions[worst.id]
    else:
        file = _nothing(judged, tracks, ensemble)
    facts = EnsembleFacts(method=str(spec.method), members=[*_facts(judged), *_absent(ensemble)], uncertainty=spread)
    return Judgement(tracks, file, facts)


def _judge_alone(
    info: MediaInfo,
    frames: Sequence[JudgedFrame],
    ensemble: Ensemble,
    place: int,
    failed: Mapping[str, str],
    bits: float,
    turned: bool,
) -> _Judged:
    voice = ensemble.voices[place]
    if voice.name in failed:
        return _Judged(voice, {}, Opinion(Verdict.NOT_ASSESSED, None), failed[voice.name])
    own = voice.detector.spec
    if info.kind not in own.media:
        return _Judged(voice, {}, Opinion(Verdict.NOT_ASSESSED, None), f"it was not made for {info.kind}s")
    seen = [replace(frame, faces=[replace(face, p=face.votes[place]) for face in frame.faces]) for frame in frames]
    table = face_table(seen)
    tracks = judge_tracks(seen, table, own, bits, turned=turned)
    # A published answer to "no face" is not a member's opinion.
    opinion = Opinion(Verdict.NOT_ASSESSED, None, Reason.TURNED if turned else Reason.NO_FACE)
    if tracks:
        opinion = judge_file(tracks, table, own, bits, turned=turned)
    return _Judged(voice, {track.id: track for track in tracks}, opinion)


def _fuse(
    ensemble: Ensemble, opinions: Sequence[TrackScore | Opinion | None], quality: Quality
) -> tuple[Opinion, Uncertainty] | None:
    """The joint opinion of the members that have one, by the ensemble's band for that ``quality``; None when too few do."""
    p = np.asarray([np.nan if one is None or one.score is None else one.score for one in opinions])
    heard = np.isfinite(p)
    spec = ensemble.ensemble
    if heard.sum() < spec.min_members or ensemble.weights[heard].sum() <= 0:
        return None
    measured = uncertainty(p[heard], ensemble.weights[heard], threshold=ensemble.thresholds[heard])
    spread = Uncertainty(
        std=measured.std,
        entropy=measured.entropy,
        mutual_information=measured.mutual_information,
        disagreement=measured.disagreement,
    )
    score = calibrate(ensemble.fuse(p, heard), spec.calibration)
    tie = spec.method == "majority_voting" and spread.disagreement == 0.5
    if tie or (spec.max_disagreement is not None and spread.disagreement > spec.max_disagreement):
        return Opinion(Verdict.INCONCLUSIVE, score, Reason.MEMBERS_DISAGREE), spread
    return judge_score(score, spec.verdict, quality), spread


def _nothing(judged: Sequence[_Judged], tracks: Sequence[TrackScore], ensemble: Ensemble) -> Opinion:
    """Why there is no joint opinion: what the ensemble itself says of the people seen, or most of its members."""
    reasons = [track.reason for track in tracks if track.reason is not None]
    if not reasons:
        said = Counter(one.opinion.reason for one in judged if one.opinion.reason is not None)
        reasons = [reason for reason, _ in said.most_common() if reason is not Reason.NO_FACE]
    return judge_nothing(reasons, ensemble.spec.verdict)


def _facts(judged: Sequence[_Judged]) -> list[MemberScore]:
    return [
        MemberScore(
            name=one.voice.name,
            detector=one.voice.detector.spec.name,
            version=one.voice.detector.spec.version,
            weight=one.voice.member.weight,
            score=one.opinion.score,
            verdict=one.opinion.verdict,
            reason=one.opinion.reason,
            error=one.error,
            tracks={number: track.score for number, track in one.tracks.items() if track.score is not None},
        )
        for one in judged
    ]


def _absent(ensemble: Ensemble) -> list[MemberScore]:
    return [
        MemberScore(
            name=member.name,
            detector=member.detector,
            version="",
            weight=member.weight,
            score=None,
            verdict=Verdict.NOT_ASSESSED,
            error=ensemble.absent[member.name],
        )
        for member in ensemble.ensemble.members
        if member.name in ensemble.absent
    ]
