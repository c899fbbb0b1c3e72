"""Detectors as records: specs, their weights, and the rules from face scores to a verdict."""

from faceproof.detectors.catalog import DEFAULT_DETECTOR, list_detectors
from faceproof.detectors.spec import DetectorSpec

__all__ = ["DEFAULT_DETECTOR", "DetectorSpec", "list_detectors"]
