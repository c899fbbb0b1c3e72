"""Bands chosen from people: promises kept on people not fitted to, for stills and for clips, and where they are written."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from faceproof.detectors.calibration import calibrate
from faceproof.detectors.quality import Quality, band_at
from faceproof.detectors.spec import Method, VerdictRule, parse_spec
from faceproof.detectors.verdict import judge_score
from faceproof.errors import EvaluationError
from faceproof.evaluation.calibrate import store
from faceproof.evaluation.choosing import Chosen, Person, Rates, choose, pool
from faceproof.results import Verdict

MEAN = Method(method="mean")


def crowd(seed: int, size: int, *, faces: int = 8, apart: float = 4.0, blur: float = 0.0) -> list[Person]:
    """``size`` sources, each a genuine and a forged person. Half of the scatter is the person's, half each face's;
    with ``blur`` small faces scatter more."""
    generator = np.random.default_rng(seed)
    people = []
    for number in range(size):
        side = float(np.exp(generator.uniform(np.log(48), np.log(256))))
        noise = 1 + blur * np.log(256 / side)
        for label in (0, 1):
            logit = apart * (label - 0.5) + noise * (generator.normal() + generator.normal(size=faces))
            quality = Quality(side, 100 * float(np.exp(generator.normal())), faces=faces)
            people.append(Person(f"{number}.{label}", label, f"s{number}", 1 / (1 + np.exp(-logit)), quality))
    return people


def chosen(people: list[Person], *, check: bool = False, **rates: float) -> Chosen:
    rule = VerdictRule(min_side=48)
    return choose(people, rule, MEAN, Rates(**rates), data="made", command="faceproof calibrate", check=check)


def verdicts(people: list[Person], found: Chosen, faces: int) -> dict[int, list[Verdict]]:
    seen: dict[int, list[Verdict]] = {0: [], 1: []}
    for person in people:
        score = calibrate(pool(person.p[:faces], MEAN), found.calibration)
        quality = Quality(person.quality.face_side, person.quality.sharpness, faces=faces)
        seen[person.label].append(judge_score(score, found.rule, quality).verdict)
    return seen


def share(seen: list[Verdict], verdict: Verdict) -> float:
    return float(np.mean([one is verdict for one in seen]))


@pytest.mark.parametrize("faces", [1, 2, 8, 32])
def test_the_promise_holds_for_stills_and_for_clips_of_new_people(faces: int) -> None:
    alarms, misses, sets = 0.0, 0.0, 6
    for seed in range(sets):
        found = chosen(crowd(seed, 400), false_alarms=0.02, misses=0.1)
        fresh = verdicts(crowd(100 + seed, 400, faces=max(8, faces)), found, faces)
        alarms += share(fresh[0], Verdict.FAKE) / sets
        misses += share(fresh[1], Verdict.REAL) / sets
    error = 3 * np.sqrt(0.02 / (400 * sets)) * 2
    assert alarms <= 0.02 + error
    assert misses <= 0.1 + 3 * error


def test_a_still_gets_a_wider_band_than_a_clip_and_a_small_face_than_a_large_one() -> None:
    found = chosen(crowd(0, 1000, blur=1.0), false_alarms=0.05, misses=0.1)
    quality = found.rule.quality
    assert quality is not None
    assert [point.at for point in quality.faces] == [8, 4, 2, 1]
    assert quality.faces[-1].high > quality.faces[0].high
    assert quality.faces[-1].low < quality.faces[0].low
    assert quality.face_side[-1].high > quality.face_side[0].high + 0.01
    assert not quality.bits_per_pixel
    assert any("no band by bits per pixel" in warning for warning in found.warnings)


def test_an_axis_that_makes_no_difference_is_left_out() -> None:
    """Bounds of small groups are noisy: widening by them would cost verdicts and mend nothing."""
    kept = [chosen(crowd(seed, 400), false_alarms=0.02, misses=0.1).rule.quality for seed in range(8)]
    assert sum(bool(quality is not None and quality.sharpness) for quality in kept) <= 4


def test_what_the_best_material_needs_is_everybodys_and_not_called_bad_quality() -> None:
    """Here large faces scatter more than small ones."""
    people = crowd(0, 1000, blur=1.0)
    turned = [replace(one, quality=replace(one.quality, face_side=12_000 / one.quality.face_side)) for one in people]
    rule = chosen(turned, false_alarms=0.05, misses=0.1).rule
    for side in (60.0, 250.0):
        assert not band_at(rule, Quality(side, 100.0, faces=8)).widened_by
    assert rule.quality is None or not rule.quality.face_side


def test_kept_promises_are_measured_on_people_not_fitted_to() -> None:
    found = chosen(crowd(0, 500), check=True, false_alarms=0.02, misses=0.1)
    stills, clips = found.kept
    assert (stills.what, clips.what) == ("stills", "clips")
    assert stills.reals == stills.fakes == clips.reals == 500
    assert stills.false_alarm_rate <= 0.03
    assert clips.inconclusive_reals < stills.inconclusive_reals


def test_the_frame_threshold_is_that_of_single_genuine_faces() -> None:
    people = crowd(0, 500)
    found = chosen(people, frame_alarms=0.05)
    fresh = np.array([person.p[0] for person in crowd(1, 2000) if person.label == 0])
    assert np.mean(fresh > found.rule.frame_threshold) == pytest.approx(0.05, abs=0.02)


def test_what_the_rule_was_before_stays_but_for_what_was_chosen() -> None:
    before = VerdictRule(min_side=48, min_faces=3, no_face="half")
    found = choose(crowd(0, 200), before, MEAN, Rates(0.02, 0.1), data="made", command="x").rule
    assert (found.min_side, found.min_faces, found.no_face) == (48, 3, "half")
    assert found.fitted is not None
    assert (found.fitted.reals, found.fitted.fakes, found.fitted.false_alarms, found.fitted.command) == (
        200,
        200,
        0.02,
        "x",
    )


def test_the_hash_follows_the_scores() -> None:
    one, same, other = (chosen(crowd(seed, 120), false_alarms=0.02) for seed in (0, 0, 1))
    assert one.rule == same.rule
    assert one.rule.fitted is not None
    assert other.rule.fitted is not None
    assert one.rule.fitted.data_sha256 == one.calibration.data_sha256 != other.rule.fitted.data_sha256


def test_stills_alone_have_no_axis_of_faces() -> None:
    found = chosen(crowd(0, 400, faces=1, blur=0.8), check=True, false_alarms=0.02, misses=0.1)
    assert found.rule.quality is not None
    assert not found.rule.quality.faces
    assert [kept.what for kept in found.kept] == ["stills"]


def test_too_few_people_are_named_and_the_band_reaches_the_end() -> None:
    found = chosen(crowd(0, 30), false_alarms=0.01, misses=0.2)
    assert found.rule.band is not None
    assert found.rule.band[1] == 1
    assert any("30 real sources cannot carry a promise of 0.01" in warning for warning in found.warnings)


def test_one_class_and_turned_scores_are_refused() -> None:
    people = crowd(0, 50)
    with pytest.raises(EvaluationError, match="scored fakes and scored reals"):
        chosen([person for person in people if person.label == 0])
    with pytest.raises(EvaluationError, match="turn the scores round"):
        chosen(crowd(0, 200, apart=-4))


SPEC = """schema_version = 1
name = "made"
version = "1.0"
summary = "x"
[licence]
weights = "MIT"
code = "MIT"
commercial = true
origin = "here"
[verdict]
min_side = 48
# the house rule
frame_threshold = 0.7
no_face = "half"

[input]
size = 64
[output]
fake_is = "high"
"""


def test_the_spec_holds_what_was_chosen_and_can_be_chosen_again() -> None:
    found = choose(
        crowd(0, 400), parse_spec(SPEC).verdict, MEAN, Rates(), data='a "set"', command="faceproof calibrate"
    )
    text = store(SPEC, found.calibration, found.rule)
    spec = parse_spec(text)
    assert spec.verdict == found.rule
    assert spec.calibration == found.calibration
    assert "# the house rule" in text
    assert store(text, found.calibration, found.rule) == text
    plain = found.rule.model_copy(update={"quality": None, "fitted": None})
    assert parse_spec(store(text, found.calibration, plain)).verdict == plain
