"""Finding faces, following them through time, and cutting them out."""

from faceproof.faces.crops import batch, cut, fit, sharpness
from faceproof.faces.mtcnn import Face, FaceDetector, detect
from faceproof.faces.tracks import Sight, Tracker, sight

__all__ = ["Face", "FaceDetector", "Sight", "Tracker", "batch", "cut", "detect", "fit", "sharpness", "sight"]
