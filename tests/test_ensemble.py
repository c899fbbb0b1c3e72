"""Ensembles end to end: one pass over the file, each member by its own recipe, failures named, polarity made right."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

import faceproof
from faceproof import stages
from faceproof.detectors import ensemble as ensembles
from faceproof.detectors.detector import Crop, Detector, FloatArray, load_detector
from faceproof.detectors.ensemble import (
    Ensemble,
    EnsembleMember,
    EnsembleSpec,
    Voice,
    fingerprint,
    load_ensemble,
    parse_ensemble,
)
from faceproof.detectors.spec import Aggregate, BandPoint, Margin, Method, QualityBands, VerdictRule
from faceproof.errors import NetworkError, SpecError, UnknownDetectorError, WeightsError
from faceproof.faces import FaceDetector
from faceproof.results import Reason, Verdict
from faceproof.runtime import FakeNetwork

from .toy_detector import write_toy_detector


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Three toys: ``bright`` calls bright faces fake, ``dark`` is the same with the opposite polarity, ``other`` another
    size of crop."""
    home = tmp_path_factory.mktemp("home")
    write_toy_detector(home, name="bright")
    write_toy_detector(home, name="dark", fake_is="low")
    write_toy_detector(home, name="wide", pivot=0.4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACEPROOF_HOME", str(home))
        yield home


@pytest.fixture(scope="module")
def bright(home: Path) -> Detector:
    return load_detector("bright", precision="fp32")


def changed(detector: Detector, **parts: object) -> Detector:
    return Detector(detector.spec.model_copy(update=parts), detector.network)


class Broken(Detector):
    """A member whose engine fails after ``good`` batches."""

    def __init__(self, like: Detector, good: int = 0) -> None:
        super().__init__(like.spec.model_copy(update={"name": "broken"}), like.network)
        self.good = good

    def score(self, crops: Sequence[Crop]) -> FloatArray:
        self.good -= 1
        if self.good < 0:
            raise NetworkError("the engine is on fire")
        return super().score(crops)


def joint(*detectors: Detector, **settings: object) -> Ensemble:
    weights = settings.pop("weights", [1.0] * len(detectors))
    members = [EnsembleMember(detector=f"{d.spec.name}", weight=w) for d, w in zip(detectors, weights, strict=True)]
    spec = EnsembleSpec(schema_version=1, name="joint", members=tuple(members), **settings)
    return Ensemble(spec, [Voice(m, d) for m, d in zip(members, detectors, strict=True)])


def named(detector: Detector, name: str, **parts: object) -> Detector:
    return changed(detector, name=name, **parts)


def test_one_pass_for_all_members(bright: Detector, clip_mp4: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[object] = []
    decoded: list[object] = []
    detect, read = FaceDetector.detect, stages.read_frames
    monkeypatch.setattr(
        FaceDetector,
        "detect",
        lambda self, image, **how: looked.append(1) or detect(self, image, **how),  # type: ignore[func-returns-value]
    )
    monkeypatch.setattr(stages, "read_frames", lambda *a, **k: decoded.append(1) or read(*a, **k))  # type: ignore[func-returns-value]
    wide = named(bright, "wide", faces=bright.spec.faces.model_copy(update={"margin": Margin(kind="thirds")}))
    report = faceproof.scan(clip_mp4, detector=joint(bright, wide, named(bright, "third")), frames="8")
    assert len(looked) == 8
    assert len(decoded) == 1
    assert report.ensemble is not None
    assert [m.name for m in report.ensemble.members] == ["bright", "wide", "third"]


def test_members_score_as_they_do_alone(bright: Detector, clip_mp4: Path) -> None:
    """Different crops, inputs and aggregation: what a member says in the ensemble is what it says alone."""
    wide = named(
        bright,
        "wide",
        faces=bright.spec.faces.model_copy(update={"margin": Margin(kind="thirds")}),
        input=bright.spec.input.model_copy(update={"resize": "isotropic"}),
        aggregate=Aggregate(track=Method(method="max")),
    )
    alone = [faceproof.scan(clip_mp4, detector=d, frames="8").score for d in (bright, wide)]
    report = faceproof.scan(clip_mp4, detector=joint(bright, wide, weights=[3, 1]), frames="8")
    assert report.ensemble is not None
    assert [m.score for m in report.ensemble.members] == pytest.approx(alone)
    assert alone[0] != pytest.approx(alone[1], abs=1e-4)
    assert report.score == pytest.approx((3 * alone[0] + alone[1]) / 4)  # type: ignore[operator]
    assert report.ensemble.uncertainty is not None
    assert report.ensemble.uncertainty.std > 0


def test_opposite_polarity_is_made_right_by_the_specs(home: Path, clip_mp4: Path) -> None:
    """``dark`` means the same faces with the sign turned: its raw numbers disagree, its P(fake) must not be mixed up."""
    bright, dark = load_detector("bright", precision="fp32"), load_detector("dark", precision="fp32")
    one = faceproof.scan(clip_mp4, detector=bright, frames="4").score
    report = faceproof.scan(clip_mp4, detector=joint(bright, dark), frames="4")
    assert report.ensemble is not None
    scores = [m.score for m in report.ensemble.members]
    assert one is not None
    assert scores == pytest.approx([one, 1 - one], abs=1e-6)
    # A network whose author meant "high is real", with weights turned accordingly, agrees with the first one.
    turned = Detector(dark.spec, FakeNetwork(lambda b: -20 * (b.mean(axis=(1, 2, 3)) - 0.5)))
    agreed = faceproof.scan(clip_mp4, detector=joint(bright, turned), frames="4")
    assert agreed.score == pytest.approx(one, abs=1e-5)
    assert agreed.ensemble is not None
    assert agreed.ensemble.uncertainty is not None
    assert agreed.ensemble.uncertainty.std == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("good", [0, 1])
def test_a_member_that_fails_is_named_and_left_out_not_counted_as_real(
    bright: Detector, clip_mp4: Path, good: int
) -> None:
    alone = faceproof.scan(clip_mp4, detector=bright, frames="16")
    report = faceproof.scan(clip_mp4, detector=joint(bright, Broken(bright, good)), frames="16")
    assert report.score == pytest.approx(alone.score)
    assert report.verdict is alone.verdict
    assert report.metrics.average_face_score == pytest.approx(alone.metrics.average_face_score)
    assert report.ensemble is not None
    failed = report.ensemble.members[1]
    assert (failed.score, failed.error) == (None, "the engine is on fire")


def test_nobody_left_is_an_error(bright: Detector, clip_mp4: Path) -> None:
    with pytest.raises(NetworkError, match="on fire"):
        faceproof.scan(clip_mp4, detector=joint(Broken(bright)), frames="4")
    with pytest.raises(NetworkError, match="only 1"):
        faceproof.scan(clip_mp4, detector=joint(bright, Broken(bright), min_members=2), frames="4")


def test_a_member_that_abstains_is_left_out(bright: Detector, clip_mp4: Path) -> None:
    strict = named(bright, "strict", verdict=VerdictRule(min_side=5000))
    alone = faceproof.scan(clip_mp4, detector=bright, frames="4")
    report = faceproof.scan(clip_mp4, detector=joint(bright, strict), frames="4")
    assert report.score == pytest.approx(alone.score)
    assert report.ensemble is not None
    assert report.ensemble.members[1].reason is Reason.FACES_TOO_SMALL
    nobody = faceproof.scan(clip_mp4, detector=joint(strict), frames="4")
    assert (nobody.verdict, nobody.score) == (Verdict.NOT_ASSESSED, None)


def test_no_face_is_no_opinion_whatever_a_member_publishes(bright: Detector, clip_noface_mp4: Path) -> None:
    sure = named(bright, "sure", verdict=VerdictRule(no_face="real_0.99"))
    for file in ("worst_track", "members"):
        report = faceproof.scan(clip_noface_mp4, detector=joint(bright, sure, file=file), frames="4")
        assert (report.verdict, report.reason, report.score) == (Verdict.NOT_ASSESSED, Reason.NO_FACE, None)


def test_disagreement_can_make_it_inconclusive(bright: Detector, clip_mp4: Path) -> None:
    dim = Detector(bright.spec.model_copy(update={"name": "dim"}), FakeNetwork(lambda b: np.full(len(b), -4.0)))
    split = joint(bright, dim, max_disagreement=0.4)
    report = faceproof.scan(clip_mp4, detector=split, frames="4")
    assert (report.verdict, report.reason) == (Verdict.INCONCLUSIVE, Reason.MEMBERS_DISAGREE)
    tie = faceproof.scan(clip_mp4, detector=joint(bright, dim, method="majority_voting"), frames="4")
    assert (tie.verdict, tie.reason, tie.score) == (Verdict.INCONCLUSIVE, Reason.MEMBERS_DISAGREE, 0.5)


def test_a_majority_votes_with_each_members_own_threshold(bright: Detector, clip_mp4: Path) -> None:
    score = faceproof.scan(clip_mp4, detector=bright, frames="4").score
    assert score is not None
    assert score > 0.5
    careful = named(bright, "careful", verdict=VerdictRule(threshold=0.99, frame_threshold=0.99))
    third = named(bright, "third", verdict=VerdictRule(threshold=0.99))
    report = faceproof.scan(clip_mp4, detector=joint(bright, careful, third, method="majority_voting"), frames="4")
    assert report.score == pytest.approx(1 / 3)


@pytest.mark.parametrize("file", ["worst_track", "members"])
def test_bands_by_quality_are_the_ensembles_own(bright: Detector, clip_mp4: Path, file: str) -> None:
    points = (BandPoint(at=8, low=0.4, high=0.5), BandPoint(at=4, low=0.0, high=1.0))
    bands = QualityBands(false_alarms=0.01, misses=0.1, faces=points)
    rule = VerdictRule(threshold=0.5, band=(0.4, 0.5), quality=bands)
    careful = joint(bright, named(bright, "twin"), verdict=rule, file=file)
    few, many = (faceproof.scan(clip_mp4, detector=careful, frames=count) for count in ("4", "8"))
    assert many.score == pytest.approx(few.score, abs=0.05)
    assert (few.verdict, few.reason) == (Verdict.INCONCLUSIVE, Reason.INSIDE_BAND)
    assert few.band is not None
    assert few.band.widened_by == {"faces": 4}
    assert many.verdict is Verdict.FAKE
    assert many.tracks[0].band == many.band
    assert many.band is not None
    assert not many.band.widened_by
    # A member is judged by its own rule, which has no such table.
    assert few.ensemble is not None
    assert few.ensemble.members[0].verdict is Verdict.FAKE


def test_augmentation_is_an_ensemble_of_one(home: Path, astronaut_png: Path) -> None:
    views = tuple(EnsembleMember(detector="bright", view=view) for view in ("plain", "flip", "zoom", "zoom_flip"))
    ensemble = load_ensemble(EnsembleSpec(schema_version=1, name="tta", members=views, method="mean"), precision="fp32")
    assert len({id(voice.detector) for voice in ensemble.voices}) == 1
    report = faceproof.scan(astronaut_png, detector=ensemble)
    assert report.ensemble is not None
    scores = {m.name: m.score for m in report.ensemble.members}
    assert scores["bright"] == pytest.approx(scores["bright/flip"], abs=1e-4)  # brightness knows no left and right
    assert scores["bright"] != pytest.approx(scores["bright/zoom"], abs=1e-6)
    assert report.score == pytest.approx(np.mean([s for s in scores.values() if s is not None]))


def test_the_files_score_as_the_members_publish_it(bright: Detector, clip_two_people_mp4: Path) -> None:
    alone = faceproof.scan(clip_two_people_mp4, detector=bright, frames="6")
    whole = bright.spec.aggregate.model_copy(update={"file": bright.spec.aggregate.track})
    pooled = named(bright, "pooled", aggregate=whole)
    report = faceproof.scan(clip_two_people_mp4, detector=joint(pooled, file="members"), frames="6")
    assert report.score == pytest.approx(faceproof.scan(clip_two_people_mp4, detector=pooled, frames="6").score)
    assert [t.score for t in report.tracks] == pytest.approx([t.score for t in alone.tracks])


TOML = """
schema_version = 1
name = "pair"
summary = "Both toys"
method = "attention_fusion"
numbers = { temperature = 0.5 }
[[members]]
detector = "bright"
weight = 2
[[members]]
detector = "wide"
"""


def test_an_installed_ensemble_is_used_like_a_detector(home: Path, clip_mp4: Path) -> None:
    folder = home / "ensembles"
    folder.mkdir(exist_ok=True)
    (folder / "pair.toml").write_text(TOML)
    report = faceproof.scan(clip_mp4, detector="pair", frames="4", precision="fp32")
    assert report.detector.name == "pair"
    assert report.ensemble is not None
    assert [m.weight for m in report.ensemble.members] == [2, 1]
    assert len(fingerprint("pair")) == 64
    assert fingerprint("pair") != fingerprint("bright")
    with pytest.raises(UnknownDetectorError):
        fingerprint("nobody")
    with pytest.raises(SpecError, match="ensemble itself"):
        load_ensemble(EnsembleSpec(schema_version=1, name="nested", members=(EnsembleMember(detector="pair"),)))


def test_members_without_weights_are_named(home: Path, astronaut_png: Path) -> None:
    empty = write_toy_detector(home, name="empty")
    (empty / "toy.onnx").unlink()
    members = (EnsembleMember(detector="bright"), EnsembleMember(detector="empty"))
    ensemble = load_ensemble(EnsembleSpec(schema_version=1, name="half", members=members), precision="fp32")
    report = faceproof.scan(astronaut_png, detector=ensemble)
    assert report.ensemble is not None
    assert report.ensemble.members[1].error is not None
    assert "missing" in report.ensemble.members[1].error
    with pytest.raises(WeightsError):
        load_ensemble(EnsembleSpec(schema_version=1, name="none", members=members[1:]))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("weight = 2", "weight = -1", "members.0.weight"),
        ("weight = 2", "wait = 2", "unknown key"),
        ('"attention_fusion"', '"guessing"', "method"),
        ("temperature = 0.5", "temperature = 0", "temperature"),
        ("temperature = 0.5", "heat = 1", "takes no heat"),
        ('detector = "wide"', 'detector = "bright"', "same detector"),
        ('"attention_fusion"\nnumbers = { temperature = 0.5 }', '"stacked"', "stacked"),
        ("schema_version = 1", "schema_version = 1\nmin_members = 3", "min_members"),
    ],
)
def test_wrong_ensembles_are_named(old: str, new: str, words: str) -> None:
    assert old in TOML
    with pytest.raises(SpecError, match=words):
        parse_ensemble(TOML.replace(old, new))


def test_weights_that_add_up_to_zero_are_refused() -> None:
    with pytest.raises(SpecError, match="add up to zero"):
        parse_ensemble(TOML.replace("weight = 2", "weight = 0").replace('"wide"', '"wide"\nweight = 0'))


def test_crops_with_the_same_margin_share_pixels(bright: Detector, astronaut: np.ndarray) -> None:
    wide = named(bright, "wide", faces=bright.spec.faces.model_copy(update={"margin": Margin(kind="thirds")}))
    crops = joint(bright, named(bright, "again"), wide).cut(astronaut, (180.0, 60.0, 270.0, 190.0))
    assert crops[0] is crops[1]
    assert crops[2].shape != crops[0].shape


def test_heatmaps_come_from_the_lead(bright: Detector, astronaut: np.ndarray) -> None:
    ensemble = joint(bright, named(bright, "again"))
    scores, heat = ensemble.score_with_heat([astronaut[60:190, 180:270]])
    assert scores.shape == (1,)
    assert heat is not None
    assert ensembles.VIEWS["flip"](astronaut)[0, 0].tolist() == astronaut[0, -1].tolist()
