"""How each author names the weights in a checkpoint: tables from their keys to ours.

A layout gives, for a network, every key the file must hold with its shape, and where each tensor goes. Whatever the
file lacks or holds beyond that is named and refused: half-loaded weights score confidently and mean nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from faceproof.errors import WeightsError
from faceproof.training.systems.cross_vit import CrossEfficientViT
from faceproof.training.systems.efficientnet import FaceClassifier


@dataclass(frozen=True)
class Entry:
    """One tensor of a file: its ``shape`` there, the key it becomes here (``None``: present but unused), and how."""

    shape: tuple[int, ...]
    ours: str | None
    turn: Callable[[Tensor], Tensor] | None = None


@dataclass(frozen=True)
class Layout:
    """An author's file.

    ``wrappers`` are keys under which the state dict may lie; ``prefixes`` are stripped from every key that
    begins so; ``entries`` lists what must be there; ``defaults`` are keys of ours that the file never holds.
    """

    wrappers: tuple[str, ...]
    prefixes: tuple[str, ...]
    entries: Callable[[nn.Module], dict[str, Entry]]
    defaults: tuple[str, ...] = ()
    written_by: Literal["PyTorch", "Keras"] = "PyTorch"


# timm's name of a part of an MBConv block -> (efficientnet_pytorch's, Keras's). The first kind has no expansion.
_PLAIN_BLOCK = {
    "conv_dw": ("_depthwise_conv", "dwconv"),
    "bn1": ("_bn1", "bn"),
    "se.conv_reduce": ("_se_reduce", "se_reduce"),
    "se.conv_expand": ("_se_expand", "se_expand"),
    "conv_pw": ("_project_conv", "project_conv"),
    "bn2": ("_bn2", "project_bn"),
}
_EXPANDING_BLOCK = {
    "conv_pw": ("_expand_conv", "expand_conv"),
    "bn1": ("_bn0", "expand_bn"),
    "conv_dw": ("_depthwise_conv", "dwconv"),
    "bn2": ("_bn1", "bn"),
    "se.conv_reduce": ("_se_reduce", "se_reduce"),
    "se.conv_expand": ("_se_expand", "se_expand"),
    "conv_pwl": ("_project_conv", "project_conv"),
    "bn3": ("_bn2", "project_bn"),
}
_OUTSIDE_BLOCKS = {
    "conv_stem": ("_conv_stem", "stem_conv"),
    "bn1": ("_bn0", "stem_bn"),
    "conv_head": ("_conv_head", "top_conv"),
    "bn2": ("_bn1", "top_bn"),
    "classifier": ("_fc", ""),
}


def rename_parts(encoder: nn.Module) -> Iterator[tuple[str, str, str]]:
    """Each part of a timm EfficientNet: (its name, efficientnet_pytorch's name, Keras's layer name)."""
    for ours, (lukemelas, keras) in _OUTSIDE_BLOCKS.items():
        yield ours, lukemelas, keras
    number = 0
    for s, stage in enumerate(encoder.blocks):  # type: ignore[arg-type]
        for b, block in enumerate(stage):
            parts = _EXPANDING_BLOCK if hasattr(block, "conv_pwl") else _PLAIN_BLOCK
            for ours, (lukemelas, keras) in parts.items():
                yield f"blocks.{s}.{b}.{ours}", f"_blocks.{number}.{lukemelas}", f"block{s + 1}{chr(97 + b)}_{keras}"
            number += 1


def _shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in network.state_dict().items()}


def _renamed(network: nn.Module, rename: Callable[[str], str]) -> dict[str, Entry]:
    return {rename(key): Entry(shape, key) for key, shape in _shapes(network).items()}


def _under(trunk: str, head: str) -> Callable[[str], str]:
    return lambda key: re.sub(r"^head\.", head, re.sub(r"^trunk\.", trunk, key))


def selimsef(network: nn.Module) -> dict[str, Entry]:
    """``encoder.*`` in timm's names with the unused ImageNet classifier, and ``fc``."""
    entries = _renamed(network, lambda key: re.sub(r"^head\.1\.", "fc.", re.sub(r"^trunk\.", "encoder.", key)))
    width = entries["fc.weight"].shape[1]
    entries["encoder.classifier.weight"] = Entry((1000, width), None)
    entries["encoder.classifier.bias"] = Entry((1000,), None)
    return entries


def torchvision_mobile(network: nn.Module) -> dict[str, Entry]:
    """``efficientnet.features.*`` and ``efficientnet.classifier.*`` as the mobile detector's document builds them."""
    return _renamed(network, _under("efficientnet.features.", "efficientnet.classifier."))


def timm_two_class(network: nn.Module) -> dict[str, Entry]:
    """``backbone.*`` in timm's names and ``classifier.*``, as the two-class document describes them."""
    return _renamed(network, _under("backbone.", "classifier."))


def ours(network: nn.Module) -> dict[str, Entry]:
    """Faceproof's own names."""
    return _renamed(network, lambda k: k)


def _to_lukemelas(encoder: nn.Module) -> Callable[[str], str]:
    names = {mine: theirs for mine, theirs, _ in rename_parts(encoder)}

    def rename(key: str) -> str:
        part, _, leaf = key.rpartition(".")
        return f"{names[part]}.{leaf}"

    return rename


def lukemelas(prefix: str, head: str, attention: str = "") -> Callable[[nn.Module], dict[str, Entry]]:
    """efficientnet_pytorch's names under ``prefix``, the last layer called ``head``."""

    def entries(network: nn.Module) -> dict[str, Entry]:
        assert isinstance(network, FaceClassifier)
        trunk = "trunk.encoder." if attention else "trunk."
        rename = _to_lukemelas(network.trunk.encoder if attention else network.trunk)  # type: ignore[arg-type]

        def name(key: str) -> str:
            if key.startswith(trunk):
                return prefix + rename(key.removeprefix(trunk))
            if attention and key.startswith("trunk.attention."):
                return key.replace("trunk.attention", attention, 1)
            return re.sub(r"^head\.\d+", head, key)

        return _renamed(network, name)

    return entries


def coccomini(network: nn.Module) -> dict[str, Entry]:
    """A bare state dict in which both EfficientNets have efficientnet_pytorch's names; every other name is ours."""
    assert isinstance(network, CrossEfficientViT)
    rename = _to_lukemelas(network.sm_image_embedder.efficient_net)

    def name(key: str) -> str:
        branch, dot, rest = key.partition(".efficient_net.")
        return f"{branch}{dot}{rename(rest)}" if dot else key

    return _renamed(network, name)


def keras(network: nn.Module) -> dict[str, Entry]:
    """Keras's layer and variable names; kernels have their channels last, dense layers are transposed.

    Layers of the head are called by their order: ``head/bn0``, ``head/dense0``, ``head/bn1``, ``head/dense1``.
    """
    assert isinstance(network, FaceClassifier)
    layers = {f"trunk.{mine}": theirs for mine, _, theirs in rename_parts(network.trunk)}
    norms = [f"head.{i}" for i, layer in enumerate(network.head) if isinstance(layer, nn.BatchNorm1d)]
    dense = [f"head.{i}" for i, layer in enumerate(network.head) if isinstance(layer, nn.Linear)]
    layers |= {name: f"head/bn{i}" for i, name in enumerate(norms)}
    layers |= {name: f"head/dense{i}" for i, name in enumerate(dense)}
    leaves = {"running_mean": "moving_mean", "running_var": "moving_variance"}
    entries: dict[str, Entry] = {
        "normalization/mean": Entry((3,), "scaling.mean"),
        "normalization/variance": Entry((3,), "scaling.variance"),
        "normalization/count": Entry((), "scaling.count"),
    }
    for key, shape in _shapes(network).items():
        part, _, leaf = key.rpartition(".")
        if part not in layers or leaf == "num_batches_tracked":
            continue
        layer = layers[part]
        if leaf == "bias":
            entries[f"{layer}/{'beta' if 'bn' in layer else 'bias'}"] = Entry(shape, key)
        elif leaf in leaves:
            entries[f"{layer}/{leaves[leaf]}"] = Entry(shape, key)
        elif "bn" in layer:
            entries[f"{layer}/gamma"] = Entry(shape, key)
        elif "dense" in layer:
            entries[f"{layer}/kernel"] = Entry((shape[1], shape[0]), key, Tensor.t)
        elif layer.endswith("dwconv"):
            entries[f"{layer}/kernel"] = Entry((*shape[2:], shape[0], 1), key, _depthwise)
        else:
            entries[f"{layer}/kernel"] = Entry((*shape[2:], shape[1], shape[0]), key, _pointwise)
    return entries


def _depthwise(kernel: Tensor) -> Tensor:
    return kernel.permute(2, 3, 0, 1)


def _pointwise(kernel: Tensor) -> Tensor:
    return kernel.permute(3, 2, 0, 1)


_PARALLEL = ("module.",)
_WRAPPED = ("state_dict", "model_state_dict", "model", "net")

LAYOUTS: dict[str, Layout] = {
    "efficientnet-b7-dfdc": Layout(("state_dict",), _PARALLEL, selimsef),
    "efficientnet-b4-mobile": Layout(_WRAPPED, _PARALLEL, torchvision_mobile),
    "efficientnet-b4-keras": Layout(
        (), (), keras, defaults=("num_batches_tracked", "scaling.scale", "scaling.scale_again"), written_by="Keras"
    ),
    "cross-efficient-vit": Layout(("state_dict",), _PARALLEL, coccomini),
    "efficientnet-b4-224": Layout(_WRAPPED, _PARALLEL, timm_two_class),
    "efficientnet-b4-sbi": Layout(("model",), ("module.",), lukemelas("net.", "net._fc")),
    "efficientnet-b4-icpr2020": Layout(("net",), _PARALLEL, lukemelas("efficientnet.", "classifier")),
    "efficientnet-b4att-icpr2020": Layout(("net",), _PARALLEL, lukemelas("efficientnet.", "classifier", "attconv")),
    "efficientnet-b4-deepfakebench": Layout(
        ("state_dict",), _PARALLEL, lukemelas("backbone.efficientnet.", "backbone.last_layer")
    ),
}


def unwrap(content: object, layout: Layout) -> dict[str, Tensor]:
    """The state dict in what was read, its keys without the wrapper of parallel training.

    Raises :class:`WeightsError` when there is none.
    """
    for wrapper in layout.wrappers:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    if not isinstance(content, Mapping):
        raise WeightsError(
            f"the file holds a {type(content).__name__}, not a state dict", remedy="Save `model.state_dict()` instead."
        )
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    others = [str(key) for key, value in content.items() if not isinstance(value, Tensor)]
    if others or not tensors:
        found = ", ".join(sorted(others)[:6]) or "nothing"
        raise WeightsError(
            f"the file is no state dict: besides {len(tensors)} tensors it holds {found}",
            remedy=f"This detector's checkpoints keep theirs {_where(layout)}.",
        )
    for prefix in layout.prefixes:
        if all(key.startswith(prefix) for key in tensors):
            tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    return tensors


def _where(layout: Layout) -> str:
    return "at the top or under " + " or ".join(repr(w) for w in layout.wrappers) if layout.wrappers else "at the top"


def fill(network: nn.Module, tensors: Mapping[str, Tensor], layout: Layout, *, detector: str) -> None:
    """Load ``tensors`` into ``network``: every key, every shape, every number checked first.

    Raises :class:`WeightsError` that names what is missing, surplus, of another shape or not finite.
    """
    entries = layout.entries(network)
    missing, surplus = sorted(entries.keys() - tensors.keys()), sorted(tensors.keys() - entries.keys())
    if missing or surplus:
        shared = len(entries.keys() & tensors.keys())
        what = "is of another network" if shared < 0.5 * len(entries) else "does not fit exactly"
        parts = [f"{word} {_some(keys)}" for word, keys in (("missing", missing), ("surplus", surplus)) if keys]
        raise WeightsError(
            f"the file {what} ({shared} of {len(entries)} keys of {detector} found): {'; '.join(parts)}",
            remedy="Check --as; `faceproof detectors list` names what can be imported.",
        )
    wrong = [
        f"{key} is {_size(tensors[key].shape)}, not {_size(entry.shape)}"
        for key, entry in sorted(entries.items())
        if tuple(tensors[key].shape) != entry.shape
    ]
    if wrong:
        raise WeightsError(
            f"the file's tensors do not fit {detector}: {_some(wrong)}", remedy="Check --as and the network's settings."
        )
    broken = [
        key
        for key, entry in sorted(entries.items())
        if entry.ours is not None and tensors[key].is_floating_point() and not torch.isfinite(tensors[key]).all()
    ]
    if broken:
        raise WeightsError(
            f"weights are not finite in {_some(broken)}", remedy="The training diverged or the file is damaged."
        )
    state = network.state_dict()
    for key, entry in entries.items():
        if entry.ours is None:
            continue
        value = tensors[key].detach()
        state[entry.ours].copy_(value if entry.turn is None else entry.turn(value))
    left = {key for key in state if key not in {entry.ours for entry in entries.values()}}
    assert all(key.endswith(layout.defaults) for key in left), left


def _some(items: list[str]) -> str:
    return ", ".join(items[:5]) + (f" and {len(items) - 5} more" if len(items) > 5 else "")


def _size(shape: tuple[int, ...] | torch.Size) -> str:
    return "×".join(str(n) for n in shape) or "a number"
