"""The documented networks in torch: to import their authors' weights, to train and to export.

A detector's spec names its network (``architecture``) and may set its knobs (``architecture_settings``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import get_type_hints

from torch import nn

from faceproof.errors import OptionError
from faceproof.training.systems.cross_vit import CrossEfficientViT, CrossSettings, build_cross
from faceproof.training.systems.efficientnet import FaceClassifier, Plan, build_classifier

ARCHITECTURES: dict[str, Plan | CrossSettings] = {
    # selimsef's DFDC classifier: one linear layer on B7's features.
    "efficientnet-b7-dfdc": Plan("tf_efficientnet_b7.ns_jft_in1k", (0.0, 1), (1.0,), 380),
    # The document's mobile B4: torchvision's network, three linear layers, a logit instead of a sigmoid.
    "efficientnet-b4-mobile": Plan(
        "efficientnet_b4", (0.3, 512, "relu", 0.15, 128, "relu", 0.09, 1), (1.0,), 224, library="torchvision"
    ),
    # Keras's B4: TensorFlow's padding and epsilon, normalisation inside, the output says *real*.
    "efficientnet-b4-keras": Plan(
        "tf_efficientnet_b4", ("keras_bn", 512, "relu", "keras_bn", 0.5, 1), (-1.0,), 380, scaling="keras"
    ),
    "cross-efficient-vit": CrossSettings(),
    # The document's two-class B4: timm's own B4, classes (real, fake).
    "efficientnet-b4-224": Plan("efficientnet_b4", (0.5, 512, "relu", "bn", 0.3, 2), (-1.0, 1.0), 224),
    # Relatives whose authors publish weights in efficientnet_pytorch's layout.
    "efficientnet-b4-sbi": Plan("tf_efficientnet_b4", (0.4, 2), (-1.0, 1.0), 380, padded_for=380),
    "efficientnet-b4-icpr2020": Plan("tf_efficientnet_b4", (0.4, 1), (1.0,), 224, padded_for=380),
    "efficientnet-b4att-icpr2020": Plan("tf_efficientnet_b4", (0.4, 1), (1.0,), 224, padded_for=380, attention_after=9),
    "efficientnet-b4-deepfakebench": Plan(
        "tf_efficientnet_b4", (2,), (-1.0, 1.0), 256, padded_for=380, stem="unpadded"
    ),
}

Settings = Mapping[str, int | float | str]


def plan_of(architecture: str, settings: Settings | None = None) -> Plan | CrossSettings:
    """The named plan with some knobs set. Raises :class:`OptionError` for an unknown name, knob or value.

    Knobs are ``encoder`` and ``image_size`` of the EfficientNets, and every field of :class:`CrossSettings`.
    """
    plan = ARCHITECTURES.get(architecture)
    if plan is None:
        raise OptionError(
            f"no network is called {architecture!r}", remedy=f"Known networks: {', '.join(ARCHITECTURES)}."
        )
    knobs = get_type_hints(type(plan))
    allowed = [f.name for f in fields(plan)] if isinstance(plan, CrossSettings) else ["encoder", "image_size"]
    chosen: dict[str, int | float | str] = {}
    for name, value in (settings or {}).items():
        if name not in allowed:
            raise OptionError(f"{architecture} has no knob {name!r}", remedy=f"It has {', '.join(allowed)}.")
        taken = _read_knob(knobs[name], value)
        if taken is None:
            raise OptionError(f"{name} must be a {_KINDS[knobs[name]]}, not {value!r}")
        chosen[name] = taken
    return replace(plan, **chosen)  # type: ignore[arg-type]


_KINDS: dict[type, str] = {int: "whole number", float: "number", str: "name"}


def _read_knob(kind: type, value: int | float | str) -> int | float | str | None:
    """``value`` as a knob of that kind, also where it is written out; None where it cannot be one."""
    if kind is str:
        return value if isinstance(value, str) else None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    if isinstance(value, bool) or (kind is int and not number.is_integer()):
        return None
    return int(number) if kind is int else number


def build(architecture: str, settings: Settings | None = None) -> FaceClassifier | CrossEfficientViT:
    """The named network with random weights, in evaluation mode. Its forward returns (logit, heatmap)."""
    plan = plan_of(architecture, settings)
    return build_cross(plan) if isinstance(plan, CrossSettings) else build_classifier(plan)


def count_parameters(network: nn.Module) -> int:
    """Learnt numbers, as PyTorch counts them: without running statistics."""
    return sum(parameter.numel() for parameter in network.parameters())


__all__ = ["ARCHITECTURES", "CrossSettings", "Plan", "build", "count_parameters", "plan_of"]
