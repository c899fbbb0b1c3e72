"""Which frames of a video are wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from faceproof.errors import OptionError

_REMEDY = 'Use "all", a number of frames such as "32", or "every:10".'


@dataclass(frozen=True)
class Sampling:
    """A rule that turns a number of frames into ascending, distinct indices.

    exact: the indices were given one by one, so no other frame may stand in for one of them. ``near`` indices are given
    too, but stand for moments.
    """

    rule: Literal["all", "count", "every", "given", "near"]
    number: int = 0
    given: tuple[int, ...] = ()

    @property
    def exact(self) -> bool:
        return self.rule == "given"

    def indices(self, total: int) -> Sequence[int]:
        """Wanted indices among ``total`` frames."""
        if self.rule in ("given", "near"):
            return [index for index in self.given if index < total]
        if self.rule == "every":
            return range(0, total, self.number)
        if self.rule == "all" or self.number >= total:
            return range(total)
        # Fewer than there are, so steps are longer than one and no index comes twice.
        return [int(index) for index in np.linspace(0, total - 1, self.number, dtype=np.int64)]


def parse_sampling(sampling: str | Sequence[int] | Sampling) -> Sampling:
    """Read a sampling as people write it; see ``read_frames``."""
    if isinstance(sampling, Sampling):
        return sampling
    if not isinstance(sampling, str):
        given = sorted({int(index) for index in sampling})
        if given and given[0] < 0:
            raise OptionError(f"frame indices start at 0, not {given[0]}", remedy=_REMEDY)
        return Sampling("given", given=tuple(given))
    text = sampling.strip().lower()
    if text == "all":
        return Sampling("all")
    head, _, tail = text.rpartition(":")
    if head in ("", "every") and ":" not in head and tail.isascii() and tail.isdigit() and int(tail) > 0:
        if head == "every":
            return Sampling("every", number=int(tail))
        if text == tail:
            return Sampling("count", number=int(tail))
    raise OptionError(f"frames {sampling!r} is not a sampling", remedy=_REMEDY)
