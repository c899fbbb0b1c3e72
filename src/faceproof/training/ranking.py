"""A class head alone, fitted on a frozen backbone by what forgery changes in a face: a few minutes instead of hours.

Trained to the end, a network comes to know the forgeries it is shown better than those it is meant for. A linear head
on features it already has cannot: it takes the one direction in which the forged picture of a pair differs from its
own original (logistic regression on differences of pairs, the Bradley-Terry model), so that person, light and
compression cancel, and a strong penalty keeps it near the mean difference. What it finds on a close-up adds to what
the whole face says (docs/training-log.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from faceproof.errors import TrainingError
from faceproof.training import checkpoints, pairs
from faceproof.training.data import PairSource, open_loader
from faceproof.training.export import fit_platt
from faceproof.training.loop import auroc, score_pictures
from faceproof.training.networks import FaceNetwork, blank_network
from faceproof.training.recipe import Recipe
from faceproof.training.shards import FaceStore


@dataclass(frozen=True)
class FittedHead:
    """Where the checkpoint is, and how the head ranks pairs of people it was not fitted on."""

    path: Path
    pairs: int
    held_out_pairs: float
    held_out_auroc: float


def fit_head(
    recipe: Recipe,
    start: str | Path,
    data: str | Path,
    out: str | Path,
    *,
    landmarks: str | Path | None = None,
    count: int = 2400,
    penalty: float = 1.0,
) -> FittedHead:
    """Fit the class head of the recipe's network on `count` pairs, backbone and mask head taken from checkpoint `start`.

    penalty: weight of half the squared norm of the head, on standardised features, against the mean loss. The scale
    of the logit is Platt's on people held out. Writes a checkpoint to `out`. Raises TrainingError when the recipe's
    network has another backbone than `start` or no head of statistics.
    """  # fmt: skip
    if not recipe.network.statistics:
        raise TrainingError("Only a head on the statistics of features is fitted alone: set network.statistics = true")
    if not recipe.pairs.held_out:
        raise TrainingError("The scale of the logit is fitted on people held out: set pairs.held_out above 0")
    network = blank_network(recipe)
    assert isinstance(network, FaceNetwork)
    stored = checkpoints.load(Path(start))
    _take_over(network, stored["average"] or stored["network"], Path(start))
    network.eval()
    source = PairSource(recipe, data, landmarks)
    fitted = _features(network, source, source.store, recipe, recipe.run.seed, count)
    held = _features(network, source, source.held_store, recipe, recipe.run.seed + 1, max(64, count // 8))
    centre, spread = fitted[::2].mean(0), fitted.std(0) + 1e-6
    direction = rank_direction((fitted[1::2] - fitted[::2]) / spread, penalty) / spread
    labels = np.tile(np.array([0.0, 1.0]), len(held) // 2)
    scores = (held - centre) @ direction
    a, b = fit_platt(scores, labels)
    if a <= 0:
        raise TrainingError("The head ranks forgeries below their originals: these features do not show them")
    with torch.no_grad():
        network.classifier.weight.copy_(torch.from_numpy(a * direction)[None])
        network.classifier.bias.copy_(torch.tensor([b - a * float(centre @ direction)]))
    pictures, truth = source.held_out()
    area = auroc(truth, score_pictures(network, pictures, source, torch.device("cpu"), recipe.run.precision))
    content: dict[str, Any] = {
        "recipe": recipe.model_dump(mode="json"),
        "data": source.digest,
        "network": network.state_dict(),
        "average": None,
        "metrics": {"held_out_auroc": area},
        "progress": {"step": -(-len(fitted) // recipe.run.batch)},
    }
    checkpoints.save(Path(out), content)
    return FittedHead(Path(out), len(fitted) // 2, float((scores[1::2] > scores[::2]).mean()), area)


def rank_direction(differences: np.ndarray, penalty: float) -> np.ndarray:
    """The direction w that minimises mean log(1 + exp(-d·w)) + penalty/2 |w|² over differences d, forged minus genuine.

    differences: float `[n, features]`; returns float64 `[features]`. Convex; solved by L-BFGS.
    """
    d = torch.from_numpy(np.asarray(differences, np.float64))
    w = torch.zeros(d.shape[1], dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([w], max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-9)

    def loss() -> torch.Tensor:
        solver.zero_grad()
        value = F.softplus(-(d @ w)).mean() + penalty / 2 * w.square().sum()
        torch.autograd.backward(value)
        return value

    solver.step(loss)  # type: ignore[no-untyped-call]
    return w.detach().numpy()


def _take_over(network: FaceNetwork, state: dict[str, torch.Tensor], path: Path) -> None:
    """All of a checkpoint's weights but its class head."""
    kept = {key: value for key, value in state.items() if not key.startswith("classifier.")}
    try:
        missing, surplus = network.load_state_dict(kept, strict=False)
    except RuntimeError as error:
        raise TrainingError(f"{path} holds another backbone than the recipe names") from error
    if surplus or set(missing) != {"classifier.weight", "classifier.bias"}:
        raise TrainingError(f"{path} holds another backbone than the recipe names")


@torch.inference_mode()
def _features(
    network: FaceNetwork, source: PairSource, store: FaceStore, recipe: Recipe, seed: int, count: int
) -> np.ndarray:
    """What the class head sees of `count` pairs, float64 `[2 count, features]`, rows 2k genuine and 2k + 1 forged."""
    stream = pairs.PairStream(store, seed, source.options)
    groups = -(-count // source.options.group)
    order = [list(range(first, min(first + 4, groups))) for first in range(0, groups, 4)]
    loader = open_loader(stream, order, recipe.run.workers, collate_fn=pairs.collate)
    found = []
    for batch in loader:
        image = source.normalise(batch["image"]).contiguous(memory_format=torch.channels_last)
        found.append(network.pooled(image).double().numpy())
    return np.concatenate(found)
