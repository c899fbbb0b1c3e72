"""Which detectors this service offers. The seam through which tests put one that needs no weights."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

import structlog

from faceproof.detectors.catalog import DEFAULT_DETECTOR, find_spec, installed_specs
from faceproof.detectors.ensemble import EnsembleSpec, as_detector, list_ensembles
from faceproof.detectors.spec import DetectorSpec, spec_sha256
from faceproof.errors import OptionError, SpecError, UnknownDetectorError

if TYPE_CHECKING:
    from faceproof.detectors.detector import Detector


log = structlog.get_logger()

READ_AGAIN = 5.0


class Detectors(Protocol):
    """What the service asks of its detectors. Everything but :meth:`load` is cheap and runs in the server."""

    default: str

    def specs(self) -> list[DetectorSpec]:
        """Those that can score now, the default first."""
        ...

    def fingerprint(self, name: str) -> str:
        """Hash of everything that decides a score. Raises :class:`UnknownDetectorError`."""
        ...

    def load(self, name: str, *, device: str, threads: int | None) -> Detector:
        """Load for scoring, in a worker process only. Raises what :func:`faceproof.load_detector` raises."""
        ...


class Installed:
    """The detectors installed on this machine that have weights, and the ensembles of enough of them.

    Specs are read again every :data:`READ_AGAIN` seconds: reading them for every request would cost more than the rest.
    """

    def __init__(self) -> None:
        self.default = DEFAULT_DETECTOR
        self._known: dict[str, tuple[DetectorSpec, str]] = {}
        self._read_at = float("-inf")

    def specs(self) -> list[DetectorSpec]:
        return sorted(
            (spec for spec, _ in self._read().values()), key=lambda spec: (spec.name != self.default, spec.name)
        )

    def fingerprint(self, name: str) -> str:
        found = self._read().get(name)
        if found is not None:
            return found[1]
        find_spec(name)
        raise UnknownDetectorError(
            f"the detector {name!r} has no weights on this server",
            remedy="Ask the operator to install them, or choose one of GET /v1/detectors.",
        )

    def _read(self) -> dict[str, tuple[DetectorSpec, str]]:
        if time.monotonic() - self._read_at > READ_AGAIN:
            try:
                self._known = self._read_anew()
            except SpecError as error:
                # Someone is editing a record. What was there before goes on; without a before, nothing can.
                if not self._known:
                    raise
                log.error("a detector's record is wrong", exception=str(error))
            self._read_at = time.monotonic()
        return self._known

    @staticmethod
    def _read_anew() -> dict[str, tuple[DetectorSpec, str]]:
        found = {one.spec.name: one.spec for one in installed_specs() if one.has_weights}
        known = {name: (spec, spec_sha256(spec)) for name, spec in found.items()}
        for ensemble, members in _ensembles(found):
            known[ensemble.name] = (as_detector(ensemble, members), _joint_sha256(ensemble, members))
        return known

    def load(self, name: str, *, device: str, threads: int | None) -> Detector:
        from faceproof.detectors.detector import load_detector

        return load_detector(name, device=device, threads=threads)


def _ensembles(found: Mapping[str, DetectorSpec]) -> Iterator[tuple[EnsembleSpec, list[DetectorSpec]]]:
    """The installed ensembles that can give a verdict, each with its members that have weights."""
    for ensemble in list_ensembles():
        heard = [member for member in ensemble.members if member.detector in found]
        if len(heard) >= ensemble.min_members and any(member.weight for member in heard):
            yield ensemble, [found[member.detector] for member in heard]


def _joint_sha256(ensemble: EnsembleSpec, members: list[DetectorSpec]) -> str:
    """Another ensemble, another member or one member more gives other scores."""
    parts = [ensemble.model_dump_json(), *map(spec_sha256, members)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def open_detectors(place: str, default: str = "") -> Detectors:
    """The object that ``module:name`` makes. Raises :class:`OptionError` when there is none."""
    module, _, name = place.partition(":")
    try:
        made: Detectors = getattr(import_module(module), name)()
    except (ImportError, AttributeError) as error:
        raise OptionError(f"no detectors at {place!r}: {error}", remedy="Unset FACEPROOF_DETECTOR_LOADER.") from error
    if default:
        made.default = default
    return made
