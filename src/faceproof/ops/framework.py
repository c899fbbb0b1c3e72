"""The names under which the documented framework is used: a registry of models and an ensemble of them.

::

    registry = ModelRegistry()
    registry.register_model("small", load_detector, {"name": "faceproof-small"})
    registry.load_model("small")
    ensemble = EnsembleManager()
    ensemble.add_model("small", registry.get_model("small"), weight=1.0)
    result = ensemble.predict_ensemble(image)
    result.is_deepfake, result.uncertainty
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from faceproof.detectors.detector import Detector
from faceproof.detectors.fusion import FusionMethod, check_numbers, check_weights, fuse, uncertainty
from faceproof.errors import FaceproofError, NetworkError, OptionError
from faceproof.faces import FaceDetector
from faceproof.predict import pixels_of
from faceproof.results import Box

Image = npt.NDArray[np.uint8]
Factory = Callable[..., Any]


@runtime_checkable
class Predictor(Protocol):
    """A model that judges whole pictures: ``predict(image)`` gives something with ``p_fake``, or with ``is_deepfake`` and
    ``confidence`` (the probability of what it says)."""

    def predict(self, image: Any) -> Any: ...


class ModelRegistry:
    """Models by name: registered with what makes them, made when first loaded."""

    def __init__(self) -> None:
        self._factories: dict[str, tuple[Factory, dict[str, Any]]] = {}
        self._loaded: dict[str, Any] = {}

    def register_model(self, name: str, factory: Factory, config: Mapping[str, Any] | None = None) -> None:
        """``factory(**config)`` makes the model. A class of the documents, which takes one ``config``, is made with it.

        Raises :class:`OptionError` for a name that is taken.
        """
        if name in self._factories:
            raise OptionError(f"a model called {name!r} is registered already")
        self._factories[name] = (factory, dict(config or {}))

    def load_model(self, name: str) -> Any:
        """Make the model, once. Raises :class:`OptionError` for an unknown name, and what making it raises."""
        if name not in self._factories:
            known = ", ".join(sorted(self._factories)) or "none"
            raise OptionError(f"no model is called {name!r}", remedy=f"Registered are: {known}.")
        if name not in self._loaded:
            factory, config = self._factories[name]
            takes_config = isinstance(factory, type) and "config" in _parameters(factory)
            model = factory(config=config) if takes_config else factory(**config)
            if takes_config and hasattr(model, "load_model"):
                model.load_model()
            self._loaded[name] = model
        return self._loaded[name]

    def get_model(self, name: str) -> Any:
        """A loaded model. Raises :class:`OptionError` for one that is not loaded."""
        if name not in self._loaded:
            raise OptionError(f"the model {name!r} is not loaded", remedy="Call load_model first.")
        return self._loaded[name]

    def list_models(self) -> dict[str, bool]:
        """Every registered name, and whether it is loaded."""
        return {name: name in self._loaded for name in self._factories}


def _parameters(factory: Factory) -> list[str]:
    import inspect

    return list(inspect.signature(factory).parameters)


@dataclass(frozen=True)
class EnsembleResult:
    """The joint answer on one picture. Without an opinion ``is_deepfake``, ``p_fake`` and ``confidence`` are None.

    ``uncertainty`` is the weighted standard deviation of the members' P(fake), 0 to .5. ``members`` are their P(fake);
    ``left_out`` says why others gave none. ``inference_time`` in seconds.
    """

    is_deepfake: bool | None
    p_fake: float | None
    confidence: float | None
    uncertainty: float | None
    entropy: float | None
    disagreement: float | None
    mutual_information: float | None
    members: dict[str, float]
    left_out: dict[str, str]
    inference_time: float


class EnsembleManager:
    """Several models asked about one picture. Faces are found once for all detectors among them.

    ``numbers`` are the method's own, for instance ``temperature``. ``threshold``: above it the answer is a deepfake.
    """

    def __init__(
        self,
        fusion_method: FusionMethod | str = FusionMethod.WEIGHTED_AVERAGE,
        *,
        threshold: float = 0.5,
        **numbers: float,
    ) -> None:
        self.fusion_method = FusionMethod(fusion_method)
        if self.fusion_method is FusionMethod.STACKED:
            raise OptionError("stacked fusion needs a fitted ensemble", remedy="Use `faceproof ensemble fit`.")
        check_numbers(self.fusion_method, numbers)
        self.threshold, self._numbers = threshold, numbers
        self._models: dict[str, tuple[Any, float]] = {}
        self._faces: FaceDetector | None = None

    def add_model(self, name: str, model: Any, weight: float = 1.0) -> None:
        """Add a :class:`Detector` or anything that predicts. Raises :class:`OptionError` for a name that is taken, a
        negative weight, or a model that cannot predict."""
        if name in self._models:
            raise OptionError(f"the ensemble has a model called {name!r} already")
        if not weight >= 0:
            raise OptionError("a weight must be at least 0")
        if not isinstance(model, Detector | Predictor):
            raise OptionError(f"{type(model).__name__} has no predict(image)")
        self._models[name] = (model, float(weight))

    def remove_model(self, name: str) -> None:
        """Raises :class:`OptionError` for a name that is not there."""
        if self._models.pop(name, None) is None:
            raise OptionError(f"the ensemble has no model called {name!r}")

    def predict_ensemble(self, image: Any) -> EnsembleResult:
        """Judge one picture: a path, a PIL image or uint8 RGB ``[H, W, 3]``. Of several faces the most suspicious counts.

        A member that fails or sees no face is left out and named. Raises :class:`OptionError` for an ensemble without
        members or whose weights add up to zero, and :class:`NetworkError` when every member failed.
        """
        started = time.perf_counter()
        weights = check_weights([weight for _, weight in self._models.values()])
        pixels = pixels_of(image)
        boxes: list[Box] | None = None
        said: dict[str, float] = {}
        left_out: dict[str, str] = {}
        failures = 0
        for name, (model, _) in self._models.items():
            try:
                if isinstance(model, Detector):
                    if boxes is None:
                        boxes = self._find(pixels)
                    if not boxes:
                        left_out[name] = "no face was found"
                        continue
                    said[name] = float(model.score([model.cut(pixels, box) for box in boxes]).max())
                else:
                    p = _p_fake(model.predict(image))
                    if p is None:
                        left_out[name] = "it gave no opinion"
                    else:
                        said[name] = p
            except FaceproofError as error:
                left_out[name] = error.message
                failures += 1
        if failures == len(self._models):
            raise NetworkError(f"no model could score: {'; '.join(left_out.values())}")
        heard = np.asarray([name in said for name in self._models])
        took = time.perf_counter()
        if not weights[heard].sum() > 0:
            return EnsembleResult(None, None, None, None, None, None, None, said, left_out, took - started)
        p_all = [said[name] for name in self._models if name in said]
        fused = fuse(p_all, weights[heard], self.fusion_method, **self._numbers)
        spread = uncertainty(p_all, weights[heard], threshold=self.threshold)
        fake = fused > self.threshold
        return EnsembleResult(
            is_deepfake=fake,
            p_fake=fused,
            confidence=fused if fake else 1 - fused,
            uncertainty=spread.std,
            entropy=spread.entropy,
            disagreement=spread.disagreement,
            mutual_information=spread.mutual_information,
            members=said,
            left_out=left_out,
            inference_time=time.perf_counter() - started,
        )

    def _find(self, pixels: Image) -> list[Box]:
        self._faces = self._faces or FaceDetector()
        found = [np.asarray(face.box, float).tolist() for face in self._faces.detect(pixels)]
        return [(x0, y0, x1, y1) for x0, y0, x1, y1 in found]


def _p_fake(result: Any) -> float | None:
    """P(fake) of what a model predicted; of its verdict and confidence where it gives no P(fake) of its own."""
    p = getattr(result, "p_fake", None)
    if p is None and getattr(result, "is_deepfake", None) is not None:
        p = result.confidence if result.is_deepfake else 1 - result.confidence
    return None if p is None else float(p)
