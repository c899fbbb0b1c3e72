"""Pieces of one person put together again, once a whole shot is known.

A tracker that goes forward compares a face with the last few it saw. Somebody who turns away between two frames of a sparse
sampling starts a new track there, and comes back to the old one when she turns again: one person would be judged as two,
the smaller piece by a handful of faces. Afterwards each piece can be held against everything that was seen of the other.
Only within a shot, in one place, and never of two who were seen together: a score is worth something only if it is one
person's.

Looks are asked where time has passed. Somebody whose head turns, or who is half hidden by another that passes, looks like
nobody for a moment, but no second face comes to the very place of a first, in its size, within half a second of it while
everything around stays: there place and time decide.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from faceproof.faces.appearance import Appearance, likeness

# In sides of the face, and in log: how far two sightings of somebody who stays may lie apart, mostly and at most.
_STAYED, _STRAYED, _GREW = 0.35, 0.8, 0.25
# Log-odds by looks. Who was in this very place just before and right after need only not look like somebody else; who came
# when the other left must look like them.
_SURROUNDED, _FOLLOWED = -1.0, 1.5
# One face at least must be clearly alike.
_ONCE_ALIKE = 1.0
# In seconds: nobody gives their place to another of the same size so soon in a view that stays.
AT_ONCE = 0.5
# Below this, place and time are not believed either: most strangers are less alike, and of a hundred faces that stay one is.
HARDLY_ALIKE = -5.0
_APART = 0.25
_LOOKS_KEPT = 32


@dataclass(slots=True, eq=False)
class _Piece:
    """A track in the making: where and when its faces were, some seconds apart, and a few of their looks."""

    id: int
    count: int = 0
    places: list[tuple[float, float, float, float]] = field(default_factory=list)
    """Time, centre and side."""
    looks: list[Appearance] = field(default_factory=list)
    beside: set[int] = field(default_factory=set)
    """Pieces seen in a frame together with this one."""
    _every: int = 1
    _last: tuple[float, float, float, float] | None = None

    def see(self, place: tuple[float, float, float, float], look: Appearance) -> None:
        if not self.places or place[0] - self.places[-1][0] >= _APART:
            self.places.append(place)
        self._last = place
        if self.count % self._every == 0:
            self.looks.append(look)
            if len(self.looks) > _LOOKS_KEPT:
                self.looks, self._every = self.looks[::2], self._every * 2
        self.count += 1

    def whole(self) -> list[tuple[float, float, float, float]]:
        """The places with the last one, which may have been too close to the one before to be kept."""
        if self._last is None or self.places[-1] == self._last:
            return self.places
        return [*self.places, self._last]

    def take(self, other: _Piece) -> None:
        self.places = sorted([*self.whole(), *other.whole()])
        self._last = self.places[-1]
        self.looks = [*self.looks, *other.looks]
        self.beside |= other.beside
        self.count += other.count


class Reunion:
    """Collects what a tracker saw, and says in the end which of its numbers are one person."""

    def __init__(self) -> None:
        self._shot: dict[int, _Piece] = {}
        self._person: dict[int, int] = {}
        # When, in this shot, the view was not certainly that of the frame before.
        self._unsure: list[float] = []

    def see(
        self,
        time: float,
        ids: Sequence[int],
        centres: Sequence[npt.NDArray[np.float64]],
        sides: Sequence[float],
        looks: Sequence[Appearance],
        *,
        same_view: bool = False,
    ) -> None:
        """One frame's faces and the tracks they were given; ``same_view``: whether it certainly shows what the frame before
        it did."""
        if not same_view:
            self._unsure.append(time)
        for number, centre, side, look in zip(ids, centres, sides, looks, strict=True):
            piece = self._shot.setdefault(number, _Piece(number))
            self._person.setdefault(number, number)
            piece.see((time, float(centre[0]), float(centre[1]), side), look)
            piece.beside.update(other for other in ids if other != number)

    def cut(self, patience: float) -> None:
        """The shot is over: nothing before it is compared with anything after. ``patience``: seconds between two sightings
        of somebody who stayed."""
        # The largest first: what is most sure of its looks takes in the others.
        kept: list[_Piece] = []
        for piece in sorted(self._shot.values(), key=lambda one: (-one.count, one.id)):
            home = _home(piece, kept, patience, self._unsure)
            if home is None:
                kept.append(piece)
                continue
            home.take(piece)
            for number, person in self._person.items():
                if person == piece.id:
                    self._person[number] = home.id
        self._shot, self._unsure = {}, []

    def people(self, patience: float) -> dict[int, int]:
        """Every number given so far, and the person's: people count from 1 in order of appearance."""
        self.cut(patience)
        order: dict[int, int] = {}
        for number in sorted(self._person):
            order.setdefault(self._person[number], len(order) + 1)
        return {number: order[person] for number, person in self._person.items()}


def _home(piece: _Piece, others: Sequence[_Piece], patience: float, unsure: Sequence[float]) -> _Piece | None:
    """Whose piece it is; None when it is nobody's, or could be that of two who are certainly not one."""
    fitting = [
        other
        for other in others
        if not (other.id in piece.beside or piece.id in other.beside)
        and (_goes_on(other, piece, unsure) or _is_one(other, piece, patience))
    ]
    if any(one.id in other.beside for one in fitting for other in fitting):
        return None
    return fitting[0] if fitting else None


def _goes_on(person: _Piece, piece: _Piece, unsure: Sequence[float]) -> bool:
    """Whether the piece begins where and when the person was seen last, and ends where and when they are seen again, as far
    as they are. ``unsure``: times before which there may have been a cut."""
    theirs, own = person.whole(), piece.whole()
    times = [place[0] for place in theirs]
    before = bisect_left(times, own[0][0])
    if before != bisect_left(times, own[-1][0]):
        return False
    seams = [(theirs[before - 1], own[0])] if before > 0 else []
    seams += [(own[-1], theirs[before])] if before < len(theirs) else []
    return all(_stays(one, other, unsure) for one, other in seams) and _alike(person, piece)[1] >= HARDLY_ALIKE


def _stays(
    one: tuple[float, float, float, float], other: tuple[float, float, float, float], unsure: Sequence[float]
) -> bool:
    """Whether two sightings, one after the other, are of one place at once."""
    seconds, apart, grown = _between(one, other)
    return (
        seconds <= AT_ONCE
        and apart <= _STAYED
        and grown <= _GREW
        and not any(one[0] < time <= other[0] for time in unsure)
    )


def _between(
    one: tuple[float, float, float, float], other: tuple[float, float, float, float]
) -> tuple[float, float, float]:
    """Seconds, distance in sides of the face and growth in log between two sightings."""
    apart = float(np.hypot(one[1] - other[1], one[2] - other[2])) / max((one[3] + other[3]) / 2, 1.0)
    return abs(one[0] - other[0]), apart, abs(float(np.log(max(one[3], 1.0) / max(other[3], 1.0))))


def _alike(person: _Piece, piece: _Piece) -> tuple[float, float]:
    """The best and the mean log-odds by looks that the piece's faces are the person's."""
    alike = [_likeness(look, person.looks) for look in piece.looks]
    return max(alike), sum(alike) / len(alike)


def _is_one(person: _Piece, piece: _Piece, patience: float) -> bool:
    theirs, own = person.whole(), piece.whole()
    times = [place[0] for place in theirs]
    seams = []
    for place in own:
        after = bisect_left(times, place[0])
        near = min(theirs[max(0, after - 1) : after + 1], key=lambda one: abs(one[0] - place[0]))
        seams.append(_between(place, near))
    gaps, apart, grown = zip(*seams, strict=True)
    if min(gaps) > patience or np.median(apart) > _STAYED or max(apart) > _STRAYED or np.median(grown) > _GREW:
        return False
    best, mean = _alike(person, piece)
    before = bisect_left(times, own[0][0])
    behind = bisect_left(times, own[-1][0])
    surrounded = (
        before > 0
        and behind < len(times)
        and own[0][0] - times[before - 1] <= patience
        and times[behind] - own[-1][0] <= patience
    )
    return best >= _ONCE_ALIKE and mean >= (_SURROUNDED if surrounded else _FOLLOWED)


def _likeness(look: Appearance, known: Sequence[Appearance]) -> float:
    """Of the two best: one lucky pose is not enough."""
    best = sorted((likeness(one, look) for one in known), reverse=True)[:2]
    return sum(best) / len(best)
