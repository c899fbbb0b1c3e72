"""Faceproof: says how likely a face was swapped, re-enacted or blended, where and when, and says when it cannot tell.

>>> import faceproof
>>> report = faceproof.scan("clip.mp4")            # doctest: +SKIP
>>> report.verdict, report.score                   # doctest: +SKIP
(<Verdict.REAL: 'REAL'>, 0.08)

Names load on first use: importing the package alone costs milliseconds and pulls in no runtime, codec or torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from faceproof import errors, faces
    from faceproof.detectors.catalog import list_detectors
    from faceproof.detectors.detector import Detector, load_detector
    from faceproof.errors import FaceproofError
    from faceproof.events import ProgressEvent
    from faceproof.results import Report, Verdict
    from faceproof.scanning import scan

_PLACES = {
    "Detector": "faceproof.detectors.detector",
    "FaceproofError": "faceproof.errors",
    "ProgressEvent": "faceproof.events",
    "Report": "faceproof.results",
    "Verdict": "faceproof.results",
    "list_detectors": "faceproof.detectors.catalog",
    "load_detector": "faceproof.detectors.detector",
    "scan": "faceproof.scanning",
}

__all__ = [
    "Detector",
    "FaceproofError",
    "ProgressEvent",
    "Report",
    "Verdict",
    "errors",
    "faces",
    "list_detectors",
    "load_detector",
    "scan",
]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        value = getattr(import_module(_PLACES[name]), name)
        globals()[name] = value
        return value
    if name in ("errors", "faces"):
        return import_module(f"faceproof.{name}")
    raise AttributeError(f"module 'faceproof' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
