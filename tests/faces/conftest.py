"""Frames with people in them, made from scikit-image's astronaut, and the published cascade as an oracle."""

from __future__ import annotations

import os
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from skimage import data

from faceproof.faces import Face, FaceDetector


@pytest.fixture(scope="session")
def astronaut() -> np.ndarray:
    return data.astronaut()


@pytest.fixture(scope="session")
def crowd(astronaut: np.ndarray) -> np.ndarray:
    """1280 × 720: the astronaut at five sizes, once mirrored, once leaving the frame."""
    frame = np.full((720, 1280, 3), 90, np.uint8)
    for side, x, y, mirrored in ((512, 0, 0, False), (300, 520, 0, True), (200, 830, 0, False), (120, 1050, 20, False)):
        picture = cv2.resize(astronaut, (side, side), interpolation=cv2.INTER_AREA)
        frame[y : y + side, x : x + side] = picture[:, ::-1] if mirrored else picture
    frame[420:720, 800:1100] = cv2.resize(astronaut, (300, 300), interpolation=cv2.INTER_AREA)
    frame[400:720, 1140:1280] = astronaut[:320, 150:290]
    return frame


@pytest.fixture(scope="session")
def detector() -> FaceDetector:
    return FaceDetector()


@pytest.fixture(scope="session")
def published() -> Callable[..., np.ndarray]:
    """facenet-pytorch's own boxes for a frame: float32 ``[N, 4]``, clipped to it."""
    if os.environ.get("CI") != "true":
        pytest.importorskip("facenet_pytorch")
    import torch
    from facenet_pytorch import MTCNN

    def find(image: np.ndarray, min_face: int = 20) -> np.ndarray:
        cascade = MTCNN(keep_all=True, thresholds=[0.7, 0.8, 0.8], min_face_size=min_face, device="cpu")
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # tests run side by side
        boxes, _ = cascade.detect(image)
        torch.set_num_threads(threads)
        if boxes is None:
            return np.zeros((0, 4), np.float32)
        height, width = image.shape[:2]
        return np.clip(np.asarray(boxes, np.float32), 0, np.array([width, height, width, height], np.float32))

    return find


@pytest.fixture(scope="session")
def boxes_of() -> Callable[[list[Face]], np.ndarray]:
    return lambda faces: np.array([face.box for face in faces], np.float32).reshape(-1, 4)
