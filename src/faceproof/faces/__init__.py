"""Finding faces, following them through time, and cutting them out."""

from faceproof.faces.crops import batch, cut, fit, sharpness
from faceproof.faces.mtcnn import Face, FaceDetector, detect
from faceproof.faces.tracks import Tracker

__all__ = ["Face", "FaceDetector", "Tracker", "batch", "cut", "detect", "fit", "sharpness"]
