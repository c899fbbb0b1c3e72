"""Checkpoints joined into one: the mean of their weights, or several networks that judge one face together.

Weights of one run, or of runs from one start, may be averaged: the mean lies in the same basin and often beats each
(model soups, Wortsman et al., ICML 2022). Networks trained apart may not; their logits may (deep ensembles,
Lakshminarayanan et al., NeurIPS 2017), at the price of running each.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from faceproof.errors import TrainingError
from faceproof.training import checkpoints
from faceproof.training.export import load_network
from faceproof.training.networks import Prediction
from faceproof.training.recipe import Recipe

_STRIDE = 8  # pixels per cell of a heatmap


class Committee(nn.Module):
    """Networks for different views of one face: each sees the middle of the picture, as large as it was trained on.

    Input float32 `[N, 3, S, S]`, S the largest of `sizes`. The logit is the mean of the members'; so is each cell of
    the heatmap (logits, `[N, S/8, S/8]`) over those members that see it.
    """

    seen: torch.Tensor

    def __init__(self, members: Sequence[nn.Module], sizes: Sequence[int]) -> None:
        super().__init__()
        whole = max(sizes)
        if any((whole - size) % (2 * _STRIDE) for size in sizes):
            raise TrainingError(
                f"Inputs of {' and '.join(map(str, sizes))} pixels have no common middle on a heatmap's grid",
                remedy=f"Sides must differ by multiples of {2 * _STRIDE}.",
            )
        self.members = nn.ModuleList(members)
        self.margins = [(whole - size) // 2 for size in sizes]
        cells = whole // _STRIDE
        seen = torch.zeros(cells, cells)
        for margin in self.margins:
            edge = margin // _STRIDE
            seen[edge : cells - edge, edge : cells - edge] += 1
        self.register_buffer("seen", seen, persistent=False)

    def forward(self, x: torch.Tensor) -> Prediction:
        logits, maps = [], []
        for member, margin in zip(self.members, self.margins, strict=True):
            view = x[:, :, margin : x.shape[2] - margin, margin : x.shape[3] - margin]
            prediction = member(view)
            logits.append(prediction.logit)
            if prediction.heatmap is not None:
                maps.append(F.pad(prediction.heatmap, [margin // _STRIDE] * 4))
        heatmap = torch.stack(maps).sum(0) / self.seen if len(maps) == len(self.margins) else None
        return Prediction(torch.stack(logits).mean(0), heatmap)


def load_committee(paths: Sequence[Path], *, averaged: bool = True) -> tuple[nn.Module, list[Recipe]]:
    """The network of one checkpoint, or the committee of several; their recipes, the one with the largest input first.

    Raises TrainingError when the members do not see faces alike: other normalisation, or another scale.
    """
    loaded = sorted(
        (load_network(path, averaged=averaged)[:2] for path in paths), key=lambda found: -found[1].input.size
    )
    networks, recipes = [network for network, _ in loaded], [recipe for _, recipe in loaded]
    if len(loaded) == 1:
        return networks[0], recipes
    first = recipes[0].input
    for recipe in recipes[1:]:
        table = recipe.input
        if (table.mean, table.std) != (first.mean, first.std):
            raise TrainingError(f"{recipes[0].name} and {recipe.name} normalise their input differently")
        ours, theirs = first.size / first.crop, table.size / table.crop
        if abs(ours / theirs - 1) > 0.01:
            raise TrainingError(
                f"{recipes[0].name} sees a face at {ours:.0f} pixels, {recipe.name} at {theirs:.0f}",
                remedy="Members of a committee must share size / crop.",
            )
    return Committee(networks, [recipe.input.size for recipe in recipes]).eval(), recipes


def load_teacher(recipe: Recipe, device: torch.device) -> nn.Module | None:
    """The recipe's teachers as one frozen network on `device`, None where it names none.

    Raises TrainingError when they take another input than the recipe's network.
    """
    table = recipe.distil
    if not table.teachers:
        return None
    teacher, (theirs, *_) = load_committee([Path(path) for path in table.teachers])
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
