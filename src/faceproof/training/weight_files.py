"""A checkpoint's weights as safetensors in parts of bounded size, and back: for ways that large files do not go.

`NAME-00001-of-00003.safetensors`, ... hold whole tensors each, `NAME.safetensors.index.json` says which tensor lies in
which part (`weight_map`), as sharded safetensors are written elsewhere too, and in `metadata` what a checkpoint knows
beside its weights: the recipe in full, the data's digest, progress and scores, and the SHA-256 of every part. The optimiser
is not in it: from these weights a network is packaged, averaged or trained anew (`network.init`), not resumed.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from faceproof.errors import OptionError, TrainingError, WeightsError
from faceproof.training import checkpoints
from faceproof.training.export import network_of, probe_pictures
from faceproof.training.networks import Prediction, blank_network

FORMAT = 1
_INDEX = ".safetensors.index.json"
_LARGEST_HALF = 60_000
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


@dataclass(frozen=True)
class WeightFiles:
    """What was written. bytes: of all parts. logit_change: how far halves move a logit on random pictures, at most."""

    index: Path
    parts: list[Path]
    bytes: int
    logit_change: float


def parse_size(text: str) -> int:
    """`"15MiB"` → 15728640. KB, MB and GB are powers of ten, KiB, MiB and GiB of two. Raises OptionError."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", text)
    if match is None or match[2].upper() not in _UNITS or not float(match[1]):
        raise OptionError(f"{text!r} is no size of a file", remedy="Write it like 15MiB.")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def export_weights(
    checkpoint: str | Path, out: str | Path, *, part_size: int = 15 << 20, name: str = "", averaged: bool = True
) -> WeightFiles:
    """Write a checkpoint's weights to the folder `out` in files of at most `part_size` bytes each, the index last.

    Weights with two axes or more are stored as fp16, the others (biases, BatchNorm's weights and statistics) as fp32:
    they are a hundredth of the bytes, and variances may be too small for halves. averaged: the averaged weights where the
    run kept such. name: the files', by default the recipe's. Files of the same name are replaced. Raises TrainingError for
    a checkpoint that cannot be read, a tensor larger than a part, or a folder that cannot be written.
    """
    path, out = Path(checkpoint), Path(out)
    stored = checkpoints.load(path)
    network, recipe = network_of(stored, path, averaged=averaged)
    name = name or recipe.name
    if re.fullmatch(r"[A-Za-z0-9._-]+", name) is None:
        raise OptionError(f"{name!r} cannot name files that go everywhere", remedy="Use letters, digits, . _ and -.")
    tensors = {key: _stored(key, value) for key, value in network.state_dict().items()}
    groups = _in_parts(tensors, part_size)
    parts = [out / f"{name}-{n:05d}-of-{len(groups):05d}.safetensors" for n in range(1, len(groups) + 1)]
    change = _logit_change(network, {key: value.float() for key, value in tensors.items()}, recipe.input.size)
    try:
        out.mkdir(parents=True, exist_ok=True)
        hashes = {
            part.name: _write(part, {key: tensors[key] for key in keys})
            for part, keys in zip(parts, groups, strict=True)
        }
        index = out / f"{name}{_INDEX}"
        content = {
            "metadata": {
                "total_size": sum(_size(value) for value in tensors.values()),
                "format": FORMAT,
                "sha256": hashes,
                "recipe": recipe.model_dump(mode="json"),
                "data": stored["data"],
                "progress": {"step": stored["progress"]["step"]},
                "metrics": stored.get("metrics") or {},
                "source": {key: value for key, value in stored.get("source", {}).items() if key == "shards"},
                "averaged": averaged and stored["average"] is not None,
                "versions": stored["versions"],
            },
            "weight_map": {key: part.name for part, keys in zip(parts, groups, strict=True) for key in keys},
        }
        with checkpoints.draft_of(index) as draft:
            draft.write_bytes(json.dumps(content, indent=1).encode())
        for old in out.glob(f"{name}-?????-of-?????.safetensors"):
            if old not in parts:
                old.unlink()
    except OSError as error:
        raise TrainingError(f"The weights cannot be written to {out}: {error}") from error
    return WeightFiles(index, parts, sum(part.stat().st_size for part in parts), change)


def import_weights(folder: str | Path) -> dict[str, Any]:
    """The content of a checkpoint, for `checkpoints.save`, from what `export_weights` wrote: a folder, or its index.

    Every part is held to its SHA-256 and the weights to the recipe's network. Raises WeightsError for what is missing,
    damaged or does not fit.
    """
    index = _find_index(Path(folder))
    try:
        content = json.loads(index.read_bytes())
        about, weight_map = content["metadata"], content["weight_map"]
        if about["format"] != FORMAT:
            raise ValueError(f"format {about['format']}")
        hashes, kept = about["sha256"], {key: about[key] for key in ("recipe", "data", "metrics", "progress", "source")}
        if not isinstance(hashes, dict) or set(weight_map.values()) - set(hashes):
            raise ValueError("parts without a SHA-256")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{index} is not an index of `train export-weights`: {error}") from error
    missing = [part for part in hashes if not (index.parent / part).is_file()]
    if missing:
        raise WeightsError(f"{len(missing)} of {len(hashes)} parts are missing: {', '.join(missing)}", remedy=_AGAIN)
    state: dict[str, torch.Tensor] = {}
    for part, expected in hashes.items():
        state.update(_read(index.parent / part, expected))
    if {key: weight_map[key] for key in state if key in weight_map} != weight_map or len(state) != len(weight_map):
        raise WeightsError(f"The parts hold other tensors than {index.name} lists", remedy=_AGAIN)
    recipe = checkpoints.recipe_of(kept, index)
    network = blank_network(recipe)
    wanted = network.state_dict()
    state = {key: value.to(wanted[key].dtype) if key in wanted else value for key, value in state.items()}
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise WeightsError(
            f"The weights do not fit the recipe {recipe.name}: {str(error).splitlines()[-1].strip()}"
        ) from error
    return {**kept, "network": network.state_dict(), "average": None}


_AGAIN = "Fetch it again from where `train export-weights` wrote it."


def _find_index(place: Path) -> Path:
    if not place.is_dir():
        if not place.is_file():
            raise WeightsError(f"There is no folder {place}")
        return place
    found = sorted(place.glob(f"*{_INDEX}"))
    if len(found) != 1:
        raise WeightsError(
            f"{place} holds {len(found)} files *{_INDEX} where one is due",
            remedy="Give the index itself." if found else _AGAIN,
        )
    return found[0]


def _stored(key: str, value: torch.Tensor) -> torch.Tensor:
    """A tensor as it is written."""
    value = value.detach().cpu().contiguous()
    if not value.dtype.is_floating_point:
        return value
    if not bool(torch.isfinite(value).all()):
        raise TrainingError(f"{key} holds a number that is none", remedy="Export an older checkpoint.")
    half = value.dim() > 1 and (value.numel() == 0 or float(value.abs().max()) <= _LARGEST_HALF)
    return value.half() if half else value.float()


def _size(value: torch.Tensor) -> int:
    return value.numel() * value.element_size()


def _in_parts(tensors: dict[str, torch.Tensor], most: int) -> list[list[str]]:
    """Names of the tensors of each part, in order, so that no file is larger than `most` with its header."""
    groups: list[list[str]] = []
    left = 0
    for key, value in tensors.items():
        # a header's entry: name, type, shape and two offsets; 8 bytes of length and padding come once
        need = _size(value) + len(json.dumps([key, list(value.shape)])) + 96
        if need + 128 > most:
            raise TrainingError(
                f"{key} alone takes {need + 128:,} bytes, more than a part of {most:,}", remedy="Allow larger parts."
            )
        if need > left:
            groups.append([])
            left = most - 128
        groups[-1].append(key)
        left -= need
    return groups


def _write(path: Path, tensors: dict[str, torch.Tensor]) -> str:
    from safetensors.torch import save

    data = save(tensors, metadata={"format": "pt"})
    with checkpoints.draft_of(path) as draft:
        draft.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def _read(path: Path, sha256: str) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != sha256:
        raise WeightsError(f"{path.name} is not what was written: its SHA-256 differs", remedy=_AGAIN)
    try:
        return load(data)
    except SafetensorError as error:
        raise WeightsError(f"{path.name} is no safetensors file: {error}") from error


@torch.inference_mode()
def _logit_change(network: nn.Module, state: dict[str, torch.Tensor], size: int) -> float:
    pictures = torch.from_numpy(probe_pictures(size))
    before: Prediction = network(pictures)
    kept = {key: value.clone() for key, value in network.state_dict().items()}
    network.load_state_dict({key: value.to(kept[key].dtype) for key, value in state.items()})
    after: Prediction = network(pictures)
    network.load_state_dict(kept)
    return float((after.logit - before.logit).abs().max())
