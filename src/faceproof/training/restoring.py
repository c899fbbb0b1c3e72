"""Checkpoints out of a file that ships, so that training can go on where nothing but the ONNX file is left.

Export folds BatchNorm into the convolutions before it and forgets the names. Here the members' networks are built
again by their recipes, the file's convolutions are put into them in the order in which they run, and the result must
give the file's own scores. BatchNorm starts out as a shift; `give_statistics_back` measures what it would have held.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from faceproof.errors import TrainingError, WeightsError
from faceproof.training import checkpoints, pairs
from faceproof.training.committee import seat
from faceproof.training.convert.storage import restore_floats
from faceproof.training.data import Normaliser
from faceproof.training.export import check_parity
from faceproof.training.networks import FaceNetwork, blank_network, build_network
from faceproof.training.recipe import Recipe
from faceproof.training.shards import FaceStore

_PAIRS = 96  # whose statistics BatchNorm is given
_TOLERANCE = 1e-3  # of a logit: both sides hold the same fp32 numbers


def restore(path: str | Path, recipes: Sequence[Recipe]) -> list[FaceNetwork]:
    """The networks inside an exported file, in evaluation mode, one for each recipe, in the recipes' order.

    Raises WeightsError when the file is not the export of these recipes' networks, or was stored in eight bits.
    """
    import onnx
    from onnx import numpy_helper

    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"There is no file {path}")
    try:
        model = onnx.load(str(path))
    except Exception as error:  # protobuf raises kinds of its own
        raise WeightsError(f"{path} is not an ONNX file") from error
    restore_floats(model)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    same = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "Identity"}

    def number(name: str) -> np.ndarray | None:
        while name in same:
            name = same[name]
        return stored.get(name)

    if not recipes:
        raise WeightsError("Name the recipes of the networks inside the file")
    layers = []
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm"):
            weight = number(node.input[1])
            # the weights of an area average are constants of the graph, not parameters
            if weight is not None:
                layers.append((weight, number(node.input[2]) if len(node.input) > 2 else None))
    unused = iter(layers)
    order = sorted(range(len(recipes)), key=lambda k: -recipes[k].input.crop)  # as `load_committee` seats them
    networks: dict[int, FaceNetwork] = {}
    for k in order:
        networks[k] = _blank(recipes[k])
        for layer, norm in _layers(networks[k], recipes[k].input.size):
            _fill(layer, norm, next(unused, (None, None)), path)
    if next(unused, None) is not None:
        raise WeightsError(f"{path} holds more layers than the networks of {len(recipes)} recipes")
    _compare(path, [networks[k] for k in order], [recipes[k] for k in order])
    return [networks[k] for k in range(len(recipes))]


def write_restored(
    path: str | Path,
    recipes: Sequence[Recipe],
    out: str | Path,
    *,
    data: str | Path | None = None,
    landmarks: str | Path | None = None,
) -> list[Path]:
    """Write `restore`'s networks as checkpoints `out/RECIPE.pt`, with BatchNorm's statistics on pairs of `data` if given.

    Raises WeightsError as `restore` does, and TrainingError for two recipes of one name.
    """
    names = [recipe.name for recipe in recipes]
    if len(set(names)) < len(names):
        raise TrainingError("Two of the recipes have one name, and so would their checkpoints")
    written = []
    stores: dict[float, FaceStore] = {}  # who is held out depends on the share alone
    for recipe, network in zip(recipes, restore(path, recipes), strict=True):
        if data is not None:
            share = recipe.pairs.held_out
            if share not in stores:
                stores[share] = FaceStore(data, "train", share, landmarks)
            options = pairs.pair_options(recipe)
            stream = pairs.PairStream(stores[share], recipe.run.seed, options)
            groups = [stream[number] for number in range(-(-_PAIRS // options.group))]
            give_statistics_back(network, recipe, Normaliser(recipe).normalise(pairs.collate(groups)["image"]))
        written.append(Path(out) / f"{recipe.name}.pt")
        checkpoints.save(
            written[-1],
            {
                "recipe": recipe.model_dump(mode="json"),
                "data": "",
                "network": network.state_dict(),
                "average": None,
                "metrics": {},
                "progress": {"step": 0},
            },
        )
    return written


def give_statistics_back(network: FaceNetwork, recipe: Recipe, pictures: torch.Tensor) -> None:
    """Let BatchNorm hold the statistics that `pictures` give it; what the network says stays the same.

    pictures: normalised RGB float32 `[N, 3, S, S]`, such as the network is to be trained on, some hundreds of them. The
    convolutions in front get the size of the recipe's starting weights, because an optimiser's step is as large for a
    small weight as for a large one.
    """
    start = dict(build_network(recipe).named_modules())
    seen: list[tuple[str, nn.Module, torch.Tensor, torch.Tensor]] = []
    hooks = [
        module.register_forward_hook(
            lambda module, _, out, name=name: seen.append(
                (name, module, out.mean((0, 2, 3)), out.var((0, 2, 3), correction=0))
            )
        )
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d)
    ]
    try:
        with torch.no_grad():
            network.eval()(pictures)
            for (name, layer, mean, variance), (_, norm, *_) in itertools.pairwise(seen):
                if not isinstance(layer, nn.Conv2d) or not isinstance(norm, nn.BatchNorm2d):
                    continue
                like = start[name]
                assert isinstance(like, nn.Conv2d)
                scale = (_norms(like).mean() / _norms(layer).clamp(min=1e-4)).clamp(0.02, 50)
                layer.weight.mul_(scale[:, None, None, None])
                assert norm.running_mean is not None
                assert norm.running_var is not None
                norm.running_mean.copy_(mean * scale)
                norm.running_var.copy_(variance * scale**2)
                norm.weight.copy_(torch.sqrt(norm.running_var + norm.eps) / scale)
                norm.bias.add_(mean)
    finally:
        for hook in hooks:
            hook.remove()


def _norms(layer: nn.Conv2d) -> torch.Tensor:
    return layer.weight.flatten(1).norm(dim=1)


def _blank(recipe: Recipe) -> FaceNetwork:
    network = blank_network(recipe)
    if not isinstance(network, FaceNetwork):
        raise WeightsError(f"Only networks of our own can be restored, {recipe.name} is a documented system's")
    return network.eval()


def _layers(network: FaceNetwork, size: int) -> list[tuple[nn.Conv2d | nn.Linear, nn.BatchNorm2d | None]]:
    """Convolutions and the class head as they run, each with the BatchNorm that follows it at once."""
    run: list[nn.Module] = []
    hooks = [
        module.register_forward_hook(lambda module, *_: run.append(module))
        for module in network.modules()
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.Linear)
    ]
    with torch.no_grad():
        network(torch.zeros(1, 3, size, size))
    for hook in hooks:
        hook.remove()
    return [
        (layer, after if isinstance(after, nn.BatchNorm2d) else None)
        for layer, after in zip(run, [*run[1:], None], strict=True)
        if isinstance(layer, nn.Conv2d | nn.Linear)
    ]


def _fill(
    layer: nn.Conv2d | nn.Linear,
    norm: nn.BatchNorm2d | None,
    found: tuple[np.ndarray | None, np.ndarray | None],
    path: Path,
) -> None:
    weight, bias = found
    if weight is None or weight.shape != tuple(layer.weight.shape):
        there = "no more layers" if weight is None else f"a layer {weight.shape}"
        raise WeightsError(
            f"{path} has {there} where {tuple(layer.weight.shape)} is due",
            remedy="Name the recipes of all its members; a file in eight bits cannot be restored.",
        )
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight.copy()))
        shift = norm.bias if norm is not None else layer.bias
        if shift is not None:
            shift.copy_(torch.from_numpy(np.zeros(len(weight), np.float32) if bias is None else bias.copy()))
        if norm is not None:
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.weight.fill_(1)
            norm.running_mean.zero_()
            norm.running_var.fill_(1 - norm.eps)


def _compare(path: Path, networks: Sequence[FaceNetwork], recipes: Sequence[Recipe]) -> None:
    joint, whole = seat(networks, recipes)
    try:
        check_parity(joint, path, whole.size, tolerance=_TOLERANCE)
    except TrainingError as error:
        raise WeightsError(
            f"{path} gives other scores than the networks of these recipes: {error.message}",
            remedy="Give the recipes as they were when the file was made.",
        ) from error
