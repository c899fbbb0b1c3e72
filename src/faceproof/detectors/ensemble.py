"""Several detectors as one: a record of members, weights and a fusion method, in one strict TOML.

A member is a detector as it stands, with its own crop, input, aggregation and calibration; faces are found once for all.
A member that cannot score, or has no opinion, is reported and left out, never counted as real. The same detector under
several ``view``\\ s is test-time augmentation: an ensemble of one.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError, field_validator, model_validator

from faceproof.detectors import catalog
from faceproof.detectors.detector import Crop, Detector, FloatArray
from faceproof.detectors.fusion import FusionMethod, Opinions, Stacked, check_numbers, check_weights, fuse
from faceproof.detectors.spec import (
    Calibration,
    Checkpoint,
    DetectorSpec,
    Faces,
    Frames,
    Licence,
    VerdictRule,
    Weights,
    _name_errors,
    _Table,
    hashed_text,
    spec_sha256,
)
from faceproof.errors import FaceproofError, OptionError, SpecError, UnknownDetectorError, WeightsError
from faceproof.faces import crops as face_crops
from faceproof.runtime.network import Precision, Runtime

MemberCrops = tuple[Crop, ...]

VIEWS: dict[str, Callable[[Crop], Crop]] = {
    "plain": lambda crop: crop,
    "flip": lambda crop: np.ascontiguousarray(crop[:, ::-1]),
    # The middle nine tenths: what a slightly tighter face box would have given.
    "zoom": lambda crop: _middle(crop, 0.9),
    "zoom_flip": lambda crop: np.ascontiguousarray(_middle(crop, 0.9)[:, ::-1]),
}


def _middle(crop: Crop, share: float) -> Crop:
    height, width = crop.shape[:2]
    y, x = int(height * (1 - share) / 2), int(width * (1 - share) / 2)
    return crop[y : height - y, x : width - x]


class EnsembleMember(_Table):
    """One voice: an installed detector, how much it weighs, and through which ``view`` it sees the crops.

    ``checkpoint`` is the authors' file that becomes this member when it is imported as ``import_as``; ``detectors pull``
    fetches it. Neither decides a score, so neither is hashed.
    """

    detector: str
    weight: Annotated[float, Field(ge=0)] = 1.0
    view: Literal["plain", "flip", "zoom", "zoom_flip"] = "plain"
    import_as: Annotated[str | None, Field(exclude=True)] = None
    checkpoint: Annotated[Checkpoint | None, Field(exclude=True)] = None

    @property
    def name(self) -> str:
        return self.detector if self.view == "plain" else f"{self.detector}/{self.view}"


class StackedModel(_Table):
    """A fitted :class:`faceproof.detectors.fusion.Stacked`, by member's name, and what it was fitted on."""

    coefficients: dict[str, float]
    centre: dict[str, float]
    intercept: float
    data: str = ""
    data_sha256: str = ""


class EnsembleSpec(_Table):
    """One ensemble. Read it with :func:`read_ensemble`; it is named like a detector and used like one.

    ``numbers`` are the method's own (``temperature``, ``threshold``). ``min_members`` is how many opinions a verdict
    needs. ``max_disagreement``: with a larger share of the weight against the majority, the answer is INCONCLUSIVE.
    ``frames`` and ``faces`` are the first member's where they are not given; ``faces.margin`` is always each member's own.
    ``file``: ``worst_track`` takes the most suspicious person, ``members`` fuses the members' own scores of the file.
    """

    schema_version: Literal[1]
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=80)]
    version: str = "1"
    summary: str = ""
    members: Annotated[tuple[EnsembleMember, ...], Field(min_length=1)]
    method: FusionMethod = FusionMethod.WEIGHTED_AVERAGE
    numbers: dict[str, float] = Field(default_factory=dict)
    min_members: Annotated[int, Field(ge=1)] = 1
    max_disagreement: Annotated[float, Field(ge=0, le=0.5)] | None = None
    frames: Frames | None = None
    faces: Faces | None = None
    file: Literal["worst_track", "members"] = "worst_track"
    verdict: VerdictRule = VerdictRule()
    calibration: Calibration = Calibration()
    stacked: StackedModel | None = None

    @field_validator("method", mode="before")
    @classmethod
    def _other_names(cls, value: object) -> object:
        return FusionMethod(value) if value == "soft_voting" else value

    @model_validator(mode="after")
    def _members_fit(self) -> Self:
        names = [member.name for member in self.members]
        if len(set(names)) != len(names):
            raise ValueError("two members are the same detector with the same view")
        if self.min_members > len(names):
            raise ValueError(f"min_members is {self.min_members} of {len(names)} members")
        try:
            check_weights([member.weight for member in self.members])
            check_numbers(self.method, self.numbers)
        except (OptionError, SpecError) as error:
            raise ValueError(error.message) from None
        if (self.method is FusionMethod.STACKED) != (self.stacked is not None):
            raise ValueError("method stacked needs a fitted [stacked] table, and only it has one")
        if self.stacked and not ({*self.stacked.coefficients} == {*self.stacked.centre} == {*names}):
            raise ValueError("the stacked model was fitted with other members")
        return self


def parse_ensemble(text: str, *, source: str = "ensemble") -> EnsembleSpec:
    """Read an ensemble from TOML text. Raises :class:`SpecError` that names every wrong key."""
    try:
        return EnsembleSpec.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"{source} is not TOML: {error}") from error
    except ValidationError as error:
        raise SpecError(f"{source}: {_name_errors(error)}", remedy="Correct the ensemble's TOML file.") from error


def read_ensemble(path: Path) -> EnsembleSpec:
    """Read an ensemble's file. Raises :class:`SpecError`."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"cannot read {path}: {error}", remedy="Correct the ensemble's TOML file.") from error
    return parse_ensemble(text, source=path.name)


def ensemble_files() -> Iterator[Path]:
    """Every ensemble's TOML: the package's, then the user's in ``ensembles`` of the model folder."""
    yield from sorted((Path(__file__).parent / "ensembles").glob("*.toml"))
    yield from sorted((catalog.home() / "ensembles").glob("*.toml"))


def list_ensembles() -> list[EnsembleSpec]:
    """The installed ensembles. Raises :class:`SpecError` when one of them is wrong."""
    return [read_ensemble(path) for path in ensemble_files()]


def find_ensemble(name: str) -> EnsembleSpec | None:
    """The installed ensemble of that name, the user's before the package's."""
    return next((spec for spec in reversed(list_ensembles()) if spec.name == name), None)


def fingerprint(name: str) -> str:
    """Hash of everything that decides a score of the detector or ensemble of that name, without loading it.

    Raises :class:`faceproof.errors.UnknownDetectorError`.
    """
    spec = find_ensemble(name)
    if spec is None:
        return spec_sha256(catalog.find_spec(name).spec)
    parts = [hashed_text(spec), *(spec_sha256(catalog.find_spec(m.detector).spec) for m in spec.members)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


@dataclass(frozen=True)
class Voice:
    """A loaded member."""

    member: EnsembleMember
    detector: Detector

    @property
    def name(self) -> str:
        return self.member.name


class Ensemble(Detector):
    """Several loaded detectors that answer as one. Make it with :func:`load_ensemble`, or from detectors in memory.

    ``voices`` are the members that could be loaded; ``absent`` names those that could not, with the reason. Safe to use
    from one thread at a time. Raises :class:`WeightsError` when fewer than ``min_members`` are there, and
    :class:`OptionError` when those present have no weight.
    """

    def __init__(self, spec: EnsembleSpec, voices: Sequence[Voice], absent: Mapping[str, str] | None = None) -> None:
        self.ensemble = spec
        self.voices = tuple(voices)
        self.absent = dict(absent or {})
        if len(self.voices) < spec.min_members or not self.voices:
            reasons = dict.fromkeys(self.absent.values())
            missing = "; ".join(f"{', '.join(n for n, w in self.absent.items() if w == why)}: {why}" for why in reasons)
            raise WeightsError(
                f"only {len(self.voices)} of the members of {spec.name} can score ({missing or 'none was given'})",
                remedy="Install their weights, or lower min_members.",
            )
        self.weights = check_weights([voice.member.weight for voice in self.voices])
        self.spec = as_detector(spec, [voice.detector.spec for voice in self.voices])
        lead = self.voices[0].detector
        self.network = lead.network
        self.spec_sha256 = hashlib.sha256(
            "\n".join([hashed_text(spec), *(voice.detector.spec_sha256 for voice in self.voices)]).encode()
        ).hexdigest()
        self.batch_size = max(voice.detector.batch_size for voice in self.voices)
        self.streams = 1  # members that fail are crossed off for all that follows, so faces keep their order
        self.thresholds = np.asarray([voice.detector.spec.verdict.threshold for voice in self.voices])

    def cut(self, image: Crop, box: tuple[float, float, float, float]) -> MemberCrops:
        """One crop a member, each with its own margin; equal margins share the pixels. A member that looks for no faces
        gets the whole frame."""
        made: dict[Any, Crop] = {}
        crops = []
        for voice in self.voices:
            faces = voice.detector.spec.faces
            key = None if faces.keep == "none" else faces.margin
            if key not in made:
                made[key] = image.copy() if key is None else face_crops.cut(image, box, key)
            crops.append(made[key])
        return tuple(crops)

    def votes(
        self, crops: Sequence[MemberCrops | Crop], failed: MutableMapping[str, str] | None = None
    ) -> npt.NDArray[np.float64]:
        """P(fake) by face and member, float64 ``[N, M]``, NaN for a member that could not.

        ``crops``: what :meth:`cut` gave for each face, or one crop for all members. ``failed`` collects the members that
        raised, with the reason; a member in it is not asked. Only errors raised on purpose are a member's failure.
        """
        failed = {} if failed is None else failed
        votes = np.full((len(crops), len(self.voices)), np.nan)
        for place, voice in enumerate(self.voices):
            if voice.name in failed:
                continue
            view = VIEWS[voice.member.view]
            seen = [view(crop[place] if isinstance(crop, tuple) else crop) for crop in crops]
            try:
                votes[:, place] = voice.detector.score(seen)
            except FaceproofError as error:
                failed[voice.name] = error.message
        return votes

    def fuse_votes(self, votes: npt.ArrayLike) -> float:
        """One P(fake) of a face from its members' ``[M]``; members with NaN are left out. NaN when all are."""
        p = np.asarray(votes, np.float64)
        heard = np.isfinite(p)
        return self.fuse(p, heard) if self.weights[heard].sum() > 0 else float("nan")

    def fuse(self, p: Opinions, heard: npt.NDArray[np.bool_]) -> float:
        """Fuse the opinions ``p`` ``[M]`` of the members ``heard`` ``[M]``, at least one of which has a weight."""
        if self.ensemble.stacked is not None:
            model = self.ensemble.stacked
            said = {v.name: float(p[i]) for i, v in enumerate(self.voices) if heard[i]}
            return Stacked(model.coefficients, model.centre, model.intercept).score(said)
        numbers: dict[str, Any] = dict(self.ensemble.numbers)
        if self.ensemble.method is FusionMethod.MAJORITY_VOTING:
            numbers.setdefault("threshold", self.thresholds[heard])
        return fuse(p[heard], self.weights[heard], self.ensemble.method, **numbers)

    def score_with_heat(self, crops: Sequence[Any]) -> tuple[FloatArray, FloatArray | None]:
        """P(fake) ``[N]`` and the first member's heatmap.

        Raises what a member raised when not one of them could score.
        """
        failed: dict[str, str] = {}
        votes = self.votes(crops, failed)
        scores = np.asarray([self.fuse_votes(row) for row in votes], np.float32)
        if len(scores) and np.isnan(scores).any():
            raise WeightsError(
                f"no member of {self.spec.name} could score: {'; '.join(failed.values())}",
                remedy="Run `faceproof doctor`.",
            )
        lead = self.voices[0]
        if lead.detector.spec.output.heatmap is None or not len(crops) or lead.name in failed:
            return scores, None
        return scores, lead.detector.score_with_heat([c[0] if isinstance(c, tuple) else c for c in crops])[1]

    def logits(self, crops: Sequence[Any]) -> FloatArray:
        raise OptionError("an ensemble has no logits of its own", remedy="Ask its members.")


def as_detector(spec: EnsembleSpec, specs: Sequence[DetectorSpec]) -> DetectorSpec:
    """The ensemble as the rest of Faceproof sees a detector: the lead member's crop and input, the ensemble's rules.

    ``specs`` are those of the members that can score, in order, at least one.
    """
    lead = specs[0]
    media = tuple(kind for kind in ("image", "video") if any(kind in one.media for one in specs))
    faces = (spec.faces or lead.faces).model_copy(update={"margin": lead.faces.margin})
    licence = Licence(
        weights=" and ".join(sorted({one.licence.weights for one in specs})),
        code=" and ".join(sorted({one.licence.code for one in specs})),
        commercial=all(one.licence.commercial for one in specs),
        origin=" and ".join(sorted({one.licence.origin for one in specs})),
    )
    hashes = "\n".join(one.weights.sha256 or "" for one in specs)
    return lead.model_copy(
        update={
            "name": spec.name,
            "version": spec.version,
            "summary": spec.summary,
            "media": media,
            "licence": licence,
            "weights": Weights(sha256=hashlib.sha256(hashes.encode()).hexdigest()),
            "frames": spec.frames or lead.frames,
            "faces": faces,
            "verdict": spec.verdict,
            "calibration": spec.calibration,
            "golden": (),
            "profile_of": None,
        }
    )


def load_ensemble(
    spec: EnsembleSpec,
    *,
    device: str = "auto",
    precision: Precision = "auto",
    runtime: Runtime = "auto",
    threads: int | None = None,
) -> Ensemble:
    """Load the members of an ensemble, each detector once. Those without weights are left out and named in the report.

    Raises :class:`UnknownDetectorError` for a member that is not installed and cannot be pulled, and what
    :class:`Ensemble` raises.
    """
    from faceproof.detectors.detector import load_detector

    loaded: dict[str, Detector] = {}
    absent: dict[str, str] = {}
    for name in dict.fromkeys(member.detector for member in spec.members):
        if find_ensemble(name) is not None:
            raise SpecError(f"{spec.name}: the member {name} is an ensemble itself", remedy="Name its members instead.")
        try:
            loaded[name] = load_detector(name, device=device, precision=precision, runtime=runtime, threads=threads)
        except UnknownDetectorError:
            member = next(member for member in spec.members if member.detector == name)
            if member.checkpoint is None:
                raise
            absent[name] = f"not installed; run `faceproof detectors pull {spec.name}`"
        except FaceproofError as error:
            absent[name] = error.message
    voices = [Voice(member, loaded[member.detector]) for member in spec.members if member.detector in loaded]
    missing = {member.name: absent[member.detector] for member in spec.members if member.detector in absent}
    return Ensemble(spec, voices, missing)
