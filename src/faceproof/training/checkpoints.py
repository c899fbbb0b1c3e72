"""Checkpoints that a power cut cannot tear: written beside the target, synced, then renamed over it.

A checkpoint holds everything a run needs to go on bit for bit (weights, averaged weights, optimiser,
schedule, random states, position) and everything a reader needs to trust it (recipe, data hashes,
metrics, library versions).
"""

from __future__ import annotations

import os
import platform
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError

from faceproof import __version__
from faceproof.errors import TrainingError
from faceproof.training.recipe import Recipe

FORMAT = 1


def versions() -> dict[str, str]:
    """Versions that decide whether two runs can agree bit for bit."""
    return {
        "faceproof": __version__,
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def random_state() -> dict[str, Any]:
    """The state of every global generator a training step may touch."""
    name, keys, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002 - libraries still draw from it
    state: dict[str, Any] = {
        "python": repr(random.getstate()),
        "numpy": [name, torch.from_numpy(np.asarray(keys, np.int64)), int(position), int(has_gauss), float(gauss)],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def restore_random_state(state: dict[str, Any]) -> None:
    """Set every global generator to a stored state."""
    import ast

    version, internal, gauss = ast.literal_eval(state["python"])
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])


@contextmanager
def draft_of(path: Path) -> Iterator[Path]:
    """A fresh name beside `path` to write to: renamed to it at the end, removed when anything goes wrong."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield draft
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def save(path: Path, content: dict[str, Any]) -> None:
    """Write atomically. Raises TrainingError when the disk is full or the folder is read-only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with draft_of(path) as draft, draft.open("wb") as file:
            torch.save({"format": FORMAT, "versions": versions(), **content}, file)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise TrainingError(
            f"The checkpoint {path} cannot be written: {error}",
            remedy="Free some disk space, then go on with --resume.",
        ) from error


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint of ours without running anything in it. Raises TrainingError when it cannot be used."""
    if not path.is_file():
        raise TrainingError(
            f"There is no checkpoint {path}", remedy="A run's checkpoints are best.pt and last.pt in its folder."
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen unrelated kinds for a damaged file
        raise TrainingError(
            f"The checkpoint {path} cannot be read: {error}", remedy="Use an older one, or start again."
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise TrainingError(f"{path} is not a checkpoint of this version's training loop")
    return content


def load_run(path: Path) -> dict[str, Any]:
    """A checkpoint that a run can go on from. Raises TrainingError as `load` does, and for one that holds weights alone."""
    if not path.is_file():
        raise TrainingError(f"There is no checkpoint {path}", remedy="Start the run without --resume.")
    content = load(path)
    if not content.keys() >= {"optimiser", "rate", "source", "random"}:
        raise TrainingError(
            f"{path} holds weights, and no run to go on with",
            remedy="Start a new run with --set network.init=FILE.",
        )
    return content


def recipe_of(content: dict[str, Any], path: Path) -> Recipe:
    """The recipe a checkpoint was made by, in full. Raises TrainingError where this version does not know its keys."""
    try:
        return Recipe.model_validate(content["recipe"])
    except (KeyError, ValidationError) as error:
        raise TrainingError(
            f"{path} holds no recipe of this version", remedy="Use the version of Faceproof that wrote it."
        ) from error


def refuse_mismatch(content: dict[str, Any], recipe: Recipe, digest: str, path: Path, *, growing: bool) -> None:
    """Raise TrainingError where a checkpoint's run cannot go on with this recipe on data of this digest.

    growing: shards may arrive while the run goes on.
    """
    # length and workers may change between sessions, what is learned may not
    free = ("epochs", "workers", "early_stop", "save_every", "save_minutes")
    # read as a recipe first: a key that is newer than the checkpoint has its default there
    mine, theirs = (one.model_dump(mode="json") for one in (recipe, recipe_of(content, path)))
    for table in (mine, theirs):
        for key in free:
            table["run"].pop(key, None)
        table.pop("card", None)  # words, not learning
    different = [key for key in mine if mine[key] != theirs.get(key)]
    if different:
        raise TrainingError(
            f"The checkpoint was made with another recipe (differs in: {', '.join(different)})",
            remedy="Resume with the recipe in the checkpoint, or choose a new folder.",
        )
    if content["data"] != digest:
        if "shards" in content["source"] and not growing:
            raise TrainingError(
                "The run was begun while its shards were arriving", remedy="Go on as it was begun, with --growing."
            )
        raise TrainingError(
            "The data changed since the checkpoint was written",
            remedy="Restore the data, or start a new run with network.init set to this checkpoint.",
        )
