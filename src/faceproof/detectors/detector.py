"""A detector ready to score: a spec, checked weights and a network."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from faceproof.detectors import catalog
from faceproof.detectors.spec import DetectorSpec, Output, spec_sha256
from faceproof.errors import NetworkError, OptionError
from faceproof.faces import crops as face_crops
from faceproof.runtime import Network, load_network
from faceproof.runtime.cpu import usable_cores
from faceproof.runtime.network import Precision, Runtime

if TYPE_CHECKING:
    from faceproof.results import Report

# Side of the input in pixels. Two streams gain 1.3 to 1.6 times up to here and nothing at 380.
SEVERAL_STREAMS_UP_TO = 224
Crop = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]


class Detector:
    """Scores face crops. Make one with :func:`load_detector`, or around a :class:`FakeNetwork` in tests.

    ``streams`` threads may use it at once. Batches and streams pay at small inputs only: from 300 px on, one crop fills the
    cores and the caches.
    """

    def __init__(self, spec: DetectorSpec, network: Network) -> None:
        for key, output in (("logit", spec.output.logit), ("heatmap", spec.output.heatmap)):
            if output is not None and output not in network.outputs:
                raise NetworkError(
                    f"the network of {spec.name} has no output {output!r} but {', '.join(network.outputs)}",
                    remedy=f"Correct output.{key} in the detector's TOML file.",
                )
        self.spec = spec
        self.network = network
        self.spec_sha256 = spec_sha256(spec)
        self.streams = int(getattr(network, "streams", 1))
        self.batch_size = 4 if spec.input.size <= 224 else 2 if spec.input.size < 300 else 1
        if network.device != "cpu":
            self.batch_size = 32

    def cut(self, image: Crop, box: tuple[float, float, float, float]) -> Any:
        """Cut a face out of its frame (uint8 RGB ``[H, W, 3]``) as :meth:`score` wants it; ``box`` in frame pixels."""
        return face_crops.cut(image, box, self.spec.faces.margin)

    def score(self, crops: Sequence[Any]) -> FloatArray:
        """P(fake) of each crop.

        ``crops``: uint8 RGB ``[h, w, 3]`` of any size, as cut from the frame; the spec's resize, padding and
        normalisation happen here. Returns float32 ``[N]`` in [0, 1]. Raises :class:`OptionError` for anything else.
        """
        return self.score_with_heat(crops)[0]

    def score_with_heat(self, crops: Sequence[Crop]) -> tuple[FloatArray, FloatArray | None]:
        """P(fake) ``[N]`` and, where the graph has one, the coarse heatmap float32 ``[N, h, w]`` in [0, 1]."""
        for crop in crops:
            if not (isinstance(crop, np.ndarray) and crop.dtype == np.uint8 and crop.ndim == 3 and crop.shape[2] == 3):
                raise OptionError("a crop must be a uint8 array [height, width, 3] in RGB")
            if 0 in crop.shape:
                raise OptionError("a crop has no pixels")
        scores = np.empty(len(crops), np.float32)
        heats: list[FloatArray] = []
        heat_name = self.spec.output.heatmap
        for start in range(0, len(crops), self.batch_size):
            chunk = crops[start : start + self.batch_size]
            outputs = self.network.run(face_crops.batch(chunk, self.spec.input))
            scores[start : start + len(chunk)] = p_fake(outputs[self.spec.output.logit], self.spec.output)
            if heat_name is not None:
                heats.append(
                    np.asarray(outputs[heat_name], np.float32).reshape(len(chunk), *outputs[heat_name].shape[-2:])
                )
        return scores, np.concatenate(heats) if heats else None

    def logits(self, crops: Sequence[Crop]) -> FloatArray:
        """The network's own output for each crop, before activation: what golden rows compare."""
        outputs = [
            self.network.run(face_crops.batch(crops[i : i + self.batch_size], self.spec.input))[self.spec.output.logit]
            for i in range(0, len(crops), self.batch_size)
        ]
        return np.concatenate([np.asarray(o, np.float32).reshape(o.shape[0], -1) for o in outputs])

    def analyze(self, media_path: str | os.PathLike[str], **options: Any) -> Report:
        """Scan one file with this detector; ``options`` are those of :func:`faceproof.scan`."""
        from faceproof.scanning import scan

        return scan(media_path, detector=self, **options)


def p_fake(values: npt.ArrayLike, output: Output) -> FloatArray:
    """Network output ``[N]``, ``[N, 1]`` or, for softmax, ``[N, 2]`` to P(fake) float32 ``[N]``.

    Raises :class:`NetworkError` for NaN: a broken network has no opinion.
    """
    x = np.asarray(values, np.float64)
    x = x.reshape(len(x), -1)
    if not np.isfinite(x).all():
        raise NetworkError("the network returned numbers that are not finite", remedy="Use --precision fp32.")
    if x.shape[1] != (2 if output.activation == "softmax" else 1):
        raise NetworkError(f"the network returned {x.shape[1]} numbers a face, not what {output.activation} takes")
    if output.activation == "softmax":
        other = x[:, 1 - output.fake_index] - x[:, output.fake_index]
        high = 1 / (1 + np.exp(np.clip(other, -700, 700)))
    elif output.activation == "sigmoid":
        high = 1 / (1 + np.exp(np.clip(-x[:, 0], -700, 700)))
    else:
        high = x[:, 0]
    # The one line where polarity is applied; after it everything is P(fake).
    p = high if output.fake_is == "high" else 1 - high
    return np.clip(p, 0, 1).astype(np.float32)


def load_detector(
    name: str | None = None,
    *,
    device: str = "auto",
    precision: Precision = "auto",
    runtime: Runtime = "auto",
    threads: int | None = None,
) -> Detector:
    """Load an installed detector (the default one without a name), its weights checked against their sha256.

    Raises :class:`faceproof.errors.UnknownDetectorError`, :class:`faceproof.errors.WeightsError` when the weights are
    missing or altered, and :class:`faceproof.errors.DeviceError` for a device or precision this machine lacks. The name
    of an ensemble gives an :class:`faceproof.detectors.ensemble.Ensemble`.
    """
    from faceproof.detectors.ensemble import find_ensemble, load_ensemble

    joint = find_ensemble(name) if name else None
    if joint is not None:
        return load_ensemble(joint, device=device, precision=precision, runtime=runtime, threads=threads)
    installed = catalog.find_spec(name or catalog.DEFAULT_DETECTOR)
    path = catalog.weights_path(installed)
    streams = min(2, threads or usable_cores()) if installed.spec.input.size <= SEVERAL_STREAMS_UP_TO else 1
    network = load_network(
        path,
        runtime=runtime,
        device=device,
        precision=precision,
        threads=threads,
        streams=streams,
        sha256=installed.spec.weights.sha256,
    )
    detector = Detector(installed.spec, network)
    if network.runtime == "triton":
        from faceproof.detectors.golden import require_the_same_network

        require_the_same_network(
            detector, installed.source.parent, lambda: load_network(path, precision="fp32", threads=threads)
        )
    return detector
