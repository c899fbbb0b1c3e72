"""What a scan says. These models are the JSON people build on; ``Report.model_json_schema()`` is its schema.

``score`` is always P(fake) in [0, 1]; ``confidence`` is the probability of the verdict given. Neither is ever the other.
Times are seconds from the first frame; boxes are (x0, y0, x1, y1) pixels of the upright frame.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION: Literal["1.0"] = "1.0"

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
QualityAxis = Literal["face_side", "sharpness", "bits_per_pixel", "faces"]
Box = tuple[float, float, float, float]


class Verdict(StrEnum):
    """The four outcomes. Only FAKE and REAL are opinions; the others say why there is none."""

    FAKE = "FAKE"
    REAL = "REAL"
    INCONCLUSIVE = "INCONCLUSIVE"
    NOT_ASSESSED = "NOT_ASSESSED"


class Reason(StrEnum):
    """Why a verdict is INCONCLUSIVE or NOT_ASSESSED."""

    NO_FACE = "no_face"
    PERHAPS_NO_FACE = "perhaps_no_face"
    TURNED = "turned"
    FACES_TOO_SMALL = "faces_too_small"
    FACES_TOO_BLURRED = "faces_too_blurred"
    TOO_FEW_FACES = "too_few_faces"
    INSIDE_BAND = "score_inside_band"
    MEMBERS_DISAGREE = "members_disagree"
    SUSPICIOUS_MOMENTS = "suspicious_moments"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", protected_namespaces=(), ser_json_inf_nan="null")


class MediaFacts(_Model):
    """The file that was judged. ``fps`` is exact ("30000/1001"); ``kind`` image has neither fps nor duration. ``turned``:
    degrees clockwise by which it has to be turned to show its faces upright, where that was seen."""

    path: str
    sha256: str
    kind: Literal["image", "video"]
    width: int
    height: int
    fps: str | None = None
    duration: float | None = None
    frame_count: int | None = None
    codec: str | None = None
    container: str | None = None
    bit_rate: int | None = None
    size_bytes: int | None = None
    turned: Literal[90, 180, 270] | None = None


class FaceScore(_Model):
    """One face in one frame. ``side`` is the longer side of the box in pixels, ``sharpness`` the variance of
    the Laplacian of the face at 128 px (8-bit grey levels squared). ``fallback`` marks a region that was
    judged although no face was found in it. ``p_fake`` is the network's own, before any calibration."""

    box: Box
    track: int
    p_fake: Probability
    detection_score: Probability
    side: float
    sharpness: float
    fallback: bool = False


class FrameScore(_Model):
    """One sampled frame; ``score`` is the highest of its faces, null when it has none. ``called_by`` is the index of
    the suspicious frame that this one was looked at for, null in a first look."""

    index: int
    time: float
    score: Probability | None
    prediction: Literal["FAKE", "REAL"] | None
    faces: list[FaceScore] = Field(default_factory=list)
    called_by: int | None = None


class Span(_Model):
    """A stretch of time, in seconds."""

    start: float
    end: float


class AppliedBand(_Model):
    """The scores between which there was no verdict here. ``widened_by`` names what made it wider than on good
    material, with what was measured: ``face_side`` in pixels, ``sharpness`` as in ``FaceScore``, ``bits_per_pixel`` of the
    file, or how few ``faces`` there were to average."""

    low: Probability
    high: Probability
    widened_by: dict[QualityAxis, float] = Field(default_factory=dict)


class TrackScore(_Model):
    """One person through one continuous appearance. ``faces`` counts the faces judged; ``suspicious`` lists
    when the faces scored above the threshold. ``band`` is null unless the detector has bands by quality."""

    id: int
    start: float
    end: float
    faces: int
    score: Probability | None
    verdict: Verdict
    reason: Reason | None = None
    best_face_box: Box
    best_frame: int
    best_time: float
    median_side: float
    median_sharpness: float
    suspicious: list[Span] = Field(default_factory=list)
    band: AppliedBand | None = None


class Metrics(_Model):
    """Counts and plain averages over the faces judged, as the documented systems report them."""

    total_faces_detected: int
    average_face_score: Probability | None
    suspicious_frames_count: int
    final_average_score: Probability | None


class AppliedCalibration(_Model):
    """What people's scores went through after their faces were put together; ``p_fake`` of a face has not.
    ``temperature``: the logit divided by ``a``; ``platt``: ``sigmoid(a * logit + b)``; ``isotonic``: lines through
    ``points``."""

    method: Literal["none", "temperature", "platt", "isotonic"]
    a: float = 1.0
    b: float = 0.0
    points: tuple[tuple[Probability, Probability], ...] = ()


class DetectorFacts(_Model):
    """Which detector spoke, exactly enough to repeat it. ``band`` is the one for good material; a face whose ``p_fake`` is
    above ``frame_threshold`` is suspicious. Pages and overlays show faces through ``calibration``, on the scale of people's
    scores."""

    name: str
    version: str
    weights_sha256: str
    spec_sha256: str
    runtime: str
    precision: str
    calibrated: bool
    threshold: Probability
    band: tuple[Probability, Probability]
    frame_threshold: Probability | None = None
    calibration: AppliedCalibration | None = None


class Uncertainty(_Model):
    """How far the members' opinions leave the question open: their weighted standard deviation (0 to .5), the entropy
    of their mean and the part of it that their disagreement makes (bits, 0 to 1), and the share of the weight that votes
    against the majority (0 to .5)."""

    std: float
    entropy: float
    mutual_information: float
    disagreement: float


class MemberScore(_Model):
    """What one member of an ensemble said about the file. Without a score it was left out: ``reason`` says why it has no
    opinion, ``error`` why it could not work. ``tracks`` are its scores by person."""

    name: str
    detector: str
    version: str
    weight: float
    score: Probability | None
    verdict: Verdict
    reason: Reason | None = None
    error: str | None = None
    tracks: dict[int, Probability] = Field(default_factory=dict)


class EnsembleFacts(_Model):
    """How an ensemble came to its answer. ``uncertainty`` is that of the opinions the file's verdict rests on."""

    method: str
    members: list[MemberScore]
    uncertainty: Uncertainty | None = None


class Report(_Model):
    """The answer for one file. ``score`` is that of its most suspicious person, or of the detector's rule over all faces;
    ``band`` the one its verdict was given by, null unless the detector has bands by quality. ``faces_repeated`` were not
    scored: in fast mode a face that hardly changed keeps the score of the one before it."""

    schema_version: Literal["1.0"] = SCHEMA_VERSION
    faceproof_version: str
    media: MediaFacts
    verdict: Verdict
    reason: Reason | None = None
    prediction: Literal["FAKE", "REAL"] | None
    score: Probability | None
    confidence: Probability | None
    band: AppliedBand | None = None
    frames_analyzed: int
    frames_failed: int
    faces_repeated: int = 0
    frame_predictions: list[FrameScore]
    tracks: list[TrackScore]
    metrics: Metrics
    detector: DetectorFacts
    ensemble: EnsembleFacts | None = None
    processing_time: float
    timings: dict[str, float]
    note: str | None = None


class FailedInput(_Model):
    """The row that stands for a file no report could be made of."""

    schema_version: Literal["1.0"] = SCHEMA_VERSION
    path: str
    error: str
    message: str
    remedy: str
