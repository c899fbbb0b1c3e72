"""Training that needs no fakes, and supervised training for those who have some.

`train(recipe, data, out)` runs a recipe; `load_recipe` reads one; `package` turns the best checkpoint
into an ONNX file, its calibration and a model card. Needs the extra `train`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from faceproof.training.loop import TrainingResult, train
    from faceproof.training.packaging import Package, package
    from faceproof.training.recipe import Recipe, load_recipe, recipe_names

__all__ = ["Package", "Recipe", "TrainingResult", "load_recipe", "package", "recipe_names", "train"]

_HOMES = {
    "train": "loop",
    "TrainingResult": "loop",
    "package": "packaging",
    "Package": "packaging",
    "Recipe": "recipe",
    "load_recipe": "recipe",
    "recipe_names": "recipe",
}


def __getattr__(name: str) -> Any:
    # torch loads only when something of it is asked for: the command line lists recipes without it
    if name not in _HOMES:
        raise AttributeError(name)
    from importlib import import_module

    return getattr(import_module(f"faceproof.training.{_HOMES[name]}"), name)
