"""From a table of face scores to one score: named methods, each a pure function over the whole (frame, track, p) table.

A detector's spec names its method and numbers; the published rules are here beside the plain ones.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from faceproof.detectors.spec import Method
from faceproof.errors import SpecError

IntArray = npt.NDArray[np.int64]
ScoreArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FaceTable:
    """Every face judged, in the order it was judged: three arrays ``[N]``.

    ``frame`` is the frame's index, ``track`` the person's number, ``p`` is P(fake) in [0, 1].
    """

    frame: IntArray
    track: IntArray
    p: ScoreArray

    @classmethod
    def of(cls, rows: list[tuple[int, int, float]]) -> FaceTable:
        """Build a table from (frame, track, p) rows."""
        frame, track, p = zip(*rows, strict=True) if rows else ((), (), ())
        return cls(np.asarray(frame, np.int64), np.asarray(track, np.int64), np.asarray(p, np.float64))

    def __len__(self) -> int:
        return len(self.p)

    def where(self, keep: npt.NDArray[np.bool_]) -> FaceTable:
        return FaceTable(self.frame[keep], self.track[keep], self.p[keep])

    def pooled(self, cell_of_frame: dict[int, int]) -> FaceTable:
        """Average, per track, the faces of frames that share a cell; a frame missing from the map is its own cell.

        A second look at suspicious moments takes more frames there. Pooled with the frame that called for it, they
        make that one opinion better founded instead of counting it several times.
        """
        cells = np.asarray([cell_of_frame.get(int(f), int(f)) for f in self.frame], np.int64)
        keys, first, inverse = np.unique(
            np.stack([self.track, cells], axis=1), axis=0, return_index=True, return_inverse=True
        )
        inverse = inverse.reshape(-1)
        mean = np.bincount(inverse, weights=self.p, minlength=len(keys)) / np.bincount(inverse, minlength=len(keys))
        order = np.argsort(first, kind="stable")
        return FaceTable(keys[order, 1], keys[order, 0], mean[order])


def mean(table: FaceTable) -> float:
    """Plain mean of all faces."""
    return float(table.p.mean())


def maximum(table: FaceTable) -> float:
    """The highest face."""
    return float(table.p.max())


def median(table: FaceTable) -> float:
    """The middle face."""
    return float(np.median(table.p))


def logit_mean(table: FaceTable) -> float:
    """Sigmoid of the mean logit, as polimi's video score (Bonettini et al., ICPR 2020)."""
    p = np.clip(table.p, 1e-7, 1 - 1e-7)
    return float(1 / (1 + np.exp(-np.mean(np.log(p) - np.log1p(-p)))))


def trimmed_mean(table: FaceTable, trim: float = 0.1) -> float:
    """Mean without the ``trim`` share of faces at either end (rounded down)."""
    p = np.sort(table.p)
    cut = int(len(p) * trim)
    return float(p[cut : len(p) - cut].mean())


def topk(table: FaceTable, k: int = 5) -> float:
    """Mean of the ``k`` highest faces, or of all when there are fewer."""
    return float(np.sort(table.p)[-k:].mean())


def quantile(table: FaceTable, q: float = 0.75) -> float:
    """The ``q`` quantile of the faces, linearly interpolated."""
    return float(np.quantile(table.p, q))


def confident(table: FaceTable, high: float = 0.8, low: float = 0.2, more_than: int = 11) -> float:
    """selimsef's ``confident_strategy``: believe the confident faces when there are enough of them.

    With more than 40 % of the faces, and more than ``more_than`` of them, above ``high``: their mean. Otherwise with
    more than 90 % below ``low``: their mean. Otherwise the mean of all.
    """
    p, size = table.p, len(table.p)
    fakes = p > high
    if fakes.sum() > size // 2.5 and fakes.sum() > more_than:
        return float(p[fakes].mean())
    reals = p < low
    if reals.sum() > 0.9 * size:
        return float(p[reals].mean())
    return float(p.mean())


def early_exit(table: FaceTable, threshold: float = 0.55, by: str = "track") -> float:
    """The first score above ``threshold`` in order of appearance, otherwise the mean of the scores.

    ``by="track"`` looks at each person's mean, as Coccomini's evaluation does (.55); ``by="face"`` at each face, as
    the document of the Cross-Efficient-ViT describes (.65).
    """
    if by == "face":
        scores = table.p
    elif by == "track":
        names, first = np.unique(table.track, return_index=True)
        ordered = names[np.argsort(first, kind="stable")]
        scores = np.asarray([table.p[table.track == name].mean() for name in ordered])
    else:
        raise SpecError(f"early_exit knows by = 'track' or 'face', not {by!r}")
    above = scores[scores > threshold]
    return float(above[0] if len(above) else scores.mean())


def frame_max(table: FaceTable) -> float:
    """Mean over frames of each frame's highest face, as Self-Blended Images' video score (Shiohara and Yamasaki, 2022)."""
    return float(np.mean([table.p[table.frame == frame].max() for frame in np.unique(table.frame)]))


METHODS: dict[str, Callable[..., float]] = {
    "mean": mean,
    "max": maximum,
    "median": median,
    "logit_mean": logit_mean,
    "trimmed_mean": trimmed_mean,
    "topk": topk,
    "quantile": quantile,
    "confident": confident,
    "early_exit": early_exit,
    "frame_max": frame_max,
}


def check_method(method: Method) -> None:
    """Raise :class:`SpecError` for a method or a number that no function here takes, or a number out of its range."""
    function = METHODS.get(method.method)
    if function is None:
        raise SpecError(f"unknown aggregation method {method.method!r}; known are {', '.join(METHODS)}")
    known = set(inspect.signature(function).parameters) - {"table"}
    surplus = set(method.numbers) - known
    if surplus:
        raise SpecError(f"aggregation method {method.method} takes no {', '.join(sorted(surplus))}")
    numbers = method.numbers
    if not 0 <= numbers.get("trim", 0) < 0.5:
        raise SpecError("trim must be at least 0 and below 0.5")
    if numbers.get("k", 1) < 1 or not isinstance(numbers.get("k", 1), int):
        raise SpecError("k must be a whole number from 1")
    if not 0 <= numbers.get("q", 0) <= 1:
        raise SpecError("q must be between 0 and 1")
    if numbers.get("by", "track") not in ("track", "face"):
        raise SpecError("by must be 'track' or 'face'")


def aggregate(table: FaceTable, method: Method) -> float:
    """Score a table of at least one face with a spec's method. The result lies between its lowest and highest face."""
    if not len(table):
        raise ValueError("an empty table has no score")
    score = METHODS[method.method](table, **method.numbers)
    return min(max(score, 0.0), 1.0)
