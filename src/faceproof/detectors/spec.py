"""A detector is a record: everything its weights mean, in one strict TOML.

Weights mean nothing without their preprocessing, label order and aggregation. An unknown key is an error, so that a
misspelt one can never silently fall back to a default. ``docs/spec.md`` explains every key.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from itertools import pairwise
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from faceproof.errors import SpecError
from faceproof.results import QualityAxis

Unit = Annotated[float, Field(ge=0.0, le=1.0)]
Rate = Annotated[float, Field(gt=0.0, lt=1.0)]
Triple = tuple[float, float, float]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Licence(_Table):
    """What the user may do. ``weights`` and ``code`` are SPDX names or plain words; ``origin`` says whose work it is."""

    weights: str
    code: str
    commercial: bool
    origin: str


class Weights(_Table):
    """Where the network is. ``file`` lies beside the TOML; ``parts`` are concatenated when the file is split;
    ``url`` is where ``detectors pull`` fetches it. A spec without a ``sha256`` has no weights yet and never scores."""

    file: str | None = None
    parts: tuple[str, ...] = ()
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    size: Annotated[int, Field(gt=0)] | None = None
    url: str | None = None


class Checkpoint(_Table):
    """The authors' own file, which ``import`` turns into weights: what it is called where they publish it, where
    ``detectors pull`` fetches it, and its ``sha256`` when they state one. Without one the user must."""

    file: str | None = None
    url: Annotated[str, Field(pattern=r"^https://")] | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None


class Frames(_Table):
    """``sampling``: ``all``, a count ("32"), ``every:K`` or ``auto``. ``limit`` bounds how many frames are used."""

    sampling: str = "auto"
    limit: Annotated[int, Field(gt=0)] | None = None


class Margin(_Table):
    """How a face box becomes a crop, in full-frame pixels.

    ``none``; ``thirds`` (h//3 and w//3 on each side, integers, clamped to the frame: selimsef); ``fraction``
    (``value`` × side on each side, clamped); ``pixels`` (``value`` px, clamped); ``square`` (square of longer side ×
    ``value`` around the centre, reflected past the frame's edge); ``square_short`` (the shorter side extended
    to the longer one, clamped: Coccomini); ``blaze`` (``value`` × height, top doubled: polimi).
    """

    kind: Literal["none", "thirds", "fraction", "pixels", "square", "square_short", "blaze"] = "none"
    value: Annotated[float, Field(ge=0)] = 0.0

    @model_validator(mode="after")
    def _value_fits(self) -> Self:
        if self.kind == "square" and self.value <= 0:
            raise ValueError("margin kind square needs a value above 0")
        return self


class Faces(_Table):
    """Finding faces. ``scale`` is the share of the frame's size at which detection runs; ``auto`` chooses by frame size.
    ``keep`` = ``largest`` or ``best`` scores one face a frame; ``none`` looks for no faces at all. ``fallback`` judges
    something else, flagged, where a frame has no face: its ``centre`` square or the whole ``frame``."""

    thresholds: Triple = (0.7, 0.8, 0.8)
    min_face: Annotated[float, Field(ge=12)] = 20
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.709
    scale: Literal["auto"] | Annotated[float, Field(gt=0, le=1)] = "auto"
    margin: Margin = Margin()
    keep: Literal["all", "largest", "best", "none"] = "all"
    fallback: Literal["none", "centre", "frame"] = "none"
    limit: Annotated[int, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _something_is_judged(self) -> Self:
        if self.keep == "none" and self.fallback == "none":
            raise ValueError("keep = none judges nothing without a fallback")
        return self


class Input(_Table):
    """From a uint8 RGB crop to the network's float32 ``[N, 3, size, size]``: channel order, resize, pad, then
    ``(x * scale - mean) / std`` per channel in the network's order.

    ``resize``: ``isotropic`` (longer side to ``size``, rest padded), ``stretch``, or ``centre_crop`` (shorter side to
    ``size``, centre kept). Kernels are OpenCV's. ``denoise`` > 0 blends in a 3×3 median by that share; it erases evidence.
    """

    size: Annotated[int, Field(ge=8)]
    colour: Literal["RGB", "BGR"] = "RGB"
    resize: Literal["isotropic", "stretch", "centre_crop"] = "stretch"
    enlarge: Literal["cubic", "linear", "area", "nearest"] = "linear"
    reduce: Literal["cubic", "linear", "area", "nearest"] = "area"
    pad: Annotated[int, Field(ge=0, le=255)] = 0
    scale: Annotated[float, Field(gt=0)] = 1 / 255
    mean: Triple = (0.485, 0.456, 0.406)
    std: Triple = (0.229, 0.224, 0.225)
    denoise: Unit = 0.0

    @model_validator(mode="after")
    def _std_is_positive(self) -> Self:
        if min(self.std) <= 0:
            raise ValueError("std must be positive")
        return self


class Output(_Table):
    """What comes out. ``activation`` turns ``logit`` into a probability: ``sigmoid`` of one number, ``softmax`` of two
    (``fake_index`` says which), ``none`` when the graph already does it. ``fake_is = "low"`` means that a high
    number says real. ``heatmap`` names the coarse map, if any, and ``heatmap_kind`` what it is."""

    logit: str = "logit"
    activation: Literal["sigmoid", "softmax", "none"] = "sigmoid"
    fake_is: Literal["high", "low"]
    fake_index: Literal[0, 1] = 1
    heatmap: str | None = None
    heatmap_kind: Literal["mask", "activation", "attention"] | None = None


class Method(_Table):
    """A named aggregation method and its numbers, for instance ``{method = "topk", k = 5}``."""

    model_config = ConfigDict(extra="allow", frozen=True)

    method: str

    @property
    def numbers(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class Aggregate(_Table):
    """``track`` scores one person's faces; ``file`` scores the whole table, or is ``worst_track``: the highest
    score among the qualified tracks."""

    track: Method = Method(method="mean")
    file: Method = Method(method="worst_track")


class BandPoint(_Table):
    """The band at one measured quality, ``at``: pixels, squared grey levels, bits per pixel or faces."""

    at: Annotated[float, Field(gt=0)]
    low: Unit
    high: Unit

    @model_validator(mode="after")
    def _low_is_below(self) -> Self:
        if self.low > self.high:
            raise ValueError("low is above high")
        return self


AXES: tuple[QualityAxis, ...] = ("face_side", "sharpness", "bits_per_pixel", "faces")


class QualityBands(_Table):
    """Bands that widen as the material gets worse, along each axis best quality first: ``face_side`` (median longer side
    of the person's face, pixels), ``sharpness`` (as in ``FaceScore``), ``bits_per_pixel`` (compressed, per frame; videos
    only) and ``faces`` (how many of the person's were averaged). They only ever widen the rule's own band, and
    that holds the best material's. Beyond the measured ends the nearest point holds. ``false_alarms`` and
    ``misses`` are the rates they were fitted for."""

    false_alarms: Rate
    misses: Rate
    face_side: tuple[BandPoint, ...] = ()
    sharpness: tuple[BandPoint, ...] = ()
    bits_per_pixel: tuple[BandPoint, ...] = ()
    faces: tuple[BandPoint, ...] = ()

    @model_validator(mode="after")
    def _worse_is_never_narrower(self) -> Self:
        if not any(getattr(self, axis) for axis in AXES):
            raise ValueError("name at least one axis")
        for axis in AXES:
            for better, worse in pairwise(getattr(self, axis)):
                if not worse.at < better.at:
                    raise ValueError(f"{axis} must go from the best quality to the worst")
                if worse.low > better.low or worse.high < better.high:
                    raise ValueError(f"{axis} narrows from {better.at:g} to {worse.at:g}: worse may only widen")
        return self


class Fitted(_Table):
    """Where a rule's numbers come from: ``command``, on ``data`` with the hash of its scores, ``reals`` and ``fakes``
    independent people or source videos of each class; for at most ``false_alarms`` of genuine files called FAKE,
    ``misses`` of forgeries called REAL, and ``frame_alarms`` of genuine faces above ``frame_threshold``."""

    data: str
    data_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    reals: Annotated[int, Field(ge=0)]
    fakes: Annotated[int, Field(ge=0)]
    false_alarms: Rate
    misses: Rate
    frame_alarms: Rate | None = None
    command: str


class VerdictRule(_Table):
    """From score to verdict. Scores inside ``band`` (lo < score < hi) are INCONCLUSIVE; otherwise FAKE above
    ``threshold``. ``quality`` widens the band for worse material. ``frame_threshold`` labels frames. A track qualifies
    with ``min_faces`` faces whose median side and sharpness reach ``min_side`` and ``min_sharpness``, and whose median
    ``detection_score`` reaches ``min_detection``: a pattern is found as a face with less certainty. ``no_face`` keeps a
    published system's own answer, by name. ``fitted`` says where the numbers come from.

    ``suspicious_run``: so many faces of a person in a row above ``frame_threshold``, half a second long or more, make REAL
    INCONCLUSIVE: a mean over minutes hides seconds. 0 leaves that out, as published systems do."""

    threshold: Unit = 0.5
    band: tuple[Unit, Unit] | None = None
    frame_threshold: Unit = 0.5
    min_faces: Annotated[int, Field(ge=1)] = 1
    min_side: Annotated[float, Field(ge=0)] = 0
    min_sharpness: Annotated[float, Field(ge=0)] = 0
    min_detection: Unit = 0
    suspicious_run: Annotated[int, Field(ge=0)] = 0
    no_face: Literal["not_assessed", "real_0.99", "real_0.0", "half"] = "not_assessed"
    quality: QualityBands | None = None
    fitted: Fitted | None = None

    @model_validator(mode="after")
    def _band_holds_threshold(self) -> Self:
        if self.band is not None and not self.band[0] <= self.threshold <= self.band[1]:
            raise ValueError("the band must hold the threshold")
        return self

    @model_validator(mode="after")
    def _band_holds_the_best(self) -> Self:
        """Material of which nothing is known is judged by ``band``: never more boldly than the best that was measured."""
        low, high = self.band or (self.threshold, self.threshold)
        for axis in AXES if self.quality is not None else ():
            best = next(iter(getattr(self.quality, axis)), None)
            if best is not None and (best.low < low or best.high > high):
                raise ValueError(
                    f"{axis} is wider at its best ({best.low:g} to {best.high:g}) than the band ({low:g} to {high:g}): "
                    "what the best material needs, everybody gets, so widen the band"
                )
        return self


class Calibration(_Table):
    """Maps an aggregated score to a probability: ``temperature`` divides the logit by ``a``; ``platt`` is
    ``sigmoid(a·logit + b)``; ``isotonic`` interpolates ``points``. ``data`` names what it was fitted on, ``data_sha256``
    the scores it was fitted to."""

    method: Literal["none", "temperature", "platt", "isotonic"] = "none"
    a: float = 1.0
    b: float = 0.0
    points: tuple[tuple[Unit, Unit], ...] = ()
    data: str | None = None
    data_sha256: str | None = None

    @model_validator(mode="after")
    def _numbers_fit(self) -> Self:
        if self.method in ("temperature", "platt") and not (self.a > 0 and isfinite(self.a) and isfinite(self.b)):
            raise ValueError("calibration number a must be positive, or scores change their order")
        if self.method == "isotonic" and len(self.points) < 2:
            raise ValueError("isotonic calibration needs at least two points")
        if any(right[0] < left[0] or right[1] < left[1] for left, right in pairwise(self.points)):
            raise ValueError("isotonic calibration's points must rise, or scores change their order")
        return self


class Golden(_Table):
    """One known answer. ``asset`` is ``pattern:SEED`` (a crop the code draws itself) or a PNG beside the TOML."""

    asset: str
    logit: float
    tolerance: Annotated[float, Field(gt=0)] = 0.02


class DetectorSpec(_Table):
    """One detector. Build it with :func:`read_spec` or :func:`parse_spec`.

    ``architecture`` names the network in :mod:`faceproof.training.systems`, ``architecture_settings`` its knobs.
    ``profile_of`` names the detector whose weights this one uses with another recipe.
    """

    schema_version: Literal[1]
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=80)]
    version: str
    summary: str
    media: tuple[Literal["image", "video"], ...] = ("image", "video")
    licence: Licence
    weights: Weights = Weights()
    frames: Frames = Frames()
    faces: Faces = Faces()
    input: Input
    output: Output
    aggregate: Aggregate = Aggregate()
    verdict: VerdictRule = VerdictRule()
    calibration: Calibration = Calibration()
    golden: tuple[Golden, ...] = ()
    checkpoint: Checkpoint = Checkpoint()
    architecture: str | None = None
    architecture_settings: dict[str, int | float | str] = Field(default_factory=dict)
    profile_of: str | None = None


def parse_spec(text: str, *, source: str = "spec") -> DetectorSpec:
    """Read a spec from TOML text. Raises :class:`SpecError` that names every wrong key."""
    try:
        return DetectorSpec.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"{source} is not TOML: {error}") from error
    except ValidationError as error:
        raise SpecError(f"{source}: {_name_errors(error)}") from error


def read_spec(path: Path) -> DetectorSpec:
    """Read a spec file. Raises :class:`SpecError`."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"cannot read {path}: {error}") from error
    return parse_spec(text, source=path.name)


class _Judging(Protocol):
    """A record with a verdict rule: a detector's or an ensemble's."""

    @property
    def verdict(self) -> VerdictRule: ...

    def model_dump_json(self, *, exclude: Any = None) -> str: ...


def hashed_text(spec: _Judging) -> str:
    """The record as the text that is hashed. What came later counts only where it is used, so that what was
    recorded of older records stays true."""
    unused = {
        name for name in ("quality", "fitted", "suspicious_run", "min_detection") if not getattr(spec.verdict, name)
    }
    return spec.model_dump_json(exclude={"verdict": unused})


def spec_sha256(spec: DetectorSpec) -> str:
    """Hash of everything that decides a verdict, whatever the TOML's spacing or comments."""
    return hashlib.sha256(hashed_text(spec).encode()).hexdigest()


def scoring_sha256(spec: DetectorSpec) -> str:
    """Hash of what decides the scores of single faces: frames, faces, input, output and weights. Calibration, bands and
    aggregation are not in it: they judge scores that are there already."""
    text = spec.model_dump_json(include={"frames", "faces", "input", "output"})
    return hashlib.sha256(f"{text}\n{spec.weights.sha256}".encode()).hexdigest()


def _name_errors(error: ValidationError) -> str:
    parts = []
    for item in error.errors():
        place = ".".join(str(step) for step in item["loc"]) or "spec"
        words = "unknown key" if item["type"] == "extra_forbidden" else re.sub(r"^Value error, ", "", item["msg"])
        parts.append(f"{place}: {words}")
    return "; ".join(parts)
