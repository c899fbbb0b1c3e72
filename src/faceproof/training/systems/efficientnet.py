"""Feature extractors with a head on their pooled features: four of the five documented systems and their relatives.

They differ in a handful of facts (whose EfficientNet, which head, where zero padding comes from), so each is a
:class:`Plan` in a table, not a class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from faceproof.errors import OptionError
from faceproof.training.systems.heads import Step, build_head, place_evidence, run_with_gradient


@dataclass(frozen=True)
class Plan:
    """Everything that tells one system's network from another's.

    Attributes
    ----------
    encoder: a timm model name, or a torchvision one when ``library`` says so. Its own head is left away.
    head: steps as :func:`build_head` takes them.
    fake: how the outputs add up to evidence for *fake*: ``(1,)`` for one fake logit, ``(-1,)`` for one real logit,
        ``(-1, 1)`` for the classes (real, fake).
    image_size: side of the input the published system uses.
    padded_for: side for which the encoder's zero padding was fixed when it was built, as efficientnet_pytorch
        does; ``None`` pads for the input at hand, as TensorFlow does.
    scaling: ``keras`` normalises inside the network and takes 0–255.
    stem: ``unpadded`` for a first convolution without padding.
    attention_after: number of the block whose output is weighted by a learnt map.
    """

    encoder: str
    head: tuple[Step, ...]
    fake: tuple[float, ...]
    image_size: int
    library: Literal["timm", "torchvision"] = "timm"
    padded_for: int | None = None
    scaling: Literal["outside", "keras"] = "outside"
    stem: Literal["own", "unpadded"] = "own"
    attention_after: int | None = None


class KerasScaling(nn.Module):
    """The three layers with which Keras's EfficientNet begins: Rescaling, Normalization, Rescaling; takes 0–255.

    Keras ships ImageNet statistics with the variances set to the standard deviations, and divides by their root once
    more. Both come from the file; the defaults here are those of its ImageNet weights. ``count`` is only bookkeeping.
    """

    scale: Tensor
    mean: Tensor
    variance: Tensor
    count: Tensor
    scale_again: Tensor

    def __init__(self) -> None:
        super().__init__()
        std = torch.tensor([0.229, 0.224, 0.225], device="cpu")
        self.register_buffer("scale", torch.tensor([1 / 255] * 3, device="cpu"))
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406], device="cpu"))
        self.register_buffer("variance", std.clone())
        self.register_buffer("count", torch.tensor(0.0, device="cpu"))
        self.register_buffer("scale_again", std.rsqrt())

    def forward(self, x: Tensor) -> Tensor:
        deviation = self.variance.sqrt().clamp_min(1e-7)  # Keras's own floor
        factor = self.scale_again / deviation
        return x * (self.scale * factor)[:, None, None] - (self.mean * factor)[:, None, None]


class AttentionTrunk(nn.Module):
    """A timm EfficientNet in which a 1×1 convolution and a sigmoid weight the places of one block's output."""

    def __init__(self, encoder: nn.Module, after: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.after = after
        blocks = [block for stage in encoder.blocks for block in stage]  # type: ignore[union-attr]
        self.attention = nn.Conv2d(block_channels(blocks[after]), 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        encoder = self.encoder
        x = encoder.bn1(encoder.conv_stem(x))  # type: ignore[operator]
        number = 0
        for stage in encoder.blocks:  # type: ignore[union-attr]
            for block in stage:
                x = block(x)
                if number == self.after:
                    x = x * torch.sigmoid(self.attention(x))
                number += 1
        return encoder.bn2(encoder.conv_head(x))  # type: ignore[operator]


def block_channels(block: nn.Module) -> int:
    """Channels that leave an MBConv block of timm."""
    last = block.conv_pwl if hasattr(block, "conv_pwl") else block.conv_pw
    return int(last.out_channels)  # type: ignore[union-attr, arg-type]


class FaceClassifier(nn.Module):
    """Encoder, mean over places, head.

    Input float32 ``[N, 3, S, S]`` prepared as the detector's spec says. Output: the head's numbers (``[N]`` for one,
    ``[N, 2]`` for two classes) and ``[N, h, w]``, the probability of *fake* that each place would give alone.
    """

    direction: Tensor

    def __init__(
        self, trunk: nn.Module, head: nn.Sequential, fake: tuple[float, ...], scaling: nn.Module | None
    ) -> None:
        super().__init__()
        self.scaling = scaling
        self.trunk = trunk
        self.head = head
        self.register_buffer("direction", torch.tensor(fake, device="cpu"), persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.scaling is not None:
            x = self.scaling(x)
        features = self.trunk(x)
        pooled = features.mean((2, 3))
        numbers, gradient = run_with_gradient(self.head, pooled, self.direction)
        evidence = place_evidence(features, pooled, numbers @ self.direction, gradient)
        return (numbers[:, 0] if numbers.shape[1] == 1 else numbers), torch.sigmoid(evidence)


def build_classifier(plan: Plan) -> FaceClassifier:
    """The network of a plan with random weights, in evaluation mode."""
    encoder, features = _encoder(plan)
    trunk = encoder if plan.attention_after is None else AttentionTrunk(encoder, plan.attention_after)
    scaling = KerasScaling() if plan.scaling == "keras" else None
    return FaceClassifier(trunk, build_head(features, plan.head), plan.fake, scaling).eval()


def _encoder(plan: Plan) -> tuple[nn.Module, int]:
    if plan.library == "torchvision":
        import torchvision

        try:
            net = torchvision.models.get_model(plan.encoder, weights=None)
        except ValueError as error:
            raise OptionError(f"torchvision has no network {plan.encoder!r}") from error
        if not hasattr(net, "features"):
            raise OptionError(f"torchvision's {plan.encoder} has no separate features")
        return net.features, int(net.classifier[-1].in_features)
    import timm

    try:
        net = timm.create_model(plan.encoder, pretrained=False, num_classes=0, global_pool="")
    except (RuntimeError, TypeError) as error:
        raise OptionError(f"timm cannot build {plan.encoder!r}: {error}") from error
    if plan.padded_for is not None:
        fix_padding(net, plan.padded_for)
    if plan.stem == "unpadded":
        old = net.conv_stem
        net.conv_stem = nn.Conv2d(3, old.out_channels, old.kernel_size, old.stride, padding=0, bias=False)
    return net, int(net.num_features)


class FixedPadConv2d(nn.Conv2d):
    """A convolution that pads left, right, top and bottom by fixed amounts that may differ."""

    def __init__(self, like: nn.Conv2d, pad: tuple[int, int, int, int]) -> None:
        super().__init__(
            like.in_channels,
            like.out_channels,
            like.kernel_size,  # type: ignore[arg-type]
            like.stride,  # type: ignore[arg-type]
            groups=like.groups,
            bias=like.bias is not None,
        )
        self.pad = pad
        self.weight = like.weight
        self.bias = like.bias

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(nn.functional.pad(x, self.pad))


def fix_padding(net: nn.Module, size: int) -> None:
    """Fix the padding of a TensorFlow-style timm network to what an input of ``size`` px needs.

    efficientnet_pytorch computes padding once, for the variant's native size. At another size its networks pad
    differently from TensorFlow's, and weights trained that way expect it.
    """
    from timm.layers import Conv2dSame

    places = [(name, layer) for name, layer in net.named_modules() if isinstance(layer, Conv2dSame)]
    for name, layer in places:
        kernel, stride = layer.kernel_size[0], layer.stride[0]
        out = -(-size // stride)
        total = max((out - 1) * stride + kernel - size, 0)
        pad = (total // 2, total - total // 2)
        parent, _, child = name.rpartition(".")
        setattr(net.get_submodule(parent), child, FixedPadConv2d(layer, pad + pad))
        size = out
