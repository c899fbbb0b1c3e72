"""The laws of bands by quality: only ever wider, never narrower as the material gets worse."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceproof.detectors.quality import AXES, Quality, band_at, bits_per_pixel
from faceproof.detectors.spec import BandPoint, QualityBands, VerdictRule, parse_spec, spec_sha256
from faceproof.detectors.spec_text import spec_to_toml
from faceproof.detectors.verdict import judge_score
from faceproof.errors import SpecError
from faceproof.results import MediaFacts, Verdict
from faceproof.wording import wider_band
from tests.detectors.test_spec import MINIMAL

unit = st.floats(0, 1)
measured = st.floats(0.001, 5000)


@st.composite
def axes(draw: st.DrawFn) -> tuple[BandPoint, ...]:
    """Points that widen, best first."""
    size = draw(st.integers(0, 4))
    at = sorted(draw(st.lists(measured, min_size=size, max_size=size, unique=True)), reverse=True)
    lows = sorted(draw(st.lists(st.floats(0, 0.5), min_size=size, max_size=size)), reverse=True)
    highs = sorted(draw(st.lists(st.floats(0.5, 1), min_size=size, max_size=size)))
    return tuple(BandPoint(at=a, low=b, high=c) for a, b, c in zip(at, lows, highs, strict=True))


@st.composite
def rules(draw: st.DrawFn) -> VerdictRule:
    found = {axis: draw(axes()) for axis in AXES}
    low, high = draw(st.floats(0, 0.5)), draw(st.floats(0.5, 1))
    for axis, points in found.items():
        if points:  # the best may not be wider than the band
            best = points[0].model_copy(update={"low": max(low, points[0].low), "high": min(high, points[0].high)})
            found[axis] = (best, *points[1:])
    bands = QualityBands(false_alarms=0.01, misses=0.2, **found) if any(found.values()) else None
    return VerdictRule(threshold=0.5, band=(low, high), quality=bands)


qualities = st.builds(Quality, measured, measured, measured, st.integers(1, 400))


@given(rule=rules(), quality=qualities, share=st.floats(0.01, 1), axis=st.sampled_from(AXES))
def test_worse_material_never_narrows_the_band(rule: VerdictRule, quality: Quality, share: float, axis: str) -> None:
    better = band_at(rule, quality)
    worse = band_at(rule, Quality(**{**vars(quality), axis: getattr(quality, axis) * share}))
    assert worse.low <= better.low
    assert worse.high >= better.high


@given(rule=rules(), quality=qualities, score=unit)
def test_a_verdict_by_quality_is_the_plain_one_or_none(rule: VerdictRule, quality: Quality, score: float) -> None:
    """No band by quality turns FAKE into REAL, or gives a verdict where good material would get none."""
    plain = judge_score(score, rule.model_copy(update={"quality": None}))
    careful = judge_score(score, rule, quality)
    assert careful.verdict in (plain.verdict, Verdict.INCONCLUSIVE)
    assert careful.score == plain.score


@given(rule=rules(), quality=qualities)
def test_what_widened_the_band_is_named_and_what_did_not_is_not(rule: VerdictRule, quality: Quality) -> None:
    applied = band_at(rule, quality)
    assert bool(applied.widened_by) == ((applied.low, applied.high) != rule.band)
    for axis, value in applied.widened_by.items():
        assert value == getattr(quality, axis)
        alone = Quality(**{axis: value})
        assert applied.low == band_at(rule, alone).low or applied.high == band_at(rule, alone).high


@given(rule=rules(), score=unit)
def test_nothing_measured_widens_nothing(rule: VerdictRule, score: float) -> None:
    assert (
        judge_score(score, rule, Quality()).verdict
        is judge_score(score, rule.model_copy(update={"quality": None})).verdict
    )


def bands(**found: object) -> VerdictRule:
    return VerdictRule(band=(0.4, 0.6), quality=QualityBands(false_alarms=0.01, misses=0.2, **found))  # type: ignore[arg-type]


def point(at: float, low: float, high: float) -> BandPoint:
    return BandPoint(at=at, low=low, high=high)


def test_half_way_in_the_logarithm_is_half_way_in_the_band() -> None:
    rule = bands(face_side=(point(160, 0.4, 0.6), point(40, 0.2, 0.8)))
    assert band_at(rule, Quality(face_side=80)).low == pytest.approx(0.3)
    assert band_at(rule, Quality(face_side=80)).high == pytest.approx(0.7)
    assert band_at(rule, Quality(face_side=8)).high == 0.8
    assert band_at(rule, Quality(face_side=1000)).high == 0.6


TABLE = """
[verdict]
threshold = 0.5
band = [0.4, 0.6]
[verdict.quality]
false_alarms = 0.01
misses = 0.2
face_side = [{ at = 160.0, low = 0.4, high = 0.6 }, { at = 50.0, low = 0.3, high = 0.9 }]
faces = [{ at = 8, low = 0.4, high = 0.6 }, { at = 1, low = 0.4, high = 0.8 }]
"""


def test_the_table_is_read_and_written_and_hashed() -> None:
    plain, spec = parse_spec(MINIMAL), parse_spec(MINIMAL + TABLE)
    assert spec.verdict.quality is not None
    assert parse_spec(spec_to_toml(spec)) == spec
    assert spec_sha256(spec) != spec_sha256(plain)
    same = plain.model_copy(update={"verdict": spec.verdict.model_copy(update={"quality": None})})
    assert spec_sha256(same) != spec_sha256(spec)


def test_the_hash_of_a_record_without_the_table_is_what_it_was() -> None:
    """Packages, evidence and stored reports hold the hash of records from before the table."""
    assert spec_sha256(parse_spec(MINIMAL)) == "9b8aac06ac1cd38670f343d690b58286756a03b460dabad9cb178a38ec193052"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("at = 50.0, low = 0.3", "at = 50.0, low = 0.45", "face_side narrows from 160 to 50"),
        ("low = 0.3, high = 0.9", "low = 0.3, high = 0.55", "face_side narrows from 160 to 50"),
        ("at = 50.0", "at = 170.0", "from the best quality to the worst"),
        ("at = 50.0", "at = 0.0", "greater than 0"),
        ("low = 0.3, high = 0.9", "low = 0.95, high = 0.9", "low is above high"),
        ("false_alarms = 0.01", "false_alarms = 0.0", "false_alarms"),
        (
            "low = 0.4, high = 0.6 }, {",
            "low = 0.4, high = 0.7 }, {",
            "face_side is wider at its best .0.4 to 0.7. than",
        ),
        ("at = 8, low = 0.4, high = 0.6", "at = 8, low = 0.4, high = 0.7", "faces is wider at its best"),
        ("band = [0.4, 0.6]", "", "than the band .0.5 to 0.5."),
        ("face_side", "face_size", "verdict.quality.face_size: unknown key"),
    ],
)
def test_a_table_that_narrows_or_makes_no_sense_is_refused(old: str, new: str, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        parse_spec(MINIMAL + TABLE.replace(old, new, 1))


def test_a_table_without_an_axis_is_refused() -> None:
    with pytest.raises(SpecError, match="name at least one axis"):
        parse_spec(MINIMAL + TABLE[: TABLE.index("face_side")])


def test_bits_per_pixel_of_pictures_and_clips() -> None:
    facts = {"path": "x", "sha256": "0", "width": 100, "height": 50, "size_bytes": 1250}
    assert bits_per_pixel(MediaFacts(kind="image", **facts)) == 2
    clip = MediaFacts(kind="video", fps=str(Fraction(30000, 1001)), bit_rate=30_000, **facts)
    assert bits_per_pixel(clip) == pytest.approx(30_000 / 5000 / (30000 / 1001))
    assert bits_per_pixel(MediaFacts(kind="video", **facts)) != bits_per_pixel(clip)


def test_the_reason_is_told_in_plain_words() -> None:
    rule = bands(face_side=(point(160, 0.4, 0.6), point(40, 0.2, 0.8)), faces=(point(8, 0.5, 0.5), point(1, 0.2, 0.8)))
    told = wider_band(band_at(rule, Quality(face_side=40, faces=1)))
    assert told == (
        "No verdict is given here for scores between 0.20 and 0.80, a wider range than on good material, because the face "
        "is only 40 pixels wide and there is only one picture of the face."
    )
