"""Which detectors this service offers. The seam through which tests put one that needs no weights."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Protocol

from faceproof.detectors.catalog import DEFAULT_DETECTOR, find_spec, installed_specs
from faceproof.detectors.spec import DetectorSpec, spec_sha256
from faceproof.errors import OptionError, UnknownDetectorError

if TYPE_CHECKING:
    from faceproof.detectors.detector import Detector


class Detectors(Protocol):
    """What the service asks of its detectors. Everything but :meth:`load` is cheap and runs in the server."""

    default: str

    def specs(self) -> list[DetectorSpec]:
        """Those that can score now, the default first."""
        ...

    def fingerprint(self, name: str) -> str:
        """Hash of everything that decides a score. Raises :class:`UnknownDetectorError`."""
        ...

    def load(self, name: str, *, threads: int | None) -> Detector:
        """Load for scoring, in a worker process only. Raises what :func:`faceproof.load_detector` raises."""
        ...


class Installed:
    """The detectors installed on this machine that have weights."""

    def __init__(self) -> None:
        self.default = DEFAULT_DETECTOR

    def specs(self) -> list[DetectorSpec]:
        found = [one.spec for one in installed_specs() if one.has_weights]
        return sorted(found, key=lambda spec: (spec.name != self.default, spec.name))

    def fingerprint(self, name: str) -> str:
        installed = find_spec(name)
        if not installed.has_weights:
            raise UnknownDetectorError(
                f"the detector {name!r} has no weights on this server",
                remedy="Ask the operator to install them, or choose one of GET /v1/detectors.",
            )
        return spec_sha256(installed.spec)

    def load(self, name: str, *, threads: int | None) -> Detector:
        from faceproof.detectors.detector import load_detector

        return load_detector(name, threads=threads)


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
