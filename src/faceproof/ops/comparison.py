"""Is the other arm better, worse, or not known yet? Differences with intervals, and how much more would be needed."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from faceproof.errors import MissingExtraError, OptionError
from faceproof.ops.routing import Experiment
from faceproof.ops.trials import Trial

FloatArray = npt.NDArray[np.float64]
Metric = Literal["fake_rate", "error_rate", "no_opinion_rate", "seconds", "accuracy", "score"]
METRICS: tuple[Metric, ...] = ("fake_rate", "error_rate", "no_opinion_rate", "seconds", "accuracy", "score")


class Difference(BaseModel):
    """One metric of an arm less the control's, with a ``level`` interval.

    ``keys`` are the independent units on each side. ``needed`` is how many keys a side would show a difference of
    ``worth`` at the same level with 80 % power (None when it cannot be told). ``paired``: the same files on both sides.
    """

    model_config = ConfigDict(extra="forbid")

    metric: Metric
    arm: str
    control_value: float
    arm_value: float
    difference: float
    low: float
    high: float
    level: float
    keys: tuple[int, int]
    worth: float
    needed: int | None
    paired: bool

    @property
    def shown(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


def values_of(
    trials: Sequence[Trial], metric: Metric, labels: Mapping[str, bool] | None = None
) -> dict[str, FloatArray]:
    """A metric's numbers by key. Trials without it (failed, unlabelled) are left out.

    ``fake_rate`` is the share of all answered files that were called FAKE, ``no_opinion_rate`` of those called neither FAKE
    nor REAL; ``accuracy`` speaks of the files with an opinion alone, so that "cannot tell" is never right about a genuine
    one. ``labels``: sha256 to whether the file is fake, for ``accuracy``.
    """
    found: dict[str, list[float]] = defaultdict(list)
    for trial in trials:
        value: float | None = None
        match metric:
            case "error_rate":
                value = float(trial.failed)
            case "no_opinion_rate":
                value = None if trial.failed else float(trial.fake is None)
            case "fake_rate":
                value = None if trial.failed else float(trial.fake is True)
            case "score":
                value = trial.score
            case "seconds":
                value = trial.seconds
            case "accuracy":
                label = (labels or {}).get(trial.sha256)
                value = None if label is None or trial.fake is None else float(trial.fake == label)
        if value is not None:
            found[trial.key].append(value)
    return {key: np.asarray(values) for key, values in found.items()}


def difference(
    control: Mapping[str, FloatArray],
    arm: Mapping[str, FloatArray],
    *,
    metric: Metric,
    name: str = "arm",
    paired: bool = False,
    level: float = 0.95,
    worth: float = 0.05,
) -> Difference:
    """Arm less control. Keys are the independent units, so a customer of a thousand files counts once.

    Rates with one file a key: Newcombe's interval (1998), also where every file of both sides has the same answer, which
    leaves no spread to measure. Otherwise the ratio estimator with cluster-robust variance and Welch's degrees of freedom;
    paired: Student's t on the keys' differences. Raises :class:`OptionError` with fewer than two keys a side and
    :class:`MissingExtraError` without SciPy.
    """
    if paired:
        shared = sorted(set(control) & set(arm))
        control, arm = {key: control[key] for key in shared}, {key: arm[key] for key in shared}
    if min(len(control), len(arm)) < 2:
        raise OptionError(
            f"{metric}: {len(control)} and {len(arm)} keys are too few to compare", remedy="Let the experiment run on."
        )
    z = NormalDist().inv_cdf(0.5 + level / 2)
    before, now = _mean(control), _mean(arm)
    if paired:
        gaps = np.asarray([arm[key].mean() - control[key].mean() for key in control])
        reach = _t_quantile(level, len(gaps) - 1) * float(gaps.std(ddof=1)) / math.sqrt(len(gaps))
        before, now = (float(np.mean([side[key].mean() for key in control])) for side in (control, arm))
        spread = float(gaps.var(ddof=1))
        single = False
    else:
        parts = [(_variance(side), len(side) - 1) for side in (control, arm)]
        variance = sum(part for part, _ in parts)
        # Welch and Satterthwaite: a handful of customers does not give the normal distribution's tails.
        freedom = variance**2 / sum(part**2 / keys for part, keys in parts) if variance else math.inf
        reach = _t_quantile(level, freedom) * math.sqrt(variance)
        spread = sum(part * (keys + 1) for part, keys in parts)
        single = all(len(v) == 1 for side in (control, arm) for v in side.values())
    unanimous = spread == 0 and {before, now} <= {0.0, 1.0}
    if metric not in ("seconds", "score") and (single or unanimous):
        low, high = _newcombe(before, len(control), now, len(arm), z)
    else:
        low, high = now - before - reach, now - before + reach
    power = NormalDist().inv_cdf(0.8)
    needed = math.ceil(spread * ((z + power) / worth) ** 2) if spread > 0 and worth > 0 else None
    return Difference(
        metric=metric,
        arm=name,
        control_value=before,
        arm_value=now,
        difference=now - before,
        low=low,
        high=high,
        level=level,
        keys=(len(control), len(arm)),
        worth=worth,
        needed=needed,
        paired=paired,
    )


def _t_quantile(level: float, freedom: float) -> float:
    """How many standard errors a two-sided interval reaches."""
    try:
        from scipy import special
    except ImportError:
        raise MissingExtraError.of("Comparing arms", "ops") from None
    return -float(special.stdtrit(freedom, (1 - level) / 2))


def _mean(side: Mapping[str, FloatArray]) -> float:
    return float(sum(v.sum() for v in side.values()) / sum(len(v) for v in side.values()))


def _variance(side: Mapping[str, FloatArray]) -> float:
    """Of the mean over files, with keys as clusters."""
    mean, files = _mean(side), sum(len(v) for v in side.values())
    keys = len(side)
    squares = sum(float(v.sum() - mean * len(v)) ** 2 for v in side.values())
    return squares / files**2 * keys / (keys - 1)


def _wilson(p: float, n: int, z: float) -> tuple[float, float]:
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return middle - reach, middle + reach


def wilson(hits: int, of: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's interval (1927) of a rate."""
    low, high = _wilson(hits / of, of, NormalDist().inv_cdf(0.5 + level / 2))
    return max(low, 0.0), min(high, 1.0)


def _newcombe(p: float, n: int, q: float, m: int, z: float) -> tuple[float, float]:
    """Newcombe's hybrid score interval of ``q - p``."""
    low_p, high_p = _wilson(p, n, z)
    low_q, high_q = _wilson(q, m, z)
    return (
        q - p - math.sqrt((q - low_q) ** 2 + (high_p - p) ** 2),
        q - p + math.sqrt((high_q - q) ** 2 + (p - low_p) ** 2),
    )


def compare_arms(
    experiment: Experiment,
    trials: Sequence[Trial],
    *,
    labels: Mapping[str, bool] | None = None,
    level: float = 0.95,
    worth: float = 0.05,
) -> list[Difference]:
    """Every metric of every arm that has enough trials, against the control."""
    by_arm: dict[str, list[Trial]] = defaultdict(list)
    for trial in trials:
        by_arm[trial.arm].append(trial)
    found = []
    for arm in experiment.arms[1:]:
        for metric in METRICS:
            sides = [values_of(by_arm[name], metric, labels) for name in (experiment.control.name, arm.name)]
            paired = experiment.kind == "shadow"
            try:
                one = difference(*sides, metric=metric, name=arm.name, paired=paired, level=level, worth=worth)
            except OptionError:
                continue
            found.append(one)
    return found


def guard(experiment: Experiment, trials: Sequence[Trial]) -> Experiment:
    """Look once, and stop the arms that break a guardrail. Save what comes back: it counts the looks.

    An arm is stopped when even the favourable end of its interval is past the limit. The k-th look spends
    ``false_stops / (k · (k + 1))``, which adds up to ``false_stops`` however often one looks. While no arm has enough
    trials nothing is tested, and nothing is spent.
    """
    rails, look = experiment.guardrails, experiment.looks + 1
    limits: dict[Metric, float | None] = {
        "error_rate": rails.error_rate,
        "fake_rate": rails.fake_rate,
        "seconds": rails.seconds,
    }
    watched = [(metric, limit) for metric, limit in limits.items() if limit is not None]
    arms = [arm for arm in experiment.arms[1:] if arm.name not in experiment.stopped]
    paired = experiment.kind == "shadow"
    tests = []
    for arm in arms:
        for metric, limit in watched:
            control, tried = (
                values_of([trial for trial in trials if trial.arm == name], metric)
                for name in (experiment.control.name, arm.name)
            )
            fewest = len(control.keys() & tried.keys()) if paired else min(len(control), len(tried))
            if fewest >= rails.min_trials:
                tests.append((arm, metric, limit, control, tried))
    if not tests:
        return experiment
    checked = Experiment.model_validate({**experiment.model_dump(), "looks": look})
    level = 1 - 2 * rails.false_stops / (look * (look + 1)) / (len(watched) * len(arms))
    for arm, metric, limit, control, tried in tests:
        gap = difference(control, tried, metric=metric, level=level, paired=paired)
        if gap.low > limit and arm.name not in checked.stopped:
            checked = checked.without(
                arm.name, f"{metric} {gap.arm_value:.3g} against {gap.control_value:.3g} of the control"
            )
    return checked
