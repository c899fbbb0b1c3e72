"""Has what comes in, or what comes out, stopped looking like it used to?

A reference is a sample of scans from a time when the detector was known to be right. Windows of later scans are compared
with it, signal by signal: Kolmogorov–Smirnov and the population stability index for numbers, an exact test for the rate
of files without a face. All tests of all looks of a week together raise a false alarm with a probability of at most
:attr:`DriftRule.weekly_false_alarms` (Holm within a look, Bonferroni over the week's looks).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from faceproof.errors import OptionError
from faceproof.result_files import write_whole
from faceproof.results import Report

FloatArray = npt.NDArray[np.float64]

NUMBERS = ("score", "face_side", "sharpness", "bit_rate", "resolution")
NO_FACE = "no_face"
_FEWEST = 50


def signals_of(report: Report) -> dict[str, float]:
    """What drift is watched on, of one scan; a signal the scan lacks is missing, never 0.

    ``score`` P(fake); ``face_side`` median pixels; ``sharpness`` as in ``FaceScore``; ``bit_rate`` bits a second;
    ``resolution`` the shorter side in pixels; ``no_face`` 1 when no face was found.
    """
    found: dict[str, float] = {
        "resolution": float(min(report.media.width, report.media.height)),
        NO_FACE: float(report.metrics.total_faces_detected == 0),
    }
    if report.score is not None and report.tracks:
        found["score"] = report.score
    if report.tracks:
        found["face_side"] = float(np.median([track.median_side for track in report.tracks]))
        found["sharpness"] = float(np.median([track.median_sharpness for track in report.tracks]))
    if report.media.kind == "video" and report.media.bit_rate:
        found["bit_rate"] = float(report.media.bit_rate)
    return found


class Reference(BaseModel):
    """A sample of scans to compare later ones with. ``values`` holds each signal's numbers, in no order that matters."""

    model_config = ConfigDict(extra="forbid")

    detector: str
    version: str
    scans: Annotated[int, Field(ge=1)]
    values: dict[str, list[float]]

    @classmethod
    def of(cls, reports: Iterable[Report], *, limit: int = 5000, seed: int = 0) -> Reference:
        """Take a reference from reports of one detector; of more than ``limit``, an even random sample.

        Raises :class:`OptionError` for fewer than 50 scans or for a mixture of detectors.
        """
        kept = list(reports)
        names = {(report.detector.name, report.detector.version) for report in kept}
        if len(names) > 1:
            mixture = ", ".join(f"{name} {version}" for name, version in sorted(names))
            raise OptionError(f"a reference needs scans of one detector, not of {mixture}")
        if len(kept) < _FEWEST:
            raise OptionError(f"a reference needs at least {_FEWEST} scans, not {len(kept)}")
        if len(kept) > limit:
            chosen = np.random.default_rng(seed).choice(len(kept), limit, replace=False)
            kept = [kept[place] for place in sorted(chosen)]
        name, version = names.pop()
        return cls(detector=name, version=version, scans=len(kept), values=_columns(map(signals_of, kept)))

    def save(self, path: Path) -> None:
        write_whole(path, self.model_dump_json() + "\n")

    @classmethod
    def load(cls, path: Path) -> Reference:
        """Raises :class:`OptionError` for a file that is no reference."""
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, ValidationError) as error:
            raise OptionError(
                f"{path} is not a drift reference", remedy="Make one with `faceproof drift reference`."
            ) from error


def _columns(scans: Iterable[Mapping[str, float]]) -> dict[str, list[float]]:
    columns: dict[str, list[float]] = {name: [] for name in (*NUMBERS, NO_FACE)}
    for scan in scans:
        for name, value in scan.items():
            columns[name].append(value)
    return columns


@dataclass(frozen=True)
class DriftRule:
    """How often to look, at how much, and how rarely to be wrong.

    ``window`` latest scans are compared every ``step`` scans; ``scans_per_week`` is the traffic that
    ``weekly_false_alarms`` speaks of. An alarm also needs an effect worth one: a stability index of ``min_psi`` or a
    no-face rate that moved by ``min_rate_change``.
    """

    window: int = 250
    step: int = 50
    scans_per_week: int = 10_000
    weekly_false_alarms: float = 0.01
    min_psi: float = 0.1
    min_rate_change: float = 0.05

    def __post_init__(self) -> None:
        if not (self.window >= _FEWEST and 1 <= self.step <= self.window):
            raise OptionError(f"a drift window holds at least {_FEWEST} scans and the step is at most the window")
        if not (self.scans_per_week >= 1 and 0 < self.weekly_false_alarms < 1):
            raise OptionError("drift needs traffic and a false-alarm rate between 0 and 1")

    @property
    def level(self) -> float:
        """The false-alarm probability that one look may have."""
        return self.weekly_false_alarms / max(math.ceil(self.scans_per_week / self.step), 1)


class Shift(BaseModel):
    """One signal in one look. ``size`` is the stability index, or the change of the no-face rate; ``before`` and ``now``
    are medians, or rates. ``alarm`` is whether it holds against the week's false-alarm rate."""

    model_config = ConfigDict(extra="forbid")

    signal: str
    p_value: float
    size: float
    before: float
    now: float
    samples: int
    alarm: bool = False


def psi(reference: npt.ArrayLike, window: npt.ArrayLike, bins: int = 10) -> float:
    """Population stability index over the reference's quantile bins; half a count is added to every bin.

    A value that so many share that two quantiles fall on it is a bin of its own: of videos that were all 1080 pixels high,
    taller ones must not stand in their bin. Rules of thumb: below .1 nothing moved, above .25 much did.
    """
    old, new = np.asarray(reference, np.float64), np.asarray(window, np.float64)
    edges, often = np.unique(np.quantile(old, np.linspace(0, 1, bins + 1)[1:-1]), return_counts=True)
    edges = np.union1d(edges, np.nextafter(edges[often > 1], math.inf))
    counts = [np.bincount(np.searchsorted(edges, x, side="right"), minlength=len(edges) + 1) + 0.5 for x in (old, new)]
    before, now = (count / count.sum() for count in counts)
    return float(np.sum((now - before) * np.log(now / before)))


def ks(a: npt.ArrayLike, b: npt.ArrayLike) -> tuple[float, float]:
    """The two-sample Kolmogorov–Smirnov distance and its asymptotic p-value (on the safe side with ties)."""
    x, y = np.sort(np.asarray(a, np.float64)), np.sort(np.asarray(b, np.float64))
    every = np.concatenate([x, y])
    distance = np.abs(
        np.searchsorted(x, every, side="right") / len(x) - np.searchsorted(y, every, side="right") / len(y)
    ).max()
    size = len(x) * len(y) / (len(x) + len(y))
    # Stephens' correction of the limit for finite samples.
    reach = distance * (math.sqrt(size) + 0.12 + 0.11 / math.sqrt(size))
    if reach < 0.2:
        return float(distance), 1.0
    k = np.arange(1, 101)
    p = 2 * np.sum((-1.0) ** (k - 1) * np.exp(-2 * (k * reach) ** 2))
    return float(distance), float(min(max(p, 0.0), 1.0))


def two_rates(hits_a: int, of_a: int, hits_b: int, of_b: int) -> float:
    """Two-sided p-value of Fisher's exact test that two rates are one."""
    total, hits = of_a + of_b, hits_a + hits_b
    low, high = max(0, hits - of_b), min(hits, of_a)
    counts = np.arange(low, high + 1)
    logs = np.asarray([_log_choose(of_a, k) + _log_choose(of_b, hits - k) for k in counts.tolist()])
    chances = np.exp(logs - _log_choose(total, hits))
    return float(min(chances[chances <= chances[hits_a - low] * (1 + 1e-7)].sum(), 1.0))


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def compare(reference: Reference, window: Mapping[str, Sequence[float]], rule: DriftRule) -> list[Shift]:
    """One look: every signal with enough samples, smallest p-value first, with Holm's step-down at the look's level."""
    shifts = []
    for name in NUMBERS:
        old, new = reference.values.get(name, []), window.get(name, [])
        if len(old) < _FEWEST or len(new) < _FEWEST:
            continue
        shifts.append(
            Shift(
                signal=name,
                p_value=ks(old, new)[1],
                size=psi(old, new),
                before=float(np.median(old)),
                now=float(np.median(new)),
                samples=len(new),
            )
        )
    old, new = reference.values.get(NO_FACE, []), window.get(NO_FACE, [])
    if len(old) >= _FEWEST and len(new) >= _FEWEST:
        before, now = float(np.mean(old)), float(np.mean(new))
        p = two_rates(int(sum(old)), len(old), int(sum(new)), len(new))
        shifts.append(
            Shift(signal=NO_FACE, p_value=p, size=abs(now - before), before=before, now=now, samples=len(new))
        )
    shifts.sort(key=lambda shift: shift.p_value)
    for place, shift in enumerate(shifts):
        if shift.p_value > rule.level / (len(shifts) - place):
            break
        shift.alarm = shift.size >= (rule.min_rate_change if shift.signal == NO_FACE else rule.min_psi)
    return shifts


@dataclass(eq=False)
class DriftMonitor:
    """Watches scans as they come. An alarm is raised once and again only after its signal was quiet in between."""

    reference: Reference
    rule: DriftRule = field(default_factory=DriftRule)
    scans: int = 0
    latest: list[Shift] = field(default_factory=list)
    active: set[str] = field(default_factory=set)
    _window: deque[dict[str, float]] = field(default_factory=deque)

    def add(self, report: Report) -> list[Shift]:
        """Take one scan in; the alarms it newly raises. Raises :class:`OptionError` for another detector's scan."""
        named = (report.detector.name, report.detector.version)
        if named != (self.reference.detector, self.reference.version):
            raise OptionError(
                f"the reference is of {self.reference.detector} {self.reference.version}, not of {' '.join(named)}",
                remedy="Take a new reference with `faceproof drift reference` after a detector changed.",
            )
        return self.add_signals(signals_of(report))

    def add_signals(self, signals: Mapping[str, float]) -> list[Shift]:
        """As :meth:`add`, for the signals of a scan that are already known."""
        self.scans += 1
        self._window.append(dict(signals))
        if len(self._window) > self.rule.window:
            self._window.popleft()
        if len(self._window) < self.rule.window or self.scans % self.rule.step:
            return []
        self.latest = compare(self.reference, _columns(self._window), self.rule)
        alarms = [shift for shift in self.latest if shift.alarm]
        fresh = [shift for shift in alarms if shift.signal not in self.active]
        self.active = {shift.signal for shift in alarms}
        return fresh

    def collect(self) -> Iterable[Any]:
        """What a Prometheus registry asks: the latest look."""
        from prometheus_client.core import GaugeMetricFamily

        size = GaugeMetricFamily("faceproof_drift_size", "PSI, or change of the no-face rate.", labels=["signal"])
        alarm = GaugeMetricFamily("faceproof_drift_alarm", "1 while a signal has drifted.", labels=["signal"])
        for shift in self.latest:
            size.add_metric([shift.signal], shift.size)
            alarm.add_metric([shift.signal], float(shift.signal in self.active))
        yield from (size, alarm)
