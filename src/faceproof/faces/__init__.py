"""Finding faces, following them through time, and cutting them out."""

from faceproof.faces.crops import batch, cut, fit, sharpness
from faceproof.faces.following import SEARCH_EVERY, find_and_follow
from faceproof.faces.mtcnn import Face, FaceDetector, detect, shared_detector
from faceproof.faces.tracks import Sight, Tracker, sight

__all__ = [
    "SEARCH_EVERY",
    "Face",
    "FaceDetector",
    "Sight",
    "Tracker",
    "batch",
    "cut",
    "detect",
    "find_and_follow",
    "fit",
    "shared_detector",
    "sharpness",
    "sight",
]
