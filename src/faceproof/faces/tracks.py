"""One identity per person through time, also when only some frames of a long video are looked at.

Every face is weighed against every living track by the odds that both are one person: how far it moved for the time that
passed, how its size changed, and how alike the two look. Overlap alone fails when seconds lie between two
frames, looks alone fail between relatives. A score is only worth something if it is one person's: where the odds do not
decide between two people, a face starts a new track rather than risk joining a wrong one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from faceproof.faces.appearance import Appearance, describe, likeness
from faceproof.faces.mtcnn import Face
from faceproof.faces.reunion import AT_ONCE, HARDLY_ALIKE, Reunion
from faceproof.faces.scenes import SceneWatch, Setting, setting_of

if TYPE_CHECKING:
    from faceproof.media import Frame

Floats = npt.NDArray[np.float64]

# Log-odds. A face joins a track from ACCEPT on; two choices closer than MARGIN are a tie.
ACCEPT = 2.0
MARGIN = 2.0
# Looks alone forbid a match below STRANGER. Who stays where they are may still turn away, blur or be half hidden by somebody
# who passes: in a crowd, 1 in 20 faces fall below it within half a second. Then HARDLY_ALIKE holds, and in effect ACCEPT:
# the odds of a place kept are 5.5 at most, so likeness must reach -3.5, as 99 in 100 of those faces do and 1 in 5 strangers.
STRANGER = -1.5
# In seconds: a cut that went unseen may put somebody else in this very place; sooner than this, blur is likelier.
AT_ONCE_PERHAPS_CUT = 0.15
# A track may be picked up again after this many seconds, or this many steps of a sparse sampling.
PATIENCE = 3.0
PATIENCE_STEPS = 3.0
_LOOKS_KEPT = 5
_LOOKS_APART = 0.3
_NEVER = -math.inf


@dataclass(slots=True, eq=False)
class _Track:
    id: int
    centre: Floats
    side: float
    time: float
    velocity: Floats = field(default_factory=lambda: np.zeros(2))
    looks: list[tuple[float, Appearance]] = field(default_factory=list)
    met: set[int] = field(default_factory=set)
    """Tracks seen together with this one in a frame, so certainly somebody else."""

    def see(self, centre: Floats, side: float, time: float, look: Appearance) -> None:
        passed = time - self.time
        if passed > 0:
            speed = (centre - self.centre) / passed
            self.velocity = 0.5 * self.velocity + 0.5 * speed
        self.centre, self.side, self.time = centre, side, time
        # The newest look always counts; older ones are kept some time apart, as neighbouring frames repeat each other.
        if len(self.looks) > 1 and self.looks[-1][0] - self.looks[-2][0] < _LOOKS_APART:
            del self.looks[-1]
        self.looks = [*self.looks[-(_LOOKS_KEPT - 1) :], (time, look)]

    def expected(self, passed: float) -> Floats:
        """Where the face should be. Movement is carried on for a third of a second at most."""
        return self.centre + self.velocity * min(passed, 0.33)

    def likeness(self, look: Appearance) -> float:
        """Of the two best of the latest looks: one lucky pose is not enough."""
        values = sorted((likeness(known, look) for _, known in self.looks), reverse=True)[:2]
        return sum(values) / len(values)


@dataclass(frozen=True, slots=True, eq=False)
class Sight:
    """All that following people needs of a frame: a few kilobytes, so frames need not be kept or decoded again."""

    time: float
    area: float
    setting: Setting
    faces: tuple[Face, ...]
    looks: tuple[Appearance, ...]


def sight(frame: Frame, faces: Sequence[Face]) -> Sight:
    """Take what :meth:`Tracker.follow` needs from a frame and its faces."""
    height, width = frame.image.shape[:2]
    looks = tuple(describe(frame.image, face) for face in faces)
    return Sight(float(frame.time), float(width * height), setting_of(frame.image), tuple(faces), looks)


class Tracker:
    """Gives each face a track id. Frames come in order; one tracker serves one video."""

    def __init__(self) -> None:
        self._tracks: list[_Track] = []
        self._next = 1
        self._scenes = SceneWatch()
        # Since when the view has certainly been the same.
        self._view_since = -math.inf
        self._time: float | None = None
        self._step = 0.0
        self._reunion = Reunion()

    def update(self, frame: Frame, faces: Sequence[Face]) -> list[int]:
        """Track ids, one per face in the order given, unique within the frame. They count from 1."""
        return self.follow(sight(frame, faces))

    def follow(self, seen: Sight) -> list[int]:
        """The same from what :func:`sight` kept of a frame."""
        time = seen.time
        if self._scenes.is_cut(seen.setting):
            self._tracks = []
            self._reunion.cut(self._patience)
        if not self._scenes.goes_on:
            self._view_since = time
        self._forget(time)
        faces, looks = seen.faces, seen.looks
        centres = [np.array([(f.box[0] + f.box[2]) / 2, (f.box[1] + f.box[3]) / 2]) for f in faces]
        odds = np.full((len(self._tracks), len(faces)), _NEVER)
        for row, track in enumerate(self._tracks):
            for column, face in enumerate(faces):
                odds[row, column] = _odds(
                    track,
                    centres[column],
                    face.side,
                    looks[column],
                    time,
                    seen.area,
                    returns=track.time != self._time,
                    same_view=track.time >= self._view_since,
                )
        matches = _match(odds, [track.met for track in self._tracks], [track.id for track in self._tracks])

        present: list[_Track] = []
        for column, face in enumerate(faces):
            match = matches.get(column)
            if match is None:
                track = _Track(self._next, centres[column], face.side, time, looks=[(time, looks[column])])
                self._next += 1
                self._tracks.append(track)
            else:
                track = self._tracks[match]
                track.see(centres[column], face.side, time, looks[column])
            present.append(track)
        ids = [track.id for track in present]
        for track in present:
            track.met.update(other for other in ids if other != track.id)
        self._time = time
        self._reunion.see(time, ids, centres, [face.side for face in faces], looks, same_view=self._scenes.goes_on)
        return ids

    def people(self) -> dict[int, int]:
        """Once every frame was given: each track's person, counted from 1. Tracks that turn out to be pieces of one
        person (:mod:`faceproof.faces.reunion`) have one number."""
        return self._reunion.people(self._patience)

    @property
    def _patience(self) -> float:
        return max(PATIENCE, PATIENCE_STEPS * self._step)

    def _forget(self, time: float) -> None:
        """Drop tracks that were gone for too long, measured by the sampling's own steps."""
        if self._time is not None and time > self._time:
            step = time - self._time
            self._step = step if self._step == 0 else 0.7 * self._step + 0.3 * step
        self._tracks = [track for track in self._tracks if time - track.time <= self._patience]
        living = {track.id for track in self._tracks}
        for track in self._tracks:
            track.met &= living


def _odds(
    track: _Track,
    centre: Floats,
    side: float,
    look: Appearance,
    time: float,
    area: float,
    *,
    returns: bool,
    same_view: bool,
) -> float:
    """Log-odds that the face is the track's person; minus infinity where it cannot be."""
    passed = max(time - track.time, 1e-3)
    scale = max((side + track.side) / 2, 1.0)
    distance = float(np.linalg.norm(centre - track.expected(passed))) / scale
    # In sides of the face. Half of all people stay where they are, give or take the jitter of the box; the others walk.
    pace = math.sqrt(min(passed, 4.0))
    density = 0.5 * _bell(distance, 0.12 + 0.1 * pace) + 0.5 * _bell(distance, 0.12 + 1.2 * pace)
    # A small share appear anywhere: hardly any between neighbouring frames, some after seconds.
    anywhere = min(0.15, 0.002 + 0.1 * passed)
    moved = math.log((1 - anywhere) * density * area / scale**2 + anywhere)
    ratio = abs(math.log(max(side, 1.0) / max(track.side, 1.0)))
    growth = 0.12 + 0.3 * pace
    if ratio > 0.5 + 3 * growth:
        return _NEVER
    grown = -0.5 * (ratio / growth) ** 2 - math.log(growth / 0.7)
    alike = track.likeness(look)
    if alike < _least_likeness(passed, distance, ratio, returns=returns, same_view=same_view):
        return _NEVER
    return min(moved, 4.0) + min(grown, 1.5) + min(alike, 6.0)


def _least_likeness(passed: float, distance: float, ratio: float, *, returns: bool, same_view: bool) -> float:
    """Looks alone forbid a match below this: the more, the longer ago and the further away the person was seen, and
    more again for one who was out of sight and returns elsewhere. For who stays in a view that stays, place and time decide
    at first."""
    if distance < 0.35 and ratio < 0.25:
        return HARDLY_ALIKE if passed < (AT_ONCE if same_view else AT_ONCE_PERHAPS_CUT) else STRANGER
    return STRANGER + min(passed, 1.0) * (2.5 + min(distance, 2.0) * 0.75 + (1.0 if returns else 0.0))


def _bell(distance: float, spread: float) -> float:
    """Density of a round normal distribution in the plane."""
    return math.exp(-0.5 * (distance / spread) ** 2) / (2 * math.pi * spread**2)


def _match(odds: Floats, met: list[set[int]], ids: list[int]) -> dict[int, int]:
    """Track row for each matched face column: best odds first, ties between two people left open."""
    free = odds.copy()
    pairs: dict[int, int] = {}
    while free.size:
        row, column = (int(place) for place in np.unravel_index(int(np.argmax(free)), free.shape))
        if not free[row, column] >= ACCEPT:
            break
        pairs[column] = row
        free[row, :] = _NEVER
        free[:, column] = _NEVER

    taken = {row: column for column, row in pairs.items()}
    open_columns = set()
    for column, row in pairs.items():
        for other in range(len(odds)):
            if other == row or odds[other, column] < ACCEPT:
                continue
            if other in taken:
                # Would the two faces fit the two tracks nearly as well the other way round?
                kept = odds[row, column] + odds[other, taken[other]]
                swapped = odds[other, column] + odds[row, taken[other]]
                if kept - swapped < MARGIN:
                    open_columns |= {column, taken[other]}
            elif ids[other] in met[row] and odds[row, column] - odds[other, column] < MARGIN:
                # Somebody else who is out of sight fits as well. A track never seen beside this one may be an
                # earlier piece of the same person's, and then nothing is confused.
                open_columns.add(column)
        for other in range(odds.shape[1]):
            if other not in pairs and odds[row, column] - odds[row, other] < MARGIN and odds[row, other] >= ACCEPT:
                open_columns.add(column)
    return {column: row for column, row in pairs.items() if column not in open_columns}
