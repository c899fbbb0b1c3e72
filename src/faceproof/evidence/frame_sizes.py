"""Signs in the sizes of a video's packets that it was encoded before. A hint about its way here, not about manipulation:
every platform encodes again.

A key frame of an earlier encoding is sharper and shares less with its neighbours than they with each other, so that the
second encoder spends more bits on it: sizes stand out at the earlier key frames' spacing, where the stream itself has none
(after Vázquez-Padín et al., "Detection of video double encoding with GOP size estimation", WIFS 2012, who look at predicted
blocks; sizes are what the container tells without decoding).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from faceproof.errors import MediaError
from faceproof.media import Limits
from faceproof.media.containers import opened, packets, video_stream
from faceproof.media.files import open_regular

Floats = npt.NDArray[np.float64]

_MOST = 3000
_LEAST = 100
_SHORTEST, _LONGEST = 8, 300
# A comb needs this many teeth to be told from chance.
_TEETH = 4
_SHUFFLES = 199
# Half the width of the neighbourhood a frame's size is compared with.
_REACH = 4
CHANCE = 0.01
STRONG = 6.5


@dataclass(frozen=True)
class Rhythm:
    """How regularly sizes stand out. period: frames from one to the next. chance: share of shuffles of the very same sizes
    that show as strong a rhythm, at least 1 / 200. strength: of the sizes that stand out, in standard errors.
    """

    period: int
    chance: float
    strength: float

    @property
    def tells(self) -> bool:
        """Whether this speaks for an earlier encoding.

        Encoders have rhythms of their own that shuffles do not have, so chance alone is not enough: :data:`STRONG` lay
        above all of the first six made clips that were encoded once.
        """
        return self.chance <= CHANCE and self.strength >= STRONG


def size_rhythm(path: Path, limits: Limits) -> Rhythm | None:
    """The strongest rhythm in the sizes of a video's frames, in the order of showing, key frames left out.

    None where there are fewer than 100 other frames, no times, or the file cannot be read.
    """
    shown: list[int] = []
    sizes: list[int] = []
    keys: list[bool] = []
    leads: list[bool] = []
    try:
        with open_regular(path) as file, opened(file, path, limits) as container:
            for packet in packets(container, video_stream(container, path, limits)):
                if not packet.size or packet.pts is None:
                    continue
                # A frame shown later than all before it is predicted from the past, the others from both sides.
                leads.append(not shown or packet.pts > max(shown[-16:]))
                shown.append(packet.pts)
                sizes.append(packet.size)
                keys.append(bool(packet.is_keyframe))
                if len(shown) >= _MOST:
                    break
    except MediaError:
        return None
    order = np.argsort(np.asarray(shown, np.int64), kind="stable")
    return rhythm(np.asarray(sizes, np.float64)[order], np.asarray(keys, bool)[order], np.asarray(leads, bool)[order])


def rhythm(sizes: Floats, keys: npt.NDArray[np.bool_], leads: npt.NDArray[np.bool_], *, seed: int = 0) -> Rhythm | None:
    """The strongest rhythm of ``sizes`` (bytes ``[N]``) besides ``keys``; ``leads`` marks frames predicted from the past."""
    usable = ~keys
    usable[1:] &= ~keys[:-1]  # the frame after a key frame is cheap or dear for reasons of its own
    places = np.flatnonzero(usable)
    if len(places) < _LEAST:
        return None
    excess = np.zeros(len(sizes))
    for kind in (leads, ~leads):
        own = np.flatnonzero(usable & kind)
        excess[own] = _above_neighbours(np.log(sizes[own]))
    values = excess[places]
    for step in (2, 3, 4, 5, 6):  # layers of prediction repeat at these
        for phase in range(step):
            members = places % step == phase
            if members.any():
                values[members] -= np.median(values[members])
    spread = 1.4826 * float(np.median(np.abs(values))) or float(values.std())
    if spread == 0:
        return None
    values = np.clip(values / spread, -4, 4)
    values -= values.mean()
    periods = _periods(keys, len(sizes))
    if not periods:
        return None
    strongest, period = _strongest(places, values, periods)
    rng = np.random.default_rng(seed)
    as_strong = sum(_strongest(places, rng.permutation(values), periods)[0] >= strongest for _ in range(_SHUFFLES))
    return Rhythm(period, (1 + as_strong) / (1 + _SHUFFLES), strongest)


def _above_neighbours(values: Floats) -> Floats:
    """Each value less the median of its neighbourhood: what changes slowly is content, not coding."""
    if len(values) <= 2 * _REACH:
        return values - np.median(values) if len(values) else values
    padded = np.pad(values, _REACH, mode="reflect")
    return np.asarray(values - np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * _REACH + 1), axis=1))


def _periods(keys: npt.NDArray[np.bool_], frames: int) -> list[int]:
    """Spacings to try: not the stream's own, its parts or its multiples."""
    own = {int(gap) for gap in np.diff(np.flatnonzero(keys))}
    longest = min(_LONGEST, frames // _TEETH)
    return [p for p in range(_SHORTEST, longest + 1) if all(gap % p and p % gap for gap in own)]


def _strongest(places: npt.NDArray[np.intp], values: Floats, periods: list[int]) -> tuple[float, int]:
    """The largest sum over a comb's teeth, in standard errors, and its period."""
    best, found = -np.inf, periods[0]
    for period in periods:
        phase = places % period
        count = np.bincount(phase, minlength=period)
        total = np.bincount(phase, weights=values, minlength=period)
        score = float(np.max(np.where(count >= _TEETH, total / np.sqrt(np.maximum(count, 1)), -np.inf)))
        if score > best:
            best, found = score, period
    return best, found
