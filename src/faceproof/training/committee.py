"""Checkpoints joined into one: the mean of their weights, or several networks that judge one face together.

Weights of one run, or of runs from one start, may be averaged: the mean lies in the same basin and often beats each
(model soups, Wortsman et al., ICML 2022). Networks trained apart may not; their logits may (deep ensembles,
Lakshminarayanan et al., NeurIPS 2017), at the price of running each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from faceproof.errors import TrainingError
from faceproof.training import checkpoints
from faceproof.training.export import network_of
from faceproof.training.networks import Prediction
from faceproof.training.recipe import InputTable, Recipe

_STRIDE = 8  # pixels per cell of a heatmap
_UNSEEN = -8.0  # logit of a cell that no member sees


@dataclass(frozen=True)
class View:
    """The square of the committee's picture that a member sees: `side` pixels from (left, top), shown at `size` pixels."""

    left: int
    top: int
    side: int
    size: int


class Committee(nn.Module):
    """Networks for different views of one face: each sees its square of the picture at the scale it was trained on.

    Input float32 `[N, 3, S, S]`, S = `size`. The logit is the mean of the members'; so is each cell of the heatmap
    (logits, `[N, S/8, S/8]`) over those members that see it; nobody's cells are as unlikely as can be.
    """

    seen: torch.Tensor

    def __init__(self, members: Sequence[nn.Module], views: Sequence[View], size: int) -> None:
        super().__init__()
        for view in views:
            if any(number % _STRIDE for number in (view.left, view.top, view.side, size)):
                raise TrainingError(
                    f"A view of {view.side} pixels at ({view.left}, {view.top}) lies off the heatmap's grid of {_STRIDE}",
                    remedy=f"Input sides must differ by multiples of {2 * _STRIDE} at the scale of the finest member.",
                )
        self.members = nn.ModuleList(members)
        self.shrinks = nn.ModuleList(
            nn.Identity() if view.side == view.size else AreaShrink(view.side, view.size) for view in views
        )
        self.views = list(views)
        cells = size // _STRIDE
        seen = torch.zeros(cells, cells)
        for view in views:
            top, left, side = view.top // _STRIDE, view.left // _STRIDE, view.side // _STRIDE
            seen[top : top + side, left : left + side] += 1
        self.register_buffer("seen", seen, persistent=False)

    def forward(self, x: torch.Tensor) -> Prediction:
        logits, maps = [], []
        whole = x.shape[-1]
        for member, shrink, view in zip(self.members, self.shrinks, self.views, strict=True):
            part = x[:, :, view.top : view.top + view.side, view.left : view.left + view.side]
            prediction = member(shrink(part))
            logits.append(prediction.logit)
            if prediction.heatmap is not None:
                maps.append(_lay(prediction.heatmap, view, whole))
        heatmap = None
        if len(maps) == len(self.views):
            heatmap = torch.where(self.seen > 0, torch.stack(maps).sum(0) / self.seen.clamp(min=1), _UNSEEN)
        return Prediction(torch.stack(logits).mean(0), heatmap)


def _lay(heatmap: torch.Tensor, view: View, whole: int) -> torch.Tensor:
    """A member's heatmap in its place on the committee's grid, zero elsewhere."""
    cells = view.side // _STRIDE
    if heatmap.shape[-1] != cells:
        heatmap = F.interpolate(heatmap[:, None], size=(cells, cells), mode="bilinear", align_corners=False)[:, 0]
    left, top, side = view.left // _STRIDE, view.top // _STRIDE, whole // _STRIDE
    return F.pad(heatmap, [left, side - left - cells, top, side - top - cells])


class AreaShrink(nn.Module):
    """Area averaging from `side` to `size` pixels, as the crops of the training data were shrunk: RGB `[N, 3, side, side]`.

    With side : size = p : q in lowest terms, every p × p block becomes q × q pixels, each a fixed weighted mean: one
    strided convolution, which every runtime knows.
    """

    def __init__(self, side: int, size: int) -> None:
        super().__init__()
        if size > side:
            raise ValueError(f"{side} pixels cannot be shrunk to {size}")
        step = math.gcd(side, size)
        p, q = side // step, size // step
        edges = np.arange(q + 1) * p / q
        reach = np.minimum(edges[1:, None], np.arange(1, p + 1)) - np.maximum(edges[:-1, None], np.arange(p))
        share = np.clip(reach, 0, None) * q / p  # [q, p], rows add up to 1
        block = np.einsum("ay,bx->abyx", share, share).reshape(q * q, 1, p, p)
        self.register_buffer("weight", torch.from_numpy(np.tile(block, (3, 1, 1, 1))).float(), persistent=False)
        self.p, self.q = p, q

    weight: torch.Tensor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        blocks = F.conv2d(x, self.weight, stride=self.p, groups=3)
        return blocks if self.q == 1 else F.pixel_shuffle(blocks, self.q)


def plan_views(tables: Sequence[InputTable]) -> tuple[InputTable, list[View]]:
    """The picture that holds what every member sees, at the scale of the finest, and where in it each looks.

    Raises TrainingError when the members normalise their input differently.
    """
    for table in tables[1:]:
        if (table.mean, table.std) != (tables[0].mean, tables[0].std):
            raise TrainingError("The members of a committee normalise their input differently")
    density = max(table.size / table.crop for table in tables)  # pixels per face box
    sides = [  # those trained at the finest scale see its very pixels
        table.size if abs(table.size / table.crop / density - 1) < 0.01 else round(table.crop * density)
        for table in tables
    ]
    downs = [round(table.down * density / _STRIDE) * _STRIDE for table in tables]
    reach = max(abs(down) + side / 2 for down, side in zip(downs, sides, strict=True))
    size = 2 * math.ceil(reach / _STRIDE) * _STRIDE
    views = [
        View((size - side) // 2, (size - side) // 2 + down, side, table.size)
        for side, down, table in zip(sides, downs, tables, strict=True)
    ]
    return tables[0].model_copy(update={"size": size, "crop": round(size / density, 3), "down": 0.0}), views


class Loaded(NamedTuple):
    """A network ready to judge. recipe: of the member that sees most of the face, with the input table and crops of
    the whole; members: every recipe as it was trained, the widest view first; pictures: seen in training by all;
    shards: those that a member was trained on, where each says so (`train --growing`)."""

    network: nn.Module
    recipe: Recipe
    members: list[Recipe]
    pictures: int
    shards: set[str] | None


def seat(networks: Sequence[nn.Module], recipes: Sequence[Recipe]) -> tuple[nn.Module, InputTable]:
    """Networks, the widest view first, as one that takes one picture, and that picture's input table.

    A single network that looks straight at the face is itself. Raises TrainingError as `plan_views` does.
    """
    if len(networks) == 1 and not recipes[0].input.down:
        return networks[0], recipes[0].input
    whole, views = plan_views([recipe.input for recipe in recipes])
    return Committee(networks, views, whole.size).eval(), whole


def load_committee(paths: Sequence[Path], *, averaged: bool = True) -> Loaded:
    """The network of one checkpoint, or the committee of several. Raises TrainingError where they cannot sit together."""
    loaded, pictures, shards = [], 0, []
    for path in paths:
        stored = checkpoints.load(path)
        loaded.append(network_of(stored, path, averaged=averaged))
        pictures += stored["progress"]["step"] * loaded[-1][1].run.batch
        shards.append(stored.get("source", {}).get("shards"))
    loaded.sort(key=lambda found: -found[1].input.crop)
    networks, recipes = [network for network, _ in loaded], [recipe for _, recipe in loaded]
    seen = {shard for each in shards for shard in each} if all(each is not None for each in shards) else None
    first = recipes[0]
    network, whole = seat(networks, recipes)
    if whole is first.input:
        return Loaded(network, first, recipes, pictures, seen)
    low, high = (side * whole.crop / first.input.crop for side in first.pairs.crop)
    recipe = first.model_copy(update={"input": whole, "pairs": first.pairs.model_copy(update={"crop": (low, high)})})
    return Loaded(network, recipe, recipes, pictures, seen)


def load_teacher(recipe: Recipe, device: torch.device) -> nn.Module | None:
    """The recipe's teachers as one frozen network on `device`, None where it names none.

    Raises TrainingError when they take another input than the recipe's network.
    """
    table = recipe.distil
    if not table.teachers:
        return None
    teacher, theirs, *_ = load_committee([Path(path) for path in table.teachers])
    if (theirs.input.size, theirs.input.mean, theirs.input.std) != (
        recipe.input.size,
        recipe.input.mean,
        recipe.input.std,
    ):
        raise TrainingError(
            f"The teacher takes {theirs.input.size} px, the recipe {recipe.input.size} px, or they normalise differently",
            remedy="Give the recipe the teacher's input table.",
        )
    return teacher.to(device).requires_grad_(requires_grad=False)


def average_weights(paths: Sequence[Path], weights: Sequence[float] | None = None) -> dict[str, Any]:
    """A checkpoint whose weights are the weighted mean of those of `paths` (their averaged ones, where a run kept such).

    Recipe, data digest and progress are the last one's. Raises TrainingError for other shapes or weights that do not
    fit, and for fewer than two checkpoints.
    """
    if len(paths) < 2:
        raise TrainingError("A mean takes two checkpoints or more")
    weights = list(weights) if weights else [1 / len(paths)] * len(paths)
    if len(weights) != len(paths) or min(weights) < 0 or abs(sum(weights) - 1) > 1e-6:
        raise TrainingError(f"{len(paths)} checkpoints need as many weights, none below 0, that add up to 1")
    stored = [checkpoints.load(path) for path in paths]
    states = [content["average"] or content["network"] for content in stored]
    shapes = [{key: tuple(value.shape) for key, value in state.items()} for state in states]
    for path, found in zip(paths[1:], shapes[1:], strict=True):
        if found != shapes[0]:
            raise TrainingError(f"{path} holds another network than {paths[0]}: only like weights have a mean")
    mean = {
        key: sum(w * state[key].float() for w, state in zip(weights, states, strict=True)).to(value.dtype)
        if value.dtype.is_floating_point
        else value
        for key, value in states[-1].items()
    }
    kept = {key: stored[-1][key] for key in ("recipe", "data", "progress")}
    return {**kept, "network": mean, "average": None, "metrics": {}}
