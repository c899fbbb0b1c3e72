"""MTCNN: three small networks, each looking closer at what the one before it let through.

The P-Net slides a 12-pixel window over every size of the frame, the R-Net judges the survivors at 24 pixels and the O-Net at
48, and gives five landmarks. The steps, their rounding included, are those of facenet-pytorch 2.6.0, whose
parameters the files in ``weights/`` hold; boxes are clipped to the frame, and frames without room for a face are fine.
"""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from faceproof.errors import OptionError
from faceproof.faces.area import AreaSums
from faceproof.faces.boxes import correct, overlaps, square, suppress, suppress_nested
from faceproof.faces.cascade import judge, propose
from faceproof.faces.pyramid import WINDOW, Layout, paint, plan
from faceproof.runtime.cpu import computes_bf16, usable_cores
from faceproof.runtime.network import Network, Precision, Runtime, load_network

WEIGHTS = Path(__file__).parent / "weights"
Mode = Literal["thorough", "fast"]
Image = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
_SAME_PLACE = 0.5
# Faces of 70 pixels in a photograph of 48 megapixels keep 27 of them. Three times the time and memory of 1080p.
_LONGEST_STILL = 3072
# Smaller canvases are searched faster than another network loads.
_WORTH_SCREENING = 200_000


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """A face in a frame.

    Attributes
    ----------
    box: x0, y0, x1, y1 in frame pixels, clipped to the frame.
    score: the O-Net's probability that this is a face.
    landmarks: float32 ``[5, 2]``, x and y in frame pixels: left eye, right eye, nose, left and right corner of the mouth,
        left and right as the viewer sees them. They may lie outside the frame.
    """

    box: tuple[float, float, float, float]
    score: float
    landmarks: Floats

    @property
    def side(self) -> float:
        """The longer side of the box in pixels."""
        return max(self.box[2] - self.box[0], self.box[3] - self.box[1])


class _Search:
    """One search at a time: its own networks, and working memory kept for the next frame of the size, about 80 MB at 1080p,
    a quarter of it for the canvas.

    Streams of one network would share its weights, but OpenVINO hands their requests from thread to thread, and the
    cascade's are small: 1080p costs a quarter more time so.
    """

    def __init__(self, load: Callable[[str, Precision], Network], precision: Precision) -> None:
        self._load = load
        self._precision: Precision = precision
        self.networks: tuple[Network, Network, Network] | None = None
        self.screens: tuple[Network, Network] | None = None
        self.sums: AreaSums | None = None
        self._layout: Layout | None = None
        self._canvas: Floats | None = None

    def load(self) -> tuple[Network, Network, Network]:
        if self.networks is None:
            pnet, rnet, onet = (self._load(name, self._precision) for name in ("pnet", "rnet", "onet"))
            self.networks = pnet, rnet, onet
        return self.networks

    def load_screens(self, layout: Layout) -> tuple[Network, Network] | tuple[None, None]:
        """The P- and the R-Net in bfloat16, where they spare the exact ones most of their work."""
        if (
            self._precision != "fp32"
            or self.load()[0].runtime != "openvino"
            or not computes_bf16()
            or layout.width * layout.height < _WORTH_SCREENING
        ):
            return None, None
        if self.screens is None:
            self.screens = self._load("pnet_screen", "bf16"), self._load("rnet", "bf16")
        return self.screens

    def sum_up(self, image: Image) -> AreaSums:
        self.sums = AreaSums(image, self.sums)
        return self.sums

    def paint(self, layout: Layout) -> Floats:
        assert self.sums is not None
        self._canvas = paint(self.sums, layout, self._canvas if layout is self._layout else None)
        self._layout = layout
        return self._canvas

    def rest(self) -> None:
        self.sums = self._layout = self._canvas = None


class FaceDetector:
    """Finds faces.

    Parameters
    ----------
    thresholds: least probability to pass the P-, R- and O-Net.
    min_face: side of the smallest face looked for, in pixels of the frame as it is searched (after ``scale``).
    factor: ratio of neighbouring sizes in the pyramid.
    scale: share of the frame's size at which it is searched. ``"auto"`` goes by the frame's size and the mode.
        Thorough: full size up to 1920 pixels (a picture of its own: 3072), larger frames reduced to that. Fast: reduced
        to 960 pixels. A number repeats the published pipelines, which shrink the frame first (0.5: half its size,
        rounded down).
    mode: ``"thorough"`` finds what facenet-pytorch finds, to float rounding; ``"fast"`` searches a
        smaller frame with bfloat16 where the CPU has it, and misses faces under ``min_face`` there (40 pixels in 1080p).
    threads: cores to use; by default all that this process may use.
    streams: how many frames are searched at the same time, each with networks of its own on its share of the cores.

    One instance may be shared between threads; it serves ``streams`` of them at once. The networks load at the first call.
    """

    def __init__(
        self,
        *,
        thresholds: Sequence[float] = (0.7, 0.8, 0.8),
        min_face: float = 20,
        factor: float = 0.709,
        scale: Literal["auto"] | float = "auto",
        mode: Mode = "thorough",
        threads: int | None = None,
        runtime: Runtime = "auto",
        precision: Precision | None = None,
        streams: int = 1,
    ) -> None:
        if len(thresholds) != 3 or not all(0 <= value <= 1 for value in thresholds):
            raise OptionError("face thresholds must be three numbers from 0 to 1")
        if not min_face >= WINDOW:
            raise OptionError(f"the smallest face must have at least {WINDOW} pixels")
        if not 0 < factor < 1:
            raise OptionError("the pyramid's factor must lie between 0 and 1")
        if scale != "auto" and not 0 < scale <= 4:
            raise OptionError("the detection scale must be auto or a number above 0, up to 4")
        if mode not in ("thorough", "fast"):
            raise OptionError(f"unknown face detection mode {mode!r}", remedy="Use thorough or fast.")
        self.thresholds = (float(thresholds[0]), float(thresholds[1]), float(thresholds[2]))
        self.min_face = float(min_face)
        self.factor = float(factor)
        self.scale = scale
        self.mode = mode
        self.threads = threads
        self._runtime = runtime
        self._precision: Precision = precision or ("auto" if mode == "fast" else "fp32")
        self.streams = streams
        # The one used last is taken first: its memory is still in the cache.
        self._idle: queue.LifoQueue[_Search] = queue.LifoQueue()
        self._searches = [_Search(self._network, self._precision) for _ in range(streams)]
        for search in self._searches:
            self._idle.put(search)

    def detect(self, image: Image, *, still: bool = False) -> list[Face]:
        """Faces in a uint8 RGB frame ``[H, W, 3]`` (or grey ``[H, W]``), the largest first.

        ``still``: a picture of its own. A video's people come nearer at some time; in a photograph of a crowd they stay
        as small as they are, and there is only one to search.
        """
        image = _as_rgb(image)
        height, width = image.shape[:2]
        if width == 0 or height == 0:
            return []
        share = self._share(width, height, still=still)
        size = int(width * share), int(height * share)
        if min(size) * WINDOW < WINDOW * self.min_face:
            return []
        if size == (width, height):
            searched = image
        else:
            searched = _average(image, size) if self.scale == "auto" else _bicubic(image, size)
        with self._turn() as search:
            boxes, scores, points = self._cascade(searched, search)
        return _faces(boxes / np.float32(share), scores, points / np.float32(share), width, height)

    def look_again(self, image: Image, faces: Sequence[Face]) -> list[Face | None]:
        """Where each face of a moment ago is now: the O-Net's word on the same place in a uint8 RGB frame.

        None where there is no face any more, or one that overlaps the old place by less than half (intersection over
        union): a doubt that only :meth:`detect` can settle. Costs about a hundredth of it, and never finds a new face.
        """
        image = _as_rgb(image)
        height, width = image.shape[:2]
        again: list[Face | None] = []
        with self._turn() as search:
            onet = search.load()[2]
            for face in faces:
                old = np.array([face.box], np.float32)
                x0, y0, x1, y1 = square(old)[0]
                # Only this part of the frame is summed up, with a pixel to spare for rounding.
                left, top = max(0, int(x0) - 2), max(0, int(y0) - 2)
                part = image[top : min(height, int(y1) + 3), left : min(width, int(x1) + 3)]
                if 0 in part.shape:
                    again.append(None)
                    continue
                shift = np.array([left, top, left, top], np.float32)
                boxes, scores, points = self._finish(AreaSums(part), square(old) - shift, onet)
                found = _faces(boxes + shift, scores, points + shift[:2], width, height)
                now = found[0] if len(found) == 1 else None
                if now is not None and overlaps(old, np.array([now.box], np.float32))[0, 0] < _SAME_PLACE:
                    now = None
                again.append(now)
        return again

    def load(self) -> None:
        """Load the networks of one search now instead of at the first frame."""
        with self._turn() as search:
            search.load()

    def rest(self) -> None:
        """Let go of the working memory that is kept from frame to frame."""
        idle = []
        with contextlib.suppress(queue.Empty):
            while True:
                idle.append(self._idle.get_nowait())
        for search in reversed(idle):
            search.rest()
            self._idle.put(search)

    def _share(self, width: int, height: int, *, still: bool) -> float:
        if self.scale != "auto":
            return float(self.scale)
        most = 960 if self.mode == "fast" else _LONGEST_STILL if still else 1920
        return min(1.0, most / max(width, height))

    @contextlib.contextmanager
    def _turn(self) -> Iterator[_Search]:
        search = self._idle.get()
        try:
            yield search
        finally:
            self._idle.put(search)

    def _network(self, name: str, precision: Precision) -> Network:
        return load_network(
            WEIGHTS / f"{name}.onnx",
            runtime=self._runtime,
            device="cpu",
            precision=precision,
            threads=max(1, (self.threads or usable_cores()) // self.streams),
        )

    def _cascade(self, image: Image, search: _Search) -> tuple[Floats, Floats, Floats]:
        pnet, rnet, onet = search.load()
        sums = search.sum_up(image)
        layout = plan(sums.width, sums.height, self.min_face, self.factor)
        pnet_screen, rnet_screen = search.load_screens(layout)
        boxes, scores, shifts = propose(search.paint(layout), layout, pnet, self.thresholds[0], pnet_screen)
        kept = suppress(boxes, scores, 0.7)
        boxes, shifts = boxes[kept], shifts[kept]
        sides = boxes[:, 2:] - boxes[:, :2]
        boxes = square(boxes + shifts * np.concatenate([sides, sides], axis=1))

        boxes, scores, shifts, _ = judge(sums, boxes, rnet, 24, self.thresholds[1], rnet_screen)
        kept = suppress(boxes, scores, 0.7)
        return self._finish(sums, square(correct(boxes[kept], shifts[kept])), onet)

    def _finish(self, sums: AreaSums, boxes: Floats, onet: Network) -> tuple[Floats, Floats, Floats]:
        """The O-Net's faces among the boxes, and their landmarks."""
        boxes, scores, shifts, marks = judge(sums, boxes, onet, 48, self.thresholds[2])
        sides = boxes[:, 2:] - boxes[:, :2] + 1
        points = marks.reshape(-1, 2, 5).transpose(0, 2, 1) * sides[:, None, :] + boxes[:, None, :2] - 1
        boxes = correct(boxes, shifts)
        kept = suppress_nested(boxes, scores, 0.7)
        return boxes[kept], scores[kept], points[kept]


def detect(
    image: Image,
    *,
    thresholds: Sequence[float] = (0.7, 0.8, 0.8),
    min_face: float = 20,
    factor: float = 0.709,
    scale: Literal["auto"] | float = "auto",
    mode: Mode = "thorough",
    threads: int | None = None,
    still: bool = False,
) -> list[Face]:
    """Faces in a uint8 RGB frame, the largest first. See :class:`FaceDetector`; networks are kept between calls."""
    first, second, third = thresholds
    return shared_detector((first, second, third), min_face, factor, scale, mode, threads).detect(image, still=still)


@lru_cache(maxsize=4)
def shared_detector(
    thresholds: tuple[float, float, float],
    min_face: float,
    factor: float,
    scale: Literal["auto"] | float,
    mode: Mode,
    threads: int | None,
    streams: int = 1,
) -> FaceDetector:
    """A detector of this process, kept for all files: compiling the cascade costs more than searching a picture."""
    return FaceDetector(
        thresholds=thresholds,
        min_face=min_face,
        factor=factor,
        scale=scale,
        mode=mode,
        threads=threads,
        streams=streams,
    )


def _faces(boxes: Floats, scores: Floats, points: Floats, width: int, height: int) -> list[Face]:
    clipped = np.clip(boxes, 0, np.array([width, height, width, height], np.float32))
    areas = np.prod(clipped[:, 2:] - clipped[:, :2], axis=1)
    return [
        Face(
            (float(clipped[i, 0]), float(clipped[i, 1]), float(clipped[i, 2]), float(clipped[i, 3])),
            float(scores[i]),
            np.ascontiguousarray(points[i], dtype=np.float32),
        )
        for i in np.argsort(-areas, kind="stable")
        if areas[i] > 0
    ]


def _average(image: Image, size: tuple[int, int]) -> Image:
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _bicubic(image: Image, size: tuple[int, int]) -> Image:
    """As Pillow does: a scale given as a number is a published recipe's, and those recipes shrink frames so."""
    from PIL import Image as Pillow

    return np.asarray(Pillow.fromarray(image).resize(size, Pillow.Resampling.BICUBIC), dtype=np.uint8)


def _as_rgb(image: Image) -> Image:
    if image.dtype != np.uint8:
        raise ValueError(f"a frame is uint8, not {image.dtype}")
    if image.ndim == 2:
        image = image[:, :, None]
    if image.ndim != 3 or image.shape[2] not in (1, 3):
        raise ValueError(f"a frame has shape [H, W, 3] or [H, W], not {image.shape}")
    return np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3)))
