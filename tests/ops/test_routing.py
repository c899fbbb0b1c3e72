"""Routing is a pure function of name and key, shares are met, shadows change nothing, guardrails stop bad arms."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import stats

from faceproof.errors import NetworkError, OptionError
from faceproof.ops.comparison import compare_arms, difference, guard, values_of, wilson
from faceproof.ops.routing import Arm, Experiment, Guardrails, fraction, run
from faceproof.ops.trials import Trial, TrialStore
from faceproof.results import FailedInput, Report, Verdict

from .made_reports import made_report


def experiment(share: float = 0.3, kind: str = "ab", **more: object) -> Experiment:
    arms = [Arm(name="old", detector="toy", share=1 - share), Arm(name="new", detector="toy-2", share=share)]
    return Experiment(name="trial", kind=kind, arms=tuple(arms), **more)  # type: ignore[arg-type]


def test_a_key_always_meets_the_same_arm_whatever_process() -> None:
    assert fraction("trial", "abc") == pytest.approx(0.20428366590304858)  # fixed for ever: routing must never move
    assert {experiment().route("abc").name for _ in range(10)} == {experiment().route("abc").name}


def test_shares_are_met() -> None:
    counts = Counter(experiment().route(f"{i}").name for i in range(10_000))
    assert stats.binomtest(counts["new"], 10_000, 0.3).pvalue > 1e-4


@given(st.floats(0, 1), st.floats(0, 1), st.text(max_size=8))
def test_growing_a_share_takes_nobody_out_of_the_arm(a: float, b: float, key: str) -> None:
    small, large = sorted((a, b))
    if experiment(small).route(key).name == "new":
        assert experiment(large).route(key).name == "new"


@given(st.text(max_size=8))
def test_stopping_an_arm_moves_only_its_own_keys(key: str) -> None:
    three = Experiment(
        name="trial",
        arms=(
            Arm(name="old", detector="a", share=0.4),
            Arm(name="new", detector="b", share=0.3),
            Arm(name="newer", detector="c", share=0.3),
        ),
    )
    before, after = three.route(key).name, three.without("new", "slow").route(key).name
    assert after == ("old" if before == "new" else before)


def test_experiments_are_independent_of_each_other() -> None:
    a = [fraction("one", f"{i}") < 0.5 for i in range(4000)]
    b = [fraction("two", f"{i}") < 0.5 for i in range(4000)]
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.06


def test_a_shadow_never_changes_the_answer(tmp_path: Path) -> None:
    trials = TrialStore(tmp_path / "t.db")
    shadowed = experiment(1.0, "shadow")
    answer = made_report("a", 0.1)

    def score(detector: str) -> Report | FailedInput:
        if detector == "toy":
            return answer
        raise NetworkError("broken") if len(trials.of("trial")) < 2 else RuntimeError("worse")

    for _ in range(2):
        assert run(shadowed, "k", score, trials) is answer
    assert [(t.arm, t.failed) for t in trials.of("trial")] == [("old", False), ("new", True)] * 2


def test_an_ab_test_runs_one_arm(tmp_path: Path) -> None:
    trials = TrialStore(tmp_path / "t.db")
    asked: list[str] = []

    def score(detector: str) -> Report:
        asked.append(detector)
        return made_report("a", 0.9)

    run(experiment(1.0), "k", score, trials)
    assert asked == ["toy-2"]
    (trial,) = trials.of("trial", "new")
    assert (trial.fake, trial.failed, trial.score) == (True, False, 0.9)
    assert trials.of("trial", "old") == []


def test_the_answering_arm_may_fail_loudly(tmp_path: Path) -> None:
    def score(_: str) -> Report:
        raise NetworkError("broken")

    with pytest.raises(NetworkError):
        run(experiment(), "k", score, TrialStore(tmp_path / "t.db"))


def trial(arm: str, key: str, *, fake: bool | None = False, failed: bool = False, seconds: float = 1.0) -> Trial:
    return Trial("trial", arm, key, key, None if fake is None else float(fake), fake, failed, seconds, 0.0)


def test_newcombe_worked_case() -> None:
    """Newcombe 1998, table II, case (a): 56/70 less 48/80 is .2 with interval .0524 to .3339."""
    sides = [{f"{i}": np.asarray([float(i < hits)]) for i in range(of)} for hits, of in ((48, 80), (56, 70))]
    gap = difference(*sides, metric="error_rate")
    assert (gap.difference, gap.low, gap.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)
    assert gap.shown


def test_wilson_worked_case() -> None:
    """Newcombe 1998: 81 of 263 is .2553 to .3662."""
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_needed_sample_is_the_textbook_formula() -> None:
    sides = [{f"{i}": np.asarray([float(i % 2)]) for i in range(100)} for _ in range(2)]
    gap = difference(*sides, metric="error_rate", worth=0.1)
    assert gap.needed == pytest.approx(2 * 0.25 * (1.96 + 0.8416) ** 2 / 0.1**2, rel=0.02)


def test_a_customer_of_a_thousand_files_counts_once() -> None:
    rng = np.random.default_rng(0)

    def side(keys: int) -> dict[str, np.ndarray]:
        return {f"{i}": np.full(50, float(rng.random() < 0.3)) for i in range(keys)}

    gap = difference(side(40), side(40), metric="fake_rate")
    files = difference(*[{f"{i}": np.asarray([0.0, 1.0] * 25) for i in range(40)}] * 2, metric="fake_rate")
    assert gap.keys == (40, 40)
    assert gap.high - gap.low > 0.25  # 2,000 independent files would give .06
    assert files.high - files.low < 0.01  # clusters that are all alike vary not at all


def test_few_customers_get_students_interval() -> None:
    """With five customers a side the normal quantile covered 90 of 100 times where 95 were said."""
    rng = np.random.default_rng(0)

    def side(keys: int) -> dict[str, np.ndarray]:
        return {f"{i}": rng.normal(rng.normal(0, 1), 0.3, 10) for i in range(keys)}

    inside = 0
    for _ in range(600):
        gap = difference(side(5), side(5), metric="seconds")
        inside += gap.low <= 0 <= gap.high
    assert inside >= 0.935 * 600
    a, b = side(3), side(4)
    gap = difference(a, b, metric="score")
    welch = stats.ttest_ind([v.mean() for v in b.values()], [v.mean() for v in a.values()], equal_var=False)
    known = welch.confidence_interval()
    assert (gap.low, gap.high) == pytest.approx((known.low, known.high), abs=0.05)
    one, two = ({f"{i}": rng.normal(size=1) for i in range(2)} for _ in range(2))
    pair = difference(one, two, metric="score", paired=True)
    exact = stats.ttest_rel([v[0] for v in two.values()], [v[0] for v in one.values()]).confidence_interval()
    assert (pair.low, pair.high) == pytest.approx((exact.low, exact.high))


@pytest.mark.parametrize("paired", [False, True])
def test_nobody_failing_is_no_proof_that_nobody_will(paired: bool) -> None:
    three = {f"{i}": np.zeros(50) for i in range(3)}
    gap = difference(three, three, metric="error_rate", paired=paired)
    assert gap.difference == 0
    assert gap.low < -0.3
    assert gap.high > 0.3


def test_cannot_tell_is_no_opinion() -> None:
    """It counted as "not fake", so an arm that never makes up its mind was right about every genuine file."""
    unsure = Trial.of("trial", "new", "a", made_report("a", 0.5).model_copy(update={"verdict": Verdict.INCONCLUSIVE}))
    assert unsure.fake is None
    sure = Trial.of("trial", "new", "b", made_report("b", 0.9))
    both = [unsure, sure]
    assert values_of(both, "accuracy", {unsure.sha256: False, sure.sha256: True}).keys() == {"b"}
    assert [float(v[0]) for v in values_of(both, "no_opinion_rate").values()] == [1, 0]
    assert [float(v[0]) for v in values_of(both, "fake_rate").values()] == [0, 1]


def test_looks_at_too_few_trials_spend_nothing() -> None:
    start = experiment(0.5, guardrails=Guardrails(min_trials=30))
    few = [trial(arm, f"{arm}{i}") for arm in ("old", "new") for i in range(29)]
    assert guard(start, few).looks == 0
    assert guard(start, [*few, trial("old", "x"), trial("new", "y")]).looks == 1


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000))
def test_intervals_cover(seed: int) -> None:
    rng = np.random.default_rng(seed)
    inside = 0
    for _ in range(100):
        sides = [{f"{i}": np.asarray([float(rng.random() < p)]) for i in range(150)} for p in (0.1, 0.2)]
        gap = difference(*sides, metric="error_rate")
        inside += gap.low <= 0.1 <= gap.high
    assert inside >= 86  # 95 expected; below 86 is rarer than one in a thousand


def test_paired_shadows_need_fewer_files() -> None:
    rng = np.random.default_rng(3)
    base = {f"{i}": rng.random(1) for i in range(100)}
    moved = {key: value + 0.02 + rng.normal(0, 0.01, 1) for key, value in base.items()}
    paired = difference(base, moved, metric="score", paired=True, worth=0.02)
    unpaired = difference(base, moved, metric="score", worth=0.02)
    assert paired.shown
    assert not unpaired.shown
    assert paired.needed is not None
    assert unpaired.needed is not None
    assert paired.needed < unpaired.needed / 50
    t = stats.ttest_rel([v[0] for v in moved.values()], [v[0] for v in base.values()]).confidence_interval()
    assert (paired.low, paired.high) == pytest.approx((t.low, t.high), rel=0.01)


def test_accuracy_uses_labels_and_leaves_out_what_has_none() -> None:
    trials = [trial("old", "a", fake=True), trial("old", "b", fake=False), trial("old", "c", fake=None)]
    values = values_of(trials, "accuracy", {"a": True, "b": True, "c": True})
    assert {key: list(v) for key, v in values.items()} == {"a": [1.0], "b": [0.0]}
    assert values_of(trials, "accuracy") == {}
    assert [float(v[0]) for v in values_of(trials, "no_opinion_rate").values()] == [0, 0, 1]


def test_a_bad_arm_is_stopped_and_a_harmless_one_is_not() -> None:
    rng = np.random.default_rng(1)
    rules = Guardrails(error_rate=0.02, seconds=1.0)
    bad, good = experiment(0.5, guardrails=rules), experiment(0.5, guardrails=rules)
    bad_trials: list[Trial] = []
    good_trials: list[Trial] = []
    for i in range(600):
        key = f"{i}"
        arm = bad.control.name if fraction("trial", key) >= 0.5 else "new"
        good_trials.append(trial(arm, key, failed=bool(rng.random() < 0.01), seconds=rng.exponential(1)))
        rate = 0.2 if arm == "new" else 0.01
        bad_trials.append(trial(arm, key, failed=bool(rng.random() < rate), seconds=rng.exponential(1)))
        if i % 20 == 19:
            bad, good = guard(bad, bad_trials), guard(good, good_trials)
    assert "error_rate" in bad.stopped["new"]
    assert good.stopped == {}
    assert {bad.route(f"{i}").name for i in range(100)} == {"old"}
    names = {d.metric for d in compare_arms(bad, bad_trials)}
    assert {"error_rate", "seconds", "fake_rate"} <= names


def test_an_experiment_is_kept_and_wrong_ones_are_refused(tmp_path: Path) -> None:
    kept = experiment().without("new", "slow")
    kept.save(tmp_path)
    assert Experiment.load("trial", tmp_path) == kept
    with pytest.raises(OptionError):
        Experiment.load("other", tmp_path)
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(OptionError):
        Experiment.load("bad", tmp_path)
    one = Arm(name="a", detector="toy", share=0.7)
    for arms in ((one,), (one, one), (one, Arm(name="b", detector="x", share=0.7))):
        with pytest.raises(ValidationError):
            Experiment(name="trial", arms=arms)
    with pytest.raises(ValidationError):
        kept.without("old", "the control")
